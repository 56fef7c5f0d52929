package sqlite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/sqlite"
)

// A database from before there were quotas counts what its rows take up, so that nothing is counted twice or missed later.
func TestMigrationCountsUsage(t *testing.T) {
	path := databasePath(t)
	store := open(t, path, sqlite.Options{})
	running, done, deleted := create(t, store, 1), create(t, store, 2), create(t, store, 3)
	create(t, store, 4)
	for i, job := range []backup.Job{running, done, deleted} {
		job.Status, job.Limits.Parallelism = backup.Running, 7
		file := backup.File{JobID: job.JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload", Pin: backup.Pin{SizeBytes: int64(100 + i)}}
		if err := errors.Join(store.SwapJob(t.Context(), job), store.SwapFile(t.Context(), backup.Guard(job.JobID, 1), file)); err != nil {
			t.Fatal(err)
		}
	}
	done.Rev, done.Status = 2, backup.Done
	deleted.Rev, deleted.Status = 2, backup.Deleted
	site := backup.Site{UserID: "ada", SiteID: "blog", UpdatedAt: epoch}
	if err := errors.Join(store.SwapJob(t.Context(), done), store.SwapJob(t.Context(), deleted), store.PutSite(t.Context(), site)); err != nil {
		t.Fatal(err)
	}
	want, err := store.Usage(t.Context(), "ada", epoch.Add(24*time.Hour))
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	raw(t, path, toFirstVersion)
	got, err := open(t, path, sqlite.Options{}).Usage(t.Context(), "ada", epoch.Add(24*time.Hour))
	if err != nil || got != want || want.Sites != 1 || want.ActiveJobs != 2 || want.Ranges != 7 || want.StoredBytes != 201 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
