package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/push"
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

// Whatever a backup waits for, the socket and the API tell of it while it still hangs; afterwards nothing of it is left.
func TestHangIsTold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		request string
		kind    backup.Kind
	}{
		{e2e.HEAD, backup.ProviderTimeout}, {e2e.Range(0), backup.ProviderTimeout},
		{e2e.CreateUpload, backup.StorageUnavailable}, {e2e.UploadPart(2), backup.StorageUnavailable},
		{e2e.CompleteUpload, backup.StorageUnavailable}, {e2e.PutManifest, backup.StorageUnavailable},
	} {
		t.Run(tc.request, func(t *testing.T) {
			t.Parallel()
			s, storage := e2e.Run(t)
			export := e2e.NewExport(t, 1, 2)
			gate := storage.Gate
			if tc.kind == backup.ProviderTimeout {
				gate = export.Gate
			}
			held := gate.HoldBefore(e2e.Is(tc.request))
			s.PutSite("shop", e2e.Exports{"files": export})
			jobID := s.Create("shop")
			socket := dial(t, s, ticket(t, s))
			subscribe(t, socket, jobID)
			held.Reached(t)
			var m push.Message
			for !tells(m, tc.kind) {
				receive(t, socket, &m)
			}
			told := lastErrorOf(s.Get(jobID))
			if told == nil || told.Kind != tc.kind || !strings.Contains(told.Detail, "still waiting") || told.Since == nil {
				t.Errorf("told of %+v", told)
			}
			held.Release()
			s.Await(jobID, backup.Done)
			if told := lastErrorOf(s.Get(jobID)); told != nil || held.Hits() != 1 {
				t.Errorf("done with %+v, held %d", told, held.Hits())
			}
		})
	}
}

func tells(m push.Message, kind backup.Kind) bool {
	return (m.LastError != nil && m.LastError.Kind == kind) || (len(m.Files) > 0 && m.Files[0].LastError != nil && m.Files[0].LastError.Kind == kind)
}

// lastErrorOf is that of the backup's only file, or of its end.
func lastErrorOf(b api.BackupDetail) *api.Failure {
	if b.LastError != nil {
		return b.LastError
	}
	return b.Files[0].LastError
}
