package step

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// troubleTime bounds the note of a trouble: it must not keep the try from being repeated.
const troubleTime = 5 * time.Second

// noteTrouble writes down, for whoever watches the backup, why a try failed that will be repeated. It is one write that
// may get lost to any other.
func noteTrouble(ctx context.Context, files FileStore, g backup.FileGuard, name string, cause error, now time.Time) {
	kind := backup.KindOf(cause)
	if !troubling(kind) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), troubleTime)
	defer cancel()
	file, err := getFile(ctx, files, g.JobID, name)
	if err != nil {
		return
	}
	next, err := file.Troubled(backup.NewFailure(kind, name, cause.Error(), now), now)
	if err == nil {
		_ = files.SwapFile(ctx, g, next)
	}
}

// troubling tells whether a failure is one of the provider or the storage that the state machine sits out.
func troubling(kind backup.Kind) bool {
	switch kind {
	case backup.ProviderUnavailable, backup.ProviderTimeout, backup.ProviderShortBody, backup.StorageUnavailable, backup.ChecksumMismatch:
		return true
	}
	return false
}

// recentTrouble is how long a trouble is shown that was not noted again: the longest pause between two tries, and some more.
const recentTrouble = 5 * time.Minute

// Trouble is why the last try of a file failed that is being repeated; nil when nothing is known to be wrong.
func (v View) Trouble(f backup.File) *backup.Failure {
	if f.Trouble == nil || v.Job.StatusAt(v.At) != backup.Running || v.At.Sub(f.Trouble.At) > recentTrouble {
		return nil
	}
	return f.Trouble
}
