package exportd

import (
	"archive/zip"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteBusyMs is how long to wait for a writer that holds the whole database.
const sqliteBusyMs = 10_000

// SQLite is the source of one SQLite database, also while a site is writing to it: its pages are read inside one read
// transaction and streamed as they are, WAL content included, so a database at rest gives the very bytes of its file and no
// copy is spooled. In WAL mode writers go on; in the rollback journal modes they wait until the pages are read. The entry has the
// base name of path. The database is opened read-only and is never created.
func SQLite(path string) (Source, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("sqlite database: %w", err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return nil, fmt.Errorf("sqlite database: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("sqlite database: %s is not a file", abs)
	}
	return sqliteFile(abs), nil
}

// sqliteFile is an absolute path.
type sqliteFile string

var _ Source = sqliteFile("")

func (s sqliteFile) Snapshot(ctx context.Context, w io.Writer) (Report, error) {
	uri := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(string(s)), RawQuery: fmt.Sprintf("mode=ro&_pragma=busy_timeout(%d)", sqliteBusyMs)}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return Report{}, fmt.Errorf("sqlite %s: %w", s, err)
	}
	report, err := s.archive(ctx, db, w)
	if err = errors.Join(err, db.Close()); err != nil {
		return report, fmt.Errorf("sqlite %s: %w", s, err)
	}
	return report, nil
}

func (s sqliteFile) archive(ctx context.Context, db *sql.DB, w io.Writer) (Report, error) {
	info, err := os.Stat(string(s))
	if err != nil {
		return Report{}, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return Report{}, err
	}
	defer tx.Rollback() // it has only read
	a := newArchive(w)
	h := &zip.FileHeader{Name: filepath.Base(string(s)), Modified: info.ModTime(), Method: zip.Deflate}
	h.SetMode(info.Mode())
	entry, err := a.create(h)
	if err != nil {
		return Report{}, err
	}
	if err := streamPages(ctx, tx, entry); err != nil {
		return Report{}, err
	}
	return Report{Entries: 1}, a.Close()
}

// streamPages writes all pages in order. The first query of the transaction fixes the version that all of them belong to.
func streamPages(ctx context.Context, tx *sql.Tx, w io.Writer) error {
	var want int64
	if err := tx.QueryRowContext(ctx, "PRAGMA page_count").Scan(&want); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage('main') ORDER BY pgno")
	if err != nil {
		return err
	}
	defer rows.Close()
	var got int64
	for rows.Next() {
		var number int64
		var page sql.RawBytes
		if err := rows.Scan(&number, &page); err != nil {
			return err
		}
		if got++; number != got {
			return fmt.Errorf("page %d came where page %d was due", number, got)
		}
		if _, err := w.Write(page); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("read %d of %d pages", got, want)
	}
	return nil
}
