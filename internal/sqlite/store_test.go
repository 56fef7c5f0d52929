package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
)

// The store keeps the contract of step.Store.
func TestConformance(t *testing.T) {
	backuptest.StoreConformance(t, func(t *testing.T, q backup.Quotas) step.Store {
		return open(t, databasePath(t), sqlite.Options{Quotas: q})
	})
}

func databasePath(t testing.TB) string { return filepath.Join(t.TempDir(), "backups.db") }

func open(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

// newJob is a pending job of a site of its own.
func newJob(n int) backup.Job {
	site := backup.Site{
		UserID: "ada", SiteID: fmt.Sprintf("site-%d", n),
		Providers: []backup.Provider{{Name: "files", URL: "https://example.org/files"}, {Name: "database", URL: "https://example.org/db"}},
	}
	return backup.NewJob(fmt.Sprintf("01%024d", n), site, backup.Daily, epoch.Add(24*time.Hour), epoch, backup.DefaultPolicy())
}

func create(t testing.TB, store *sqlite.Store, n int) backup.Job {
	t.Helper()
	job, err := store.CreateJob(t.Context(), newJob(n), backup.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// openFile makes job n run and opens its file.
func openFile(t testing.TB, store *sqlite.Store, n int) backup.File {
	t.Helper()
	job := create(t, store, n)
	job.Status = backup.Running
	if err := store.SwapJob(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	file := backup.File{JobID: job.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload", CreatedAt: epoch}
	if err := store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file); err != nil {
		t.Fatal(err)
	}
	file.Rev = 1
	return file
}

func partOf(f backup.File, n int) backup.PartWrite {
	return backup.PartWrite{
		JobID: f.JobID, Attempt: f.Attempt, File: f.Name, UploadID: f.UploadID, At: epoch,
		Part: backup.Part{Number: n, ETag: fmt.Sprintf(`"%032d"`, n), SizeBytes: 16 << 20, CRC64NVME: uint64(n)},
	}
}
