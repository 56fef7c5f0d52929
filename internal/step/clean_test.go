package step_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

func (r *rig) clean(job backup.Job) {
	r.Helper()
	r.need(r.cleaner().CleanFailed(r.Context(), r.job(job.JobID)))
}

func (r *rig) wantCleanup(job backup.Job, want backup.Cleanup, when string) {
	r.Helper()
	if got := r.job(job.JobID); got.Cleanup != want || got.Status != backup.Failed {
		r.Errorf("%s: %s job with cleanup %q, want %q", when, got.Status, got.Cleanup, want)
	}
}

// Parts that a retry can use wait for it; then they go, in two sweeps, and the finished file stays.
func TestCleanFailedWaitsForRetry(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ProviderTimeout)
	r.clean(job)
	r.wantCleanup(job, backup.CleanupLater, "at once")
	if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 {
		t.Errorf("%d uploads wait", uploads)
	}
	r.passes(r.policy.RetryWindow)
	r.clean(job)
	r.wantCleanup(job, backup.CleanupNone, "after the window, when no worker can be alive any more")
	uploads, versions := r.storage.Left(job.Prefix())
	if f := r.file(job.JobID, "files"); uploads != 0 || versions != 1 || f.Resumable() || f.Failure.Kind != backup.ProviderTimeout {
		t.Errorf("left %d uploads, %d versions; file %+v", uploads, versions, f)
	}
}

// What nothing can mend is swept at once, and once more when no worker can be alive.
func TestCleanFailedSweepsTwice(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ArchiveInvalid) // FinishJob has swept once
	r.wantCleanup(job, backup.CleanupAgain, "at once")
	late := r.lateUpload(job, 1)
	r.clean(job)
	r.wantCleanup(job, backup.CleanupAgain, "before it is due")
	if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 {
		t.Errorf("the late upload %s is gone too early", late)
	}
	r.passes(r.policy.WorkerLife)
	r.clean(job)
	r.wantCleanup(job, backup.CleanupNone, "when it is due")
	if uploads, versions := r.storage.Left(job.Prefix()); uploads != 0 || versions != 1 {
		t.Errorf("left %d uploads, %d versions", uploads, versions)
	}
}

// lateUpload is what a worker opens that has not noticed that its attempt is over.
func (r *rig) lateUpload(job backup.Job, attempt int) string {
	r.Helper()
	id, err := r.storage.CreateUpload(r.Context(), job.FileKey("files", attempt, 1), "token")
	r.need(err)
	return id
}

// A cancelled job loses its finished files as well.
func TestCancelledLosesEverything(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.backUp(job, "database")
	r.move(job, r.open(job, "files"))
	r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
	r.wantNothingLeft(job)
	if f := r.file(job.JobID, "database"); f.Status != backup.FileFailed || f.Failure.Kind != backup.Cancelled || f.Key != "" {
		t.Errorf("file %+v", f)
	}
	if fmt.Sprint(r.executions.stopped) != fmt.Sprint([]string{job.JobID + "-1"}) {
		t.Errorf("stopped %v", r.executions.stopped)
	}
}

// A sweep that falls asleep and wakes up when a later attempt is at work leaves that attempt's uploads and objects alone.
func TestSlowSweepLeavesLaterAttempts(t *testing.T) {
	for _, op := range []string{"AbortUploads", "DeleteObjects"} {
		contents := smallSite()
		r := newRig(t)
		r.site(contents)
		job := r.failed(backup.ProviderTimeout)
		r.passes(r.policy.RetryWindow)
		asleep := false
		r.storage.Intercept = func(c backuptest.StorageCall) error {
			if c.Op != op || c.After || asleep {
				return nil
			}
			asleep = true // another sweeper does all of it, and a retry gets going
			r.clean(job)
			r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
			r.need(second(r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 2})))
			r.move(r.job(job.JobID), r.open(r.job(job.JobID), "files"))
			if op == "DeleteObjects" {
				r.complete(r.job(job.JobID), "files")
			}
			return nil
		}
		err := r.cleaner().CleanFailed(t.Context(), r.job(job.JobID))
		if !asleep {
			t.Fatal("the sweep never slept")
		}
		r.wantKind(err, backup.StaleAttempt, "the sweep that slept")
		if result := r.execute(job.JobID, 2); result.Error != "" {
			t.Fatalf("attempt 2: %s %s", result.Error, result.Cause)
		}
		r.wantDone(job.JobID, contents)
		if got := r.exports.of("files").total(); got != 2 {
			t.Errorf("slept before %s: %d ranges fetched, want one in each attempt", op, got)
		}
	}
}

