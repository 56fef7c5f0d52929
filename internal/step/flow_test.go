package step_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

const (
	smallBytes = 40_000          // one part
	twoParts   = 16<<20 + 70_001 // of the base size and a rest
)

func smallSite() map[string]backuptest.Content {
	return map[string]backuptest.Content{"files": backuptest.ZipOf(1, smallBytes), "database": backuptest.ZipOf(2, smallBytes+1)}
}

func largeSite() map[string]backuptest.Content {
	return map[string]backuptest.Content{"files": backuptest.ZipOf(1, twoParts)}
}

// A backup without disturbance fetches each part once and ends done.
func TestBackup(t *testing.T) {
	contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, twoParts), "database": backuptest.ZipOf(2, smallBytes)}
	r := newRig(t)
	r.site(contents)
	job := r.created()
	if result := r.execute(job.JobID, 1); result.Status != asl.Succeeded {
		t.Fatalf("execution %s: %s %s", result.Status, result.Error, result.Cause)
	}
	r.wantDone(job.JobID, contents)
	for name, parts := range map[string]int{"files": 2, "database": 1} {
		if got := r.exports.of(name).total(); got != parts {
			t.Errorf("%s: %d ranges fetched, want %d", name, got, parts)
		}
	}
	for _, e := range r.exports.asked {
		if e.UserID != "ada" || e.BackupID != job.JobID {
			t.Errorf("asked as %+v", e)
		}
	}
	m := r.manifest(r.job(job.JobID))
	if m.Version != 1 || m.JobID != job.JobID || m.Attempt != 1 || m.Files[1].Parts != 2 || m.Files[1].Archive.Entries != 1 || m.Files[1].ETag != `"v1"` {
		t.Errorf("manifest %+v", m)
	}
	if job = r.job(job.JobID); !job.DueAt.Equal(job.DeleteAt) || !job.FinishedAt.Equal(epoch) {
		t.Errorf("job %+v", job)
	}
}

// Every step may run twice: the second call succeeds, says the same and changes nothing.
func TestEveryStepTwice(t *testing.T) {
	bothUploads(t, func(t *testing.T, single int64) {
		r := newRig(t)
		r.single = single
		everyStepTwice(r)
	})
}

// bothUploads runs a test with multipart uploads and with files that are put in one request.
func bothUploads(t *testing.T, run func(t *testing.T, single int64)) {
	t.Run("multipart", func(t *testing.T) { run(t, 0) })
	t.Run("single", func(t *testing.T) { run(t, smallBytes+1) })
}

func everyStepTwice(r *rig) {
	t, contents := r.T, smallSite()
	r.site(contents)
	job := r.created()
	repeated := map[string]int{}
	handlers := r.handlers()
	for name, handle := range r.handlers() {
		handlers[name] = func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
			first, err := handle(ctx, input)
			if err != nil {
				return first, err
			}
			before := r.snapshot(job)
			second, err := handle(ctx, input)
			if after := r.snapshot(job); err != nil || before != after {
				t.Errorf("%s again: %v\nbefore %s\nafter  %s", name, err, before, after)
			}
			if name == "OpenUpload" && string(first) != string(second) {
				t.Errorf("%s again says %s instead of %s", name, second, first)
			}
			repeated[name]++
			return second, err
		}
	}
	if result := r.executeWith(handlers, job.JobID, 1); result.Status != asl.Succeeded {
		t.Fatalf("execution %s: %s %s", result.Status, result.Error, result.Cause)
	}
	r.wantDone(job.JobID, contents)
	for name := range handlers {
		if repeated[name] == 0 && name != "FailFile" {
			t.Errorf("%s was never repeated", name)
		}
	}
	if got := r.exports.of("files").total() + r.exports.of("database").total(); got != 2 {
		t.Errorf("%d ranges fetched, want 2", got)
	}
}

// snapshot is all that a repeated call could have changed.
func (r *rig) snapshot(job backup.Job) string {
	r.Helper()
	var all strings.Builder
	fmt.Fprintf(&all, "%+v", r.job(job.JobID).Rev)
	files, err := r.store.Files(r.Context(), job.JobID)
	r.need(err)
	for _, f := range files {
		fmt.Fprintf(&all, " %s/%s rev %d changes %d", f.Name, f.Status, f.Rev, f.Changes)
	}
	uploads, versions := r.storage.Left(job.Prefix())
	fmt.Fprintf(&all, " uploads %d versions %d", uploads, versions)
	return all.String()
}

