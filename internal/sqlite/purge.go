package sqlite

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Purge implements step.Purger. Each job goes in a write of its own, so that the 10,000 parts of one file hold up
// other writers for tens of milliseconds and not for seconds.
func (s *Store) Purge(ctx context.Context, now time.Time) (int, error) {
	ids, err := s.purgeable(ctx, now)
	if err != nil {
		return 0, failure(err, "purge")
	}
	for i, id := range ids {
		if err := s.remove(ctx, "DELETE FROM jobs WHERE job_id = ?", id); err != nil {
			return i, failure(err, "purge job %s", id)
		}
	}
	for _, expired := range []string{
		"DELETE FROM idempotency_keys WHERE expires_at <= ?",
		"DELETE FROM tickets WHERE expires_at <= ?",
	} {
		if err := s.remove(ctx, expired, millis{&now}); err != nil {
			return len(ids), failure(err, "purge")
		}
	}
	return len(ids), nil
}

// purgeable lists jobs that nothing changes any more: deleted is the end of all transitions.
func (s *Store) purgeable(ctx context.Context, now time.Time) ([]string, error) {
	rows, err := s.reads.rows(ctx, "SELECT job_id FROM jobs WHERE purge_at <= ? AND status = ?", millis{&now}, backup.Deleted)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// remove deletes by statement; the rows below a job go with it.
func (s *Store) remove(ctx context.Context, statement string, arg any) error {
	return s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, statement, arg)
		return err
	})
}
