package step_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

func ask() step.CreateBackup {
	return step.CreateBackup{UserID: "ada", SiteID: "blog", Trigger: backup.Manual}
}

func keyed(key, body string) step.CreateBackup {
	c := ask()
	c.Key, c.BodyHash = key, body
	return c
}

// Asking for a backup stores it as pending and starts its execution.
func TestCreate(t *testing.T) {
	r := newRig(t)
	site := r.site(smallSite())
	job, err := r.backups().Create(t.Context(), ask())
	r.need(err)
	stored := r.job(job.JobID)
	if stored.Status != backup.Pending || stored.Attempt != 1 || stored.Trigger != backup.Manual || len(stored.Providers) != len(site.Providers) {
		t.Errorf("stored %+v", stored)
	}
	if fmt.Sprint(r.executions.started) != fmt.Sprint([]string{job.JobID + "-1"}) {
		t.Errorf("started %v", r.executions.started)
	}
	if !job.KeepUntil.Equal(epoch.AddDate(0, 0, backup.DefaultKeepDays)) {
		t.Errorf("kept until %s", job.KeepUntil)
	}
}

// A key makes one backup: the same request gets it again, also when it is over; another request is refused.
func TestCreateIsIdempotent(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	first, err := r.backups().Create(t.Context(), keyed("k", "body"))
	r.need(err)
	again, err := r.backups().Create(t.Context(), keyed("k", "body"))
	if err != nil || again.JobID != first.JobID {
		t.Errorf("again: job %s, %v, want %s", again.JobID, err, first.JobID)
	}
	if len(r.executions.started) != 1 {
		t.Errorf("started %v", r.executions.started)
	}
	r.wantKind(second(r.backups().Create(t.Context(), keyed("k", "another body"))), backup.IdempotencyReuse, "another body")
	r.wantKind(second(r.backups().Create(t.Context(), keyed("another key", "body"))), backup.SiteBusy, "another key")
	r.wantKind(second(r.backups().Create(t.Context(), ask())), backup.SiteBusy, "no key")

	r.need(second(r.backups().Cancel(t.Context(), "ada", first.JobID)))
	over, err := r.backups().Create(t.Context(), keyed("k", "body"))
	if err != nil || over.JobID != first.JobID || over.Status != backup.Failed {
		t.Errorf("once it is over: job %s %s, %v", over.JobID, over.Status, err)
	}
	r.passes(backup.IdempotencyRetention)
	fresh, err := r.backups().Create(t.Context(), keyed("k", "body"))
	if err != nil || fresh.JobID == first.JobID {
		t.Errorf("once the key is forgotten: job %s, %v", fresh.JobID, err)
	}
}

// After the clock has gone back, and within one millisecond, the backup asked for last is still the newest of its site.
func TestNewestStaysNewestWhenTheClockGoesBack(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	ids := []string{"01JD0000000000000000000009", "01JC0000000000000000000001", "01JC0000000000000000000001", "01JB0000000000000000000001"}
	backups := r.backups()
	for _, id := range ids {
		backups.NewID = func() string { return id }
		asked, err := backups.Create(t.Context(), ask())
		r.need(err)
		newest, err := r.store.ListJobs(t.Context(), backup.JobQuery{UserID: "ada", SiteID: "blog", Limit: 1})
		if err != nil || len(newest) != 1 || newest[0].JobID != asked.JobID || (id != ids[0]) != (asked.JobID != id) {
			t.Errorf("made by the id %s: the newest is %+v, want %s (%v)", id, newest, asked.JobID, err)
		}
		if started := r.executions.started; started[len(started)-1] != asked.JobID+"-1" {
			t.Errorf("started %v", started)
		}
		r.need(second(backups.Cancel(t.Context(), "ada", asked.JobID)))
		r.passes(-time.Hour)
	}
}

// An overdue backup does not hold its site, even when the storage cannot be cleaned at the moment.
func TestOverdueBackupDoesNotHoldSite(t *testing.T) {
	for _, storageDown := range []bool{false, true} {
		r := newRig(t)
		r.site(smallSite())
		old := r.running()
		r.open(old, "files")
		r.wantKind(second(r.backups().Create(t.Context(), ask())), backup.SiteBusy, "before the deadline")
		r.passes(r.policy.JobTimeout)
		if storageDown {
			r.storage.Intercept = func(backuptest.StorageCall) error { return backup.E(backup.StorageUnavailable, "down") }
		}
		job, err := r.backups().Create(t.Context(), ask())
		if err != nil || job.Status != backup.Pending {
			t.Fatalf("storage down %t: %s, %v", storageDown, job.Status, err)
		}
		r.storage.Intercept = nil
		r.wantTimedOut(r.job(old.JobID))
		r.passes(backup.SweepGrace)
		r.tend(1)
		r.wantNothingLeft(old)
	}
}

