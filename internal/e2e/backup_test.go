package e2e_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// A backup of two providers ends done: what can be downloaded is what was exported, and the manifest describes it.
func TestBackup(t *testing.T) {
	t.Parallel()
	s, storage := e2e.Run(t)
	exports := e2e.Exports{"files": e2e.NewExport(t, 1, 5), "database": e2e.NewExport(t, 2, 1)}
	s.PutSite("shop", exports)
	job := s.Await(s.Create("shop"), backup.Done)
	storage.OnlyBackup(t, job.JobID, "files", "database")
	manifest := readManifest(t, storage, job.JobID)
	if manifest.SiteID != "shop" || manifest.Attempt != 1 || len(manifest.Files) != 2 {
		t.Fatalf("manifest is %+v", manifest)
	}
	for _, f := range job.Files {
		export := exports[f.Name]
		s.Same(job.JobID, f.Name, export.Content)
		m := manifestFile(t, manifest, f.Name)
		if f.SizeBytes != export.Content.Size() || m.SizeBytes != f.SizeBytes || f.Archive.Entries != 1 || m.Archive != *f.Archive {
			t.Errorf("the answer says %+v, the manifest %+v", f, m)
		}
		if m.ETag != `"version-1"` || m.CRC64NVME != f.CRC64NVME || m.CRC64NVME != crcOf(t, export) {
			t.Errorf("the manifest says %+v", m)
		}
	}
}
