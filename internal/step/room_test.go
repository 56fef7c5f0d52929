package step_test

import (
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
