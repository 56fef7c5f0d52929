package step

import (
	"context"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Backups are the use cases of the API's writes. Each answers as soon as its one conditional write is done; what
// follows in the storage and the state machine is tried at once, and the sweeper repeats what fails.
type Backups struct {
	Jobs       JobStore
	Sites      SiteStore
	Executions Executions
	Cleaner    Cleaner
	Policy     backup.Policy
	Now        func() time.Time
	NewID      func() string // a ULID
	Log        *slog.Logger
}

// CreateBackup asks for a backup of a site. KeepDays and DeleteAt exclude each other; with neither, the site's
// KeepDays counts.
type CreateBackup struct {
	UserID   string
	SiteID   string
	KeepDays int
	DeleteAt time.Time
	Trigger  backup.Trigger
	Key      string // Idempotency-Key; "": none
	BodyHash string
}

// Create stores a pending job and starts its execution. With a key seen before it returns that key's job.
func (b Backups) Create(ctx context.Context, c CreateBackup) (backup.Job, error) {
	site, err := knownSite(ctx, b.Sites, c.UserID, c.SiteID)
	if err != nil {
		return backup.Job{}, err
	}
	now := b.Now()
	keepUntil, err := keepUntil(c, site, now)
	if err != nil {
		return backup.Job{}, err
	}
	job := backup.NewJob(b.NewID(), site, c.Trigger, keepUntil, now, b.Policy)
	created, err := b.create(ctx, job, c, now)
	if err != nil {
		return created, err
	}
	if created.Rev == 1 && created.JobID >= job.JobID { // not the job of an earlier request with the same key
		b.start(ctx, created)
	}
	return created, nil
}

// create tries once more after ending the job in the way, if that one is past its deadline.
func (b Backups) create(ctx context.Context, job backup.Job, c CreateBackup, now time.Time) (backup.Job, error) {
	key := backup.Idempotency{}
	if c.Key != "" {
		key = backup.Idempotency{UserID: c.UserID, Key: c.Key, BodyHash: c.BodyHash, ExpiresAt: now.Add(backup.IdempotencyRetention)}
	}
	created, err := b.Jobs.CreateJob(ctx, job, key)
	if !backup.Is(err, backup.SiteBusy) || !b.endOverdue(ctx, c.UserID, c.SiteID) {
		return created, err
	}
	return b.Jobs.CreateJob(ctx, job, key)
}

func (b Backups) endOverdue(ctx context.Context, userID, siteID string) bool {
	recent, err := b.Jobs.ListJobs(ctx, backup.JobQuery{UserID: userID, SiteID: siteID, Limit: 20})
	if err != nil {
		return false
	}
	for _, j := range recent {
		if j.Active() && j.StatusAt(b.Now()) == backup.Failed {
			b.logged(ctx, "end overdue job", j, b.Cleaner.EndExpired)
			return true
		}
	}
	return false
}

func keepUntil(c CreateBackup, site backup.Site, now time.Time) (time.Time, error) {
	if c.KeepDays != 0 && !c.DeleteAt.IsZero() {
		return time.Time{}, backup.E(backup.InvalidRequest, "give keepDays or deleteAt, not both")
	}
	if !c.DeleteAt.IsZero() {
		return c.DeleteAt, checkKeep(c.DeleteAt, now)
	}
	days := c.KeepDays
	if days == 0 {
		days = site.KeepDays
	}
	until := now.AddDate(0, 0, days)
	return until, checkKeep(until, now)
}

func checkKeep(until, now time.Time) error {
	if !until.After(now) {
		return backup.E(backup.InvalidRequest, "deleteAt %s is not in the future", until.UTC().Format(time.RFC3339))
	}
	if until.After(now.AddDate(0, 0, backup.MaxKeepDays)) {
		return backup.E(backup.InvalidRequest, "a backup is kept at most %d days", backup.MaxKeepDays)
	}
	return nil
}

// start is an attempt only: a pending row without an execution is due after backup.StartGrace.
func (b Backups) start(ctx context.Context, job backup.Job) {
	if err := b.Executions.Start(ctx, job); err != nil {
		b.Log.WarnContext(ctx, "start execution", "jobId", job.JobID, "attempt", job.Attempt, "error", err)
	}
}

// Retry starts another attempt of a failed job. It first finishes what is still to be cleaned up of the last one.
func (b Backups) Retry(ctx context.Context, userID, jobID string) (backup.Job, error) {
	job, err := ownedJob(ctx, b.Jobs, userID, jobID)
	if err != nil {
		return job, err
	}
	b.settle(ctx, job)
	site, err := b.currentSite(ctx, job)
	if err != nil {
		return job, err
	}
	job, err = advanceJob(ctx, b.Jobs, jobID, func(j backup.Job) (backup.Job, error) { return j.Retry(site, b.Now(), b.Policy) })
	if err != nil {
		return job, err
	}
	b.start(ctx, job)
	return job, nil
}

// settle ends an attempt that is over but not cleaned up, within an answer's time. What is left decides about the retry.
func (b Backups) settle(ctx context.Context, job backup.Job) {
	switch {
	case job.Active() && job.StatusAt(b.Now()) == backup.Failed:
		b.logged(ctx, "end overdue job", job, b.Cleaner.EndExpired)
	case job.Cleanup == backup.CleanupNow:
		b.logged(ctx, "clean up failed job", job, b.Cleaner.StopAndClean)
	}
}

// currentSite is nil when the site is no longer registered: the job then goes on with what it knows.
func (b Backups) currentSite(ctx context.Context, job backup.Job) (*backup.Site, error) {
	site, err := b.Sites.GetSite(ctx, job.UserID, job.SiteID)
	if backup.Is(err, backup.NotFound) {
		return nil, nil
	}
	return &site, err
}

// Cancel fails a pending or running job and removes all that it has stored.
func (b Backups) Cancel(ctx context.Context, userID, jobID string) (backup.Job, error) {
	if job, err := ownedJob(ctx, b.Jobs, userID, jobID); err != nil {
		return job, err
	}
	job, err := advanceJob(ctx, b.Jobs, jobID, func(j backup.Job) (backup.Job, error) { return j.Cancel(b.Now(), b.Policy) })
	if err != nil {
		return job, err
	}
	b.logged(ctx, "clean up cancelled job", job, b.Cleaner.StopAndClean)
	return job, nil
}

// Delete begins the deletion of a job in any state.
func (b Backups) Delete(ctx context.Context, userID, jobID string) (backup.Job, error) {
	if job, err := ownedJob(ctx, b.Jobs, userID, jobID); err != nil {
		return job, err
	}
	job, err := advanceJob(ctx, b.Jobs, jobID, func(j backup.Job) (backup.Job, error) { return j.Delete(b.Now()) })
	if err != nil {
		return job, err
	}
	if job.Status == backup.Deleting {
		b.logged(ctx, "delete job", job, b.Cleaner.Remove)
	}
	return job, nil
}

// Keep changes until when a done backup is kept.
func (b Backups) Keep(ctx context.Context, userID, jobID string, until time.Time) (backup.Job, error) {
	if job, err := ownedJob(ctx, b.Jobs, userID, jobID); err != nil {
		return job, err
	}
	if err := checkKeep(until, b.Now()); err != nil {
		return backup.Job{}, err
	}
	return advanceJob(ctx, b.Jobs, jobID, func(j backup.Job) (backup.Job, error) { return j.Keep(until, b.Now()) })
}

// cleaningTime keeps an answer of the API well inside API Gateway's limit; the sweeper goes on with the rest.
const cleaningTime = 10 * time.Second

// logged tries the effect of a write that is already done: its failure is not the caller's.
func (b Backups) logged(ctx context.Context, what string, job backup.Job, effect func(context.Context, backup.Job) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaningTime)
	defer cancel()
	if err := effect(ctx, job); err != nil {
		b.Log.WarnContext(ctx, what, "jobId", job.JobID, "attempt", job.Attempt, "error", err)
	}
}
