package step

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// FailFile writes down why a file failed; the other files of the job go on. What the file has in the storage is
// removed when the job ends.
type FailFile struct {
	Files FileStore
	Now   func() time.Time
}

// FailFileIn carries the error that the state machine caught.
type FailFileIn struct {
	FileIn
	Caught Caught `json:"caught"`
}

// Handle runs the step.
func (s FailFile) Handle(ctx context.Context, in FailFileIn) (FileOut, error) {
	_, err := advanceFile(ctx, s.Files, backup.Guard(in.JobID, in.Attempt), in.File, func(f backup.File) (backup.File, error) {
		now := s.Now()
		return f.Fail(backup.NewFailure(in.Caught.Kind(), in.File, in.Caught.Detail(), now), now)
	})
	return FileOut{}, err
}
