package step_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// A body that breaks off fails with the provider's kind, keeps the parts before it, and is fetched again alone.
func TestBrokenBody(t *testing.T) {
	for _, broken := range []int64{0, 16 << 20} { // the first part, the second
		contents := largeSite()
		r := newRig(t)
		r.site(contents)
		job := r.running()
		out := r.open(job, "files")
		e, failed := r.exports.of("files"), false
		e.body = func(offset int64, body io.Reader) io.Reader {
			if offset != broken || failed {
				return body
			}
			failed = true
			return failAfter(body, 1_000, backup.E(backup.ProviderShortBody, "cut"))
		}
		in := rangeIn(job, out, backup.Batch{First: 1, Last: 2})
		_, err := r.exportRangeUpload().Handle(t.Context(), in)
		r.wantKind(err, backup.ProviderShortBody, "the broken body")
		recorded := r.file(job.JobID, "files").Recorded.Parts
		if want := int(broken >> 24); recorded != want || !failed {
			t.Errorf("broken at %d: %d parts recorded, want %d", broken, recorded, want)
		}
		again, err := r.exportRangeUpload().Handle(t.Context(), in)
		r.need(err)
		if again.Parts != 2-recorded || e.fetches[broken] != 2 {
			t.Errorf("broken at %d: then %d parts, fetches %v", broken, again.Parts, e.fetches)
		}
		r.complete(job, "files")
		r.inspect(job, "files")
		r.need(second(r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})))
		r.wantDone(job.JobID, contents)
	}
}

// A call that comes late, when its file is done and the rows of its parts are gone, moves nothing and harms nothing; the
// tasks are shown as done.
func TestLateCallsAfterTheFileIsDone(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	out := r.open(job, "files")
	r.move(job, out)
	r.complete(job, "files")
	r.inspect(job, "files")
	file, fetched := r.file(job.JobID, "files"), r.exports.of("files").total()
	if parts, err := r.store.Parts(t.Context(), file, 1, backup.MaxParts); err != nil || len(parts) != 0 || file.Recorded.Parts != file.PartCount() {
		t.Fatalf("%d parts have rows, %+v are counted: %v", len(parts), file.Recorded, err)
	}
	r.move(job, out)
	r.complete(job, "files")
	if now := r.exports.of("files").total(); now != fetched || r.file(job.JobID, "files").Rev != file.Rev {
		t.Errorf("%d ranges fetched, then %d", fetched, now)
	}
	status := step.Status{Jobs: r.store, Files: r.store, Now: r.now}
	tasks, err := status.Tasks(t.Context(), job, file)
	for _, task := range tasks {
		if task.Status != step.TaskDone {
			t.Errorf("%s %+v is %s", task.Type, task.Batch, task.Status)
		}
	}
	finished, finishedErr := status.Finished(t.Context(), file, out.Batches[0])
	if err != nil || finishedErr != nil || len(tasks) != 1+len(out.Batches) || !finished {
		t.Errorf("%d tasks, finished %t: %v, %v", len(tasks), finished, err, finishedErr)
	}
}

// A worker refuses a batch of an upload that is not the current one.
func TestBatchOfAnotherUpload(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	old := r.open(job, "files")
	r.need(second(r.openUpload().Handle(t.Context(), restartIn(old, backup.UploadLost))))
	_, err := r.exportRangeUpload().Handle(t.Context(), rangeIn(job, old, backup.Batch{First: 1, Last: 1}))
	r.wantKind(err, backup.StaleAttempt, "a batch of the old upload")
	if got := r.exports.of("files").total(); got != 0 {
		t.Errorf("%d ranges fetched", got)
	}
}

