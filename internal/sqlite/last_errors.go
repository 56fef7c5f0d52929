package sqlite

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
)

// lastError is the row beside that of a file, which need not be there.
type lastError struct {
	jobID, file string
	failure     *backup.Failure // nil: there is no row
	writes      int64
}

var lastErrors = newTable("last_errors", []string{"job_id", "file"}, func(e *lastError) []column {
	return []column{
		{"job_id", &e.jobID},
		{"file", &e.file},
		{"error", failed{&e.failure}},
		{"writes", &e.writes},
	}
})

func (e lastError) of(f backup.File) backup.File {
	f.LastError = e.failure
	f.Changes += e.writes
	return f
}

// RecordError implements step.ErrorStore.
func (s *Store) RecordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error { return t.recordError(ctx, g, e) })
	return failure(err, "record error of file %s of job %s", e.File, g.JobID)
}

func (t *tx) recordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error {
	if err := t.admit(ctx, g); err != nil {
		return err
	}
	file, err := findFile(ctx, t.statements, g.JobID, e.File)
	if err != nil {
		return err
	}
	last, err := findLastError(ctx, t.statements, g.JobID, e.File)
	if err != nil {
		return err
	}
	next, err := last.of(file).RecordError(e)
	if errors.Is(err, backup.ErrAlready) {
		return nil
	}
	if err != nil {
		return err
	}
	t.changed(backup.Change{JobID: g.JobID, Error: next})
	return lastErrors.put(ctx, t.statements, lastError{g.JobID, e.File, next, last.writes + 1})
}

func findLastError(ctx context.Context, q *statements, jobID, name string) (lastError, error) {
	return lastErrors.find(ctx, q, "WHERE job_id = ? AND file = ?", jobID, name)
}

// withLastErrors gives files their last errors. Those of files without a row come as files of their own.
func withLastErrors(list []backup.File, known []lastError) []backup.File {
	for _, e := range known {
		i, found := slices.BinarySearchFunc(list, e.file, func(f backup.File, name string) int { return strings.Compare(f.Name, name) })
		if !found {
			list = slices.Insert(list, i, backup.File{JobID: e.jobID, Name: e.file})
		}
		list[i] = e.of(list[i])
	}
	return list
}
