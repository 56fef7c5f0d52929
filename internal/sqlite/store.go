// Package sqlite keeps sites, jobs, files and parts of the one-machine service in one SQLite file.
//
// All writes pass through one goroutine that commits what has gathered as one transaction (writer.go); reads run beside
// it on their own connections and see every write that returned before them. A write that returned survives kill -9
// and, as far as the disk keeps its word, the loss of power.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Store  = (*Store)(nil)
	_ step.Purger = (*Store)(nil)
)

const (
	readConnections = 4
	// busyTimeout bounds the wait for somebody who works on the file by hand, such as the sqlite3 shell.
	busyTimeoutMillis = "2000"
	// walLimitBytes is what the write-ahead log shrinks back to after a burst.
	walLimitBytes = "67108864"
)

// Options adjust a store. The zero value serves.
type Options struct {
	// OnChange hears of every committed change in the order of the commits, before the write that made it returns.
	// All writes wait for it: it must be quick, and must never write to the store itself.
	OnChange func(backup.Change)
	Quotas   backup.Quotas // of each user
}

// Store is one open database file. It is safe for concurrent use.
type Store struct {
	reads  *statements
	writer *writer
	lock   *os.File
}

// Open opens the database at path and creates it if there is none; the folder must exist. It fails when another
// process has the file open, and when a newer program wrote it.
func Open(path string, o Options) (*Store, error) {
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	store, err := openLocked(path, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, lock.Close()))
	}
	store.lock = lock
	return store, nil
}

func openLocked(path string, o Options) (*Store, error) {
	if err := createPrivate(path); err != nil {
		return nil, err
	}
	writes, err := connect(path, 1, "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit("+walLimitBytes+")")
	if err != nil {
		return nil, err
	}
	if err := migrate(writes); err != nil {
		return nil, errors.Join(err, writes.Close())
	}
	reads, err := connect(path, readConnections, "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writes.Close())
	}
	return &Store{reads: newStatements(reads), writer: startWriter(newStatements(writes), o)}, nil
}

// createPrivate makes sure that only the owner may read what SQLite would create for everybody: rows hold the URLs of
// the sites. SQLite gives its side files the mode of the database.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(path string, connections int, pragmas ...string) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	query := url.Values{"_pragma": append(pragmas, "busy_timeout("+busyTimeoutMillis+")")}
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(absolute), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Close waits for the writes under way and closes the file. Later calls fail with StoreUnavailable.
func (s *Store) Close() error {
	if !s.writer.stop() {
		return nil
	}
	return errors.Join(s.reads.db.Close(), s.writer.statements.db.Close(), s.lock.Close())
}

// failure names the operation in err and gives errors of the database their kind. Kinds of the domain and the end of
// the caller's context pass through.
func failure(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	operation := fmt.Sprintf(format, args...)
	_, known := errors.AsType[*backup.Error](err)
	if known || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return backup.E(backup.StoreUnavailable, "%s: %w", operation, err)
}
