package demo_test

import (
	"archive/zip"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/demo"
	"github.com/sitevault/sitevault/internal/exportd"
)

// tree makes a folder with something of each kind.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, step := range []error{
		os.MkdirAll(filepath.Join(dir, "a", "empty"), 0o755),
		os.WriteFile(filepath.Join(dir, "a", "page.html"), []byte("<p>hello</p>"), 0o644),
		os.WriteFile(filepath.Join(dir, "run.sh"), []byte("#!/bin/sh\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "large.bin"), make([]byte, 300<<10), 0o644),
		os.Symlink("a/page.html", filepath.Join(dir, "index.html")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	return dir
}

// snapshot writes the archive that the agent would serve.
func snapshot(t *testing.T, source exportd.Source, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "export.zip")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Snapshot(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func folderArchive(t *testing.T, dir string) string {
	source, err := exportd.Folder(dir, exportd.FolderOptions{})
	return snapshot(t, source, err)
}

func TestCompareTree(t *testing.T) {
	dir := tree(t)
	proof, err := demo.CompareTree(t.Context(), dir, folderArchive(t, dir))
	want := demo.FilesProof{Files: 4, Directories: 2, Links: 1, Bytes: 12 + 10 + 300<<10}
	if err != nil || proof != want {
		t.Errorf("got %+v, %v", proof, err)
	}
}

// Every kind of difference is found and named.
func TestCompareTreeFindsDifferences(t *testing.T) {
	remove := func(path string) error { return os.RemoveAll(path) }
	tests := map[string]struct {
		path   string
		change func(path string) error
		want   string
	}{
		"a byte in the middle": {"large.bin", func(p string) error {
			content := make([]byte, 300<<10)
			content[200<<10] = 1
			return os.WriteFile(p, content, 0o644)
		}, "other bytes"},
		"a byte more":   {"nothing", func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }, "other bytes"},
		"a byte less":   {"run.sh", func(p string) error { return os.Truncate(p, 9) }, "other bytes"},
		"mode":          {"run.sh", func(p string) error { return os.Chmod(p, 0o700) }, "mode"},
		"folder's mode": {"a/empty", func(p string) error { return os.Chmod(p, 0o700) }, "mode"},
		"target": {"index.html", func(p string) error {
			return errors.Join(os.Remove(p), os.Symlink("a/page.htm", p))
		}, "points to"},
		"file in the source only":   {"new", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "not in the backup"},
		"folder in the source only": {"newdir", func(p string) error { return os.Mkdir(p, 0o700) }, "not in the backup"},
		"file in the backup only":   {"a/page.html", remove, "not in the source"},
		"folder in the backup only": {"a/empty", remove, "not in the source"},
		"link in the backup only":   {"index.html", remove, "not in the source"},
		"file that became a folder": {"nothing", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o600)) }, "not in the"},
		"link that became its file": {"index.html", func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, []byte("a/page.html"), 0o777)) }, "mode"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t)
			archive := folderArchive(t, dir)
			if err := test.change(filepath.Join(dir, test.path)); err != nil {
				t.Fatal(err)
			}
			_, err := demo.CompareTree(t.Context(), dir, archive)
			found, ok := errors.AsType[*demo.DifferenceError](err)
			if !ok || !strings.Contains(found.Examples[0], filepath.Base(test.path)) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A name that stands twice in an archive is a difference: one of the two would be lost.
func TestCompareTreeFindsDoubles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "double.zip")
	writeZip(t, path, map[string]string{"f": ""}, "f")
	if _, err := demo.CompareTree(t.Context(), dir, path); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("got %v", err)
	}
}

