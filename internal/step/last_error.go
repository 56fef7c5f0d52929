package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// errorRecorder writes down, for whoever watches the backup, what hinders one file, or the end of a backup: calls that hang,
// while they do, and failures that are followed by another try. Records may get lost; nothing is decided by them.
type errorRecorder struct {
	file   string
	try    int // from 1; 0: not known
	now    func() time.Time
	record func(ctx context.Context, e *backup.Failure) error
}

// recorderOf records what hinders a file.
func recorderOf(errors ErrorStore, g backup.FileGuard, file string, now func() time.Time) errorRecorder {
	return errorRecorder{file: file, now: now, record: func(ctx context.Context, e *backup.Failure) error {
		return errors.RecordError(ctx, g, e)
	}}
}

// failed records why a step fails, if trying again may help.
func (r errorRecorder) failed(ctx context.Context, cause error) {
	kind := backup.KindOf(cause)
	if !hinders(kind) || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	e := backup.NewFailure(kind, r.file, cause.Error(), r.now())
	e.Try = r.try
	_ = r.record(ctx, e)
}

// hinders tells whether it is the provider or the storage that does not do now what it may do later.
func hinders(kind backup.Kind) bool {
	switch kind {
	case backup.ProviderUnavailable, backup.ProviderTimeout, backup.ProviderPreparing, backup.ProviderShortBody,
		backup.StorageUnavailable, backup.StorageFull:
		return true
	}
	return false
}

// LastError is what hinders a file, and nil when nothing is known to.
func (v View) LastError(f backup.File) *backup.Failure {
	e := f.ErrorAt(v.At)
	if e == nil || v.Job.StatusAt(v.At) != backup.Running || e.At.Before(v.Job.StartedAt) {
		return nil
	}
	return e
}

// Failure is why the backup has failed. That of one whose time is over is the last error known.
func (v View) Failure() *backup.Failure {
	if !v.Job.Active() || v.Job.StatusAt(v.At) != backup.Failed {
		return v.Job.Failure
	}
	v.Job.LastError = lastKnown(v.Job, v.Files)
	return v.Job.FailureAt(v.At)
}

// lastKnown is the newest error of a job and its files.
func lastKnown(job backup.Job, files []backup.File) *backup.Failure {
	last := job.LastError
	for _, f := range files {
		if f.LastError != nil && (last == nil || f.LastError.At.After(last.At)) {
			last = f.LastError
		}
	}
	return last
}
