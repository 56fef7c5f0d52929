package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/sqlite"
)

// What was written is there after the next start, whatever the path looks like, and is nobody else's to read.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "50% off? #1.db")
	store := open(t, path, sqlite.Options{})
	want := create(t, store, 1)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, path, sqlite.Options{}).GetJob(t.Context(), want.JobID)
	if err != nil || got.Rev != want.Rev {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode().Perm())
		}
	}
}

// A file that is in use is refused with the process that holds it, and is free once that closes it.
func TestOneProcess(t *testing.T) {
	path := databasePath(t)
	store := open(t, path, sqlite.Options{})
	for range 2 {
		_, err := sqlite.Open(path, sqlite.Options{})
		if !backup.Is(err, backup.StoreUnavailable) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
			t.Errorf("second open: %v", err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, sqlite.Options{})
}

// A database of an older program is brought forward.
func TestOpenMigrates(t *testing.T) {
	path := databasePath(t)
	raw(t, path, sqlite.FirstSchema+`; PRAGMA user_version = 1;
		INSERT INTO sites VALUES ('ada', 'blog', '[]', '{}', 60, '{}', 1600000000000, 1700000000000, 1);
		INSERT INTO jobs VALUES ('01JD', 'ada', 'blog', 'failed', 'manual', 3, '[]', '{}', '{"kind":"TimedOut","detail":"","at":"2026-11-13T10:00:00Z"}',
			0, 1700000000000, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', 0, 1)`)
	store := open(t, path, sqlite.Options{})
	site, err := store.GetSite(t.Context(), "ada", "blog")
	if err != nil || !site.ScheduledAt.Equal(time.UnixMilli(1_700_000_000_000)) {
		t.Errorf("%+v, %v", site, err)
	}
	job, err := store.GetJob(t.Context(), "01JD")
	if err != nil || job.Retries != 2 || job.Tries != 0 || job.LastError != nil || !job.NextTryAt.IsZero() {
		t.Errorf("%+v, %v", job, err)
	}
}

// A database of an older program loses the parts that nobody needs any more when it is opened.
func TestMigrationDropsPartsOfDoneFiles(t *testing.T) {
	path := databasePath(t)
	store := open(t, path, sqlite.Options{})
	done, unfinished := openFile(t, store, 1), openFile(t, store, 2)
	for n := 1; n <= 3; n++ {
		for _, f := range []backup.File{done, unfinished} {
			if err := store.RecordPart(t.Context(), partOf(f, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, toFirstVersion)
	raw(t, path, "UPDATE files SET status = 'done' WHERE job_id = '"+done.JobID+"'")
	if before := raw(t, path, "SELECT count(*) FROM parts"); before != "6" {
		t.Fatalf("%s parts before", before)
	}
	store = open(t, path, sqlite.Options{})
	for file, want := range map[backup.File]int{done: 0, unfinished: 3} {
		parts, err := store.Parts(t.Context(), file, 1, 10)
		stored, fileErr := store.GetFile(t.Context(), file.JobID, file.Name)
		if err != nil || fileErr != nil || len(parts) != want || stored.Recorded.Parts != 3 {
			t.Errorf("%d parts and a count of %d, want %d and 3 (%v, %v)", len(parts), stored.Recorded.Parts, want, err, fileErr)
		}
	}
}

// A database of a newer program, a file that is no database and a folder that is not there are refused, and none of
// them stays locked.
func TestOpenRefuses(t *testing.T) {
	newer, foreign, absent := databasePath(t), databasePath(t), filepath.Join(t.TempDir(), "absent", "backups.db")
	if err := open(t, newer, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	raw(t, newer, "PRAGMA user_version = 1000")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{newer: "schema version 1000", foreign: "not a database", absent: "no such file"} {
		for range 2 {
			_, err := sqlite.Open(path, sqlite.Options{})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("open %s: got %v, want %q", path, err, want)
			}
		}
	}
}

// toFirstVersion takes back what migrations have made.
const toFirstVersion = `ALTER TABLE sites DROP COLUMN scheduled_at; ALTER TABLE files DROP COLUMN recorded_at; DROP TABLE last_errors;
	ALTER TABLE files DROP COLUMN uploads; DROP TABLE usage; ALTER TABLE tickets DROP COLUMN token_expires_at;
	ALTER TABLE jobs DROP COLUMN tries; ALTER TABLE jobs DROP COLUMN retries; ALTER TABLE jobs DROP COLUMN last_error; ALTER TABLE jobs DROP COLUMN next_try_at; PRAGMA user_version = 1`

// raw runs SQL beside the store, as somebody with a shell would, and returns what its first row says.
func raw(t testing.TB, path, statement string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var answer string
	if err := db.QueryRow(statement).Scan(&answer); err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return answer
}

// A closed store answers every call with StoreUnavailable; closing it again is no error.
func TestClosed(t *testing.T) {
	store := open(t, databasePath(t), sqlite.Options{})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.CreateJob(t.Context(), newJob(1), backup.Idempotency{}); !backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("create: %v", err)
	}
	if _, err := store.GetJob(t.Context(), "id"); !backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("get: %v", err)
	}
	for _, err := range store.AllSites(t.Context()) {
		if !backup.Is(err, backup.StoreUnavailable) {
			t.Errorf("all sites: %v", err)
		}
	}
}

// Closing while many write loses none of the writes that succeeded.
func TestCloseWaitsForWrites(t *testing.T) {
	path := databasePath(t)
	store := open(t, path, sqlite.Options{})
	file := openFile(t, store, 1)
	const writers = 16
	acknowledged := make(chan int, writers)
	started := make(chan struct{}, writers)
	for i := range writers {
		go func() {
			n := 0
			for ; ; n++ {
				err := store.RecordPart(context.Background(), partOf(file, 1+n*writers+i))
				if n == 0 {
					started <- struct{}{}
				}
				if err != nil {
					break
				}
			}
			acknowledged <- n
		}()
	}
	for range writers {
		<-started
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	want := 0
	for range writers {
		want += <-acknowledged
	}
	got, err := open(t, path, sqlite.Options{}).GetFile(t.Context(), file.JobID, file.Name)
	if err != nil || got.Recorded.Parts != want || want < writers {
		t.Errorf("recorded %d parts (%v), acknowledged %d", got.Recorded.Parts, err, want)
	}
}

// The clock gets the sites of all users, over more than one page, and can stop in between.
func TestAllSites(t *testing.T) {
	store := open(t, databasePath(t), sqlite.Options{})
	const users, sites = 6, 200
	for i := range users * sites {
		site := backup.Site{UserID: fmt.Sprintf("user-%d", i%users), SiteID: fmt.Sprintf("site-%03d", i/users)}
		if err := store.PutSite(t.Context(), site); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for site, err := range store.AllSites(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("user-%d/site-%03d", seen/sites, seen%sites); site.UserID+"/"+site.SiteID != want {
			t.Fatalf("site %d is %s/%s, want %s", seen, site.UserID, site.SiteID, want)
		}
		seen++
	}
	if seen != users*sites {
		t.Errorf("saw %d sites, want %d", seen, users*sites)
	}
	for range store.AllSites(t.Context()) {
		break
	}
}

// A service that starts finds exactly the jobs that were active when it ended, the running ones first.
func TestActiveJobs(t *testing.T) {
	store := open(t, databasePath(t), sqlite.Options{})
	statuses := []backup.Status{backup.Pending, backup.Running, backup.Done, backup.Failed, backup.Deleting, backup.Deleted}
	for i, status := range statuses {
		job := create(t, store, i)
		job.Status = status
		if err := store.SwapJob(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.ActiveJobs(t.Context())
	if err != nil || len(got) != 2 || got[0].Status != backup.Running || got[1].Status != backup.Pending {
		t.Errorf("got %+v, %v", got, err)
	}
}