// A part whose worker's attempt ends meanwhile is not recorded, although its bytes have arrived.
func TestPartOfEndedAttempt(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	out := r.open(job, "files")
	var once sync.Once
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "UploadPart" && c.After {
			once.Do(func() { r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID))) })
		}
		return nil
	}
	_, err := r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 1, Last: 1}))
	r.wantKind(err, backup.StaleAttempt, "recording")
	parts, err := r.store.Parts(t.Context(), backup.File{JobID: job.JobID, Name: "files", UploadID: out.UploadID}, 1, 10)
	if err != nil || len(parts) != 0 {
		t.Errorf("%d parts recorded, %v", len(parts), err)
	}
	r.wantNothingLeft(job)
}

// Near its own deadline a worker ends with BatchUnfinished, but never before it has moved one part.
func TestBatchUnfinished(t *testing.T) {
	for _, tc := range []struct {
		name    string
		left    time.Duration // until the worker's deadline, as it begins
		perPart time.Duration
		want    int // parts moved
		kind    backup.Kind
	}{
		{"time enough", 15 * time.Minute, time.Second, 2, ""},
		{"little time", 2*time.Minute + time.Second, time.Second / 2, 2, ""},
		{"time for one part", 2*time.Minute + time.Second, 2 * time.Second, 1, backup.BatchUnfinished},
		{"slow parts", 15 * time.Minute, 6 * time.Minute, 1, backup.BatchUnfinished},
		{"too late for any", 2 * time.Minute, time.Second, 0, backup.BatchUnfinished},
		{"a part that takes longer than a worker lives", 15 * time.Minute, 20 * time.Minute, 0, backup.ProviderTimeout},
		{"time is up within the second part", 15 * time.Minute, 8 * time.Minute, 1, backup.BatchUnfinished},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := rigOn(t, backuptest.NewMemoryStore())
			r.site(largeSite())
			job := r.running()
			out := r.open(job, "files")
			ctx, cancel := context.WithTimeout(t.Context(), tc.left)
			defer cancel()
			r.exports.of("files").body = func(_ int64, body io.Reader) io.Reader {
				time.Sleep(tc.perPart)
				return body
			}
			_, err := r.exportRangeUpload().Handle(ctx, rangeIn(job, out, backup.Batch{First: 1, Last: 2}))
			r.wantKind(err, tc.kind, tc.name)
			if got := r.file(job.JobID, "files").Recorded.Parts; got != tc.want {
				t.Errorf("%s: %d parts recorded, want %d", tc.name, got, tc.want)
			}
		})
	}
}

// A part sent twice because its record got lost has another ETag in the storage than in its row; the storage's own
// list settles it, if size and checksum are those recorded.
func TestPartSentTwice(t *testing.T) {
	contents := largeSite()
	r := newRig(t)
	r.site(contents)
	job := r.running()
	r.move(job, r.open(job, "files"))
	f := r.file(job.JobID, "files")
	r.sendPart(f, 2, contents["files"])
	r.complete(job, "files")
	r.inspect(job, "files")
	r.finish(job)
	r.wantDone(job.JobID, contents)
	if r.storage.Calls("UploadedParts") != 1 || r.storage.Calls("CompleteUpload") != 2 {
		t.Errorf("settled by %d lists and %d completions", r.storage.Calls("UploadedParts"), r.storage.Calls("CompleteUpload"))
	}
}

// sendPart uploads a part of the given content behind the rows' back.
func (r *rig) sendPart(f backup.File, number int, content backuptest.Content) {
	r.Helper()
	offset, size := f.PartRange(number)
	body := backuptest.NewPartBody(io.NewSectionReader(content, offset, size))
	_, err := r.storage.UploadPart(r.Context(), step.PartUpload{Key: f.Key, UploadID: f.UploadID, Number: number, SizeBytes: size, Body: body})
	r.need(err)
}

