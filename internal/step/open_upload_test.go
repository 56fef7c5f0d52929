package step_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// Opening pins the export, opens one upload and plans all its batches.
func TestOpenUpload(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	out := r.open(job, "files")
	want := []backup.Batch{{First: 1, Last: 1}, {First: 2, Last: 2}}
	if out.Next != step.NextUpload || len(out.Batches) != 2 || out.Batches[0] != want[0] || out.Batches[1] != want[1] {
		t.Errorf("planned %+v", out)
	}
	f := r.file(job.JobID, "files")
	if f.Status != backup.FileOpen || f.UploadID != out.UploadID || f.Pin != r.exports.of("files").pin || backup.KeyAttempt(f.Key) != 1 {
		t.Errorf("file %+v", f)
	}
	if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 {
		t.Errorf("%d uploads", uploads)
	}
}

// A step of an attempt that is over is refused before it asks anything of a provider or the storage.
func TestDeadAttemptIsRefused(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	out := r.open(job, "files")
	r.fail(job, "files", backup.StorageUnavailable)
	r.finish(job)
	if _, err := r.backups().Retry(t.Context(), "ada", job.JobID); err != nil {
		t.Fatal(err)
	}
	_, err := r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 2})
	r.need(err)
	r.open(r.job(job.JobID), "files")
	asked, before := len(r.exports.asked), r.snapshot(job)
	for name, err := range map[string]error{
		"StartJob":          second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})),
		"OpenUpload":        second(r.openUpload().Handle(t.Context(), openIn(job, "files"))),
		"ExportRangeUpload": second(r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 1, Last: 1}))),
		"FailFile":          second(r.failFile().Handle(t.Context(), step.FailFileIn{FileIn: fileIn(job, "files"), Caught: caught(backup.Internal)})),
		"FinishJob":         second(r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})),
	} {
		r.wantKind(err, backup.StaleAttempt, name)
	}
	if after := r.snapshot(job); len(r.exports.asked) != asked || after != before {
		t.Errorf("asked %d times, before %s, after %s", len(r.exports.asked)-asked, before, after)
	}
}

func second[T any](_ T, err error) error { return err }

// The late steps of a dead attempt may look at the storage, but their writes are refused.
func TestDeadAttemptCannotComplete(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.move(job, r.open(job, "files"))
	if _, err := r.backups().Cancel(t.Context(), "ada", job.JobID); err != nil {
		t.Fatal(err)
	}
	_, err := r.completeMultipart().Handle(t.Context(), fileIn(job, "files"))
	r.wantKind(err, backup.Internal, "CompleteMultipart after the sweep has forgotten the upload")

	r = newRig(t)
	r.site(smallSite())
	job = r.running()
	r.backUp(job, "files")
	r.move(job, r.open(job, "database"))
	r.complete(job, "database")
	r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
	_, err = r.inspectArchive().Handle(t.Context(), fileIn(job, "database"))
	r.wantKind(err, backup.NotFound, "InspectArchive after the sweep")
	if f := r.file(job.JobID, "database"); f.Status != backup.FileFailed {
		t.Errorf("file is %s", f.Status)
	}
	r.wantNothingLeft(job)
}

// A retry with the same version keeps the upload and moves only what is missing.
func TestRetryKeepsUpload(t *testing.T) {
	contents := largeSite()
	r := newRig(t)
	r.site(contents)
	job := r.running()
	out := r.open(job, "files")
	r.need(second(r.exportRangeUpload().Handle(t.Context(), rangeIn(job, out, backup.Batch{First: 2, Last: 2}))))
	r.fail(job, "files", backup.ProviderTimeout)
	r.finish(job)
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	r.need(second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 2})))
	job = r.job(job.JobID)
	again := r.open(job, "files")
	if again.UploadID != out.UploadID || len(again.Batches) != 1 || again.Batches[0].First != 1 {
		t.Errorf("attempt 2 plans %+v after %+v", again, out)
	}
	r.move(job, again)
	r.complete(job, "files")
	r.inspect(job, "files")
	r.finish(job)
	r.wantDone(job.JobID, contents)
	if got := r.exports.of("files").total(); got != 2 {
		t.Errorf("%d ranges fetched for 2 parts", got)
	}
}

