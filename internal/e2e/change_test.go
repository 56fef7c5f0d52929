package e2e_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
)

// An export that changes in the middle of a backup is begun anew: what is stored is the new version from its first byte
// to its last. So it is with a provider that ignores If-Match and would mix both versions: the ETag of its answers
// gives it away.
func TestExportChanges(t *testing.T) {
	t.Parallel()
	for name, ignoresIfMatch := range map[string]bool{"told by 412": false, "told by the ETag alone": true} {
		for _, parts := range []int{2, 4, 6} {
			t.Run(fmt.Sprintf("%s, from 4 to %d parts", name, parts), func(t *testing.T) {
				t.Parallel()
				s, storage := e2e.Run(t)
				export := e2e.NewExport(t, 1, 4)
				third := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(3))))
				if ignoresIfMatch {
					export.Edit(func(r *http.Request) { r.Header.Del("If-Match") })
				}
				s.PutSerialSite("shop", e2e.Exports{"files": export})
				jobID := s.Create("shop")
				third.Reached(t)
				s.AwaitParts(jobID, 2)
				second := e2e.Archive(2, parts)
				export.Change(second, `"version-2"`)
				third.Release()
				job := s.Await(jobID, backup.Done)
				s.Same(jobID, "files", second)
				storage.OnlyBackup(t, jobID, "files")
				if m := readManifest(t, storage, jobID); m.Files[0].ETag != `"version-2"` || job.SizeBytes != second.Size() {
					t.Errorf("job %+v, manifest %+v", job, m)
				}
			})
		}
	}
}

// An export that changes while the object is put together does not matter any more: the pinned version was read.
func TestExportChangesAtTheEnd(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	export := e2e.NewExport(t, 1, 3)
	held := storage.HoldBefore(e2e.Is(e2e.CompleteUpload))
	s.PutSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	held.Reached(t)
	first := export.Content
	export.Change(e2e.Archive(2, 2), `"version-2"`)
	held.Release()
	s.Await(jobID, backup.Done)
	s.Same(jobID, "files", first)
}

// An export that never holds still fails the backup with the reason.
func TestExportNeverHoldsStill(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	export := e2e.NewExport(t, 1, 3)
	var version atomic.Int64
	export.Misbehave(func(backuptest.ProviderRequest) backuptest.Answer {
		return backuptest.AnswerHeader("ETag", fmt.Sprintf(`"moving-%d"`, version.Add(1)))
	})
	s.PutSite("shop", e2e.Exports{"files": export})
	job := s.Fails(s.Create("shop"), backup.ProviderChanged)
	if n := export.Gate.Seen(e2e.HEAD); n != backup.MaxRestarts+1 {
		t.Errorf("begun %d times", n)
	}
	s.Delete(job.JobID)
	storage.Empties(t)
}
