package step

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// FinishJob ends an attempt: done when every file is, with the manifest written last; else the job waits for its next
// try or has failed, and what it left in the storage is removed.
type FinishJob struct {
	Jobs    JobStore
	Files   FileStore
	Objects Objects
	Cleaner Cleaner
	Policy  backup.Policy
	Now     func() time.Time
	Log     *slog.Logger
}

// FinishJobIn carries the error that ended the flow early, if any.
type FinishJobIn struct {
	JobID   string  `json:"jobId"`
	Attempt int     `json:"attempt"`
	Caught  *Caught `json:"caught,omitempty"`
}

// FinishJobOut decides how the execution ends. Error and Cause are set with failed.
type FinishJobOut struct {
	Status backup.Status `json:"status"`
	Error  backup.Kind   `json:"error,omitempty"`
	Cause  string        `json:"cause,omitempty"`
}

// Handle runs the step.
func (s FinishJob) Handle(ctx context.Context, in FinishJobIn) (FinishJobOut, error) {
	job, err := s.Jobs.GetJob(ctx, in.JobID)
	if err != nil {
		return FinishJobOut{}, err
	}
	if job.Active() && job.Attempt == in.Attempt {
		if job, err = s.end(ctx, job, in); err != nil {
			return FinishJobOut{}, err
		}
	}
	return outcome(job, in.Attempt)
}

func outcome(job backup.Job, attempt int) (FinishJobOut, error) {
	switch {
	case job.TriedAgain(attempt):
		return FinishJobOut{Status: backup.Failed, Error: job.LastError.Kind, Cause: job.LastError.Detail}, nil
	case job.Attempt != attempt || (job.Status != backup.Done && job.Status != backup.Failed):
		return FinishJobOut{}, backup.E(backup.StaleAttempt, "job %s is %s in attempt %d", job.JobID, job.Status, job.Attempt)
	case job.Status == backup.Done:
		return FinishJobOut{Status: backup.Done}, nil
	}
	return FinishJobOut{Status: backup.Failed, Error: job.Failure.Kind, Cause: job.Failure.Detail}, nil
}

func (s FinishJob) end(ctx context.Context, job backup.Job, in FinishJobIn) (backup.Job, error) {
	files, err := s.Files.Files(ctx, in.JobID)
	if err != nil {
		return job, err
	}
	failure := judge(job, files, in.Caught, s.Now())
	if failure == nil {
		return s.done(ctx, job, files)
	}
	job, err = advanceJob(ctx, s.Jobs, in.JobID, func(j backup.Job) (backup.Job, error) {
		return j.EndAttempt(in.Attempt, failure, s.Now(), s.Policy)
	})
	if err != nil || job.Status != backup.Failed {
		return job, err
	}
	// The sweeper repeats what fails here.
	if err := s.Cleaner.CleanFailed(ctx, job); err != nil {
		s.Log.WarnContext(ctx, "clean up failed job", "jobId", job.JobID, "attempt", job.Attempt, "error", err)
	}
	return job, nil
}

func (s FinishJob) done(ctx context.Context, job backup.Job, files []backup.File) (backup.Job, error) {
	recorder := s.recorderOf(job)
	s.Objects, s.Cleaner.Storage = watchedObjects{s.Objects, recorder}, watchedSweeping{s.Cleaner.Storage, recorder}
	ended, err := s.conclude(ctx, job, files)
	recorder.failed(ctx, err)
	return ended, err
}

// recorderOf records what hinders the end of a backup whose files are all done, in the job's own row: nobody else is at work.
func (s FinishJob) recorderOf(job backup.Job) errorRecorder {
	return errorRecorder{now: s.Now, record: func(ctx context.Context, e *backup.Failure) error {
		_, err := advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) { return j.RecordError(job.Attempt, e) })
		return err
	}}
}

func (s FinishJob) conclude(ctx context.Context, job backup.Job, files []backup.File) (backup.Job, error) {
	if err := s.Cleaner.RemoveStrays(ctx, job, files); err != nil {
		return job, err
	}
	files, err := s.finished(ctx, job, files)
	if err != nil {
		return job, err
	}
	body, err := json.MarshalIndent(manifestOf(job, files, s.Now()), "", "  ")
	if err != nil {
		return job, fmt.Errorf("manifest of job %s: %w", job.JobID, err)
	}
	if err := s.Objects.Put(ctx, job.ManifestKey(), "application/json", body); err != nil {
		return job, err
	}
	return advanceJob(ctx, s.Jobs, job.JobID, func(j backup.Job) (backup.Job, error) {
		now := s.Now() // a moment before the write: who has read that the deadline is over must not see it done
		next, err := j.Finish(job.Attempt, sizeOf(files), now)
		if backup.Is(err, backup.TimedOut) {
			return j.Expire(lastKnown(j, files), now, s.Policy)
		}
		return next, err
	})
}

// finished are the files of the backup. Those of providers that the site no longer has may have been begun in an earlier attempt:
// what they had in the storage is gone, and no longer counts for the user.
func (s FinishJob) finished(ctx context.Context, job backup.Job, files []backup.File) (done []backup.File, err error) {
	for _, f := range files {
		if f.Status == backup.FileDone {
			done = append(done, f)
			continue
		}
		now := s.Now()
		reason := backup.NewFailure(backup.NotFound, f.Name, "the site no longer has this provider", now)
		_, err := advanceFile(ctx, s.Files, backup.Guard(job.JobID, job.Attempt), f.Name, func(f backup.File) (backup.File, error) {
			return f.Forget(reason, now)
		})
		if err != nil {
			return nil, err
		}
	}
	return done, nil
}

func sizeOf(files []backup.File) (sizeBytes int64) {
	for _, f := range files {
		sizeBytes += f.Pin.SizeBytes
	}
	return sizeBytes
}

// judge says why the job failed, nil if it did not. Of several failures that counts which leaves the least hope.
func judge(job backup.Job, files []backup.File, caught *Caught, now time.Time) *backup.Failure {
	if caught != nil {
		return backup.NewFailure(caught.Kind(), "", caught.Detail(), now)
	}
	byName := make(map[string]backup.File, len(files))
	for _, f := range files {
		byName[f.Name] = f
	}
	var first *backup.Failure
	for _, p := range job.Providers {
		f := failureOf(byName[p.Name], p.Name, now)
		if f != nil && (first == nil || f.Kind.Outweighs(first.Kind)) {
			first = f
		}
	}
	return first
}

func failureOf(f backup.File, name string, now time.Time) *backup.Failure {
	switch {
	case f.Status == backup.FileDone:
		return nil
	case f.Failure != nil:
		return f.Failure
	}
	return backup.NewFailure(backup.Internal, name, fmt.Sprintf("file %s ended as %q", name, f.Status), now)
}