// No retry begins while a sweep is under way.
func TestNoRetryBesideSweep(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ProviderTimeout)
	r.passes(r.policy.RetryWindow)
	var retry error
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "AbortUploads" && !c.After && retry == nil {
			next, err := r.job(job.JobID).Retry(nil, r.now(), r.policy)
			if retry = err; err == nil {
				retry = fmt.Errorf("retried as %+v", next)
			}
		}
		return nil
	}
	r.clean(job)
	r.wantKind(retry, backup.Conflict, "retry beside a sweep")
}

// Deletion ends only with a sweep that began after the longest worker could have lived.
func TestRemoveNeedsALateSweep(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.backUp(job, "files")
	r.need(second(r.backups().Delete(t.Context(), "ada", job.JobID)))
	r.wantNothingLeft(job)
	wantStatus := func(want backup.Status, when string) {
		t.Helper()
		if got := r.job(job.JobID); got.Status != want {
			t.Errorf("%s: %s, want %s", when, got.Status, want)
		}
	}
	wantStatus(backup.Deleting, "after the first sweep")
	r.lateUpload(job, 1)
	r.passes(r.policy.WorkerLife - time.Millisecond)
	r.need(r.cleaner().Remove(t.Context(), r.job(job.JobID)))
	wantStatus(backup.Deleting, "just before the last worker can be gone")
	r.lateUpload(job, 1)
	r.passes(time.Millisecond)
	r.need(r.cleaner().Remove(t.Context(), r.job(job.JobID)))
	wantStatus(backup.Deleted, "after the last worker can be gone")
	r.wantNothingLeft(job)
	r.need(r.cleaner().Remove(t.Context(), r.job(job.JobID)))
	wantStatus(backup.Deleted, "once more")
}

// A sweep that itself takes until the last worker is gone has still begun too early.
func TestRemoveCountsFromItsBeginning(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "DeleteObjects" && c.After {
			r.passes(time.Hour)
		}
		return nil
	}
	r.need(second(r.backups().Delete(t.Context(), "ada", job.JobID)))
	if got := r.job(job.JobID); got.Status != backup.Deleting || !got.DueAt.Equal(got.FencedAt.Add(r.policy.WorkerLife)) {
		t.Errorf("job %s due at %s", got.Status, got.DueAt)
	}
}

