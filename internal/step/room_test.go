package step_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// bounded has two sites, the first of which is being backed up, and quotas.
func bounded(t *testing.T, q backup.Quotas) (r *rig, running, pending backup.Job) {
	t.Helper()
	r = rigOn(t, backuptest.NewMemoryStoreWithin(q))
	r.site(map[string]backuptest.Content{"files": backuptest.ZipOf(1, 40_000)})
	r.scheduled("shop", "03:00", "")
	running = r.running()
	pending, err := r.backups().Create(t.Context(), step.CreateBackup{UserID: "ada", SiteID: "shop", Trigger: backup.Manual})
	r.need(err)
	return r, running, pending
}

func (r *rig) start(job backup.Job) error {
	_, err := r.startJob().Handle(r.Context(), step.StartJobIn{JobID: job.JobID, Attempt: job.Attempt})
	return err
}

// A job whose user's running jobs take up his ranges stays pending, and the sweeper leaves it alone for as long as it is
// asked for. It starts when one of them has ended.
func TestStartWaitsForRoom(t *testing.T) {
	r, running, pending := bounded(t, backup.Quotas{Ranges: 1})
	for range 3 {
		r.passes(time.Minute)
		r.wantKind(r.start(pending), backup.NoRoom, "start without room")
		if job := r.job(pending.JobID); job.Status != backup.Pending || !job.DueAt.Equal(r.clock.Add(backup.StartGrace)) {
			t.Errorf("%s, due at %s", job.Status, job.DueAt)
		}
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", running.JobID)))
	r.need(r.start(pending))
}

// A job that has waited until its deadline is told what it has waited for.
func TestWaitForRoomEnds(t *testing.T) {
	r, _, pending := bounded(t, backup.Quotas{Ranges: 1})
	r.wantKind(r.start(pending), backup.NoRoom, "start without room")
	r.passes(backup.DefaultJobTimeout)
	err := r.start(pending)
	r.wantKind(err, backup.TimedOut, "start past the deadline")
	if shown := r.job(pending.JobID).FailureAt(r.clock); !strings.Contains(err.Error(), "waited for room") || !strings.Contains(shown.Detail, "waited for room") {
		t.Errorf("%v, shown %+v", err, shown)
	}
}

// A job that got room late outlives its execution: it goes on in another one with the parts that it has, says why, and keeps the
// deadline of its start. The end of an execution after that says what readers have seen since.
func TestLateStartGoesOn(t *testing.T) {
	r := rigOn(t, backuptest.NewMemoryStoreWithin(backup.Quotas{Ranges: 1}))
	r.policy = backup.DefaultPolicy()
	r.site(smallSite())
	r.scheduled("shop", "03:00", "")
	running, err := r.backups().Create(t.Context(), step.CreateBackup{UserID: "ada", SiteID: "shop", Trigger: backup.Manual})
	r.need(err)
	r.need(r.start(running))
	pending, err := r.backups().Create(t.Context(), step.CreateBackup{UserID: "ada", SiteID: "blog", Trigger: backup.Manual})
	r.need(err)
	executionEnds := r.clock.Add(backup.DefaultJobTimeout)
	r.wantKind(r.start(pending), backup.NoRoom, "start without room")
	r.passes(backup.DefaultJobTimeout - 10*time.Minute)
	r.need(second(r.backups().Cancel(t.Context(), "ada", running.JobID)))
	r.need(r.start(pending))
	out, err := r.openUpload().Handle(t.Context(), openIn(r.job(pending.JobID), "files"))
	r.need(err)
	deadline := r.clock.Add(backup.DefaultJobTimeout)
	r.clock = executionEnds
	const words = "the execution ran out of its time, of which it may have waited for room"
	r.need(r.cleaner().EndExecution(t.Context(), pending.JobID, 1, backup.TimedOut, words))
	job := r.job(pending.JobID)
	if job.Status != backup.Pending || job.Attempt != 2 || job.LastError.Detail != words || !job.DeadlineAt.Equal(deadline) || !job.NextTryAt.Before(deadline) {
		t.Fatalf("%+v, last error %+v", job, job.LastError)
	}
	r.clock = job.NextTryAt
	r.need(r.start(job))
	again, err := r.openUpload().Handle(t.Context(), openIn(r.job(job.JobID), "files"))
	if err != nil || again.UploadID != out.UploadID {
		t.Errorf("goes on with upload %q after %q, %v", again.UploadID, out.UploadID, err)
	}
	r.clock = deadline
	shown := r.job(job.JobID).FailureAt(r.clock)
	r.need(r.cleaner().EndExecution(t.Context(), job.JobID, 2, backup.TimedOut, words))
	if written := r.job(job.JobID); written.Status != backup.Failed || !reflect.DeepEqual(written.Failure, shown) {
		t.Errorf("%s, %+v, shown %+v", written.Status, written.Failure, shown)
	}
}

// An upload that the quota refuses is aborted before a byte of it is fetched.
func TestUploadBeyondQuota(t *testing.T) {
	r, running, _ := bounded(t, backup.Quotas{StoredBytes: 39_999})
	_, err := r.openUpload().Handle(t.Context(), openIn(running, "files"))
	r.wantKind(err, backup.QuotaExceeded, "open an upload beyond the quota")
	if uploads, _ := r.storage.Left(""); uploads != 0 || r.storage.Calls("CreateUpload")+r.storage.Calls("CreateMultipartUpload") == 0 {
		t.Errorf("%d uploads are left", uploads)
	}
}

// A daily run that finds no room is an error for whoever asked for it, makes nothing, and is caught up when there is room.
func TestDailyRunBeyondQuota(t *testing.T) {
	r := rigOn(t, backuptest.NewMemoryStoreWithin(backup.Quotas{ActiveJobs: 1}))
	r.site(map[string]backuptest.Content{"files": backuptest.ZipOf(1, 40_000)})
	r.scheduled("shop", "03:00", "")
	running := r.running()
	r.passes(time.Hour)
	_, started, err := r.backups().RunDaily(t.Context(), "ada", "shop", r.clock)
	if r.wantKind(err, backup.QuotaExceeded, "daily run without room"); started {
		t.Error("it was started all the same")
	}
	r.passes(time.Hour)
	if started, err := r.catchUp("shop"); started != 0 || !strings.Contains(err.Error(), "pending and running backups") {
		t.Errorf("%d caught up without room, %v", started, err)
	}
	r.need(second(r.backups().Cancel(t.Context(), "ada", running.JobID)))
	if started, err := r.catchUp("shop"); started != 1 || err != nil {
		t.Errorf("%d caught up, %v", started, err)
	}
}
