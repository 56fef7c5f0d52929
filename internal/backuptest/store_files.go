package backuptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var fileRules = []storeRule{
	{"every field of a file comes back, but for the counters, which are the store's own", everyFileField},
	{"a file without a row is not found, and a job's files come in the order of their names", filesOfJob},
	{"a file is written only in the job's state and attempt that the guard names", fileGuardTable},
	{"a stale guard tells before a lost race", guardBeforeConflict},
	{"a file's swap stands on the revision it was read with", fileNeedsRevision},
	{"of many that open a file at once exactly one succeeds", openFileTogether},
	{"no swap of a file is lost among many at the same time", noLostFileSwap},

	{"every field of a part comes back", everyPartField},
	{"a part is recorded only while its job runs the writer's attempt", partJobTable},
	{"a part is recorded only into the open upload of the writer's attempt", partFileTable},
	{"the first record of a part stands and the others succeed", partWriteOnce},
	{"recording a part again changes nothing, and is refused once its file is put together", partAgain},
	{"recording parts leaves the file's revision alone", partsKeepRevision},
	{"parts come in the order of their numbers, from any range", partRanges},
	{"the counters are exact under concurrency", exactCounters},
	{"a new upload counts from zero and shares no part with the one before", newUploadCountsAnew},
	{"files of the same name in two jobs do not meet", sameNameInTwoJobs},
	{"parts stay until their file is done, and their count longer", partsOfDoneFile},

	{"every part that was acknowledged before its file completes is counted, and none is recorded after", completingEndsRecording},
	{"every part that was acknowledged before its job is fenced is counted, and none is recorded after", fencingEndsRecording},
}

func everyFileField(c storeCase) {
	job := c.running(1)
	want := filled[backup.File]()
	want.JobID, want.Name, want.Rev = job.JobID, "files", 0
	c.need(c.store.SwapFile(c.Context(), guardOf(job), want), "create file")
	want.Rev, want.Recorded, want.LastError, want.Changes = 1, backup.Progress{}, nil, 1
	c.wantSame(c.file(job.JobID, "files"), want, "file read back")

	next := openFile(job, "files", "other upload")
	next.Rev, next.Recorded, next.Changes = 1, backup.Progress{Parts: 7, Bytes: 7}, 70
	c.need(c.store.SwapFile(c.Context(), guardOf(job), next), "swap every field")
	next.Rev, next.Recorded, next.Changes = 2, backup.Progress{}, 2
	c.wantSame(c.file(job.JobID, "files"), next, "file read back after the swap")
}

func filesOfJob(c storeCase) {
	job, other := c.running(1), c.running(2)
	_, err := c.store.GetFile(c.Context(), job.JobID, "database")
	c.wantKind(err, backup.NotFound, "get file before it is written")
	for _, name := range []string{"media", "database", "files"} {
		c.opened(job, name, "up")
	}
	c.opened(other, "other", "up")
	list, err := c.store.Files(c.Context(), job.JobID)
	c.need(err, "list files")
	c.wantSame(list, []backup.File{c.file(job.JobID, "database"), c.file(job.JobID, "files"), c.file(job.JobID, "media")}, "files")
	list, err = c.store.Files(c.Context(), jobID(3))
	c.need(err, "list files of an unknown job")
	c.wantSame(len(list), 0, "number of files of an unknown job")
}

func fileGuardTable(c storeCase) {
	for i, status := range allStatuses {
		job := c.running(i)
		c.opened(job, "old", "up")
		job = c.swap(job.JobID, func(j *backup.Job) { j.Status, j.Attempt = status, 2 })
		for _, guarded := range allStatuses {
			for _, attempt := range []int{1, 2, 3} {
				c.checkFileGuard(job, backup.FileGuard{JobID: job.JobID, Status: guarded, Attempt: attempt})
			}
		}
	}
	absent := backup.Guard(jobID(99), 1)
	c.wantKind(c.store.SwapFile(c.Context(), absent, openFile(testJob(99), "files", "up")), backup.StaleAttempt, "file of an absent job")
}