// How long a backup is kept: days or a time, in the future and within bounds, else the site's own days.
func TestKeepUntil(t *testing.T) {
	for _, tc := range []struct {
		name     string
		days     int
		deleteAt time.Time
		want     time.Time
		kind     backup.Kind
	}{
		{"the site's days", 0, time.Time{}, epoch.AddDate(0, 0, 60), ""},
		{"one day", 1, time.Time{}, epoch.AddDate(0, 0, 1), ""},
		{"the most days", backup.MaxKeepDays, time.Time{}, epoch.AddDate(0, 0, backup.MaxKeepDays), ""},
		{"too many days", backup.MaxKeepDays + 1, time.Time{}, time.Time{}, backup.InvalidRequest},
		{"negative days", -1, time.Time{}, time.Time{}, backup.InvalidRequest},
		{"a time", 0, epoch.Add(time.Hour), epoch.Add(time.Hour), ""},
		{"now", 0, epoch, time.Time{}, backup.InvalidRequest},
		{"the past", 0, epoch.Add(-time.Hour), time.Time{}, backup.InvalidRequest},
		{"too late a time", 0, epoch.AddDate(0, 0, backup.MaxKeepDays).Add(time.Second), time.Time{}, backup.InvalidRequest},
		{"both", 3, epoch.Add(time.Hour), time.Time{}, backup.InvalidRequest},
	} {
		r := rigOn(t, backuptest.NewMemoryStore())
		r.site(smallSite())
		c := ask()
		c.KeepDays, c.DeleteAt = tc.days, tc.deleteAt
		job, err := r.backups().Create(t.Context(), c)
		r.wantKind(err, tc.kind, tc.name)
		if err == nil && (!job.KeepUntil.Equal(tc.want) || !job.DeleteAt.Equal(tc.want)) {
			t.Errorf("%s: kept until %s, want %s", tc.name, job.KeepUntil, tc.want)
		}
	}
}

// Only a done backup is kept longer or shorter.
func TestKeep(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	until := epoch.Add(time.Hour)
	r.wantKind(second(r.backups().Keep(t.Context(), "ada", job.JobID, until)), backup.IllegalState, "a running job")
	r.backUp(job, "database")
	r.backUp(job, "files")
	r.finish(job)
	kept, err := r.backups().Keep(t.Context(), "ada", job.JobID, until)
	if err != nil || !kept.DeleteAt.Equal(until) || !kept.DueAt.Equal(until) {
		t.Errorf("deleted at %s, %v", kept.DeleteAt, err)
	}
	r.wantKind(second(r.backups().Keep(t.Context(), "ada", job.JobID, epoch)), backup.InvalidRequest, "until now")
	r.passes(time.Hour)
	r.wantKind(second(r.backups().Keep(t.Context(), "ada", job.JobID, r.now().Add(time.Hour))), backup.IllegalState, "after its time")
}

// Retry is for failed backups that trying again can mend; it first finishes cleaning up.
func TestRetry(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(r *rig) backup.Job
		want    backup.Kind
	}{
		{"pending", func(r *rig) backup.Job { return r.created() }, backup.IllegalState},
		{"running", func(r *rig) backup.Job { return r.running() }, backup.IllegalState},
		{"failed for now", func(r *rig) backup.Job { return r.failed(backup.StorageUnavailable) }, ""},
		{"failed for good", func(r *rig) backup.Job { return r.failed(backup.ExportTooLarge) }, backup.NotRetryable},
		{"overdue", func(r *rig) backup.Job {
			job := r.running()
			r.open(job, "files")
			r.passes(r.policy.JobTimeout)
			return job
		}, ""},
		{"not cleaned up yet", func(r *rig) backup.Job {
			job := r.running()
			r.open(job, "files")
			next, err := job.Fail(1, backup.NewFailure(backup.TimedOut, "", "timed out", r.now()), r.now(), r.policy)
			r.need(err)
			r.need(r.store.SwapJob(r.Context(), next))
			return next
		}, ""},
		{"at the end of its time", func(r *rig) backup.Job {
			job := r.failed(backup.StorageUnavailable)
			r.passes(r.policy.FailedKeep)
			return job
		}, backup.NotRetryable},
		{"deleting", func(r *rig) backup.Job {
			job := r.failed(backup.StorageUnavailable)
			r.need(second(r.backups().Delete(r.Context(), "ada", job.JobID)))
			return job
		}, backup.IllegalState},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := rigOn(t, backuptest.NewMemoryStore())
			r.site(smallSite())
			job := tc.prepare(r)
			before := len(r.executions.started)
			retried, err := r.backups().Retry(t.Context(), "ada", job.JobID)
			r.wantKind(err, tc.want, "retry")
			if err != nil {
				if len(r.executions.started) != before {
					t.Errorf("started %v", r.executions.started)
				}
				return
			}
			if retried.Status != backup.Pending || retried.Attempt != 2 || len(r.executions.started) != before+1 {
				t.Errorf("retried as %s attempt %d, started %v", retried.Status, retried.Attempt, r.executions.started)
			}
			r.wantKind(second(r.backups().Retry(t.Context(), "ada", job.JobID)), backup.IllegalState, "retry again")
		})
	}
}

