package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Purge implements step.Purger. Each job goes in a write of its own, so that the 10,000 parts of one file hold up
// other writers for tens of milliseconds and not for seconds. Nothing changes a deleted job any more.
func (s *Store) Purge(ctx context.Context, now time.Time, lastLook func(context.Context, backup.Job) error) (purged int, err error) {
	due, err := jobs.list(ctx, s.reads, "WHERE purge_at <= ? AND status = ?", millis{&now}, backup.Deleted)
	if err != nil {
		return 0, failure(err, "purge")
	}
	for _, expired := range []string{
		"DELETE FROM idempotency_keys WHERE expires_at <= ?",
		"DELETE FROM tickets WHERE expires_at <= ?",
	} {
		if err := s.remove(ctx, expired, millis{&now}); err != nil {
			return 0, failure(err, "purge")
		}
	}
	var failed []error
	for _, job := range due {
		err := lastLook(ctx, job)
		if err == nil {
			err = s.remove(ctx, "DELETE FROM jobs WHERE job_id = ?", job.JobID)
		}
		if err != nil {
			failed = append(failed, failure(err, "purge job %s", job.JobID))
		} else {
			purged++
		}
		if backup.Is(err, backup.StorageUnavailable) || ctx.Err() != nil {
			break // nor will it answer for the others
		}
	}
	return purged, errors.Join(failed...)
}

// remove deletes by statement; the rows below a job go with it.
func (s *Store) remove(ctx context.Context, statement string, arg any) error {
	return s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, statement, arg)
		return err
	})
}