// checkFileGuard tries to create and to replace a file under the guard.
func (c storeCase) checkFileGuard(job backup.Job, g backup.FileGuard) {
	c.Helper()
	want, wantNew := backup.StaleAttempt, backup.NotFound
	if g == guardOf(job) {
		want, wantNew = "", ""
	}
	what := fmt.Sprintf("job %s in attempt %d, guard %s in attempt %d", job.Status, job.Attempt, g.Status, g.Attempt)
	created := openFile(job, fmt.Sprintf("%s-%d", g.Status, g.Attempt), "up")
	c.wantKind(c.store.SwapFile(c.Context(), g, created), want, "create: "+what)
	_, err := c.store.GetFile(c.Context(), job.JobID, created.Name)
	c.wantKind(err, wantNew, "get the created file: "+what)

	before := c.file(job.JobID, "old")
	c.wantKind(c.store.SwapFile(c.Context(), g, before), want, "replace: "+what)
	if want != "" {
		c.wantSame(c.file(job.JobID, "old"), before, "refused file: "+what)
	}
}

func guardBeforeConflict(c storeCase) {
	job := c.running(1)
	f := c.opened(job, "files", "up")
	f.Rev = 9
	c.wantKind(c.store.SwapFile(c.Context(), backup.Guard(job.JobID, 2), f), backup.StaleAttempt, "stale in both ways")
}

func fileNeedsRevision(c storeCase) {
	job := c.running(1)
	first := c.opened(job, "files", "up")
	second := first
	second.Restarts = 1
	c.need(c.store.SwapFile(c.Context(), guardOf(job), second), "swap")
	want := c.file(job.JobID, "files")
	for _, rev := range []int64{0, 1, 3} {
		stale := first
		stale.Rev, stale.Restarts = rev, 9
		c.wantKind(c.store.SwapFile(c.Context(), guardOf(job), stale), backup.Conflict, fmt.Sprintf("swap at revision %d", rev))
	}
	absent := openFile(job, "database", "up")
	absent.Rev = 1
	c.wantKind(c.store.SwapFile(c.Context(), guardOf(job), absent), backup.Conflict, "swap an absent file")
	c.wantSame(c.file(job.JobID, "files"), want, "file")
}

func openFileTogether(c storeCase) {
	const workers = 16
	job := c.running(1)
	counts := together(workers, func(i int) error {
		return c.store.SwapFile(c.Context(), guardOf(job), openFile(job, "files", fmt.Sprintf("up-%d", i)))
	})
	if counts[""] != 1 || counts[backup.Conflict] != workers-1 {
		c.Errorf("results by kind: %v", counts)
	}
	c.wantSame(c.file(job.JobID, "files").Changes, int64(1), "changes")
}