// The present site counts for a retry; a site that is gone does not stand in its way, a busy one does.
func TestRetryAndSite(t *testing.T) {
	r := newRig(t)
	site := r.site(smallSite())
	job := r.failed(backup.StorageUnavailable)
	site.Providers[0].URL = "https://example.org/mended"
	r.need(r.store.PutSite(t.Context(), site))
	other := r.created()
	r.wantKind(second(r.backups().Retry(t.Context(), "ada", job.JobID)), backup.SiteBusy, "beside another backup")
	r.need(second(r.backups().Cancel(t.Context(), "ada", other.JobID)))
	retried, err := r.backups().Retry(t.Context(), "ada", job.JobID)
	if err != nil || retried.Providers[0].URL != "https://example.org/mended" {
		t.Errorf("retried with %+v, %v", retried.Providers, err)
	}

	r = newRig(t)
	site = r.site(smallSite())
	job = r.failed(backup.StorageUnavailable)
	r.need(r.store.DeleteSite(t.Context(), "ada", "blog", site.Rev))
	if retried, err = r.backups().Retry(t.Context(), "ada", job.JobID); err != nil || len(retried.Providers) != 2 {
		t.Errorf("without its site: %+v, %v", retried.Providers, err)
	}
}

// Cancelling ends a backup at once, and again says the same; what is over cannot be cancelled.
func TestCancel(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	r.open(job, "files")
	for range 2 {
		cancelled, err := r.backups().Cancel(t.Context(), "ada", job.JobID)
		if err != nil || cancelled.Status != backup.Failed || cancelled.Failure.Kind != backup.Cancelled {
			t.Fatalf("%s %+v, %v", cancelled.Status, cancelled.Failure, err)
		}
	}
	r.wantNothingLeft(job)
	r.wantKind(second(r.backups().Retry(t.Context(), "ada", job.JobID)), backup.NotRetryable, "retry of a cancelled job")
	failed := r.failed(backup.ProviderTimeout)
	r.wantKind(second(r.backups().Cancel(t.Context(), "ada", failed.JobID)), backup.IllegalState, "cancelling a failed job")
}