// The sweeper tends each kind of due row.
func TestSweepTends(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(r *rig) backup.Job
		check   func(r *rig, job backup.Job)
	}{
		{
			"a pending job whose start got lost",
			func(r *rig) backup.Job {
				job := r.created()
				r.executions.started = nil
				r.passes(backup.StartGrace)
				return job
			},
			func(r *rig, job backup.Job) {
				if len(r.executions.started) != 1 || !job.DueAt.Equal(r.now().Add(backup.StartGrace)) || job.Status != backup.Pending {
					r.Errorf("started %v, job %s due at %s", r.executions.started, job.Status, job.DueAt)
				}
			},
		},
		{
			"a pending job past its deadline",
			func(r *rig) backup.Job { job := r.created(); r.passes(r.policy.JobTimeout); return job },
			func(r *rig, job backup.Job) { r.wantTimedOut(job) },
		},
		{
			"a running job past its deadline",
			func(r *rig) backup.Job {
				job := r.running()
				r.open(job, "files")
				r.passes(r.policy.JobTimeout)
				return job
			},
			func(r *rig, job backup.Job) {
				r.wantTimedOut(job)
				r.wantNothingLeft(job)
				if len(r.executions.stopped) == 0 {
					r.Error("its execution was not stopped")
				}
			},
		},
		{
			"parts that nobody retried",
			func(r *rig) backup.Job {
				job := r.failed(backup.UploadLost)
				r.passes(r.policy.RetryWindow)
				return job
			},
			func(r *rig, job backup.Job) { r.wantCleanup(job, backup.CleanupNone, "swept") },
		},
		{
			"a failed job at the end of its time",
			func(r *rig) backup.Job { job := r.failed(backup.UploadLost); r.passes(r.policy.FailedKeep); return job },
			func(r *rig, job backup.Job) { r.wantRemoved(job) },
		},
		{
			"a done job at the end of its retention",
			func(r *rig) backup.Job {
				job := r.backedUp()
				r.finish(job)
				r.passes(60 * 24 * time.Hour)
				return job
			},
			func(r *rig, job backup.Job) {
				r.wantRemoved(job)
				if len(r.executions.stopped) != 0 {
					r.Errorf("stopped %v, which ended by themselves long ago", r.executions.stopped)
				}
			},
		},
		{
			"a deletion that broke off",
			func(r *rig) backup.Job {
				job := r.running()
				r.open(job, "files")
				next, err := r.job(job.JobID).Delete(r.now())
				r.need(err)
				r.need(r.store.SwapJob(r.Context(), next))
				r.passes(r.policy.WorkerLife)
				return job
			},
			func(r *rig, job backup.Job) {
				if job.Status != backup.Deleted {
					r.Errorf("job is %s", job.Status)
				}
				r.wantNothingLeft(job)
				if len(r.executions.stopped) != 1 {
					r.Errorf("stopped %v", r.executions.stopped)
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.site(smallSite())
			job := tc.prepare(r)
			tended, err := r.sweeper().Run(t.Context())
			if err != nil || tended.Tended != 1 {
				t.Errorf("tended %+v, %v", tended, err)
			}
			tc.check(r, r.job(job.JobID))
			if again, err := r.sweeper().Run(t.Context()); err != nil || again.Tended != 0 {
				t.Errorf("right afterwards %d are due again, %v", again, err)
			}
		})
	}
}

func (r *rig) wantTimedOut(job backup.Job) {
	r.Helper()
	if job.Status != backup.Failed || job.Failure.Kind != backup.TimedOut {
		r.Errorf("job %s %+v", job.Status, job.Failure)
	}
}

func (r *rig) wantRemoved(job backup.Job) {
	r.Helper()
	if job.Status != backup.Deleting {
		r.Errorf("job is %s", job.Status)
	}
	r.wantNothingLeft(job)
}

// A job that is not due is not touched.
func TestSweepLeavesOthersAlone(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.open(job, "files")
	before := r.snapshot(job)
	if tended, err := r.sweeper().Run(t.Context()); tended.Tended != 0 || err != nil || r.snapshot(job) != before {
		t.Errorf("tended %+v, %v: %s", tended, err, r.snapshot(job))
	}
}

// A job that is retried or kept while it waits for its turn is left alone: the list of the due is no decision.
func TestSweepDecidesAnew(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.UploadLost)
	r.passes(r.policy.RetryWindow)
	sweep := r.sweeper()
	sweep.Jobs = retriesFirst{sweep.Jobs, func() { r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID))) }}
	if tended, err := sweep.Run(t.Context()); tended.Tended != 1 || err != nil {
		t.Errorf("tended %+v, %v", tended, err)
	}
	if job = r.job(job.JobID); job.Status != backup.Pending || job.Attempt != 2 || job.DueAt.Before(r.now()) {
		t.Errorf("%s in attempt %d, due at %s", job.Status, job.Attempt, job.DueAt)
	}
}

