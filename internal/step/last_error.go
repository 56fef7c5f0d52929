package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// noteAfter is how long an export may take to answer before whoever watches the backup is told.
	noteAfter = 4 * time.Second
	// noteTime bounds a note: it must not keep the try from being repeated.
	noteTime = 5 * time.Second
)

// noteError writes down, for whoever watches the backup, why a file cannot be opened: as long as that is being repeated
// nothing else is to be seen. It is one write that may get lost to any other. Workers note nothing: forty of them would
// write where one decides.
func noteError(ctx context.Context, files FileStore, g backup.FileGuard, name string, cause error, now time.Time) {
	kind := backup.KindOf(cause)
	if !notable(kind) || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	file, err := getFile(ctx, files, g.JobID, name)
	if err != nil {
		return
	}
	next, err := file.Noted(backup.NewFailure(kind, name, cause.Error(), now), now)
	if err == nil {
		_ = files.SwapFile(ctx, g, next)
	}
}

// notable tells whether it is the provider or the storage that does not answer as it should.
func notable(kind backup.Kind) bool {
	switch kind {
	case backup.ProviderUnavailable, backup.ProviderTimeout, backup.ProviderPreparing, backup.StorageUnavailable:
		return true
	}
	return false
}

// whileHanging calls note once if stop was not called for noteAfter. stop waits for it and tells whether it was called.
func whileHanging(note func()) (stop func() (noted bool)) {
	ended, noted := make(chan struct{}), make(chan bool, 1)
	go func() {
		timer := time.NewTimer(noteAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
			note()
			noted <- true
		case <-ended:
			noted <- false
		}
	}()
	return func() bool {
		close(ended)
		return <-noted
	}
}

// recentError is how long an error is shown that was not noted again: the longest pause between two tries, and some more.
const recentError = 5 * time.Minute

// LastError is why a file could not be opened at the last try, which is being repeated; nil when nothing is known to be
// wrong.
func (v View) LastError(f backup.File) *backup.Failure {
	running := v.Job.StatusAt(v.At) == backup.Running
	if f.LastError == nil || !running || f.LastError.At.Before(v.Job.StartedAt) || v.At.Sub(f.LastError.At) > recentError {
		return nil
	}
	return f.LastError
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
