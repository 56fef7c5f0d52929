package step

import (
	"cmp"
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// StartJob takes the job from pending to running and says what there is to do.
type StartJob struct {
	Jobs   JobStore
	Policy backup.Policy
	Now    func() time.Time
}

// StartJobIn is the input of the execution.
type StartJobIn struct {
	JobID   string `json:"jobId"`
	Attempt int    `json:"attempt"`
}

// StartJobOut lists the files by the names of their providers.
type StartJobOut struct {
	JobID   string   `json:"jobId"`
	Attempt int      `json:"attempt"`
	Files   []string `json:"files"`
	share
}

// Handle runs the step.
func (s StartJob) Handle(ctx context.Context, in StartJobIn) (StartJobOut, error) {
	job, err := advanceJob(ctx, s.Jobs, in.JobID, func(j backup.Job) (backup.Job, error) {
		return j.Start(in.Attempt, s.Now(), s.Policy)
	})
	if backup.Is(err, backup.QuotaExceeded) {
		err = s.wait(ctx, in, err)
	}
	if err != nil {
		return StartJobOut{}, err
	}
	files := make([]string, len(job.Providers))
	for i, p := range job.Providers {
		files[i] = p.Name
	}
	return StartJobOut{JobID: in.JobID, Attempt: in.Attempt, Files: files, share: shareOf(job)}, nil
}

// wait leaves the job pending: the state machine asks again. As long as it does, the sweeper need not.
func (s StartJob) wait(ctx context.Context, in StartJobIn, full error) error {
	_, err := advanceJob(ctx, s.Jobs, in.JobID, func(j backup.Job) (backup.Job, error) { return j.Restarted(s.Now()) })
	return cmp.Or(err, error(backup.E(backup.NoRoom, "job %s waits: %w", in.JobID, full)))
}

// share is how the files of a job divide what the site and an execution allow: FileConcurrency files at a time with
// Parallelism ranges each never exceed the site's limit.
type share struct {
	FileConcurrency int `json:"fileConcurrency"`
	Parallelism     int `json:"parallelism"`
	MaxBatches      int `json:"maxBatches"` // of each file
}

func shareOf(job backup.Job) share {
	files := max(1, len(job.Providers))
	concurrency := min(files, job.Limits.Parallelism)
	return share{FileConcurrency: concurrency, Parallelism: max(1, job.Limits.Parallelism/concurrency), MaxBatches: backup.MaxBatches / files}
}
