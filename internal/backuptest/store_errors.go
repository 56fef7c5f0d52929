package backuptest

import (
	"fmt"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

var errorRules = []storeRule{
	{"every field of a last error comes back, and it changes nothing of its file but the number of changes", everyErrorField},
	{"a file that has only a last error is one of revision 0, which opening it creates", errorBeforeRow},
	{"a last error is recorded only for the running attempt that the guard names", errorGuardTable},
	{"an error of the same kind is recorded once in a while, since when it first came", errorOnceInAWhile},
	{"of many that record an error of one kind at once exactly one does", recordErrorTogether},
	{"a swap of the file and its parts leave the last error alone, and come after it", errorIsResolved},
}

// slow is an error of the file some time after storeEpoch.
func slow(name string, after time.Duration) *backup.Failure {
	return backup.NewFailure(backup.ProviderTimeout, name, "slow", storeEpoch.Add(after))
}

func (c storeCase) recordError(job backup.Job, e *backup.Failure) {
	c.Helper()
	c.need(c.store.RecordError(c.Context(), guardOf(job), e), "record error")
}

func everyErrorField(c storeCase) {
	job := c.running(1)
	before := c.opened(job, "files", "up")
	want := filled[backup.Failure]()
	want.File = "files"
	c.recordError(job, &want)
	want.Since = want.At
	after := c.file(job.JobID, "files")
	c.wantSame(after.LastError, &want, "last error")
	after.LastError, after.Changes = nil, after.Changes-1
	c.wantSame(after, before, "file beside it")
	before.Restarts = 1
	c.need(c.store.SwapFile(c.Context(), guardOf(job), before), "swap at the revision from before the error")
}

func errorBeforeRow(c storeCase) {
	job := c.running(1)
	c.recordError(job, slow("files", 0))
	_, err := c.store.GetFile(c.Context(), job.JobID, "files")
	c.wantKind(err, backup.NotFound, "get a file without a row")
	want := slow("files", 0)
	want.Since = want.At
	for _, name := range []string{"database", "media"} {
		c.opened(job, name, "up")
	}
	list, err := c.store.Files(c.Context(), job.JobID)
	c.need(err, "list files")
	only := backup.File{JobID: job.JobID, Name: "files", LastError: want, Changes: 1}
	c.wantSame(list, []backup.File{c.file(job.JobID, "database"), only, c.file(job.JobID, "media")}, "files")
	if f := c.opened(job, "files", "up"); f.Rev != 1 || f.Changes != 2 || f.LastError == nil {
		c.Errorf("opened as %+v", f)
	}
}

func errorGuardTable(c storeCase) {
	for i, status := range allStatuses {
		job := c.running(i)
		c.opened(job, "files", "up")
		job = c.swap(job.JobID, func(j *backup.Job) { j.Status, j.Attempt = status, 2 })
		for attempt := 1; attempt <= 3; attempt++ {
			err := c.store.RecordError(c.Context(), backup.Guard(job.JobID, attempt), slow("files", time.Duration(attempt)*time.Minute))
			want := backup.StaleAttempt
			if status == backup.Running && attempt == 2 {
				want = ""
			}
			c.wantKind(err, want, fmt.Sprintf("attempt %d of a job %s in attempt 2", attempt, status))
			if recorded := c.file(job.JobID, "files").LastError != nil; recorded != (status == backup.Running && attempt >= 2) {
				c.Errorf("attempt %d of a job %s in attempt 2: recorded %v", attempt, status, recorded)
			}
		}
	}
	c.wantKind(c.store.RecordError(c.Context(), backup.Guard(jobID(99), 1), slow("files", 0)), backup.StaleAttempt, "an absent job")
}

func errorOnceInAWhile(c storeCase) {
	job := c.running(1)
	c.opened(job, "files", "up")
	const first = time.Minute
	for _, step := range []struct {
		after time.Duration
		want  time.Duration
	}{{0, 0}, {time.Second, 0}, {4 * time.Second, 4 * time.Second}} {
		c.recordError(job, slow("files", first+step.after))
		got := c.file(job.JobID, "files").LastError
		if !got.At.Equal(storeEpoch.Add(first+step.want)) || !got.Since.Equal(storeEpoch.Add(first)) {
			c.Errorf("after %s: %+v", step.after, got)
		}
	}
	c.wantSame(c.file(job.JobID, "files").Changes, int64(3), "changes")
}

func recordErrorTogether(c storeCase) {
	const workers = 16
	job := c.running(1)
	c.opened(job, "files", "up")
	counts := together(workers, func(int) error { return c.store.RecordError(c.Context(), guardOf(job), slow("files", time.Minute)) })
	if counts[""] != workers {
		c.Errorf("results by kind: %v", counts)
	}
	c.wantSame(c.file(job.JobID, "files").Changes, int64(2), "changes")
}

func errorIsResolved(c storeCase) {
	job := c.running(1)
	f := c.opened(job, "files", "up")
	c.recordError(job, slow("files", time.Minute))
	part := testPart(f, 1)
	part.At = storeEpoch.Add(2 * time.Minute)
	c.record(part)
	got := c.file(job.JobID, "files")
	if got.LastError == nil || got.UnresolvedError() != nil {
		c.Errorf("after a part: %+v", got.LastError)
	}
	c.recordError(job, slow("files", 3*time.Minute))
	if got = c.file(job.JobID, "files"); got.UnresolvedError() == nil || !got.LastError.Since.Equal(got.LastError.At) {
		c.Errorf("after the part: %+v", got.LastError)
	}
	got.UpdatedAt = storeEpoch.Add(4 * time.Minute)
	c.need(c.store.SwapFile(c.Context(), guardOf(job), got), "swap file")
	if got = c.file(job.JobID, "files"); got.LastError == nil || got.UnresolvedError() != nil {
		c.Errorf("after a swap: %+v", got.LastError)
	}
}
