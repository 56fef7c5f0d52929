package sqlite

import (
	"context"
	"errors"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/sitevault/sitevault/internal/backup"
)

var jobs = newTable("jobs", []string{"job_id"}, func(j *backup.Job) []column {
	return []column{
		{"job_id", &j.JobID},
		{"user_id", &j.UserID},
		{"site_id", &j.SiteID},
		{"status", &j.Status},
		{"triggered_by", &j.Trigger},
		{"attempt", &j.Attempt},
		{"tries", &j.Tries},
		{"retries", &j.Retries},
		{"providers", document[[]backup.Provider]{&j.Providers}},
		{"limits", document[backup.Limits]{&j.Limits}},
		{"failure", failed{&j.Failure}},
		{"last_error", failed{&j.LastError}},
		{"size_bytes", &j.SizeBytes},
		{"created_at", millis{&j.CreatedAt}},
		{"updated_at", millis{&j.UpdatedAt}},
		{"started_at", millis{&j.StartedAt}},
		{"deadline_at", millis{&j.DeadlineAt}},
		{"next_try_at", millis{&j.NextTryAt}},
		{"finished_at", millis{&j.FinishedAt}},
		{"keep_until", millis{&j.KeepUntil}},
		{"delete_at", millis{&j.DeleteAt}},
		{"fenced_at", millis{&j.FencedAt}},
		{"purge_at", millis{&j.PurgeAt}},
		{"due_at", millis{&j.DueAt}},
		{"cleanup", &j.Cleanup},
		{"cleanup_everything", &j.CleanupEverything},
		{"rev", &j.Rev},
	}
})

// firstUse is the row of an idempotency key.
type firstUse struct {
	backup.Idempotency
	jobID string
}

var firstUses = newTable("idempotency_keys", []string{"user_id", "key"}, func(u *firstUse) []column {
	return []column{
		{"user_id", &u.UserID},
		{"key", &u.Key},
		{"body_hash", &u.BodyHash},
		{"job_id", &u.jobID},
		{"expires_at", millis{&u.ExpiresAt}},
	}
})

// CreateJob implements step.JobStore. A key counts as expired from ExpiresAt on, by the new job's CreatedAt.
func (s *Store) CreateJob(ctx context.Context, job backup.Job, key backup.Idempotency) (backup.Job, error) {
	var stored backup.Job
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) (err error) {
		stored, err = t.createJob(ctx, job, key)
		return err
	})
	if err != nil {
		return backup.Job{}, failure(err, "create job %s", job.JobID)
	}
	return stored, nil
}

func (t *tx) createJob(ctx context.Context, job backup.Job, key backup.Idempotency) (backup.Job, error) {
	if key.Key != "" {
		first, err := t.jobOf(ctx, key, job.CreatedAt)
		if err != nil || first.Rev > 0 {
			return first, err
		}
	}
	newest, err := jobs.find(ctx, t.statements, "WHERE user_id = ? AND site_id = ? ORDER BY job_id DESC LIMIT 1", job.UserID, job.SiteID)
	if err != nil {
		return backup.Job{}, err
	}
	job.JobID = backup.JobIDAfter(newest.JobID, job.JobID)
	stored, err := t.storeJob(ctx, job)
	if err != nil || key.Key == "" {
		return stored, err
	}
	return stored, firstUses.put(ctx, t.statements, firstUse{key, job.JobID})
}

// jobOf returns the job that the key created, or the zero Job if the key is free at now.
func (t *tx) jobOf(ctx context.Context, key backup.Idempotency, now time.Time) (backup.Job, error) {
	first, err := firstUses.find(ctx, t.statements, "WHERE user_id = ? AND key = ?", key.UserID, key.Key)
	if err != nil || first.jobID == "" || !now.Before(first.ExpiresAt) {
		return backup.Job{}, err
	}
	if first.BodyHash != key.BodyHash {
		return backup.Job{}, backup.E(backup.IdempotencyReuse, "the key made job %s from another request", first.jobID)
	}
	return findJob(ctx, t.statements, first.jobID)
}

