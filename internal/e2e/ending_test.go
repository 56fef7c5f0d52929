package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// moment is a point in the course of a backup, whose file "files" has so many parts, at which a test holds it.
type moment struct {
	name  string
	parts int
	hold  func(storage *e2e.Storage, export *e2e.Export) *e2e.Rule
}

// moments are before and after the effect of each call that a backup consists of.
func moments() []moment {
	list := []moment{
		{"before HEAD export", 2, func(_ *e2e.Storage, e *e2e.Export) *e2e.Rule { return e.HoldBefore(e2e.Is(e2e.HEAD)) }},
		{"before range 2", 2, func(_ *e2e.Storage, e *e2e.Export) *e2e.Rule {
			return e.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(2))))
		}},
	}
	atCall := func(name string, parts int, match e2e.Match) {
		list = append(list,
			moment{"before " + name, parts, func(s *e2e.Storage, _ *e2e.Export) *e2e.Rule { return s.HoldBefore(match) }},
			moment{"after " + name, parts, func(s *e2e.Storage, _ *e2e.Export) *e2e.Rule { return s.HoldAfter(match) }})
	}
	for _, call := range []string{e2e.CreateUpload, e2e.UploadPart(2), e2e.CompleteUpload, e2e.HeadObject, e2e.GetObject} {
		atCall(call, 2, e2e.Is(call).Of("files"))
	}
	atCall(e2e.PutObject, 1, e2e.Is(e2e.PutObject).Of("files"))
	atCall(e2e.PutManifest, 2, e2e.Is(e2e.PutManifest))
	return list
}

// A backup can be cancelled and deleted at any moment. Nothing stays in the storage, not even of a provider whose file
// was finished before, and doing it again changes nothing.
func TestEndingAtEachMoment(t *testing.T) {
	t.Parallel()
	for verb, end := range map[string]ending{"cancel": {cancel, backup.Failed, cancelled}, "delete": {remove, backup.Deleting, deleted}} {
		for _, m := range moments() {
			t.Run(verb+" "+m.name, func(t *testing.T) {
				t.Parallel()
				s, storage := e2e.Run(t)
				export := e2e.NewExport(t, 1, m.parts)
				held := m.hold(storage, export)
				s.PutSerialSite("shop", e2e.Exports{"database": e2e.NewExport(t, 2, 1), "files": export})
				jobID := s.Create("shop")
				held.Reached(t)
				end.at(t, s, jobID, held)
				storage.Empties(t)
				s.PutSite("shop", e2e.Exports{"database": e2e.NewExport(t, 2, 1), "files": e2e.NewExport(t, 1, 1)})
				next := s.Create("shop")
				s.Await(next, backup.Done)
				storage.OnlyBackup(t, next, "database", "files")
			})
		}
	}
}

// ending is a way to end a backup.
type ending struct {
	begin  func(s *e2e.Service, jobID string) api.Backup
	status backup.Status // from the first write on
	ended  func(t *testing.T, s *e2e.Service, jobID string)
}

// at ends a job that is held. Readers see the end at once; the answer waits for calls that are on their way to the
// storage.
func (e ending) at(t *testing.T, s *e2e.Service, jobID string, held *e2e.Rule) {
	t.Helper()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		e.begin(s, jobID)
	}()
	e2e.Eventually(t, "readers see the end", func() bool {
		status := s.Get(jobID).Status
		return status == e.status || status == backup.Deleted
	})
	held.Release()
	<-answered
	e.ended(t, s, jobID)
}

func cancel(s *e2e.Service, jobID string) api.Backup { return s.Act(jobID, "cancel") }
func remove(s *e2e.Service, jobID string) api.Backup { return s.Delete(jobID) }

func cancelled(t *testing.T, s *e2e.Service, jobID string) {
	t.Helper()
	for range 2 {
		job := s.Act(jobID, "cancel")
		if job.Status != backup.Failed || job.Error.Kind != backup.Cancelled || job.Error.Retryable {
			t.Errorf("answer to cancel: %+v", job)
		}
	}
	s.Fails(jobID, backup.Cancelled)
	s.Refused(http.StatusConflict, backup.NotRetryable, http.MethodPost, "/backup/"+jobID+"/retry", nil)
	s.Refused(http.StatusConflict, backup.IllegalState, http.MethodGet, "/backup/"+jobID+"/files/database", nil)
}

func deleted(t *testing.T, s *e2e.Service, jobID string) {
	t.Helper()
	for range 2 {
		if job := s.Delete(jobID); job.Status != backup.Deleting && job.Status != backup.Deleted {
			t.Errorf("answer to delete: %+v", job)
		}
	}
	s.Await(jobID, backup.Deleted)
	for _, action := range []string{"retry", "cancel"} {
		s.Refused(http.StatusConflict, backup.IllegalState, http.MethodPost, "/backup/"+jobID+"/"+action, nil)
	}
	s.Refused(http.StatusConflict, backup.IllegalState, http.MethodGet, "/backup/"+jobID+"/files/database", nil)
	if job := s.Delete(jobID); job.Status != backup.Deleted {
		t.Errorf("deleted once more: %+v", job)
	}
}

// A done backup can be deleted but not cancelled or retried, and no version of its objects stays; a deleted one stays
// visible as such.
func TestDeleteFinished(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	s.PutSite("shop", e2e.Exports{"files": e2e.NewExport(t, 1, 2)})
	jobID := s.Create("shop")
	s.Await(jobID, backup.Done)
	s.Refused(http.StatusConflict, backup.IllegalState, http.MethodPost, "/backup/"+jobID+"/cancel", nil)
	s.Refused(http.StatusConflict, backup.IllegalState, http.MethodPost, "/backup/"+jobID+"/retry", nil)
	remove(s, jobID)
	deleted(t, s, jobID)
	storage.Empties(t)
	if list := s.List("shop"); len(list) != 1 || list[0].Status != backup.Deleted {
		t.Errorf("the list is %+v", list)
	}
}

// What was sent to the storage for a job may take effect after the first sweep; the second one, a worker's life later,
// finds it.
func TestLateEffects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call  string
		parts int
		end   func(*e2e.Service, string) api.Backup
	}{{e2e.CreateUpload, 2, cancel}, {e2e.CreateUpload, 2, remove}, {e2e.PutObject, 1, remove}, {e2e.PutManifest, 2, remove}} {
		t.Run(c.call, func(t *testing.T) {
			t.Parallel()
			storage, clock := e2e.NewStorage(t), &e2e.Clock{}
			config := e2e.Config(t, storage)
			config.Now, config.Policy.WorkerLife = clock.Now, time.Hour
			s := e2e.Start(t, config)
			late := storage.Delay(e2e.Is(c.call))
			export := e2e.NewExport(t, 1, c.parts)
			held := export.HoldBefore(e2e.Is(e2e.Range(0)))
			s.PutSite("shop", e2e.Exports{"files": export})
			jobID := s.Create("shop")
			held.Reached(t)
			if c.call != e2e.CreateUpload {
				held.Release()
				s.Await(jobID, backup.Done)
			}
			late.Reached(t)
			c.end(s, jobID)
			storage.Empties(t)
			late.Release()
			late.Served(t)
			if storage.Contents(t).Empty() {
				t.Error("the late request had no effect")
			}
			clock.Advance(2 * time.Hour)
			storage.Empties(t)
		})
	}
}