// A retry with another version begins the file anew and leaves nothing of the old one, not even a completed object.
func TestRetryOfChangedExport(t *testing.T) {
	for _, completed := range []bool{false, true} {
		contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes)}
		r := newRig(t)
		r.site(contents)
		job := r.running()
		r.move(job, r.open(job, "files"))
		if completed {
			r.complete(job, "files")
		}
		r.fail(job, "files", backup.StorageUnavailable)
		r.finish(job)
		contents["files"] = backuptest.ZipOf(7, smallBytes)
		r.exports.serve("https://example.org/files", contents["files"], `"v2"`)
		r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
		if result := r.execute(job.JobID, 2); result.Error != "" {
			t.Fatalf("completed before: %t: %s %s", completed, result.Error, result.Cause)
		}
		r.wantDone(job.JobID, contents)
	}
}

// The same when the process ends before the attempt does, and the attempt is begun again: what it had completed of the
// old version goes.
func TestRepeatedAttemptOfChangedExport(t *testing.T) {
	bothUploads(t, func(t *testing.T, single int64) {
		contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes)}
		r := newRig(t)
		r.single = single
		r.site(contents)
		job := r.running()
		r.move(job, r.open(job, "files"))
		r.complete(job, "files")
		r.fail(job, "files", backup.StorageUnavailable)
		contents["files"] = backuptest.ZipOf(7, smallBytes)
		r.exports.serve("https://example.org/files", contents["files"], `"v2"`)
		if result := r.execute(job.JobID, 1); result.Error != "" {
			t.Fatal(result.Error, result.Cause)
		}
		r.wantDone(job.JobID, contents)
	})
}

// A provider that is still preparing is waited for, by what it asks for within bounds, longer and longer.
func TestPreparingWaits(t *testing.T) {
	for _, tc := range []struct {
		polls      int
		retryAfter time.Duration
		want       int
	}{
		{0, 0, 1},
		{3, 0, 1},
		{4, 0, 2},
		{8, 0, 4},
		{20, 0, 32},
		{24, 0, 60},
		{1_000, 0, 60},
		{0, 7 * time.Second, 7},
		{0, 1500 * time.Millisecond, 2},
		{0, time.Hour, 60},
		{20, 5 * time.Second, 32},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		job := r.running()
		r.exports.of("files").onPin = []error{&backup.Error{Kind: backup.ProviderPreparing, RetryAfter: tc.retryAfter, Err: errors.New("not yet")}}
		in := openIn(job, "files")
		in.Polls = tc.polls
		out, err := r.openUpload().Handle(t.Context(), in)
		if err != nil || out.Next != step.NextWait || out.WaitSeconds != tc.want || out.Polls != tc.polls+1 {
			t.Errorf("poll %d asked for %s: %+v, %v", tc.polls, tc.retryAfter, out, err)
		}
		if uploads, _ := r.storage.Left(""); uploads != 0 {
			t.Errorf("poll %d: %d uploads opened", tc.polls, uploads)
		}
	}
}

// Through the real state machine a preparing provider costs waits and nothing else.
func TestPreparingInFlow(t *testing.T) {
	contents := smallSite()
	r := newRig(t)
	r.site(contents)
	job := r.created()
	notYet := &backup.Error{Kind: backup.ProviderPreparing, RetryAfter: time.Second, Err: errors.New("not yet")}
	r.exports.of("files").onPin = []error{notYet, notYet, notYet, notYet, notYet, notYet}
	if result := r.execute(job.JobID, 1); result.Error != "" {
		t.Fatal(result.Error, result.Cause)
	}
	r.wantDone(job.JobID, contents)
}

// What cannot become a backup is refused before an upload is opened.
func TestOpenUploadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content backuptest.Content
		limit   int64
		answer  error
		want    backup.Kind
	}{
		{"empty", strings.NewReader(""), 1 << 40, nil, backup.ExportEmpty},
		{"a byte too large", backuptest.ZipOf(1, smallBytes), smallBytes - 1, nil, backup.ExportTooLarge},
		{"exactly as large as allowed", backuptest.ZipOf(1, smallBytes), smallBytes, nil, ""},
		{"unpinned", backuptest.ZipOf(1, smallBytes), 1 << 40, backup.E(backup.ProviderUnpinned, "weak"), backup.ProviderUnpinned},
		{"in a forbidden network", backuptest.ZipOf(1, smallBytes), 1 << 40, backup.E(backup.AddressForbidden, "127.0.0.1"), backup.AddressForbidden},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		site := r.site(map[string]backuptest.Content{"files": tc.content})
		site.Limits.MaxFileBytes = tc.limit
		r.need(r.store.PutSite(t.Context(), site))
		job := r.running()
		if tc.answer != nil {
			r.exports.of("files").onPin = []error{tc.answer}
		}
		_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
		r.wantKind(err, tc.want, tc.name)
		if uploads, _ := r.storage.Left(""); (uploads == 0) != (tc.want != "") {
			t.Errorf("%s: %d uploads", tc.name, uploads)
		}
	}
}

