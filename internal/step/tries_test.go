package step_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// triesRig is a rig whose service tries failed attempts again, with a job whose attempt 1 has failed for a reason that may
// pass after the first part of "files" was recorded.
func triesRig(t *testing.T) (*rig, backup.Job) {
	t.Helper()
	r := newRig(t)
	r.policy = backup.DefaultPolicy()
	r.site(smallSite())
	return r, r.failed(backup.StorageUnavailable)
}

// A job that fails by something that may pass waits for its next try: its site stays taken, what it has stored stays, and no
// worker of the attempt before is let in. The next attempt moves nothing that is recorded.
func TestTriesAgain(t *testing.T) {
	r, job := triesRig(t)
	if job.Status != backup.Pending || job.Attempt != 2 || job.LastError.Kind != backup.StorageUnavailable || job.LastError.File != "files" {
		t.Fatalf("job is %+v, last error %+v", job, job.LastError)
	}
	again, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
	if err != nil || again.Status != backup.Failed || again.Error != backup.StorageUnavailable || r.job(job.JobID).Rev != job.Rev {
		t.Errorf("finished again: %+v, %v", again, err)
	}
	_, err = r.backups().Create(t.Context(), step.CreateBackup{UserID: "ada", SiteID: "blog", Trigger: backup.Manual})
	r.wantKind(err, backup.SiteBusy, "another backup of the site")
	file := r.file(job.JobID, "files")
	_, err = r.exportRangeUpload().Handle(t.Context(), step.ExportRangeUploadIn{JobID: job.JobID, Attempt: 1, File: "files", UploadID: file.UploadID, First: 1, Last: 1})
	r.wantKind(err, backup.StaleAttempt, "a worker of attempt 1")

	r.tend(0)
	r.passes(r.policy.FirstPause)
	r.tend(1)
	if started := r.executions.started; started[len(started)-1] != backup.ExecutionName(job.JobID, 2) {
		t.Fatalf("started %v", started)
	}
	fetches := r.exports.fetches()
	if result := r.execute(job.JobID, 2); result.Status != asl.Succeeded {
		t.Fatalf("attempt 2: %+v", result)
	}
	if again := r.exports.fetches() - fetches; again != 0 {
		t.Errorf("%d ranges fetched again", again)
	}
	r.wantDone(job.JobID, smallSite())
	if done := r.job(job.JobID); done.LastError != nil || !done.DeadlineAt.Equal(epoch.Add(r.policy.JobTimeout)) {
		t.Errorf("done with %+v, deadline %s", done.LastError, done.DeadlineAt)
	}
}

// Whoever does not want to wait begins the next try at once.
func TestRetryBeginsNextTry(t *testing.T) {
	r, job := triesRig(t)
	retried, err := r.backups().Retry(t.Context(), "ada", job.JobID)
	if started := r.executions.started; err != nil || retried.Attempt != 2 || started[len(started)-1] != backup.ExecutionName(job.JobID, 2) {
		t.Fatalf("%+v, %v, started %v", retried, err, started)
	}
	r.execute(job.JobID, 2)
	r.wantDone(job.JobID, smallSite())
}