// Parts that differ from the recorded ones never become a backup: the file is begun anew.
func TestPartsThatAreNotTheRecorded(t *testing.T) {
	for name, spoil := range map[string]func(r *rig, f backup.File){
		"another content": func(r *rig, f backup.File) { r.sendPart(f, 1, backuptest.ZipOf(99, smallBytes)) },
		"one part more": func(r *rig, f backup.File) {
			body := backuptest.NewPartBody(strings.NewReader("x"))
			r.need(second(r.storage.UploadPart(r.Context(), step.PartUpload{Key: f.Key, UploadID: f.UploadID, Number: 2, SizeBytes: 1, Body: body})))
			r.sendPart(f, 1, backuptest.ZipOf(1, smallBytes)) // another ETag, so that the list is asked for
		},
	} {
		contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes)}
		r := newRig(t)
		r.site(contents)
		job := r.running()
		out := r.open(job, "files")
		r.move(job, out)
		spoil(r, r.file(job.JobID, "files"))
		_, err := r.completeMultipart().Handle(t.Context(), fileIn(job, "files"))
		r.wantKind(err, backup.ChecksumMismatch, name)
		again, err := r.openUpload().Handle(t.Context(), restartIn(out, backup.ChecksumMismatch))
		r.need(err)
		r.move(job, again)
		r.complete(job, "files")
		r.inspect(job, "files")
		r.finish(job)
		r.wantDone(job.JobID, contents)
	}
}

// A lost answer to the completion is settled by HEAD, without a second one.
func TestLostAnswerToCompletion(t *testing.T) {
	contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes)}
	r := newRig(t)
	r.site(contents)
	job := r.running()
	r.move(job, r.open(job, "files"))
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "CompleteUpload" && c.After {
			return backup.E(backup.StorageUnavailable, "connection reset")
		}
		return nil
	}
	r.complete(job, "files")
	if f := r.file(job.JobID, "files"); f.Status != backup.FileStored || r.storage.Calls("CompleteUpload") != 1 {
		t.Errorf("file is %s after %d completions", f.Status, r.storage.Calls("CompleteUpload"))
	}
}

// An object that is not proven ours is never taken over: another token, another size, another checksum, no checksum.
func TestForeignObjectIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   backup.Kind
		change func(*step.Object)
	}{
		"another token":    {backup.ChecksumMismatch, func(o *step.Object) { o.Token = "theirs" }},
		"no token":         {backup.ChecksumMismatch, func(o *step.Object) { o.Token = "" }},
		"a byte more":      {backup.ChecksumMismatch, func(o *step.Object) { o.SizeBytes++ }},
		"another checksum": {backup.ChecksumMismatch, func(o *step.Object) { o.CRC64NVME++ }},
		"no checksum":      {backup.ChecksumMissing, func(o *step.Object) { o.Checked, o.CRC64NVME = false, 0 }},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		job := r.running()
		r.move(job, r.open(job, "files"))
		s := r.completeMultipart()
		s.Objects = changedHead{s.Objects, tc.change}
		_, err := s.Handle(t.Context(), fileIn(job, "files"))
		r.wantKind(err, tc.kind, name)
		if err != nil && strings.Contains(err.Error(), "checksum 0000000000000000") {
			t.Errorf("%s: a checksum that nobody has reported: %v", name, err)
		}
		if f := r.file(job.JobID, "files"); f.Status != backup.FileCompleting {
			t.Errorf("%s: file is %s", name, f.Status)
		}
	}
}

type changedHead struct {
	step.Objects
	change func(*step.Object)
}

func (c changedHead) Head(ctx context.Context, key string) (step.Object, error) {
	o, err := c.Objects.Head(ctx, key)
	c.change(&o)
	return o, err
}

// A storage that says "completed" and shows no object is asked again.
func TestCompletionWithoutObject(t *testing.T) {
	r := rigOn(t, backuptest.NewMemoryStore())
	r.site(smallSite())
	job := r.running()
	r.move(job, r.open(job, "files"))
	key := r.file(job.JobID, "files").Key
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "CompleteUpload" && c.After {
			r.storage.Mark(key)
		}
		return nil
	}
	r.wantKind(second(r.completeMultipart().Handle(t.Context(), fileIn(job, "files"))), backup.StorageUnavailable, "completion")
}