// storeJob writes next with its next revision over the row that has its revision, where 0 stands for no row.
func (t *tx) storeJob(ctx context.Context, next backup.Job) (backup.Job, error) {
	old, err := findJob(ctx, t.statements, next.JobID)
	if err != nil {
		return old, err
	}
	if old.Rev != next.Rev {
		return old, backup.E(backup.Conflict, "revision is %d, not %d", old.Rev, next.Rev)
	}
	next.Rev++
	if err := jobs.put(ctx, t.statements, next); err != nil {
		return old, t.siteBusy(ctx, next, err)
	}
	if err := t.useJob(ctx, old, next); err != nil {
		return old, err
	}
	t.changed(backup.Change{JobID: next.JobID, Job: &backup.JobChange{Old: old, New: next}})
	return next, nil
}

// siteBusy turns the violation of the only unique index of jobs beside the key, active_job_of_site, into its kind.
func (t *tx) siteBusy(ctx context.Context, next backup.Job, err error) error {
	if e, ok := errors.AsType[*driver.Error](err); !ok || e.Code() != codes.SQLITE_CONSTRAINT_UNIQUE {
		return err
	}
	active, err := jobs.find(ctx, t.statements, "WHERE user_id = ? AND site_id = ? AND status IN ('pending', 'running')",
		next.UserID, next.SiteID)
	if err != nil {
		return err
	}
	return backup.E(backup.SiteBusy, "job %s of site %s is %s", active.JobID, active.SiteID, active.Status)
}

// GetJob implements step.JobStore.
func (s *Store) GetJob(ctx context.Context, jobID string) (backup.Job, error) {
	job, err := findJob(ctx, s.reads, jobID)
	if err == nil && job.Rev == 0 {
		err = backup.E(backup.NotFound, "no such job")
	}
	return job, failure(err, "get job %s", jobID)
}

func findJob(ctx context.Context, q *statements, jobID string) (backup.Job, error) {
	return jobs.find(ctx, q, "WHERE job_id = ?", jobID)
}

// SwapJob implements step.JobStore.
func (s *Store) SwapJob(ctx context.Context, next backup.Job) error {
	err := s.writer.write(ctx, func(ctx context.Context, t *tx) error {
		if next.Rev == 0 {
			return backup.E(backup.Conflict, "the job was never read from the store")
		}
		_, err := t.storeJob(ctx, next)
		return err
	})
	return failure(err, "swap job %s", next.JobID)
}

// ListJobs implements step.JobStore: newest first is by job id, descending.
func (s *Store) ListJobs(ctx context.Context, q backup.JobQuery) ([]backup.Job, error) {
	where, args := "WHERE user_id = ?", []any{q.UserID}
	if q.SiteID != "" {
		where, args = where+" AND site_id = ?", append(args, q.SiteID)
	}
	if q.Before != "" {
		where, args = where+" AND job_id < ?", append(args, q.Before)
	}
	list, err := jobs.list(ctx, s.reads, where+" ORDER BY job_id DESC LIMIT ?", append(args, max(q.Limit, 0))...)
	return list, failure(err, "list jobs of user %s", q.UserID)
}

// DueJobs implements step.JobStore.
func (s *Store) DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error) {
	list, err := jobs.list(ctx, s.reads, "WHERE due_at <= ? ORDER BY due_at, job_id LIMIT ?", millis{&now}, max(limit, 0))
	return list, failure(err, "list due jobs")
}

// ActiveJobs lists the running and then the pending jobs of all users, for a service that resumes them when it starts.
func (s *Store) ActiveJobs(ctx context.Context) ([]backup.Job, error) {
	list, err := jobs.list(ctx, s.reads, "WHERE status IN ('pending', 'running') ORDER BY status DESC, job_id")
	return list, failure(err, "list active jobs")
}
