package step_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// The job's reason is the first that nothing but a change outside can mend; with none, the first that is not tried again by
// itself; with none, the first in the providers' order; an error that ended the flow early goes before all.
func TestFinishJobJudges(t *testing.T) {
	flowEnded := caught(backup.Conflict)
	for _, tc := range []struct {
		name            string
		database, files backup.Kind // reason of each file's failure; "": done; "open": not ended
		caught          *step.Caught
		want            backup.Kind
		file            string
	}{
		{"one failed", "", backup.ProviderTimeout, nil, backup.ProviderTimeout, "files"},
		{"both can be retried", backup.UploadLost, backup.ProviderTimeout, nil, backup.UploadLost, "database"},
		{"the second is for good", backup.ProviderTimeout, backup.ArchiveInvalid, nil, backup.ArchiveInvalid, "files"},
		{"the second would only be moved again", backup.StorageUnavailable, backup.UploadConflict, nil, backup.UploadConflict, "files"},
		{"the first is for good", backup.ExportEmpty, backup.ArchiveInvalid, nil, backup.ExportEmpty, "database"},
		{"one never ended", "", "open", nil, backup.Internal, "files"},
		{"the flow broke", backup.ExportEmpty, "", &flowEnded, backup.Conflict, ""},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		job := r.running()
		for name, kind := range map[string]backup.Kind{"database": tc.database, "files": tc.files} {
			switch kind {
			case "":
				r.backUp(job, name)
			case "open":
				r.open(job, name)
			default:
				r.fail(job, name, kind)
			}
		}
		out, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1, Caught: tc.caught})
		r.need(err)
		job = r.job(job.JobID)
		if out.Status != backup.Failed || out.Error != tc.want || job.Failure.Kind != tc.want || job.Failure.File != tc.file {
			t.Errorf("%s: %+v, job failed by %+v", tc.name, out, job.Failure)
		}
		if _, found := r.storage.Content(job.ManifestKey()); found {
			t.Errorf("%s: a failed job has a manifest", tc.name)
		}
	}
}

// A backup that is complete only after its deadline has timed out, and leaves its finished files to a retry.
func TestFinishJobAfterDeadline(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.backedUp()
	r.passes(r.policy.JobTimeout)
	if out := r.finish(job); out.Status != backup.Failed || out.Error != backup.TimedOut {
		t.Errorf("finished as %+v", out)
	}
	if job = r.job(job.JobID); job.Status != backup.Failed || job.Failure.Kind != backup.TimedOut {
		t.Errorf("job %s %+v", job.Status, job.Failure)
	}
	r.tend(3)
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	if result := r.execute(job.JobID, 2); result.Status != asl.Succeeded {
		t.Fatal(result.Error, result.Cause)
	}
	if got := r.exports.of("files").total() + r.exports.of("database").total(); got != 2 {
		t.Errorf("%d ranges fetched for 2 parts", got)
	}
	r.wantDone(job.JobID, smallSite())
}

// What an attempt has begun of a provider that the site no longer has is no part of the backup, and nothing of it is left or
// counts for the user.
func TestProviderRemovedMeanwhile(t *testing.T) { bothUploads(t, providerRemovedMeanwhile) }

func providerRemovedMeanwhile(t *testing.T, single int64) {
	r := newRig(t)
	r.single = single
	site := r.site(smallSite())
	job := r.running()
	r.backUp(job, "files")
	r.move(job, r.open(job, "database"))
	r.fail(job, "database", backup.ProviderUnavailable)
	r.finish(job)
	held := func() int64 {
		usage, err := r.store.Usage(t.Context(), "ada", r.now())
		r.need(err)
		return usage.StoredBytes
	}
	before := held()
	site.Providers = slices.DeleteFunc(site.Providers, func(p backup.Provider) bool { return p.Name == "database" })
	r.need(r.store.PutSite(t.Context(), site))
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	if result := r.execute(job.JobID, 2); result.Status != asl.Succeeded {
		t.Fatal(result.Error, result.Cause)
	}
	contents := map[string]backuptest.Content{"files": smallSite()["files"]}
	r.wantDone(job.JobID, contents)
	if after := held(); after >= before || after != contents["files"].Size() {
		t.Errorf("%d bytes count for the user, before %d, stored are %d", after, before, contents["files"].Size())
	}
}

// Whoever has read that the deadline is over never sees the job done, however long the manifest takes to be written.
func TestDeadlineWhileFinishing(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.backedUp()
	r.passes(r.policy.JobTimeout - time.Second)
	var seen backup.Status
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "Put" && c.After {
			r.passes(time.Second)
			seen = r.job(job.JobID).StatusAt(r.now())
		}
		return nil
	}
	if out := r.finish(job); seen != backup.Failed || out.Status != backup.Failed || out.Error != backup.TimedOut {
		t.Errorf("seen as %q, then finished as %+v", seen, out)
	}
}

// Repeated, FinishJob says the same again.
func TestFinishJobAgain(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.failed(backup.ProviderTimeout)
	first := r.finish(job)
	if first.Status != backup.Failed || first.Error != backup.ProviderTimeout || first.Cause == "" {
		t.Errorf("again: %+v", first)
	}
	r.need(second(r.backups().Delete(t.Context(), "ada", job.JobID)))
	_, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
	r.wantKind(err, backup.StaleAttempt, "finishing a deleting job")
}

