package step

import (
	"context"
	"io"
	"time"

	"github.com/sitevault/sitevault/internal/archive"
	"github.com/sitevault/sitevault/internal/backup"
)

// InspectArchive reads the directory of the stored zip, so that an error page or an archive that the provider cut short
// never counts as a backup.
type InspectArchive struct {
	Files   FileStore
	Errors  ErrorStore
	Objects Objects
	Now     func() time.Time
}

// Handle runs the step.
func (s InspectArchive) Handle(ctx context.Context, in FileIn) (FileOut, error) {
	recorder := recorderOf(s.Errors, backup.Guard(in.JobID, in.Attempt), in.File, s.Now)
	s.Objects = watchedObjects{s.Objects, recorder}
	err := s.inspect(ctx, in)
	recorder.failed(ctx, err)
	return FileOut{}, err
}

func (s InspectArchive) inspect(ctx context.Context, in FileIn) error {
	file, err := s.Files.GetFile(ctx, in.JobID, in.File)
	if err != nil || file.Status == backup.FileDone {
		return err
	}
	found, err := archive.Inspect(ctx, file.Pin.SizeBytes, func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		return s.Objects.ReadRange(ctx, file.Key, offset, length)
	})
	if err != nil {
		return err
	}
	_, err = advanceFile(ctx, s.Files, backup.Guard(in.JobID, in.Attempt), in.File, func(f backup.File) (backup.File, error) {
		return f.Inspected(file.UploadID, found, s.Now())
	})
	return err
}
