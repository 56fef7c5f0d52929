package exportd_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/exportd"
)

// sqliteDB opens a database of the site in a journal mode, with one connection as most sites have.
func sqliteDB(t *testing.T, path, mode string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode("+mode+")")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func execute(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func sqliteSource(t *testing.T, path string) exportd.Source {
	t.Helper()
	source, err := exportd.SQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// unpackDB writes the archive's one entry to a file and checks the database in it.
func unpackDB(t *testing.T, archive []byte, name string) (*sql.DB, []byte) {
	t.Helper()
	z := open(t, archive)
	if len(z.File) != 1 || z.File[0].Name != name {
		t.Fatalf("entries %q, want %q", entryNames(z), name)
	}
	data := content(t, z.File[0])
	path := filepath.Join(t.TempDir(), "restored.db")
	write(t, path, data)
	db := sqliteDB(t, path, "delete")
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity check: %s %v", verdict, err)
	}
	return db, []byte(data)
}

const fillRows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 500) INSERT INTO t(v) SELECT randomblob(900) FROM n"

// TestSQLiteAtRest: a database that nobody writes is archived byte for byte, in every journal mode and with free pages inside,
// and its file is left as it was.
func TestSQLiteAtRest(t *testing.T) {
	for _, mode := range []string{"delete", "truncate", "wal"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a site's #1 ? 50%.db")
			db := sqliteDB(t, strings.NewReplacer("#", "%23", "?", "%3f", "%", "%25").Replace(path), mode)
			execute(t, db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
			execute(t, db, fillRows)
			execute(t, db, "DELETE FROM t WHERE id % 3 = 0")
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			archive, _ := snapshot(t, sqliteSource(t, path))
			_, restored := unpackDB(t, archive, filepath.Base(path))
			if !bytes.Equal(restored, before) || len(before) < 100_000 {
				t.Errorf("the copy has %d bytes, the file %d, and they differ", len(restored), len(before))
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
				t.Errorf("reading changed the database: %v", err)
			}
			if again, _ := snapshot(t, sqliteSource(t, path)); !bytes.Equal(archive, again) {
				t.Error("a second archive has other bytes")
			}
		})
	}
}

// TestSQLiteUncheckpointed: what is committed but still in the WAL file only belongs to the archive.
func TestSQLiteUncheckpointed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.db")
	db := sqliteDB(t, path, "wal")
	execute(t, db, "PRAGMA wal_autocheckpoint=0")
	execute(t, db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	execute(t, db, fillRows)
	if info, err := os.Stat(path); err != nil || info.Size() > 8192 {
		t.Fatalf("the rows are not in the WAL: %v %v", info.Size(), err)
	}
	archive, _ := snapshot(t, sqliteSource(t, path))
	restored, _ := unpackDB(t, archive, "site.db")
	if n := count(t, restored, "SELECT count(*) FROM t"); n != 500 {
		t.Errorf("%d rows", n)
	}
}

// TestSQLiteLeftWAL: a WAL that a crashed site left behind is read, but neither merged into the database nor removed: that
// is for the site's own program to do.
func TestSQLiteLeftWAL(t *testing.T) {
	live, left := filepath.Join(t.TempDir(), "site.db"), filepath.Join(t.TempDir(), "site.db")
	db := sqliteDB(t, live, "wal")
	execute(t, db, "PRAGMA wal_autocheckpoint=0")
	execute(t, db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	execute(t, db, fillRows)
	files := make(map[string]string)
	for _, ending := range []string{"", "-wal"} {
		data, err := os.ReadFile(live + ending)
		if err != nil || len(data) == 0 {
			t.Fatal(len(data), err)
		}
		files[ending] = string(data)
		write(t, left+ending, files[ending])
	}
	archive, _ := snapshot(t, sqliteSource(t, left))
	restored, _ := unpackDB(t, archive, "site.db")
	if n := count(t, restored, "SELECT count(*) FROM t"); n != 500 {
		t.Errorf("%d rows", n)
	}
	for ending, before := range files {
		if after, err := os.ReadFile(left + ending); err != nil || string(after) != before {
			t.Errorf("site.db%s was changed: %v", ending, err)
		}
	}
}

// TestSQLiteLiveWriter: transactions that commit while the pages are read neither wait for the archive nor get into it, and the
// archive holds one version.
func TestSQLiteLiveWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.db")
	db := sqliteDB(t, path, "wal")
	execute(t, db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	execute(t, db, "CREATE TABLE total(n INTEGER)")
	execute(t, db, fillRows)
	execute(t, db, "INSERT INTO total SELECT count(*) FROM t")
	const liveCommits = 4
	commits := 0
	w := &onFirstWrite{do: func() {
		for range liveCommits {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, statement := range []string{"UPDATE t SET v = randomblob(900)", fillRows, "UPDATE total SET n = (SELECT count(*) FROM t)"} {
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			commits++
		}
	}}
	if _, err := sqliteSource(t, path).Snapshot(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	restored, _ := unpackDB(t, w.Bytes(), "site.db")
	rows, total := count(t, restored, "SELECT count(*) FROM t"), count(t, restored, "SELECT n FROM total")
	if commits != liveCommits || rows != 500 || total != 500 {
		t.Errorf("%d commits meanwhile; the archive has %d rows and says %d, want the 500 of its beginning", commits, rows, total)
	}
	if n := count(t, db, "SELECT count(*) FROM t"); n != 500+liveCommits*500 {
		t.Errorf("the site has %d rows", n)
	}
}

// TestSQLiteRefuses: no database, or something else in its place, is told and never created.
func TestSQLiteRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := exportd.SQLite(filepath.Join(dir, "absent.db")); err == nil {
		t.Error("an absent database was accepted")
	}
	if _, err := exportd.SQLite(dir); err == nil {
		t.Error("a folder was accepted")
	}
	path := filepath.Join(dir, "page.html")
	write(t, path, strings.Repeat("<html>this is no database</html>", 100))
	if _, err := sqliteSource(t, path).Snapshot(t.Context(), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a web page was archived as a database: %v", err)
	}
	source := sqliteSource(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Snapshot(t.Context(), new(bytes.Buffer)); err == nil {
		t.Error("a removed database was archived")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the database was created")
	}
}

func count(t *testing.T, db *sql.DB, query string) int {
	t.Helper()
	var n int
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return n
}
