package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// clocked is a service whose clock the test puts forward.
func clocked(t *testing.T) (*e2e.Service, *e2e.Storage, *e2e.Clock) {
	t.Helper()
	storage, clock := e2e.NewStorage(t), &e2e.Clock{}
	c := e2e.Config(t, storage)
	c.Now = clock.Now
	return e2e.Start(t, c), storage, clock
}

// A backup that is not finished by its deadline reads failed from that moment on, its upload is aborted, and a retry
// can still end it well.
func TestTimeout(t *testing.T) {
	t.Parallel()
	s, storage, clock := clocked(t)
	export := e2e.NewExport(t, 1, 3)
	second := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(2))))
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	second.Reached(t)
	s.AwaitParts(jobID, 1)
	clock.Advance(backup.DefaultJobTimeout)
	if job := s.Get(jobID); job.Status != backup.Failed || job.Error.Kind != backup.TimedOut || !job.Error.Retryable {
		t.Fatalf("at its deadline the job reads %+v", job)
	}
	s.Fails(jobID, backup.TimedOut)
	storage.Empties(t)
	second.Release()
	s.Act(jobID, "retry")
	if job := s.Await(jobID, backup.Done); job.Attempt != 2 {
		t.Errorf("done in attempt %d", job.Attempt)
	}
	s.Same(jobID, "files", export.Content)
	storage.OnlyBackup(t, jobID, "files")
}

// A retry may come before anybody tended the job that timed out, and a new backup of its site as well.
func TestRetryAtDeadline(t *testing.T) {
	t.Parallel()
	storage, clock := e2e.NewStorage(t), &e2e.Clock{}
	c := e2e.Config(t, storage)
	c.Now, c.SweepEvery = clock.Now, time.Hour
	s := e2e.Start(t, c)
	for siteID, again := range map[string]func(jobID string) string{
		"retry":  func(jobID string) string { return s.Act(jobID, "retry").JobID },
		"create": func(string) string { return s.Create("create") },
	} {
		export := e2e.NewExport(t, 1, 2)
		second := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(2))))
		s.PutSerialSite(siteID, e2e.Exports{"files": export})
		jobID := s.Create(siteID)
		second.Reached(t)
		clock.Advance(backup.DefaultJobTimeout)
		jobID = again(jobID)
		second.Release()
		s.Await(jobID, backup.Done)
		s.Same(jobID, "files", export.Content)
		s.Delete(jobID)
	}
	storage.Empties(t)
}

// A service that was down when the deadline passed gives the job up when it starts.
func TestTimeoutWhileDown(t *testing.T) {
	t.Parallel()
	s, storage, clock := clocked(t)
	export := e2e.NewExport(t, 1, 3)
	second := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(2))))
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	second.Reached(t)
	s.Stop()
	clock.Advance(2 * backup.DefaultJobTimeout)
	s.Restart()
	s.Fails(jobID, backup.TimedOut)
	storage.Empties(t)
}

// At deleteAt a backup is hidden at once, and its objects are gone soon; much later its row goes too, and before it
// whatever came under its prefix after all.
func TestDeleteAt(t *testing.T) {
	t.Parallel()
	s, storage, clock := clocked(t)
	export := e2e.NewExport(t, 1, 1)
	s.PutSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	s.Await(jobID, backup.Done)
	clock.Advance(59 * 24 * time.Hour) // of the 60 days that are the default
	s.Same(jobID, "files", export.Content)
	keys := storage.Contents(t).Versions
	body := map[string]any{"deleteAt": clock.Now().Add(2 * time.Hour)}
	if r := s.Call(http.MethodPatch, "/backup/"+jobID, body); r.Status != http.StatusOK {
		t.Fatalf("keep: %d %s", r.Status, r.Body)
	}
	clock.Advance(time.Hour)
	s.Same(jobID, "files", export.Content)
	clock.Advance(time.Hour)
	if status := s.Get(jobID).Status; status != backup.Deleting && status != backup.Deleted {
		t.Errorf("at deleteAt the backup is %s", status)
	}
	s.Refused(http.StatusConflict, backup.IllegalState, http.MethodGet, "/backup/"+jobID+"/files/files", nil)
	s.Await(jobID, backup.Deleted)
	storage.Empties(t)
	storage.Put(t, keys[0], "late")
	clock.Advance(backup.DeletedRowRetention)
	e2e.Eventually(t, "the row is gone", func() bool {
		return s.Call(http.MethodGet, "/backup/"+jobID, nil).Status == http.StatusNotFound
	})
	storage.Empties(t)
}

// Parts of a failed backup wait an hour for a retry; the failed backup itself goes after a week, long before a done one.
func TestFailedRetention(t *testing.T) {
	t.Parallel()
	s, storage, clock := clocked(t)
	export := e2e.NewExport(t, 1, 3)
	export.Refuse(e2e.Is(e2e.Range(e2e.Offset(3))), 1000, http.StatusPreconditionFailed, "")
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	s.Fails(jobID, backup.ProviderChanged)
	if c := storage.Contents(t); len(c.Uploads) != 1 || len(c.Versions) != 0 {
		t.Errorf("right after the failure the bucket holds %+v", c)
	}
	clock.Advance(time.Hour)
	storage.Empties(t)
	if job := s.Get(jobID); job.Status != backup.Failed {
		t.Errorf("after an hour the job is %s", job.Status)
	}
	clock.Advance(7 * 24 * time.Hour)
	s.Await(jobID, backup.Deleted)
}

