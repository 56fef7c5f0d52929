package step

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
)

// Follow is a shortcut behind the events of a cancelled or deleted job. The API that wrote the fence has only a few
// seconds to clean up before it answers; Follow takes the rest of a large backup off the sweeper. It leaves jobs alone
// that have been swept already and those that failed by themselves, whose last step cleans up in its own time.
func (c Cleaner) Follow(ctx context.Context, jobID string) error {
	job, err := c.Jobs.GetJob(ctx, jobID)
	swept := job.DueAt.After(c.Now().Add(backup.SweepGrace))
	switch {
	case backup.Is(err, backup.NotFound):
		return nil
	case err != nil || swept:
		return err
	case job.Status == backup.Deleting:
		return c.Remove(ctx, job)
	case job.Status == backup.Failed && job.CleanupEverything:
		return c.StopAndClean(ctx, job)
	}
	return nil
}

// RemovePurged looks once more under the prefix of a job whose row has outlived its time, and removes what should
// not be there. files are the rows of its files, as far as they are still there. It returns how many uploads and objects it found.
func (c Cleaner) RemovePurged(ctx context.Context, job backup.Job, files []backup.File) (found int, err error) {
	uploads, err := c.Storage.AbortUploads(ctx, job.Prefix(), job.UploadKeys(files), nil)
	if err != nil {
		return uploads, err
	}
	objects, err := c.Storage.DeleteObjects(ctx, job.Prefix(), nil)
	return uploads + objects, err
}
