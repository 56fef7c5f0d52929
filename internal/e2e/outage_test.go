package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// An attempt that fails by what may pass is followed by the next one at the time that the API tells, without a person, and
// only what is missing is moved.
func TestTriedAgainByItself(t *testing.T) {
	t.Parallel()
	storage := e2e.NewStorage(t)
	c := e2e.Config(t, storage)
	c.Policy.FirstPause = 3 * time.Second
	s := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 5)
	refused := export.Refuse(e2e.Is(e2e.Range(e2e.Offset(4))), backup.MaxRestarts+1, http.StatusPreconditionFailed, "")
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	var waiting api.BackupDetail
	e2e.Eventually(t, "the backup waits for its next try", func() bool {
		waiting = s.Get(jobID)
		return waiting.NextTryAt != nil
	})
	if waiting.Status != backup.Pending || waiting.Attempt != 2 || waiting.LastError == nil || waiting.LastError.Kind != backup.ProviderChanged {
		t.Errorf("waiting as %+v, last error %+v", waiting.Backup, waiting.LastError)
	}
	s.Refused(http.StatusConflict, backup.SiteBusy, http.MethodPost, "/backup", map[string]any{"siteId": "shop"})
	done := s.Await(jobID, backup.Done)
	if done.Attempt != 2 || done.LastError != nil || done.StartedAt.Before(*waiting.NextTryAt) || !done.DeadlineAt.Equal(waiting.DeadlineAt) {
		t.Errorf("done as %+v after %s", done, waiting.NextTryAt)
	}
	if refused.Hits() != backup.MaxRestarts+1 {
		t.Errorf("refused %d times", refused.Hits())
	}
	fetchedOnce(t, export, 1, 3)
	s.Same(jobID, "files", export.Content)
	storage.OnlyBackup(t, jobID, "files")
}

// An export that hangs is told of while it still does.
func TestHangingExportIsTold(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	export := e2e.NewExport(t, 1, 1)
	held := export.HoldBefore(e2e.Is(e2e.HEAD))
	s.PutSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	held.Reached(t)
	e2e.Eventually(t, "the hanging export is told of", func() bool {
		told := s.Get(jobID).Files[0].LastError
		return told != nil && told.Kind == backup.ProviderTimeout
	})
	held.Release()
	s.Await(jobID, backup.Done)
	if told := s.Get(jobID).Files[0].LastError; told != nil || held.Hits() != 1 {
		t.Errorf("done with %+v, held %d", told, held.Hits())
	}
}