// Of two calls that open the same file at the same time one wins, and the other closes what it has opened.
func TestOpenUploadRace(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	var inner step.OpenUploadOut
	raced := false
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "CreateUpload" && c.After && !raced {
			raced = true
			inner = r.open(job, "files") // comes between the other's upload and its row
		}
		return nil
	}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.Conflict, "the slower call")
	if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 || !raced {
		t.Errorf("raced: %t, %d uploads", raced, uploads)
	}
	if out := r.open(job, "files"); out.UploadID != inner.UploadID {
		t.Errorf("called again it goes on with %s, not %s", out.UploadID, inner.UploadID)
	}
}

// A job that ends while an upload is being opened leaves none open.
func TestOpenUploadOfEndedJob(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	raced := false
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "CreateUpload" && c.After {
			raced = true
			r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
		}
		return nil
	}
	_, err := r.openUpload().Handle(t.Context(), openIn(job, "files"))
	r.wantKind(err, backup.StaleAttempt, "opening")
	if !raced {
		t.Error("the job was not cancelled meanwhile")
	}
	r.wantNothingLeft(job)
}

// restartIn is what the state machine hands to OpenUpload after a Catch.
func restartIn(out step.OpenUploadOut, kind backup.Kind) step.OpenUploadIn {
	c := caught(kind)
	return step.OpenUploadIn{
		JobID: out.JobID, Attempt: out.Attempt, File: out.File, Parallelism: out.Parallelism, MaxBatches: out.MaxBatches,
		Restarts: out.Restarts, Caught: &c,
	}
}

// Coming back because the upload cannot go on: a new version or a lost upload is begun anew, the same version goes on.
func TestRestarts(t *testing.T) {
	for _, tc := range []struct {
		name     string
		kind     backup.Kind
		changed  bool
		keepsOld bool
	}{
		{"a new version", backup.ProviderChanged, true, false},
		{"the same version after all", backup.ProviderChanged, false, true},
		{"a lost upload", backup.UploadLost, false, false},
		{"parts that do not fit", backup.ChecksumMismatch, false, false},
	} {
		r := newRig(t)
		r.site(smallSite())
		job := r.running()
		out := r.open(job, "files")
		if tc.changed {
			r.exports.serve("https://example.org/files", backuptest.ZipOf(9, smallBytes), `"v2"`)
		}
		again, err := r.openUpload().Handle(t.Context(), restartIn(out, tc.kind))
		r.need(err)
		if (again.UploadID == out.UploadID) != tc.keepsOld || again.Next != step.NextUpload || again.Restarts != 1 {
			t.Errorf("%s: %+v after %+v", tc.name, again, out)
		}
		before := r.snapshot(job)
		repeated, err := r.openUpload().Handle(t.Context(), restartIn(out, tc.kind))
		r.need(err)
		if after := r.snapshot(job); after != before || repeated.UploadID != again.UploadID || repeated.Restarts != 1 {
			t.Errorf("%s, repeated: %+v after %+v\nbefore %s\nafter  %s", tc.name, repeated, again, before, after)
		}
		if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 {
			t.Errorf("%s: %d uploads", tc.name, uploads)
		}
	}
}

// A file is begun anew a bounded number of times in one attempt; then its failure is the one that keeps coming.
func TestMaxRestarts(t *testing.T) {
	for _, kind := range []backup.Kind{backup.ProviderChanged, backup.UploadLost, backup.ChecksumMismatch} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		job := r.running()
		out := r.open(job, "files")
		for n := 1; n <= backup.MaxRestarts; n++ {
			next, err := r.openUpload().Handle(t.Context(), restartIn(out, kind))
			r.need(err)
			if next.Restarts != n {
				t.Fatalf("%s: %d restarts after %d", kind, next.Restarts, n)
			}
			out = next
		}
		_, err := r.openUpload().Handle(t.Context(), restartIn(out, kind))
		r.wantKind(err, kind, "one restart too many")
		if err != nil && !strings.Contains(err.Error(), "because of") {
			t.Errorf("%v does not say why", err)
		}
	}
}