// retriesFirst lets a retry through between the list of the due and the work on it.
type retriesFirst struct {
	step.JobStore
	retry func()
}

func (r retriesFirst) DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error) {
	due, err := r.JobStore.DueJobs(ctx, now, limit)
	r.retry()
	return due, err
}

// One job that cannot be tended is put off and does not keep the others from their turn.
func TestFailingJobDoesNotStarveOthers(t *testing.T) {
	const jobs = 230
	r := rigOn(t, backuptest.NewMemoryStore())
	for i := range jobs {
		r.siteJob(i)
	}
	r.passes(r.policy.JobTimeout)
	broken := "01JD" + fmt.Sprintf("%022d", 1) // the longest due
	sweep := r.sweeper()
	sweep.Cleaner.Executions = stubborn{r.executions, broken}
	tended, err := sweep.Run(t.Context())
	if tended.Tended != jobs || err == nil || !strings.Contains(err.Error(), broken) || !errors.Is(err, errStubborn) {
		t.Errorf("tended %+v of %d: %v", tended, jobs, err)
	}
	all, err := r.store.ListJobs(t.Context(), backup.JobQuery{UserID: "ada", Limit: 1_000})
	r.need(err)
	for _, job := range all {
		if job.Status != backup.Failed {
			t.Errorf("job %s is %s", job.JobID, job.Status)
		}
		if due := job.DueAt.Sub(r.now()); due <= 0 || (job.JobID == broken) != (due == backup.SweepGrace) {
			t.Errorf("job %s is due again in %s", job.JobID, due)
		}
	}
}

// Cleanups that hang with the storage, more of them than are worked on at a time, keep no backup from its start.
func TestHangingCleanupsKeepNoBackupFromItsStart(t *testing.T) {
	for name, start := range map[string]func(step.Sweep, context.Context) error{
		"beside the sweep": func(s step.Sweep, ctx context.Context) error { return s.StartDue(ctx) },
		"within the sweep": func(s step.Sweep, ctx context.Context) error {
			hung, cancel := context.WithTimeout(ctx, time.Minute) // as long as a function lives
			defer cancel()
			_, err := s.Run(hung)
			return ignoreHung(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rigOn(t, backuptest.NewMemoryStore())
				for i := range 40 {
					job := r.siteJob(i)
					failed, err := job.Fail(1, backup.NewFailure(backup.ProviderRefused, "", "401", epoch), epoch, r.policy)
					r.need(err)
					r.need(r.store.SwapJob(t.Context(), failed))
				}
				r.passes(backup.SweepGrace)
				waiting := r.siteJob(40)
				r.passes(backup.StartGrace)
				sweep, storage := r.sweeper(), &hangingSweep{}
				sweep.Cleaner.Storage = storage
				r.need(start(sweep, t.Context()))
				if want := backup.ExecutionName(waiting.JobID, 1); !slices.Equal(r.executions.started, []string{want}) {
					t.Errorf("started %v, not %s", r.executions.started, want)
				}
				if name == "within the sweep" && storage.calls.Load() == 0 {
					t.Error("no cleanup hung")
				}
			})
		})
	}
}

