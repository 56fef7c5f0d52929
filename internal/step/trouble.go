package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// troubleTime bounds the note of a trouble: it must not keep the try from being repeated.
const troubleTime = 5 * time.Second

// noteTrouble writes down, for whoever watches the backup, why an export could not be asked for its version: as long as that
// is being repeated nothing else is to be seen. It is one write that may get lost to any other. Workers note nothing:
// forty of them would write where one decides.
func noteTrouble(ctx context.Context, files FileStore, g backup.FileGuard, name string, cause error, now time.Time) {
	kind := backup.KindOf(cause)
	if kind != backup.ProviderUnavailable && kind != backup.ProviderTimeout || errors.Is(ctx.Err(), context.Canceled) {
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

// recentTrouble is how long a trouble is shown that was not noted again: the longest pause between two tries, and some more.
const recentTrouble = 5 * time.Minute

// Trouble is why the export of a file did not answer the last try, which is being repeated; nil when nothing is known to be
// wrong.
func (v View) Trouble(f backup.File) *backup.Failure {
	running := v.Job.StatusAt(v.At) == backup.Running
	if f.Trouble == nil || !running || f.Trouble.At.Before(v.Job.StartedAt) || v.At.Sub(f.Trouble.At) > recentTrouble {
		return nil
	}
	return f.Trouble
}
