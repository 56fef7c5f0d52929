package step

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/backup"
)

// Sweep is the guarantee behind every event that can get lost: it tends all jobs that are due. Starting a pending job
// whose start was lost, failing overdue ones, removing what failed ones left, beginning deletions and retrying
// unfinished ones are all due rows of one index.
type Sweep struct {
	Jobs       JobStore
	Executions Executions
	Cleaner    Cleaner
	Policy     backup.Policy
	Now        func() time.Time
}

const (
	sweepPage    = 100
	tendedAtOnce = 16
	sweepPages   = 50 // one run tends at most sweepPage x sweepPages jobs, the next run goes on
	// postponed is how long a job waits that could not be tended, so that it does not stand before all others.
	postponed = 5 * time.Minute
)

// Run tends the due jobs and returns how many there were. The error joins those of single jobs, which do not keep the
// others from being tended.
func (s Sweep) Run(ctx context.Context) (tended int, err error) {
	var failed []error
	for range sweepPages {
		due, err := s.Jobs.DueJobs(ctx, s.Now(), sweepPage)
		if err != nil {
			return tended, err
		}
		failed = append(failed, s.tendAll(ctx, due))
		tended += len(due)
		if len(due) < sweepPage || ctx.Err() != nil {
			break
		}
	}
	return tended, errors.Join(failed...)
}

// tendAll tends several jobs at a time, since nearly all of it is waiting for the storage.
func (s Sweep) tendAll(ctx context.Context, due []backup.Job) error {
	failed := make([]error, len(due))
	var tending errgroup.Group
	tending.SetLimit(tendedAtOnce)
	for i, job := range due {
		tending.Go(func() error {
			if err := s.tend(ctx, job); err != nil {
				failed[i] = errors.Join(fmt.Errorf("tend job %s: %w", job.JobID, err), s.postpone(ctx, job))
			}
			return nil
		})
	}
	_ = tending.Wait() // failures are kept one by one
	return errors.Join(failed...)
}

func (s Sweep) tend(ctx context.Context, job backup.Job) error {
	now := s.Now()
	switch {
	case job.StatusAt(now) == backup.Failed && job.Active():
		return s.Cleaner.EndExpired(ctx, job)
	case job.Status == backup.Pending:
		return s.restart(ctx, job)
	case job.StatusAt(now) == backup.Deleting:
		return s.remove(ctx, job)
	case job.Status == backup.Failed:
		return s.Cleaner.StopAndClean(ctx, job)
	}
	return nil
}

func (s Sweep) restart(ctx context.Context, job backup.Job) error {
	if err := s.Executions.Start(ctx, job.JobID, job.Attempt); err != nil {
		return err
	}
	_, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.Restarted(s.Now()) })
	return err
}

func (s Sweep) remove(ctx context.Context, job backup.Job) error {
	job, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.Delete(s.Now()) })
	if err != nil || job.Status != backup.Deleting {
		return err
	}
	return s.Cleaner.Remove(ctx, job)
}

func (s Sweep) postpone(ctx context.Context, job backup.Job) error {
	now := s.Now()
	_, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) {
		if !j.Due(now) { // tended after all, only the answer was lost, or by somebody else
			return j, backup.ErrAlready
		}
		return j.Postpone(now.Add(postponed))
	})
	return err
}