// writeZip writes entries, and again the ones named.
func writeZip(t *testing.T, path string, entries map[string]string, again ...string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(file)
	write := func(name string) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o644)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write([]byte(entries[name]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range entries {
		write(name)
	}
	for _, name := range again {
		write(name)
	}
	if err := errors.Join(z.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// database makes an SQLite file and leaves it open.
func database(t *testing.T, statements ...string) (*sql.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for _, s := range append(statements,
		`CREATE TABLE item (name TEXT, price REAL, picture BLOB)`,
		`CREATE TABLE stock (item TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID`,
		`INSERT INTO item VALUES ('tea', 2.5, x'00ff'), ('milk', NULL, NULL), ('tea', 2.5, x'00ff')`,
		`INSERT INTO stock VALUES ('tea', 7), ('milk', 0)`,
	) {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	return db, path
}

func sqliteArchive(t *testing.T, path string) string {
	source, err := exportd.SQLite(path)
	return snapshot(t, source, err)
}

// A database at rest is proven byte for byte, one whose newest rows are still in the log row by row.
func TestCompareDatabase(t *testing.T) {
	for name, test := range map[string]struct {
		statements []string
		want       string
	}{
		"at rest": {nil, "byte for byte"},
		"in use":  {[]string{"PRAGMA journal_mode=wal", "PRAGMA wal_autocheckpoint=0"}, "every row"},
	} {
		t.Run(name, func(t *testing.T) {
			_, path := database(t, test.statements...)
			proof, err := demo.CompareDatabase(t.Context(), path, sqliteArchive(t, path), t.TempDir())
			if err != nil || !strings.Contains(proof.Proven, test.want) || proof.Tables != 2 || proof.Rows != 5 || proof.Bytes == 0 {
				t.Errorf("got %+v, %v", proof, err)
			}
		})
	}
}

// Every kind of difference between databases is found.
func TestCompareDatabaseFindsDifferences(t *testing.T) {
	for name, change := range map[string]string{
		"value":            `UPDATE item SET price = 2.6 WHERE rowid = 3`,
		"type":             `UPDATE item SET price = '2.5' WHERE rowid = 3; UPDATE item SET picture = 'text' WHERE rowid = 1`,
		"null":             `UPDATE item SET price = 0 WHERE name = 'milk'`,
		"rowid":            `UPDATE item SET rowid = 9 WHERE rowid = 3`,
		"row more":         `INSERT INTO item VALUES ('jam', 1, NULL)`,
		"row less":         `DELETE FROM item WHERE rowid = 3`,
		"without a rowid":  `UPDATE stock SET count = 8 WHERE item = 'tea'`,
		"another schema":   `CREATE INDEX byName ON item (name)`,
		"a table is gone":  `DROP TABLE stock`,
		"a table is there": `CREATE TABLE more (a)`,
	} {
		t.Run(name, func(t *testing.T) {
			db, path := database(t)
			archive := sqliteArchive(t, path)
			if _, err := db.Exec(change); err != nil {
				t.Fatal(err)
			}
			_, err := demo.CompareDatabase(t.Context(), path, archive, t.TempDir())
			if _, ok := errors.AsType[*demo.DifferenceError](err); !ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A dump is proven complete by the mark that the tool writes last; no more is claimed.
func TestCompareDump(t *testing.T) {
	for name, test := range map[string]struct {
		database, dump string
		wantOK         bool
	}{
		"mysql":         {"mysql://u:p@h/shop", "CREATE TABLE a;\n-- Dump completed on 2026-11-24  3:12:00\n", true},
		"postgres":      {"postgres://u:p@h/shop", "SET x;\n--\n-- PostgreSQL database dump complete\n--\n\n", true},
		"cut off":       {"mysql://u:p@h/shop", "CREATE TABLE a;\nINSERT INTO", false},
		"another's":     {"postgres://u:p@h/shop", "-- Dump completed on 2026-11-24\n", false},
		"mark too soon": {"mysql://u:p@h/shop", "-- Dump completed\n" + strings.Repeat("INSERT INTO a VALUES (1);\n", 1000), false},
		"empty":         {"mariadb://u:p@h/shop", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			archive := filepath.Join(t.TempDir(), "dump.zip")
			writeZip(t, archive, map[string]string{"shop.sql": test.dump})
			proof, err := demo.CompareDatabase(t.Context(), test.database, archive, t.TempDir())
			if (err == nil) != test.wantOK {
				t.Fatalf("got %+v, %v", proof, err)
			}
			if test.wantOK && (!strings.Contains(proof.Proven, "rows were not compared") || proof.Bytes != int64(len(test.dump))) {
				t.Errorf("got %+v", proof)
			}
		})
	}
}