func ignoreHung(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// siteJob is a pending job of a site of its own.
func (r *rig) siteJob(i int) backup.Job {
	r.Helper()
	site := backup.Site{UserID: "ada", SiteID: fmt.Sprintf("site-%d", i), Providers: []backup.Provider{{Name: "files", URL: "https://example.org/"}}}.WithDefaults()
	job, err := r.store.CreateJob(r.Context(), backup.NewJob(r.newID(), site, backup.Manual, epoch.AddDate(0, 0, 60), r.now(), r.policy), backup.Idempotency{})
	r.need(err)
	return job
}

// hangingSweep answers when its caller has lost patience.
type hangingSweep struct {
	step.Sweeping
	calls atomic.Int64
}

func (s *hangingSweep) AbortUploads(ctx context.Context, _ string, _ []string, _ func(string) bool) (int, error) {
	s.calls.Add(1)
	<-ctx.Done()
	return 0, backup.E(backup.StorageUnavailable, "no answer in time: %w", ctx.Err())
}

var errStubborn = backup.E(backup.StoreUnavailable, "cannot be stopped")

type stubborn struct {
	*executions
	jobID string
}

func (s stubborn) Stop(_ context.Context, jobID string, _ int) error {
	if jobID == s.jobID {
		return errStubborn
	}
	return nil
}

// A job that was tended after all, only the answer to its last write got lost, is not made due again.
func TestPostponeOnlyWhatIsDue(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(r *rig) backup.Job
		want    backup.Status
	}{
		{"deleted", func(r *rig) backup.Job {
			job := r.running()
			r.need(second(r.backups().Delete(r.Context(), "ada", job.JobID)))
			r.passes(r.policy.WorkerLife)
			return job
		}, backup.Deleted},
		{"swept", func(r *rig) backup.Job {
			job := r.failed(backup.UploadLost)
			r.passes(r.policy.RetryWindow)
			return job
		}, backup.Failed},
	} {
		r := newRig(t)
		r.site(smallSite())
		tc.prepare(r)
		calls := r.countCalls(func() { r.need(second(r.sweeper().Run(r.Context()))) })

		r = newRig(t)
		r.site(smallSite())
		job := tc.prepare(r)
		r.faults.arm(fault{n: calls, effect: true})
		_, err := r.sweeper().Run(t.Context())
		if fired := r.faults.disarm(); fired != "SwapJob" || err == nil {
			t.Fatalf("%s: the fault hit %q: %v", tc.name, fired, err)
		}
		if got := r.job(job.JobID); got.Status != tc.want || got.Cleanup != backup.CleanupNone || got.Due(r.now().Add(time.Hour)) {
			t.Errorf("%s: job %s with cleanup %q is due at %s", tc.name, got.Status, got.Cleanup, got.DueAt)
		}
	}
}

func (r *rig) countCalls(do func()) int {
	r.faults.arm(fault{})
	do()
	r.faults.disarm()
	return r.faults.calls
}

// An upload that no row tells of, because the process ended right after it had been created, is found under its whole
// key: at the end of an attempt, at the deletion, and beside the finished files.
func TestUploadWithoutRowIsFound(t *testing.T) {
	for name, end := range map[string]func(r *rig, job backup.Job){
		"deleted":   func(r *rig, job backup.Job) { r.need(second(r.backups().Delete(r.Context(), "ada", job.JobID))) },
		"cancelled": func(r *rig, job backup.Job) { r.need(second(r.backups().Cancel(r.Context(), "ada", job.JobID))) },
		"done": func(r *rig, job backup.Job) {
			if result := r.execute(job.JobID, 1); result.Error != "" {
				r.Fatalf("%s: %s", result.Error, result.Cause)
			}
			r.wantDone(job.JobID, smallSite())
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.site(smallSite())
			job := r.running()
			r.storage.Intercept = func(c backuptest.StorageCall) error {
				if c.Op == "CreateUpload" && c.N == 1 && c.After {
					return backup.E(backup.StorageUnavailable, "the process has ended")
				}
				return nil
			}
			_, err := r.openUpload().Handle(t.Context(), step.OpenUploadIn{JobID: job.JobID, Attempt: 1, File: "files", Parallelism: 1, MaxBatches: 10})
			r.wantKind(err, backup.StorageUnavailable, "the open that ended")
			if uploads, _ := r.storage.Left(job.Prefix()); uploads != 1 {
				t.Fatalf("%d uploads are open", uploads)
			}
			if f, _ := r.store.GetFile(t.Context(), job.JobID, "files"); f.UploadID != "" || f.Key != "" {
				t.Fatalf("the row tells of the upload: %+v", f)
			}
			end(r, job)
			if uploads, _ := r.storage.Left(job.Prefix()); uploads != 0 {
				t.Errorf("%d uploads are left", uploads)
			}
		})
	}
}