func noLostFileSwap(c storeCase) {
	const writers, each = 8, 10
	job := c.running(1)
	c.opened(job, "files", "up")
	increment := untilSwapped(writers*each, func(ctx context.Context) error {
		f, err := c.store.GetFile(ctx, job.JobID, "files")
		if err != nil {
			return err
		}
		f.Restarts++
		return c.store.SwapFile(ctx, guardOf(job), f)
	})
	counts := together(writers, func(int) error {
		for range each {
			if err := increment(c.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	got := c.file(job.JobID, "files")
	if counts[""] != writers || got.Restarts != writers*each || got.Changes != 1+writers*each || got.Rev != 1+writers*each {
		c.Errorf("results %v; want %d swaps in %+v", counts, writers*each, got)
	}
}

func everyPartField(c storeCase) {
	f := c.opened(c.running(1), "files", "up")
	w := testPart(f, 1)
	w.Part = filled[backup.Part]()
	w.Part.Number = backup.MaxParts
	c.record(w)
	c.wantSame(c.parts(f), []backup.Part{w.Part}, "parts")
}

func partJobTable(c storeCase) {
	for i, status := range allStatuses {
		f := c.opened(c.running(i), "files", "up")
		for _, attempt := range []int{1, 2} {
			c.swap(f.JobID, func(j *backup.Job) { j.Status, j.Attempt = status, attempt })
			want := backup.StaleAttempt
			if status == backup.Running && attempt == f.Attempt {
				want = ""
			}
			c.checkPart(f, testPart(f, attempt), want, fmt.Sprintf("job %s in attempt %d", status, attempt))
		}
	}
	absent := openFile(testJob(99), "files", "up")
	c.wantKind(c.store.RecordPart(c.Context(), testPart(absent, 1)), backup.StaleAttempt, "part of an absent job")
}

func partFileTable(c storeCase) {
	job := c.running(1)
	statuses := []backup.FileStatus{backup.FileOpen, backup.FileCompleting, backup.FileStored, backup.FileDone, backup.FileFailed}
	number := 0
	for _, status := range statuses {
		for _, uploadID := range []string{"up", "other upload", ""} {
			for _, attempt := range []int{1, 2} {
				number++
				f := openFile(job, fmt.Sprintf("file-%d", number), "up")
				f.Status, f.Attempt = status, attempt
				c.need(c.store.SwapFile(c.Context(), guardOf(job), f), "write file")
				f = c.file(job.JobID, f.Name)
				w := testPart(f, 1)
				w.UploadID, w.Attempt = uploadID, job.Attempt
				c.checkPart(f, w, backup.KindOf(f.CheckPart(w)), fmt.Sprintf("file %s in attempt %d, part of upload %q", status, attempt, uploadID))
			}
		}
	}
	c.wantKind(c.store.RecordPart(c.Context(), testPart(openFile(job, "unopened", "up"), 1)), backup.StaleAttempt, "part of an unopened file")
}

// checkPart records a part and expects either its trace in full or none.
func (c storeCase) checkPart(f backup.File, w backup.PartWrite, want backup.Kind, what string) {
	c.Helper()
	before, parts := c.file(f.JobID, f.Name), c.parts(f)
	c.wantKind(c.store.RecordPart(c.Context(), w), want, what)
	if want == "" {
		before.Changes, before.Recorded = before.Changes+1, backup.Progress{Parts: before.Recorded.Parts + 1, Bytes: before.Recorded.Bytes + w.Part.SizeBytes, At: w.At}
		parts = append(parts, w.Part)
	}
	c.wantSame(c.file(f.JobID, f.Name), before, "file after: "+what)
	c.wantSame(c.parts(f), parts, "parts after: "+what)
}

func partWriteOnce(c storeCase) {
	const recorders = 16
	f := c.opened(c.running(1), "files", "up")
	counts := together(recorders, func(i int) error {
		w := testPart(f, 1)
		w.Part.ETag, w.Part.SizeBytes = fmt.Sprintf(`"by-%d"`, i), int64(i)
		return c.store.RecordPart(c.Context(), w)
	})
	if counts[""] != recorders {
		c.Errorf("results by kind: %v", counts)
	}
	parts, got := c.parts(f), c.file(f.JobID, f.Name)
	if len(parts) != 1 || parts[0].ETag != fmt.Sprintf(`"by-%d"`, parts[0].SizeBytes) {
		c.Fatalf("parts: %+v", parts)
	}
	c.wantSame(got.Recorded, backup.Progress{Parts: 1, Bytes: parts[0].SizeBytes, At: storeEpoch}, "recorded")
	c.wantSame(got.Changes, f.Changes+1, "changes")
}

func partAgain(c storeCase) {
	job := c.running(1)
	f := c.opened(job, "files", "up")
	first := testPart(f, 1)
	c.record(first)
	want := c.file(f.JobID, f.Name)
	again := first
	again.Part.ETag, again.Part.SizeBytes, again.At = `"other"`, 9, storeEpoch.Add(time.Hour)
	c.record(first)
	c.record(again)
	c.wantSame(c.file(f.JobID, f.Name), want, "file")
	c.wantSame(c.parts(f), []backup.Part{first.Part}, "parts")

	want.Status = backup.FileCompleting
	c.need(c.store.SwapFile(c.Context(), guardOf(job), want), "complete")
	c.wantKind(c.store.RecordPart(c.Context(), first), backup.StaleAttempt, "the same part while completing")
}

func partsKeepRevision(c storeCase) {
	job := c.running(1)
	f := c.opened(job, "files", "up")
	c.record(testPart(f, 1))
	c.wantSame(c.file(f.JobID, f.Name).Rev, f.Rev, "revision after a part")
	f.Restarts = 1
	c.need(c.store.SwapFile(c.Context(), guardOf(job), f), "swap as read before the part")
	c.wantSame(c.file(f.JobID, f.Name).Recorded.Parts, 1, "recorded parts after the swap")
}

func partRanges(c storeCase) {
	const count, workers = 2000, 16
	f := c.opened(c.running(1), "files", "up")
	order := rand.New(rand.NewPCG(1, 2)).Perm(count)
	counts := together(workers, func(i int) error {
		for _, n := range order[i*count/workers : (i+1)*count/workers] {
			if err := c.store.RecordPart(c.Context(), testPart(f, n+1)); err != nil {
				return err
			}
		}
		return nil
	})
	c.wantSame(counts[""], workers, "recorders that succeeded")
	for _, r := range [][2]int{{1, count}, {1, backup.MaxParts}, {1, 1}, {9, 10}, {99, 1000}, {count, count}, {count + 1, count + 9}, {10, 9}} {
		got, err := c.store.Parts(c.Context(), f, r[0], r[1])
		c.need(err, "list parts")
		var want []backup.Part
		for n := r[0]; n <= min(r[1], count); n++ {
			want = append(want, testPart(f, n).Part)
		}
		if len(got) != len(want) {
			c.Fatalf("parts %d to %d: got %d, want %d", r[0], r[1], len(got), len(want))
		}
		for i := range want {
			c.wantSame(got[i], want[i], fmt.Sprintf("part %d of %d to %d", i, r[0], r[1]))
		}
	}
}

func exactCounters(c storeCase) {
	const workers, parts, swaps = 8, 12, 3
	job := c.running(1)
	f := c.opened(job, "files", "up")
	touch := untilSwapped(workers*swaps, func(ctx context.Context) error {
		f, err := c.store.GetFile(ctx, job.JobID, "files")
		if err != nil {
			return err
		}
		return c.store.SwapFile(ctx, guardOf(job), f)
	})
	counts := together(workers, func(i int) error {
		for n := range parts {
			// Every part is recorded by two workers.
			if err := c.store.RecordPart(c.Context(), testPart(f, i/2*parts+n+1)); err != nil {
				return err
			}
			if n < swaps {
				if err := touch(c.Context()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	c.wantSame(counts[""], workers, "workers that succeeded")
	want := backup.Progress{At: storeEpoch}
	for _, p := range c.parts(f) {
		want.Parts, want.Bytes = want.Parts+1, want.Bytes+p.SizeBytes
	}
	c.wantSame(want.Parts, workers/2*parts, "number of parts")
	got := c.file(job.JobID, "files")
	c.wantSame(got.Recorded, want, "recorded")
	c.wantSame(got.Changes, f.Changes+int64(want.Parts)+workers*swaps, "changes")
}

func newUploadCountsAnew(c storeCase) {
	job := c.running(1)
	first := c.opened(job, "files", "up-1")
	c.record(testPart(first, 1))
	c.record(testPart(first, 2))
	steps := []struct {
		uploadID string
		parts    []int
		want     int
	}{
		{"up-1", nil, 2},
		{"up-2", []int{1}, 1},
		{"", nil, 0},
		{"up-3", []int{2, 3}, 2},
	}
	for _, s := range steps {
		f := c.file(job.JobID, "files")
		f.UploadID = s.uploadID
		c.need(c.store.SwapFile(c.Context(), guardOf(job), f), "swap to upload "+s.uploadID)
		for _, n := range s.parts {
			c.record(testPart(f, n))
		}
		got := c.file(job.JobID, "files")
		c.wantSame(got.Recorded.Parts, s.want, fmt.Sprintf("recorded parts of upload %q", s.uploadID))
		c.wantSame(len(c.parts(got)), s.want, fmt.Sprintf("parts of upload %q", s.uploadID))
	}
	c.wantKind(c.store.RecordPart(c.Context(), testPart(first, 3)), backup.StaleAttempt, "part of the first upload")
}

func sameNameInTwoJobs(c storeCase) {
	one, two := c.opened(c.running(1), "files", "up"), c.opened(c.running(2), "files", "up")
	c.record(testPart(one, 1))
	c.record(testPart(one, 2))
	c.record(testPart(two, 1))
	c.wantSame(len(c.parts(one)), 2, "parts of the first job")
	c.wantSame(len(c.parts(two)), 1, "parts of the second job")
	c.wantSame(c.file(two.JobID, "files").Recorded.Parts, 1, "recorded parts of the second job")
}

func partsOfDoneFile(c storeCase) {
	job := c.running(1)
	other := c.opened(job, "database", "up")
	c.record(testPart(other, 1))
	f := c.opened(job, "files", "up")
	c.record(testPart(f, 1))
	c.record(testPart(f, 2))
	want := c.file(job.JobID, "files").Recorded
	for _, status := range []backup.FileStatus{backup.FileFailed, backup.FileOpen, backup.FileCompleting, backup.FileStored, backup.FileDone} {
		c.wantSame(len(c.parts(f)), 2, "parts before the file is "+string(status))
		next := c.file(job.JobID, "files")
		next.Status = status
		c.need(c.store.SwapFile(c.Context(), guardOf(job), next), "swap to "+string(status))
		c.wantSame(c.file(job.JobID, "files").Recorded, want, "recorded of a file that is "+string(status))
	}
	if _, ok := c.store.(step.Purger); ok { // otherwise they expire by themselves
		c.wantSame(len(c.parts(f)), 0, "parts of the file that is done")
	}
	c.wantSame(len(c.parts(other)), 1, "parts of the other file")
	done := c.file(job.JobID, "files")
	c.need(c.store.SwapFile(c.Context(), guardOf(job), done), "swap the file that is done")
	c.wantSame(c.file(job.JobID, "files").Recorded, want, "recorded after one more swap")
}

func completingEndsRecording(c storeCase) {
	job := c.running(1)
	c.checkRecordingEnds(job, func(f backup.File) error {
		f.Status = backup.FileCompleting
		return c.store.SwapFile(c.Context(), guardOf(job), f)
	})
}

func fencingEndsRecording(c storeCase) {
	job := c.running(1)
	c.checkRecordingEnds(job, func(backup.File) error {
		job.Status = backup.Deleting
		return c.store.SwapJob(c.Context(), job)
	})
}

// checkRecordingEnds lets workers record parts until they are refused, and `end` come in between.
func (c storeCase) checkRecordingEnds(job backup.Job, end func(backup.File) error) {
	c.Helper()
	const workers, most = 8, 2000
	f := c.opened(job, "files", "up")
	acknowledged := make([]int, workers)
	halfway := make(chan struct{})
	counts := together(workers+1, func(i int) error {
		if i == workers {
			<-halfway
			return end(f)
		}
		for n := i; n < most; n += workers {
			if n == 10*workers {
				close(halfway)
			}
			if err := c.store.RecordPart(c.Context(), testPart(f, n+1)); err != nil {
				return err
			}
			acknowledged[i]++
		}
		return nil
	})
	if counts[""]+counts[backup.StaleAttempt] != workers+1 || counts[""] == 0 {
		c.Fatalf("results by kind: %v", counts)
	}
	want := 0
	for _, n := range acknowledged {
		want += n
	}
	c.wantSame(len(c.parts(f)), want, "parts")
	c.wantSame(c.file(job.JobID, "files").Recorded.Parts, want, "recorded parts")
	c.wantKind(c.store.RecordPart(c.Context(), testPart(f, most+1)), backup.StaleAttempt, "a part after the end")
}