// A retry moves only what the failed attempt did not record.
func TestRetryFetchesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	export, other := e2e.NewExport(t, 1, 5), e2e.NewExport(t, 2, 1)
	refused := export.Refuse(e2e.Is(e2e.Range(e2e.Offset(4))), backup.MaxRestarts+1, http.StatusPreconditionFailed, "")
	s.PutSerialSite("shop", e2e.Exports{"database": other, "files": export})
	jobID := s.Create("shop")
	if job := s.Fails(jobID, backup.ProviderChanged); job.Progress.Parts != 4 || job.Error.File != "files" {
		t.Errorf("the failed job is %+v", job)
	}
	s.Act(jobID, "retry")
	if job := s.Await(jobID, backup.Done); job.Attempt != 2 {
		t.Errorf("done in attempt %d", job.Attempt)
	}
	fetchedOnce(t, export, 1, 3)
	fetchedOnce(t, other, 1, 1)
	s.Same(jobID, "files", export.Content)
	s.Same(jobID, "database", other.Content)
	storage.OnlyBackup(t, jobID, "database", "files")
	if refused.Hits() != backup.MaxRestarts+1 {
		t.Errorf("refused %d times", refused.Hits())
	}
}

// Each attempt numbers on; after the last allowed one no retry is accepted.
func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	export := e2e.NewExport(t, 1, 1)
	export.Refuse(e2e.Is(e2e.Range(0)), 1000, http.StatusPreconditionFailed, "")
	s.PutSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	for attempt := 1; attempt <= backup.MaxRetries; attempt++ {
		s.Fails(jobID, backup.ProviderChanged)
		if job := s.Act(jobID, "retry"); job.Attempt != attempt+1 {
			t.Errorf("attempt %d follows %d", job.Attempt, attempt)
		}
	}
	s.Fails(jobID, backup.ProviderChanged)
	s.Refused(http.StatusConflict, backup.NotRetryable, http.MethodPost, "/backup/"+jobID+"/retry", nil)
}

// A site is backed up once a day by itself: a run that was missed is caught up at the next start, and looking again on
// the same date starts nothing more.
func TestDailyRun(t *testing.T) {
	t.Parallel()
	s, _, clock := clocked(t)
	in := func(d time.Duration) string { return clock.Now().UTC().Add(d).Format("15:04") }
	s.PutDailySite("shop", in(2*time.Hour), e2e.Exports{"files": e2e.NewExport(t, 1, 1)})
	clock.Advance(3 * time.Hour)
	for day := range 2 {
		for look := range 3 {
			later := fmt.Sprintf("site-%d-%d", day, look) // its run shows that the clock has looked at the shop before
			s.PutDailySite(later, in(2*time.Minute), e2e.Exports{"files": e2e.NewExport(t, 1, 1)})
			clock.Advance(3 * time.Minute)
			s.Restart()
			e2e.Eventually(t, "the later site's run has started", func() bool { return len(s.List(later)) == 1 })
			jobs := s.List("shop")
			if len(jobs) != day+1 || jobs[0].Trigger != backup.Daily {
				t.Fatalf("day %d, look %d: %+v", day, look, jobs)
			}
			s.Await(jobs[0].JobID, backup.Done)
		}
		clock.Advance(24 * time.Hour)
	}
}

// While a backup of a site is under way a second one is refused; other sites are not concerned.
func TestOneBackupOfASiteAtATime(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	export := e2e.NewExport(t, 1, 2)
	held := export.HoldBefore(e2e.Is(e2e.HEAD))
	s.PutSite("shop", e2e.Exports{"files": export})
	s.PutSite("blog", e2e.Exports{"files": e2e.NewExport(t, 2, 1)})
	jobID := s.Create("shop")
	held.Reached(t)
	s.Refused(http.StatusConflict, backup.SiteBusy, http.MethodPost, "/backup", map[string]any{"siteId": "shop"})
	s.Await(s.Create("blog"), backup.Done)
	held.Release()
	s.Await(jobID, backup.Done)
	s.Await(s.Create("shop"), backup.Done)
}

// A removed site's backups stay, can be downloaded and deleted; no new one can be made, nor does it run daily.
func TestRemovedSite(t *testing.T) {
	t.Parallel()
	s, storage, clock := clocked(t)
	export := e2e.NewExport(t, 1, 1)
	s.PutDailySite("shop", clock.Now().UTC().Add(time.Hour).Format("15:04"), e2e.Exports{"files": export})
	jobID := s.Create("shop")
	s.Await(jobID, backup.Done)
	if r := s.Call(http.MethodDelete, "/site/shop", nil); r.Status != http.StatusNoContent {
		t.Fatalf("delete site: %d %s", r.Status, r.Body)
	}
	s.Refused(http.StatusNotFound, backup.NotFound, http.MethodPost, "/backup", map[string]any{"siteId": "shop"})
	clock.Advance(24 * time.Hour)
	s.Restart()
	s.Same(jobID, "files", export.Content)
	s.Delete(jobID)
	storage.Empties(t)
	if jobs := s.List("shop"); len(jobs) != 1 {
		t.Errorf("the removed site has %+v", jobs)
	}
}