// A file with a part missing is not completed.
func TestCompletionNeedsEveryPart(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	out := r.open(job, "files")
	r.need(second(r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 1, Last: 1}))))
	r.wantKind(second(r.completeMultipart().Handle(t.Context(), fileIn(job, "files"))), backup.Internal, "completion")
	if f := r.file(job.JobID, "files"); f.Status != backup.FileOpen || r.storage.Calls("CompleteUpload") != 0 {
		t.Errorf("file is %s after %d completions", f.Status, r.storage.Calls("CompleteUpload"))
	}
}

// What is no whole zip archive fails its file for good; the others go on, and the end of the job removes its object.
func TestArchiveInvalid(t *testing.T) {
	for name, content := range map[string]string{
		"an error page": strings.Repeat("<html>We are down for maintenance</html>", 1_000),
		"cut short":     string(bytesOf(backuptest.ZipOf(1, smallBytes))[:smallBytes/2]),
		"one byte":      "x",
	} {
		contents := smallSite()
		contents["files"] = strings.NewReader(content)
		r := newRig(t)
		r.site(contents)
		job := r.created()
		result := r.execute(job.JobID, 1)
		if result.Status != asl.Failed || result.Error != string(backup.ArchiveInvalid) {
			t.Errorf("%s: execution %s %s", name, result.Status, result.Error)
		}
		job = r.job(job.JobID)
		if job.Status != backup.Failed || job.Failure.Kind != backup.ArchiveInvalid || job.Failure.File != "files" {
			t.Errorf("%s: job %s %+v", name, job.Status, job.Failure)
		}
		if f := r.file(job.JobID, "database"); f.Status != backup.FileDone {
			t.Errorf("%s: the other file is %s", name, f.Status)
		}
		if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != 1 {
			t.Errorf("%s: left %d uploads, %d versions, want the finished file alone", name, uploads, versions)
		}
	}
}

// FailFile keeps the detail of a function's error and names the platform's own errors.
func TestFailFile(t *testing.T) {
	for _, tc := range []struct {
		caught step.Caught
		kind   backup.Kind
		detail string
	}{
		{caught(backup.ProviderRefused), backup.ProviderRefused, "because of ProviderRefused"},
		{step.Caught{Error: "States.Timeout", Cause: ""}, backup.Internal, "States.Timeout: "},
		{step.Caught{Error: "Lambda.Unknown", Cause: "exited"}, backup.Internal, "Lambda.Unknown: exited"},
		{step.Caught{Error: "Unhandled", Cause: `{"errorMessage":"nil map"}`}, backup.Internal, "Unhandled: nil map"},
		{step.Caught{Error: "UploadLost", Cause: "not JSON"}, backup.UploadLost, "not JSON"},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		job := r.running()
		in := step.FailFileIn{FileIn: fileIn(job, "files"), Caught: tc.caught}
		r.need(second(r.failFile().Handle(t.Context(), in)))
		f := r.file(job.JobID, "files")
		if f.Status != backup.FileFailed || f.Failure.Kind != tc.kind || f.Failure.Detail != tc.detail || f.Failure.File != "files" {
			t.Errorf("%+v: file %s %+v", tc.caught, f.Status, f.Failure)
		}
	}
}

// The reason that the owner reads is the present attempt's, not the first one's.
func TestFailFileOfRetry(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ProviderTimeout)
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	refused := backup.E(backup.ProviderRefused, "401")
	r.exports.of("files").onPin = []error{refused}
	if result := r.execute(job.JobID, 2); result.Error != string(backup.ProviderRefused) {
		t.Errorf("execution: %s %s", result.Error, result.Cause)
	}
	if job = r.job(job.JobID); job.Failure.Kind != backup.ProviderRefused {
		t.Errorf("job failed for %+v", job.Failure)
	}
}
