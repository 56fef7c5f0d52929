package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Cleaner removes what failed and deleted jobs have in the storage. Each call first claims the work by a write, so that
// no retry starts beside it, and may run any number of times.
type Cleaner struct {
	Jobs       JobStore
	Files      FileStore
	Storage    Sweeping
	Executions Executions
	Policy     backup.Policy
	Now        func() time.Time
}

// CleanFailed removes the uploads of a failed job and the objects of its unfinished files; of a cancelled job
// everything. Finished files of a failed job stay for a retry. A job whose parts wait for a retry, or whose second sweep
// is still to come, is left alone until it is due. It does not stop the execution, since it also runs as a part of it.
func (c Cleaner) CleanFailed(ctx context.Context, job backup.Job) error {
	waiting := job.Cleanup == backup.CleanupLater || job.Cleanup == backup.CleanupAgain
	if job.Cleanup == backup.CleanupNone || (waiting && c.Now().Before(job.DueAt)) {
		return nil
	}
	job, err := advanceJob(ctx, c.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.BeginCleanup(c.Now()) })
	if err != nil || job.Status != backup.Failed || job.Cleanup != backup.CleanupNow {
		return err
	}
	began := c.Now()
	if err := c.sweepFailed(ctx, job); err != nil {
		return c.recorded(ctx, job, err)
	}
	_, err = advanceJob(ctx, c.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.Swept(began, c.Now(), c.Policy) })
	return err
}

func (c Cleaner) sweepFailed(ctx context.Context, job backup.Job) error {
	files, err := c.Files.Files(ctx, job.JobID)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, f := range files {
		if f.Settled() && !job.CleanupEverything {
			kept[f.Key] = true
		}
	}
	later := laterAttempts(job.Attempt)
	if _, err := c.Storage.AbortUploads(ctx, job.Prefix(), job.UploadKeys(files), later); err != nil {
		return err
	}
	keep := func(key string) bool {
		return kept[key] || later(key) || (key == job.ManifestKey() && !job.CleanupEverything)
	}
	if _, err := c.Storage.DeleteObjects(ctx, job.Prefix(), keep); err != nil {
		return err
	}
	return c.forget(ctx, job, files, kept)
}

// forget makes the next attempt begin the swept files anew.
func (c Cleaner) forget(ctx context.Context, job backup.Job, files []backup.File, kept map[string]bool) error {
	guard := backup.FileGuard{JobID: job.JobID, Status: backup.Failed, Attempt: job.Attempt}
	for _, f := range files {
		if kept[f.Key] {
			continue
		}
		_, err := advanceFile(ctx, c.Files, guard, f.Name, func(f backup.File) (backup.File, error) {
			return f.Forget(job.Failure, c.Now())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveStrays removes whatever an attempt left in the storage beside its finished files: uploads that lost a race just
// before a crash, and objects of uploads that were begun anew although they had been completed. Uploads are looked for
// only where one was created, objects only after a restart or an earlier attempt: nothing else leads to strays.
func (c Cleaner) RemoveStrays(ctx context.Context, job backup.Job, files []backup.File) error {
	kept, again, multipart := map[string]bool{job.ManifestKey(): true}, job.Attempt > 1, false
	for _, f := range files {
		kept[f.Key] = kept[f.Key] || f.Status == backup.FileDone
		again = again || f.Restarts > 0
		_, single := backup.SingleUploadToken(f.UploadID)
		multipart = multipart || !single
	}
	later := laterAttempts(job.Attempt)
	if again || multipart {
		if _, err := c.Storage.AbortUploads(ctx, job.Prefix(), job.UploadKeys(files), later); err != nil {
			return err
		}
	}
	if !again {
		return nil
	}
	_, err := c.Storage.DeleteObjects(ctx, job.Prefix(), func(key string) bool { return kept[key] || later(key) })
	return err
}

// laterAttempts keeps the keys of attempts after the given one: a sweep that was asleep for long touches nothing that
// a retry has made since.
func laterAttempts(attempt int) func(key string) bool {
	return func(key string) bool { return backup.KeyAttempt(key) > attempt }
}

// Remove takes a deleting job to deleted: its execution is stopped if there may be one, its uploads are aborted and every
// version of its objects is deleted, once at once and once more when no worker can still be alive.
func (c Cleaner) Remove(ctx context.Context, job backup.Job) error {
	began := c.Now()
	if !job.Outlived(began) {
		if err := c.Executions.Stop(ctx, job.JobID, job.Attempt); err != nil {
			return err
		}
	}
	files, err := c.Files.Files(ctx, job.JobID)
	if err != nil {
		return err
	}
	if _, err := c.Storage.AbortUploads(ctx, job.Prefix(), job.UploadKeys(files), nil); err != nil {
		return c.recorded(ctx, job, err)
	}
	if _, err := c.Storage.DeleteObjects(ctx, job.Prefix(), nil); err != nil {
		return c.recorded(ctx, job, err)
	}
	_, err = advanceJob(ctx, c.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.Removed(began, c.Now(), c.Policy) })
	return err
}

// recordTime bounds the record of an error, for which the caller may have no time left.
const recordTime = 5 * time.Second

// recorded returns why a cleanup fails once the job tells it too.
func (c Cleaner) recorded(ctx context.Context, job backup.Job, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return cause
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	failure := backup.NewFailure(backup.KindOf(cause), "", cause.Error(), c.Now())
	_, err := advanceJob(ctx, c.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.CleanupFailed(failure) })
	return errors.Join(cause, err)
}

// StopAndClean is CleanFailed from outside the execution.
func (c Cleaner) StopAndClean(ctx context.Context, job backup.Job) error {
	if err := c.Executions.Stop(ctx, job.JobID, job.Attempt); err != nil {
		return err
	}
	return c.CleanFailed(ctx, job)
}

// EndExpired fails a job that is past its deadline and removes what it left behind.
func (c Cleaner) EndExpired(ctx context.Context, job backup.Job) error {
	files, err := c.Files.Files(ctx, job.JobID)
	if err != nil {
		return err
	}
	job, err = advanceJob(ctx, c.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) {
		return j.Expire(lastKnown(j, files), c.Now(), c.Policy)
	})
	if err != nil || job.Status != backup.Failed {
		return err
	}
	return c.StopAndClean(ctx, job)
}

// EndExecution is for an execution that ended by itself without FinishJob having had its say: timed out, aborted,
// failed on the way. Late and repeated calls change nothing.
func (c Cleaner) EndExecution(ctx context.Context, jobID string, attempt int, kind backup.Kind, detail string) error {
	files, err := c.Files.Files(ctx, jobID)
	if err != nil {
		return err
	}
	job, err := advanceJob(ctx, c.Jobs, jobID, func(j backup.Job) (backup.Job, error) {
		now := c.Now()
		failure := backup.NewFailure(kind, "", detail, now)
		if kind == backup.TimedOut && !now.Before(j.DeadlineAt) {
			return j.Expire(lastKnown(j, files), now, c.Policy) // as readers have seen it
		}
		if kind == backup.TimedOut {
			failure = backup.NewTimedOut(detail, lastKnown(j, files), now)
		}
		return j.EndAttempt(attempt, failure, now, c.Policy)
	})
	if backup.Is(err, backup.StaleAttempt) {
		return nil
	}
	if err != nil || job.Status != backup.Failed {
		return err
	}
	return c.CleanFailed(ctx, job)
}
