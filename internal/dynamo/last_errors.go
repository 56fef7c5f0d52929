package dynamo

import (
	"context"
	"errors"

	"github.com/sitevault/sitevault/internal/backup"
)

// errOvertaken is the refusal of a file's last error: somebody else has just recorded one.
var errOvertaken = errors.New("another error was recorded")

// RecordError implements step.ErrorStore. Of several at the same time one is recorded.
func (s *Store) RecordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error {
	err := s.recordError(ctx, g, e)
	if errors.Is(err, errOvertaken) || errors.Is(err, backup.ErrAlready) {
		err = nil
	}
	return failure(err, "record error of file %s of job %s", e.File, g.JobID)
}

func (s *Store) recordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error {
	rows, err := s.readFiles(ctx, g.JobID)
	if err != nil {
		return err
	}
	file, writes, err := rows.file(e.File)
	if err != nil {
		return err
	}
	next, err := file.RecordError(e)
	stale := backup.E(backup.StaleAttempt, "job is not %s in attempt %d", g.Status, g.Attempt)
	if err != nil {
		return s.lost(ctx, g, stale, err)
	}
	row, err := s.put(errorRow{header: header{errorKey(g.JobID, e.File), ErrorType}, JobID: g.JobID, Failure: *next, Writes: writes + 1}, atWrites(writes), errOvertaken)
	if err != nil {
		return err
	}
	return s.transact(ctx, s.check(jobKey(g.JobID), jobIs(g), stale), row)
}

// file is a file, which need not have a row, and how often its last error was written.
func (r filesRows) file(name string) (file backup.File, errorWrites int64, err error) {
	for _, e := range r.errors {
		if e.File == name {
			errorWrites = e.Writes
		}
	}
	files, err := r.counted()
	for _, f := range r.withErrors(files) {
		if f.Name == name {
			file = f
		}
	}
	return file, errorWrites, err
}

// atWrites holds for an error row that was written so often.
func atWrites(n int64) condition {
	if n == 0 {
		return absent
	}
	return condition{"Writes = :writes", nil, item{":writes": number(n)}}
}