// faultCases counts the calls that an undisturbed run makes, and then lets each of them fail in a run of its own.
func faultCases(t *testing.T, crashes []bool, run func(t *testing.T, f fault) *faults) {
	t.Helper()
	calls := 0
	t.Run("undisturbed", func(t *testing.T) { calls = run(t, fault{}).calls })
	if calls < 3 {
		t.Fatalf("the flow makes %d calls", calls)
	}
	for _, crash := range crashes {
		for _, effect := range []bool{false, true} {
			for n := 1; n <= calls; n++ {
				t.Run(fmt.Sprintf("call %d crash=%t effect=%t", n, crash, effect), func(t *testing.T) {
					t.Parallel()
					if run(t, fault{n: n, effect: effect, crashes: crash}).fired == "" {
						t.Error("the fault never came")
					}
				})
			}
		}
	}
}

var errorsAndCrashes = []bool{false, true}

// Whatever call fails, before its effect or after it, and wherever the process ends: the backup ends done with exactly
// the exported bytes, and the storage holds nothing else.
func TestBackupSurvivesEveryFault(t *testing.T) { bothUploads(t, backupSurvivesEveryFault) }

func backupSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		var r *rig
		if f.crashes {
			r = rigOn(t, backuptest.NewMemoryStore())
		} else {
			r = newRig(t)
		}
		r.single = single
		r.site(contents)
		job := r.created()
		r.faults.arm(f)
		result := r.execute(job.JobID, 1)
		fired := r.faults.disarm()
		if fired != "" && f.crashes {
			if result.Status != asl.Aborted {
				t.Fatalf("the execution is %s although its process ended in %s", result.Status, fired)
			}
			result = r.execute(job.JobID, 1)
		}
		if result.Status != asl.Succeeded {
			t.Fatalf("%s failed, then the execution was %s: %s %s", fired, result.Status, result.Error, result.Cause)
		}
		r.wantDone(job.JobID, contents)
		for _, name := range []string{"files", "database"} {
			if got := r.exports.of(name).total(); got > 2 || (fired == "" && got != 1) {
				t.Errorf("%s failed, then %s was fetched %d times", fired, name, got)
			}
		}
		if got := r.exports.of("files").total() + r.exports.of("database").total(); got > 3 {
			t.Errorf("%s failed, then %d ranges were fetched for 2", fired, got)
		}
		return r.faults
	})
}

// The same for parts: only the one that the fault hit, and the one that was read ahead, are fetched again.
func TestPartsSurviveEveryFault(t *testing.T) {
	contents := largeSite()
	want := bytesOf(contents["files"])
	faultCases(t, []bool{false}, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(contents)
		job := r.running()
		out := r.open(job, "files")
		r.faults.arm(f)
		in := rangeIn(job, out, backup.Batch{First: 1, Last: 2})
		_, err := r.exportRangeUpload().Handle(t.Context(), in)
		fired := r.faults.disarm()
		if (err != nil) != (fired != "") {
			t.Errorf("%q failed, the step answered %v", fired, err)
		}
		r.fetchedTwiceAtMost(fired, "first call")
		again, err := r.exportRangeUpload().Handle(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if fired == "" && again.Parts != 0 {
			t.Errorf("%d parts moved again", again.Parts)
		}
		r.fetchedTwiceAtMost(fired, "second call")
		r.complete(job, "files")
		if got, _ := r.storage.Content(r.file(job.JobID, "files").Key); string(got) != string(want) {
			t.Errorf("%q failed, then the object has %d bytes, not the %d exported ones", fired, len(got), len(want))
		}
		return r.faults
	})
}

func (r *rig) fetchedTwiceAtMost(fired, when string) {
	r.Helper()
	for offset, n := range r.exports.of("files").fetches {
		if n > 2 || (fired == "" && n > 1) {
			r.Errorf("%s: %q failed, the part at %d was fetched %d times", when, fired, offset, n)
		}
	}
}

// An upload that the storage has lost is begun anew once, whatever fails then.
func TestRestartSurvivesEveryFault(t *testing.T) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(contents)
		job := r.created()
		var lost sync.Once
		r.storage.Intercept = func(c backuptest.StorageCall) (err error) {
			if c.Op == "UploadPart" && !c.After {
				lost.Do(func() { _, err = r.storage.AbortUploads(context.Background(), job.Prefix(), job.UploadKeys(nil), nil) })
			}
			return err
		}
		r.faults.arm(f)
		result := r.execute(job.JobID, 1)
		fired := r.faults.disarm()
		if f.crashes {
			result = r.execute(job.JobID, 1)
		}
		if result.Status != asl.Succeeded {
			t.Fatalf("%q failed, then the execution: %s %s", fired, result.Status, result.Error)
		}
		r.wantDone(job.JobID, contents)
		restarts := r.file(job.JobID, "database").Restarts + r.file(job.JobID, "files").Restarts
		if restarts != 1 {
			t.Errorf("%q failed, then there were %d restarts", fired, restarts)
		}
		return r.faults
	})
}