// A job that waits for its next try can be cancelled and deleted, and leaves nothing.
func TestEndWhileWaiting(t *testing.T) {
	for name, end := range map[string]func(*rig, backup.Job) error{
		"cancelled": func(r *rig, j backup.Job) error { return second(r.backups().Cancel(r.Context(), "ada", j.JobID)) },
		"deleted":   func(r *rig, j backup.Job) error { return second(r.backups().Delete(r.Context(), "ada", j.JobID)) },
	} {
		r, job := triesRig(t)
		if err := end(r, job); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.wantNothingLeft(job)
		r.passes(r.policy.FirstPause)
		r.tend(0)
		if got := r.job(job.JobID); got.Active() || got.LastError != nil || !got.NextTryAt.IsZero() {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// When the time of a job is over while it waits, it has timed out, and the last error is its reason.
func TestTimeoutWhileWaiting(t *testing.T) {
	r, job := triesRig(t)
	r.passes(r.policy.JobTimeout)
	seen := r.job(job.JobID).FailureAt(r.now())
	r.tend(1)
	got := r.job(job.JobID)
	if got.Status != backup.Failed || got.Failure.Kind != backup.TimedOut || !strings.Contains(got.Failure.Detail, "because of StorageUnavailable") {
		t.Errorf("job is %s: %+v", got.Status, got.Failure)
	}
	if seen == nil || seen.Detail != got.Failure.Detail {
		t.Errorf("a reader saw %+v, written is %+v", seen, got.Failure)
	}
}

// refusing is a storage that keeps everything.
type refusing struct{ step.Sweeping }

func (refusing) DeleteObjects(context.Context, string, func(string) bool) (int, error) {
	return 0, backup.E(backup.StorageRefused, "legal hold")
}

// A cleanup that fails is told of beside the failure of the job, with since when; after a day it counts for the alarm; and it
// is forgotten when it has succeeded.
func TestFailingCleanupIsTold(t *testing.T) {
	for name, end := range map[string]func(r *rig) backup.Job{
		"failed": func(r *rig) backup.Job {
			job := r.running()
			r.move(job, r.open(job, "files"))
			r.fail(job, "files", backup.ProviderRefused)
			finish := r.finishJob()
			finish.Cleaner.Storage = refusing{finish.Cleaner.Storage}
			r.need(second(finish.Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})))
			return r.job(job.JobID)
		},
		"deleting": func(r *rig) backup.Job {
			backups := r.backups()
			backups.Cleaner.Storage = refusing{backups.Cleaner.Storage}
			job := r.running()
			r.need(second(backups.Delete(t.Context(), "ada", job.JobID)))
			return r.job(job.JobID)
		},
	} {
		r := newRig(t)
		r.site(smallSite())
		job := end(r)
		sweep := r.sweeper()
		sweep.Cleaner.Storage = refusing{sweep.Cleaner.Storage}
		began := r.now()
		r.passes(backup.SweepGrace)
		for hours := range 25 {
			swept, err := sweep.Run(t.Context())
			r.wantKind(err, backup.StorageRefused, name+": sweep")
			got := r.job(job.JobID)
			if got.Status != job.Status || got.LastError == nil || got.LastError.Kind != backup.StorageRefused || !got.LastError.Since.Equal(began) {
				t.Fatalf("%s: job %s, last error %+v", name, got.Status, got.LastError)
			}
			if !reflect.DeepEqual(got.Failure, job.Failure) {
				t.Fatalf("%s: the failure is %+v, was %+v", name, got.Failure, job.Failure)
			}
			if late := hours >= 24; late != (swept.CleanupsFailing == 1) {
				t.Errorf("%s: after %d hours %+v", name, hours, swept)
			}
			r.passes(time.Hour)
		}
		r.tend(2)
		if got := r.job(job.JobID); got.LastError != nil {
			t.Errorf("%s: after it succeeded %+v", name, got.LastError)
		}
		r.wantNothingLeft(job)
	}
}

// Whoever is away for up to an hour costs no backup its night: it ends done by itself within the deadline of its first
// attempt, and nothing that was stored is moved again. While the storage is away next to nothing is fetched for it.
func TestOutage(t *testing.T) {
	contents := map[string]backuptest.Content{"files": backuptest.ZipOf(1, 2*backup.BasePartSizeBytes), "database": backuptest.ZipOf(2, 40_000)}
	for _, kind := range []backup.Kind{backup.StorageUnavailable, backup.ProviderUnavailable} {
		for _, minutes := range []time.Duration{1, 10, 60} {
			r := newRig(t)
			r.policy, r.single = backup.DefaultPolicy(), backup.BasePartSizeBytes
			r.site(contents)
			job := r.created()
			began := r.now()
			ends := began.Add(minutes * time.Minute)
			refused := 0
			r.faults.asked = map[backup.Kind]int{}
			r.faults.away = map[backup.Kind]func() bool{kind: func() bool {
				away := r.faults.asked[kind] > 3 && r.now().Before(ends)
				if away {
					refused++
				}
				return away
			}}
			tries := r.untilEnded(job.JobID)
			r.faults.away = nil
			r.wantDone(job.JobID, contents)
			if refused == 0 || r.now().Before(ends) || (minutes == 60 && tries < 3) {
				t.Errorf("%s away for %d min: refused %d, %d tries", kind, minutes, refused, tries)
			}
			if last := r.job(job.JobID); !last.FinishedAt.Before(began.Add(r.policy.JobTimeout)) || last.FinishedAt.Sub(ends) > r.policy.MaxPause+5*time.Minute {
				t.Errorf("%s away for %d min: done at %s, %s after the outage", kind, minutes, last.FinishedAt, last.FinishedAt.Sub(ends))
			}
			if most := 4 * len(contents) * tries; refused > most {
				t.Errorf("%s away for %d min: %d requests were refused in %d tries, want %d at most", kind, minutes, refused, tries, most)
			}
			if fetches, ideal := r.exports.fetches(), 3; kind == backup.StorageUnavailable && fetches > 2*ideal {
				t.Errorf("storage away for %d min: %d ranges fetched, %d without", minutes, fetches, ideal)
			}
			t.Logf("%s away for %d min: %d tries, %d requests refused, %d ranges fetched", kind, minutes, tries, refused, r.exports.fetches())
		}
	}
}

// untilEnded runs the job's attempts as the sweeper starts them, on a clock that the waits of the machine put forward.
func (r *rig) untilEnded(jobID string) (tries int) {
	r.Helper()
	for job := r.job(jobID); job.Active(); job = r.job(jobID) {
		if wait := job.NextTryAt.Sub(r.now()); job.WaitsToTry() && wait > 0 {
			r.passes(wait)
		}
		tries++
		r.executeOn(r.handlers(), jobID, job.Attempt, func(_ context.Context, d time.Duration) { r.passes(d) })
	}
	return tries
}

// Whatever fails between a failed attempt and the end of the next, and wherever the process ends: the backup gets done by
// itself within the deadline of its first attempt, nothing else is left in the storage, and the user's usage is that of one
// backup that is done.
func TestTriesSurviveEveryFault(t *testing.T) { bothUploads(t, triesSurviveEveryFault) }

func triesSurviveEveryFault(t *testing.T, single int64) {
	contents := smallSite()
	faultCases(t, errorsAndCrashes, func(t *testing.T, f fault) *faults {
		r := rigOn(t, backuptest.NewMemoryStoreWithin(backup.Quotas{ActiveJobs: 1, Ranges: 1}))
		r.single, r.policy = single, backup.DefaultPolicy()
		r.site(contents)
		job := r.running()
		r.backUp(job, "database")
		r.move(job, r.open(job, "files"))
		r.fail(job, "files", backup.StorageUnavailable)
		r.faults.arm(f)
		fired := ""
		survive := func() {
			if r.faults.dead {
				fired = r.faults.disarm()
			}
		}
		_, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
		if survive(); err != nil { // Step Functions asks again, and after that tells of its end
			_, _ = r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
		}
		_ = r.cleaner().EndExecution(t.Context(), job.JobID, 1, backup.StorageUnavailable, "503")
		survive()
		for rounds := 0; r.job(job.JobID).Active() && rounds < 5; rounds++ {
			r.passes(r.policy.MaxPause)
			_, _ = r.sweeper().Run(t.Context())
			survive()
			r.executeStarted(job.JobID, survive)
		}
		fired += r.faults.disarm()
		done := r.job(job.JobID)
		if !done.DeadlineAt.Equal(job.DeadlineAt) || done.Retries != 0 || done.Tries == 0 {
			t.Errorf("%q failed, then the job had %d tries, deadline %s, which was %s", fired, done.Tries, done.DeadlineAt, job.DeadlineAt)
		}
		r.wantDone(job.JobID, contents)
		usage, err := r.store.Usage(t.Context(), "ada", r.now())
		if err != nil || usage.ActiveJobs != 0 || usage.Ranges != 0 || usage.StoredBytes != done.SizeBytes {
			t.Errorf("%q failed, then the usage is %+v, %v", fired, usage, err)
		}
		r.faults.fired = fired
		return r.faults
	})
}

// executeStarted runs the attempt that the job is in, if it was started, again after its process ended, and tells its end as
// EventBridge does.
func (r *rig) executeStarted(jobID string, survive func()) {
	r.Helper()
	job := r.job(jobID)
	if !slices.Contains(r.executions.started, backup.ExecutionName(jobID, job.Attempt)) {
		return
	}
	result := r.execute(jobID, job.Attempt)
	survive()
	if result.Status == asl.Aborted {
		result = r.execute(jobID, job.Attempt)
	}
	if result.Status == asl.Failed {
		r.need(r.cleaner().EndExecution(r.Context(), jobID, job.Attempt, backup.Kind(result.Error), result.Cause))
	}
}