// A provider that answers every range of its own version with "changed" does not keep the flow going round for ever,
// also when it is preparing in between.
func TestProviderThatDeniesItsVersion(t *testing.T) {
	for _, preparing := range []bool{false, true} {
		r := newRig(t)
		r.site(map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes)})
		job := r.created()
		e := r.exports.of("files")
		for range 50 {
			e.onRange = append(e.onRange, backup.E(backup.ProviderChanged, "412"))
			if preparing {
				e.onPin = append(e.onPin, backup.E(backup.ProviderPreparing, "503"), nil)
			}
		}
		result := r.execute(job.JobID, 1)
		if result.Error != string(backup.ProviderChanged) {
			t.Errorf("execution: %s %s", result.Error, result.Cause)
		}
		if got := e.total(); got != backup.MaxRestarts+1 {
			t.Errorf("preparing %t: %d ranges asked for, want %d", preparing, got, backup.MaxRestarts+1)
		}
	}
}

// The reason for a restart outlives a wait for the provider.
func TestRestartWaits(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	out := r.open(job, "files")
	r.exports.of("files").onPin = []error{backup.E(backup.ProviderPreparing, "503")}
	waiting, err := r.openUpload().Handle(t.Context(), restartIn(out, backup.UploadLost))
	r.need(err)
	if waiting.Next != step.NextWait || waiting.Caught == nil || waiting.Caught.Kind() != backup.UploadLost {
		t.Fatalf("waiting: %+v", waiting)
	}
	again, err := r.openUpload().Handle(t.Context(), step.OpenUploadIn{
		JobID: job.JobID, Attempt: 1, File: "files", Parallelism: 1, MaxBatches: 1_000,
		Polls: waiting.Polls, Restarts: waiting.Restarts, Caught: waiting.Caught,
	})
	r.need(err)
	if again.UploadID == out.UploadID {
		t.Error("the lost upload goes on")
	}
}

// A file whose parts are all in the storage goes on where it is, without asking its provider.
func TestOpenUploadLater(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(r *rig, job backup.Job)
		want step.FileNext
	}{
		{"all parts recorded", func(r *rig, job backup.Job) { r.move(job, r.open(job, "files")) }, step.NextComplete},
		{"completing", func(r *rig, job backup.Job) {
			r.move(job, r.open(job, "files"))
			r.faults.arm(fault{n: 5}) // CompleteUpload
			r.wantKind(second(r.completeMultipart().Handle(r.Context(), fileIn(job, "files"))), backup.StorageUnavailable, "completing")
			if fired := r.faults.disarm(); fired != "CompleteUpload" {
				r.Errorf("%s failed", fired)
			}
		}, step.NextComplete},
		{"stored", func(r *rig, job backup.Job) { r.move(job, r.open(job, "files")); r.complete(job, "files") }, step.NextInspect},
		{"done", func(r *rig, job backup.Job) { r.backUp(job, "files") }, step.NextDone},
	} {
		r := newRig(t)
		r.site(smallSite())
		job := r.running()
		tc.do(r, job)
		if out := r.open(job, "files"); out.Next != tc.want {
			t.Errorf("%s: goes on with %s, want %s", tc.name, out.Next, tc.want)
		}
	}
}

// A job that outlives its context closes the upload that lost the race all the same.
func TestAbortWorksAfterTheContext(t *testing.T) {
	r := rigOn(t, backuptest.NewMemoryStore())
	r.site(smallSite())
	job := r.running()
	ctx, cancel := context.WithCancel(t.Context())
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "CreateUpload" && c.After {
			r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
		}
		if c.Op == "AbortUpload" && !c.After {
			cancel()
		}
		return nil
	}
	r.wantKind(second(r.openUpload().Handle(ctx, openIn(job, "files"))), backup.StaleAttempt, "opening")
	if ctx.Err() == nil {
		t.Error("the context did not end before the abort")
	}
	r.wantNothingLeft(job)
}

// A storage that takes fewer parts than S3 gets larger ones, and no export that it cannot take at all.
func TestOpenUploadKeepsToTheStoragesParts(t *testing.T) {
	r := newRig(t)
	r.site(largeSite())
	job := r.running()
	open := r.openUpload()
	open.MaxParts = 1
	out, err := open.Handle(t.Context(), step.OpenUploadIn{JobID: job.JobID, Attempt: 1, File: "files", Parallelism: 4, MaxBatches: 100})
	if file := r.file(job.JobID, "files"); err != nil || file.PartCount() != 1 || file.PartSizeBytes != 17<<20 || len(out.Batches) != 1 {
		t.Errorf("%d parts of %d bytes in %d batches, %v", file.PartCount(), file.PartSizeBytes, len(out.Batches), err)
	}
	if size := backup.PartSizeWithin(6<<30, 1); size <= backup.MaxPartSizeBytes {
		t.Fatalf("6 GiB in one part of %d bytes", size)
	}
}