// A job that fails for good leaves nothing but its row, whatever fails while it is cleaned up.
func TestCleanupSurvivesEveryFault(t *testing.T) { bothUploads(t, cleanupSurvivesEveryFault) }

func cleanupSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	contents["files"] = strings.NewReader(strings.Repeat("<html>sorry</html>", 2_000))
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.running()
		for name := range contents {
			r.move(job, r.open(job, name))
			r.complete(job, name)
		}
		r.inspect(job, "database")
		r.fail(job, "files", backup.ArchiveInvalid)
		r.faults.arm(f)
		_, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
		fired := r.faults.disarm()
		if err != nil {
			r.finish(job) // as the state machine does
		}
		r.tend(3)
		job = r.job(job.JobID)
		if job.Status != backup.Failed || job.Failure.Kind != backup.ArchiveInvalid || job.Cleanup != backup.CleanupNone {
			t.Errorf("%q failed, then the job is %s with cleanup %q: %+v", fired, job.Status, job.Cleanup, job.Failure)
		}
		uploads, versions := r.storage.Left(job.Prefix())
		if _, kept := r.storage.Content(r.file(job.JobID, "database").Key); uploads != 0 || versions != 1 || !kept {
			t.Errorf("%q failed, then %d uploads and %d versions are left, the finished file: %t", fired, uploads, versions, kept)
		}
		return r.faults
	})
}

// A file that fails for good fails its job for its reason, the others being finished, whatever else fails on the way.
func TestFailureSurvivesEveryFault(t *testing.T) { bothUploads(t, failureSurvivesEveryFault) }

func failureSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	contents["database"] = strings.NewReader(strings.Repeat("<html>sorry</html>", 2_000))
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.created()
		r.faults.arm(f)
		result := r.execute(job.JobID, 1)
		fired := r.faults.disarm()
		if f.crashes {
			result = r.execute(job.JobID, 1)
		}
		job = r.job(job.JobID)
		if result.Status != asl.Failed || job.Status != backup.Failed || job.Failure.Kind != backup.ArchiveInvalid || job.Failure.File != "database" {
			t.Errorf("%q failed, then the execution: %s %s, the job %s: %+v", fired, result.Status, result.Error, job.Status, job.Failure)
		}
		if got := r.file(job.JobID, "files"); got.Status != backup.FileDone {
			t.Errorf("%q failed, then the other file is %s", fired, got.Status)
		}
		r.tend(3)
		if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != 1 {
			t.Errorf("%q failed, then %d uploads and %d versions are left", fired, uploads, versions)
		}
		return r.faults
	})
}

// A cancelled backup leaves nothing, whatever fails on the way.
func TestCancelSurvivesEveryFault(t *testing.T) { bothUploads(t, cancelSurvivesEveryFault) }

func cancelSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.running()
		r.backUp(job, "files")
		r.move(job, r.open(job, "database"))
		r.faults.arm(f)
		_, err := r.backups().Cancel(t.Context(), "ada", job.JobID)
		fired := r.faults.disarm()
		if err != nil {
			r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
		}
		r.passes(10 * time.Minute)
		r.tend(4)
		if job = r.job(job.JobID); job.Failure.Kind != backup.Cancelled || job.Cleanup != backup.CleanupNone {
			t.Errorf("%q failed, then the job is %s with cleanup %q: %+v", fired, job.Status, job.Cleanup, job.Failure)
		}
		r.wantNothingLeft(job)
		return r.faults
	})
}

// tend lets the sweeper come by several times, each after the longest time that anything waits.
func (r *rig) tend(times int) {
	r.Helper()
	for range times {
		_, err := r.sweeper().Run(r.Context())
		r.need(err)
		r.passes(r.policy.WorkerLife)
	}
}

// A deletion ends with nothing left, whatever fails on the way.
func TestDeletionSurvivesEveryFault(t *testing.T) { bothUploads(t, deletionSurvivesEveryFault) }

func deletionSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.running()
		r.backUp(job, "files")
		r.move(job, r.open(job, "database")) // an open upload
		r.faults.arm(f)
		_, err := r.backups().Delete(t.Context(), "ada", job.JobID)
		fired := r.faults.disarm()
		if err != nil {
			if _, err = r.backups().Delete(t.Context(), "ada", job.JobID); err != nil {
				t.Fatalf("%q failed, then deleting again: %v", fired, err)
			}
		}
		r.passes(10 * time.Minute)
		r.tend(4)
		if job = r.job(job.JobID); job.Status != backup.Deleted || !job.DueAt.IsZero() {
			t.Errorf("%q failed, then the job is %s, due at %s", fired, job.Status, job.DueAt)
		}
		r.wantNothingLeft(job)
		return r.faults
	})
}

// The sweeper gets everything done although one of its own calls fails.
func TestSweepSurvivesEveryFault(t *testing.T) { bothUploads(t, sweepSurvivesEveryFault) }

func sweepSurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.running()
		r.backUp(job, "files")
		r.move(job, r.open(job, "database"))
		r.passes(r.policy.JobTimeout)
		r.faults.arm(f)
		_, err := r.sweeper().Run(t.Context())
		fired := r.faults.disarm()
		if (err != nil) != (fired != "") {
			t.Errorf("%q failed, the sweep answered %v", fired, err)
		}
		r.passes(10 * time.Minute)
		r.tend(3)
		job = r.job(job.JobID)
		if job.Status != backup.Failed || job.Failure.Kind != backup.TimedOut || job.Cleanup != backup.CleanupNone {
			t.Errorf("%q failed, then the job is %s with cleanup %q", fired, job.Status, job.Cleanup)
		}
		if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != 1 {
			t.Errorf("%q failed, then %d uploads and %d versions are left", fired, uploads, versions)
		}
		r.passes(r.policy.FailedKeep)
		r.tend(3)
		if job = r.job(job.JobID); job.Status != backup.Deleted {
			t.Errorf("%q failed, then the job is %s at the end of its time", fired, job.Status)
		}
		r.wantNothingLeft(job)
		return r.faults
	})
}

// A backup asked for under a key exists once and starts, whatever fails.
func TestCreateSurvivesEveryFault(t *testing.T) {
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		ask := step.CreateBackup{UserID: "ada", SiteID: "blog", Trigger: backup.Manual, Key: "key", BodyHash: "hash"}
		r.faults.arm(f)
		job, err := r.backups().Create(t.Context(), ask)
		fired := r.faults.disarm()
		if err != nil {
			if job, err = r.backups().Create(t.Context(), ask); err != nil {
				t.Fatalf("%q failed, then asking again: %v", fired, err)
			}
		}
		r.passes(backup.StartGrace)
		_, err = r.sweeper().Run(t.Context())
		r.need(err)
		jobs, err := r.store.ListJobs(t.Context(), backup.JobQuery{UserID: "ada", Limit: 10})
		r.need(err)
		if len(jobs) != 1 || jobs[0].JobID != job.JobID || jobs[0].Status != backup.Pending {
			t.Errorf("%q failed, then there are %d jobs", fired, len(jobs))
		}
		if len(r.executions.started) == 0 {
			t.Errorf("%q failed, then no execution was started", fired)
		}
		return r.faults
	})
}

// A retry moves only what is missing, whatever fails on the way to it.
func TestRetrySurvivesEveryFault(t *testing.T) { bothUploads(t, retrySurvivesEveryFault) }

func retrySurvivesEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.single = single
		r.site(contents)
		job := r.running()
		r.backUp(job, "database")
		r.move(job, r.open(job, "files"))
		r.fail(job, "files", backup.StorageUnavailable)
		r.finish(job)
		r.faults.arm(f)
		_, err := r.backups().Retry(t.Context(), "ada", job.JobID)
		fired := r.faults.disarm()
		if err != nil && r.job(job.JobID).Status == backup.Failed {
			if _, err = r.backups().Retry(t.Context(), "ada", job.JobID); err != nil {
				t.Fatalf("%q failed, then asking again: %v", fired, err)
			}
		}
		r.passes(backup.StartGrace)
		_, err = r.sweeper().Run(t.Context())
		r.need(err)
		if result := r.execute(job.JobID, 2); result.Status != asl.Succeeded || len(r.executions.started) < 2 {
			t.Fatalf("%q failed, then the execution: %s %s, started %v", fired, result.Status, result.Error, r.executions.started)
		}
		r.wantDone(job.JobID, contents)
		if got := r.exports.of("files").total() + r.exports.of("database").total(); got != 2 {
			t.Errorf("%q failed, then %d ranges were fetched for 2 parts", fired, got)
		}
		return r.faults
	})
}
