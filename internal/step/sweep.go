package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

// SweepInterval is the time between two runs on AWS. It is as late as the next try of a job may begin.
const SweepInterval = time.Minute

const (
	maxTended = 5000 // in one run, the next run goes on
	// postponed is how long a job waits that could not be tended, so that it does not stand before all others.
	postponed = 5 * time.Minute
)

// Swept is what one run came to.
type Swept struct {
	Tended          int // jobs that it took up
	CleanupsFailing int // of them those whose cleanup has failed for backup.CleanupAlarm
}

// StartDue starts the pending jobs that are due, and nothing else: none of them waits for a cleanup that hangs with the storage.
func (s Sweep) StartDue(ctx context.Context) error {
	due, err := s.Jobs.DueJobs(ctx, s.Now(), maxTended)
	if err != nil {
		return err
	}
	pending := slices.DeleteFunc(due, func(j backup.Job) bool { return !s.toStart(j) })
	_, err = each(ctx, pending, func(job backup.Job) error {
		if err := s.restart(ctx, job); err != nil {
			return fmt.Errorf("start job %s: %w", job.JobID, err)
		}
		return nil
	})
	return err
}

func (s Sweep) toStart(job backup.Job) bool { return job.StatusAt(s.Now()) == backup.Pending }

// Run tends the due jobs, first those that are to be started. They are listed once: an index that lags behind would list again
// what has just been tended. The error joins those of single jobs, which do not keep the others from being tended.
func (s Sweep) Run(ctx context.Context) (Swept, error) {
	due, err := s.Jobs.DueJobs(ctx, s.Now(), maxTended)
	if err != nil {
		return Swept{}, err
	}
	slices.SortStableFunc(due, func(a, b backup.Job) int {
		switch {
		case s.toStart(a) == s.toStart(b):
			return 0
		case s.toStart(a):
			return -1
		}
		return 1
	})
	var failing atomic.Int64
	tended, err := each(ctx, due, func(job backup.Job) error {
		err := s.tend(ctx, job.JobID)
		if err == nil {
			return nil
		}
		postponed, lost := s.postpone(ctx, job, err)
		if lost == nil && postponed.CleanupFailing(s.Now()) {
			failing.Add(1)
		}
		return errors.Join(fmt.Errorf("tend job %s: %w", job.JobID, err), lost)
	})
	return Swept{Tended: tended, CleanupsFailing: int(failing.Load())}, err
}

// atOnce is how many items each works on at the same time.
const atOnce = 16

// each works on several items at a time, since nearly all of it is waiting for others, and takes up no more once ctx
// has ended. One item's error does not keep the others from being worked on.
func each[T any](ctx context.Context, items []T, work func(T) error) (begun int, err error) {
	var group errgroup.Group
	group.SetLimit(atOnce)
	var mu sync.Mutex
	var failed []error
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		begun++
		group.Go(func() error {
			if err := work(item); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
			return nil
		})
	}
	_ = group.Wait() // failures are kept one by one
	return begun, errors.Join(failed...)
}

// tend reads the job again: it may have waited for its turn, and been tended or retried meanwhile.
func (s Sweep) tend(ctx context.Context, jobID string) error {
	job, err := s.Jobs.GetJob(ctx, jobID)
	now := s.Now()
	switch {
	case backup.Is(err, backup.NotFound) || (err == nil && !job.Due(now)):
		return nil
	case err != nil:
		return err
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
	if err := s.Executions.Start(ctx, job); err != nil {
		return err
	}
	_, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.Restarted(s.Now()) })
	return err
}

func (s Sweep) remove(ctx context.Context, job backup.Job) error {
	job, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) {
		now := s.Now()
		if j.StatusAt(now) != backup.Deleting { // kept longer meanwhile
			return j, backup.ErrAlready
		}
		return j.Delete(now)
	})
	if err != nil || job.Status != backup.Deleting {
		return err
	}
	return s.Cleaner.Remove(ctx, job)
}

func (s Sweep) postpone(ctx context.Context, job backup.Job, cause error) (backup.Job, error) {
	now := s.Now()
	failure := backup.NewFailure(backup.KindOf(cause), "", cause.Error(), now)
	return advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) {
		if !j.Due(now) { // tended after all, only the answer was lost, or by somebody else
			return j, backup.ErrAlready
		}
		return j.Postpone(now.Add(postponed), failure)
	})
}