// Cancel and Delete answer success as soon as their write is done; the sweeper does what the storage refuses now.
func TestWritesDoNotWaitForStorage(t *testing.T) {
	for name, do := range map[string]func(b step.Backups, r *rig, id string) error{
		"cancel": func(b step.Backups, r *rig, id string) error { return second(b.Cancel(r.Context(), "ada", id)) },
		"delete": func(b step.Backups, r *rig, id string) error { return second(b.Delete(r.Context(), "ada", id)) },
	} {
		r := newRig(t)
		r.site(smallSite())
		job := r.running()
		r.open(job, "files")
		r.storage.Intercept = func(backuptest.StorageCall) error { return backup.E(backup.StorageUnavailable, "down") }
		if err := do(r.backups(), r, job.JobID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if told := r.job(job.JobID).LastError; told == nil || told.Kind != backup.StorageUnavailable || !told.Since.Equal(r.now()) {
			t.Errorf("%s: the failing cleanup is told as %+v", name, told)
		}
		r.storage.Intercept = nil
		r.passes(backup.SweepGrace)
		r.need(second(r.sweeper().Run(t.Context())))
		r.wantNothingLeft(job)
		if told := r.job(job.JobID).LastError; told != nil {
			t.Errorf("%s: cleaned up, and still told: %+v", name, told)
		}
	}
}

// A cleanup that the storage refuses is told from its first failure on, beside the reason why the job failed, and a retry is
// answered by what stands in its way.
func TestRefusedCleanup(t *testing.T) {
	for kind, want := range map[backup.Kind]backup.Kind{backup.ProviderRefused: backup.NotRetryable, backup.TimedOut: backup.Conflict} {
		r := newRig(t)
		r.site(smallSite())
		refused := 0
		r.storage.Intercept = func(c backuptest.StorageCall) error {
			if c.Op != "AbortUploads" || c.After {
				return nil
			}
			refused++
			return backup.E(backup.StorageRefused, "legal hold")
		}
		job := r.failed(kind)
		if refused != 1 || job.Failure.Kind != kind || job.LastError == nil || job.LastError.Kind != backup.StorageRefused {
			t.Errorf("%s: refused %d times, failed by %+v, told %+v", kind, refused, job.Failure, job.LastError)
		}
		began := r.now()
		r.passes(time.Second)
		r.wantKind(second(r.backups().Retry(t.Context(), "ada", job.JobID)), want, "retry")
		if job = r.job(job.JobID); refused != 2 || job.Status != backup.Failed || !job.LastError.Since.Equal(began) {
			t.Errorf("%s: refused %d times, %s, told %+v", kind, refused, job.Status, job.LastError)
		}
	}
}

// A backup is deleted from any state, once.
func TestDelete(t *testing.T) {
	for name, prepare := range map[string]func(r *rig) backup.Job{
		"pending": func(r *rig) backup.Job { return r.created() },
		"running": func(r *rig) backup.Job { job := r.running(); r.open(job, "files"); return job },
		"failed":  func(r *rig) backup.Job { return r.failed(backup.ProviderTimeout) },
		"done": func(r *rig) backup.Job {
			job := r.backedUp()
			r.finish(job)
			return job
		},
	} {
		r := newRig(t)
		r.site(smallSite())
		job := prepare(r)
		for range 2 {
			deleted, err := r.backups().Delete(t.Context(), "ada", job.JobID)
			if err != nil || deleted.Status != backup.Deleting {
				t.Errorf("%s: %s, %v", name, deleted.Status, err)
			}
		}
		r.wantNothingLeft(job)
		r.tend(3)
		if got, err := r.backups().Delete(t.Context(), "ada", job.JobID); err != nil || got.Status != backup.Deleted {
			t.Errorf("%s, later: %s, %v", name, got.Status, err)
		}
	}
}

// A foreign backup, an absent one and no id at all are answered the same.
func TestForeignBackup(t *testing.T) {
	r := newRig(t)
	r.site(smallSite())
	job := r.running()
	before := r.snapshot(job)
	for _, c := range []struct{ user, id string }{{"eve", job.JobID}, {"ada", "01JD0000000000000000009999"}, {"ada", "../" + job.JobID}, {"ada", ""}} {
		b, s := r.backups(), step.Status{Jobs: r.store, Files: r.store, Now: r.now}
		for name, err := range map[string]error{
			"get":    second(s.Get(t.Context(), c.user, c.id)),
			"cancel": second(b.Cancel(t.Context(), c.user, c.id)),
			"delete": second(b.Delete(t.Context(), c.user, c.id)),
			"retry":  second(b.Retry(t.Context(), c.user, c.id)),
			"keep":   second(b.Keep(t.Context(), c.user, c.id, epoch.Add(time.Hour))),
		} {
			r.wantKind(err, backup.NotFound, name+" by "+c.user)
			if want := fmt.Sprintf("there is no backup %q", c.id); err != nil && err.Error() != want {
				t.Errorf("%s by %s says %q, want %q", name, c.user, err, want)
			}
		}
	}
	foreign := ask()
	foreign.UserID = "eve"
	r.wantKind(second(r.backups().Create(t.Context(), foreign)), backup.NotFound, "a backup of a foreign site")
	if after := r.snapshot(job); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
}

// The daily run happens once a day, not beside another backup, not when it is off or its site is gone.
func TestRunDaily(t *testing.T) {
	r := newRig(t)
	site := r.site(smallSite())
	run := site.Schedule.Next(epoch)
	daily := func(run time.Time) (backup.Job, bool) {
		t.Helper()
		job, started, err := r.backups().RunDaily(t.Context(), "ada", "blog", run)
		r.need(err)
		return job, started
	}
	busy := r.created()
	if job, started := daily(run); started || job.JobID != "" {
		t.Errorf("beside another backup: job %s, started %t", job.JobID, started)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", busy.JobID)))
	r.passes(time.Minute)
	first, started := daily(run)
	if !started || first.Trigger != backup.Daily {
		t.Fatalf("first: %+v, started %t", first, started)
	}
	r.passes(time.Minute)
	if again, started := daily(run); started || again.JobID != first.JobID {
		t.Errorf("again: job %s, started %t, want %s", again.JobID, started, first.JobID)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", first.JobID)))
	if again, started := daily(run); started || again.JobID != first.JobID {
		t.Errorf("again after it ended: job %s, started %t", again.JobID, started)
	}
	r.passes(24 * time.Hour)
	if next, started := daily(site.Schedule.Next(run)); !started || next.JobID == first.JobID {
		t.Errorf("the next day: job %s, started %t", next.JobID, started)
	}

	site.Schedule.Off = true
	r.need(r.store.PutSite(t.Context(), site))
	if _, started := daily(run.AddDate(0, 0, 2)); started {
		t.Error("it runs although it is off")
	}
	r.need(r.store.DeleteSite(t.Context(), "ada", "blog", site.Rev+1))
	if _, started := daily(run.AddDate(0, 0, 3)); started {
		t.Error("it runs without its site")
	}
}
