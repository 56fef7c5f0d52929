package sqlite

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// userUsage is the row of what a user takes up.
type userUsage struct {
	userID string
	backup.Usage
}

var usages = newTable("usage", []string{"user_id"}, func(u *userUsage) []column {
	return []column{
		{"user_id", &u.userID},
		{"sites", &u.Sites},
		{"active_jobs", &u.ActiveJobs},
		{"ranges", &u.Ranges},
		{"stored_bytes", &u.StoredBytes},
		{"fetched_bytes", &u.FetchedBytes},
		{"day", &u.Day},
	}
})

// Usage implements step.UsageStore.
func (s *Store) Usage(ctx context.Context, userID string, at time.Time) (backup.Usage, error) {
	row, err := usages.find(ctx, s.reads, "WHERE user_id = ?", userID)
	return row.Plus(backup.Usage{Day: backup.UsageDay(at)}), failure(err, "usage of user %s", userID)
}

// use takes a change into the user's usage, if his quotas admit it.
func (t *tx) use(ctx context.Context, userID string, change backup.Usage, at time.Time) error {
	if change == (backup.Usage{}) {
		return nil
	}
	row, err := usages.find(ctx, t.statements, "WHERE user_id = ?", userID)
	if err != nil {
		return err
	}
	if err := t.quotas.Refuse(row.Usage, change, at); err != nil {
		return err
	}
	return usages.put(ctx, t.statements, userUsage{userID, row.Plus(change)})
}

// useJob follows a job from old to next. One that becomes deleted gives back what its files held.
func (t *tx) useJob(ctx context.Context, old, next backup.Job) error {
	change := old.UsageChange(next)
	if next.Status == backup.Deleted && old.Status != backup.Deleted {
		held, err := files.list(ctx, t.statements, "WHERE job_id = ?", next.JobID)
		if err != nil {
			return err
		}
		for _, f := range held {
			change.StoredBytes -= f.HeldBytes()
		}
	}
	return t.use(ctx, next.UserID, change, next.UpdatedAt)
}

// useFile follows a file from old to next below the job of the guard.
func (t *tx) useFile(ctx context.Context, g backup.FileGuard, old, next backup.File) error {
	change := old.UsageChange(next)
	if change == (backup.Usage{}) || g.Status == backup.Deleted {
		return nil
	}
	job, err := findJob(ctx, t.statements, g.JobID)
	if err != nil {
		return err
	}
	return t.use(ctx, job.UserID, change, next.UpdatedAt)
}