// A job that is cancelled while its manifest is written ends cancelled, and the next sweep takes the manifest too.
func TestCancelWhileFinishing(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.backedUp()
	cancelled := false
	r.storage.Intercept = func(c backuptest.StorageCall) error {
		if c.Op == "Put" && !c.After {
			cancelled = true
			r.need(second(r.backups().Cancel(t.Context(), "ada", job.JobID)))
		}
		return nil
	}
	_, err := r.finishJob().Handle(t.Context(), step.FinishJobIn{JobID: job.JobID, Attempt: 1})
	r.wantKind(err, backup.StaleAttempt, "finishing")
	if !cancelled {
		t.Error("it was not cancelled meanwhile")
	}
	r.passes(r.policy.WorkerLife)
	r.tend(1)
	if job = r.job(job.JobID); job.Failure.Kind != backup.Cancelled || job.Cleanup != backup.CleanupNone {
		t.Errorf("job %+v, cleanup %q", job.Failure, job.Cleanup)
	}
	r.wantNothingLeft(job)
}

// A file of a provider that the site has given up since does not become part of the backup unless it is done.
func TestFinishJobWithoutAFormerProvider(t *testing.T) {
	for _, done := range []bool{false, true} {
		r := newRig(t)
		site := r.site(smallSite())
		job := r.running()
		if done {
			r.backUp(job, "database")
			r.open(job, "files")
			r.fail(job, "files", backup.ProviderTimeout)
		} else {
			r.move(job, r.open(job, "database"))
			r.fail(job, "database", backup.StorageUnavailable)
		}
		r.finish(job)
		site.Providers = site.Providers[1:] // without "database"
		r.need(r.store.PutSite(t.Context(), site))
		r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
		if result := r.execute(job.JobID, 2); result.Status != asl.Succeeded {
			t.Fatal(result.Error, result.Cause)
		}
		want := smallSite()
		if !done {
			delete(want, "database")
		}
		r.wantDone(job.JobID, want)
	}
}

// A job whose start comes too late has timed out.
func TestStartAfterDeadline(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.created()
	r.passes(r.policy.JobTimeout)
	if result := r.execute(job.JobID, 1); result.Status != asl.Failed || result.Error != string(backup.TimedOut) {
		t.Errorf("execution %s: %s", result.Status, result.Error)
	}
	if job = r.job(job.JobID); job.Status != backup.Failed || job.Failure.Kind != backup.TimedOut {
		t.Errorf("job %s %+v", job.Status, job.Failure)
	}
}

// The files of a job share what the site allows: never more ranges at a time than its parallelism.
func TestStartJobSharesParallelism(t *testing.T) {
	for _, tc := range []struct{ providers, parallelism, files, ranges, batches int }{
		{1, 4, 1, 4, 2000}, {2, 4, 2, 2, 1000}, {3, 4, 3, 1, 666}, {2, 1, 1, 1, 1000}, {8, 3, 3, 1, 250}, {8, 40, 8, 5, 250},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		contents := map[string]backuptest.Content{}
		for i := range tc.providers {
			contents[string(rune('a'+i))] = backuptest.ZipOf(1, smallBytes)
		}
		site := r.site(contents)
		site.Limits.Parallelism = tc.parallelism
		r.need(r.store.PutSite(t.Context(), site))
		job := r.created()
		out, err := r.startJob().Handle(t.Context(), step.StartJobIn{JobID: job.JobID, Attempt: 1})
		r.need(err)
		if out.FileConcurrency != tc.files || out.Parallelism != tc.ranges || out.MaxBatches != tc.batches || len(out.Files) != tc.providers {
			t.Errorf("%d providers, parallelism %d: %+v", tc.providers, tc.parallelism, out)
		}
		if out.FileConcurrency*out.Parallelism > tc.parallelism || out.MaxBatches*tc.providers > backup.MaxBatches {
			t.Errorf("%d providers, parallelism %d: more than allowed: %+v", tc.providers, tc.parallelism, out)
		}
	}
}

// An end that nobody had a say in becomes a failure of its attempt, once, and never of another.
func TestEndExecution(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.open(job, "files")
	end := func(attempt int, kind backup.Kind) error {
		return r.cleaner().EndExecution(t.Context(), job.JobID, attempt, kind, "ended")
	}
	r.need(end(2, backup.TimedOut)) // of no attempt yet
	if got := r.job(job.JobID); got.Status != backup.Running {
		t.Fatalf("job is %s", got.Status)
	}
	r.need(end(1, backup.TimedOut))
	if got := r.job(job.JobID); got.Status != backup.Failed || got.Failure.Kind != backup.TimedOut || got.Failure.Detail != "ended" {
		t.Fatalf("job is %s: %+v", got.Status, got.Failure)
	}
	r.wantNothingLeft(job)
	r.need(end(1, backup.Internal))
	if got := r.job(job.JobID); got.Failure.Kind != backup.TimedOut {
		t.Errorf("a repeated end changed the reason to %s", got.Failure.Kind)
	}
	r.passes(time.Hour)
	r.tend(2)
	r.need(second(r.backups().Retry(t.Context(), "ada", job.JobID)))
	r.need(end(1, backup.TimedOut))
	if got := r.job(job.JobID); got.Status != backup.Pending {
		t.Errorf("a late end of attempt 1 made the retried job %s", got.Status)
	}
}
