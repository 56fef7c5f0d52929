package step

import (
	"context"
	"errors"
	"fmt"

	"github.com/sitevault/sitevault/internal/backup"
)

// maxRaces bounds how often a lost compare-and-swap is decided anew before the caller is told to come again.
const maxRaces = 8

// advanceJob applies a transition: read, decide by the pure function, one conditional write; a lost race is read and
// decided again. It returns the job as stored after the call.
func advanceJob(ctx context.Context, jobs JobStore, jobID string, transition func(backup.Job) (backup.Job, error)) (backup.Job, error) {
	for range maxRaces {
		job, err := jobs.GetJob(ctx, jobID)
		if err != nil {
			return job, err
		}
		next, err := transition(job)
		if errors.Is(err, backup.ErrAlready) {
			return job, nil
		}
		if err != nil {
			return job, err
		}
		err = jobs.SwapJob(ctx, next)
		if err == nil {
			next.Rev++
			return next, nil
		}
		if !backup.Is(err, backup.Conflict) {
			return job, fmt.Errorf("job %s: %w", jobID, err)
		}
	}
	return backup.Job{}, backup.E(backup.Conflict, "job %s: lost %d races in a row", jobID, maxRaces)
}

// advanceFile is advanceJob for a file under the guard of its job. A file without a row is passed as new.
func advanceFile(ctx context.Context, files FileStore, g backup.FileGuard, name string, transition func(backup.File) (backup.File, error)) (backup.File, error) {
	for range maxRaces {
		file, err := getFile(ctx, files, g.JobID, name)
		if err != nil {
			return file, err
		}
		next, err := transition(file)
		if errors.Is(err, backup.ErrAlready) {
			return file, nil
		}
		if err != nil {
			return file, err
		}
		err = files.SwapFile(ctx, g, next)
		if err == nil {
			next.Rev++
			return next, nil
		}
		if !backup.Is(err, backup.Conflict) {
			return file, fmt.Errorf("file %s: %w", name, err)
		}
	}
	return backup.File{}, backup.E(backup.Conflict, "file %s: lost %d races in a row", name, maxRaces)
}

// getFile returns a new file (Rev 0) where there is no row yet.
func getFile(ctx context.Context, files FileStore, jobID, name string) (backup.File, error) {
	file, err := files.GetFile(ctx, jobID, name)
	if backup.Is(err, backup.NotFound) {
		return backup.File{JobID: jobID, Name: name}, nil
	}
	return file, err
}

// runningJob reads the job and makes sure that it runs the given attempt, so that a step of a dead attempt ends before
// it asks anything of a provider. The guard of each write is what counts.
func runningJob(ctx context.Context, jobs JobStore, jobID string, attempt int) (backup.Job, error) {
	job, err := jobs.GetJob(ctx, jobID)
	if err != nil {
		return job, err
	}
	return job, job.RunningAttempt(attempt)
}
