package step

import (
	"context"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
)

// CompleteMultipart proves that every part is there, lets the storage put the object together under the checksum of
// the whole, and proves by HEAD that the object is ours, of the pinned size and of that checksum.
type CompleteMultipart struct {
	Files   FileStore
	Errors  ErrorStore
	Uploads Uploader
	Objects Objects
	Now     func() time.Time
}

// FileIn names one file of an attempt.
type FileIn struct {
	JobID   string `json:"jobId"`
	Attempt int    `json:"attempt"`
	File    string `json:"file"`
}

// FileOut is empty: the facts are in the file's row.
type FileOut struct{}

// Handle runs the step.
func (s CompleteMultipart) Handle(ctx context.Context, in FileIn) (FileOut, error) {
	recorder := recorderOf(s.Errors, backup.Guard(in.JobID, in.Attempt), in.File, s.Now)
	s.Uploads, s.Objects = watchedUploader{s.Uploads, recorder}, watchedObjects{s.Objects, recorder}
	err := s.proven(ctx, in)
	recorder.failed(ctx, err)
	return FileOut{}, err
}

func (s CompleteMultipart) proven(ctx context.Context, in FileIn) error {
	file, err := s.Files.GetFile(ctx, in.JobID, in.File)
	if err != nil || file.Settled() {
		return err
	}
	parts, err := s.Files.Parts(ctx, file, 1, file.PartCount())
	if err != nil {
		return err
	}
	if err := file.ProveParts(parts); err != nil {
		return s.unlessSettled(ctx, in, err)
	}
	guard := backup.Guard(in.JobID, in.Attempt)
	file, err = advanceFile(ctx, s.Files, guard, in.File, func(f backup.File) (backup.File, error) {
		return f.Completing(file.UploadID, checksum.Whole(parts), s.Now())
	})
	if err != nil {
		return err
	}
	if err := s.settle(ctx, file, parts); err != nil {
		return err
	}
	_, err = advanceFile(ctx, s.Files, guard, in.File, func(f backup.File) (backup.File, error) {
		return f.Stored(file.UploadID, s.Now())
	})
	return err
}

// unlessSettled is err, unless another call has settled the file meanwhile: the parts of a file that is done go.
func (s CompleteMultipart) unlessSettled(ctx context.Context, in FileIn, err error) error {
	if file, getErr := s.Files.GetFile(ctx, in.JobID, in.File); getErr == nil && file.Settled() {
		return nil
	}
	return err
}

// settle completes the upload. Whatever the storage answered, a HEAD decides: a lost reply, a duplicate call and a
// first success look the same afterwards.
func (s CompleteMultipart) settle(ctx context.Context, file backup.File, parts []backup.Part) error {
	completed := s.complete(ctx, file, parts)
	object, err := s.Objects.Head(ctx, file.Key)
	if backup.Is(err, backup.NotFound) {
		if completed != nil {
			return completed
		}
		return missing(file)
	}
	if err != nil {
		return err
	}
	if object.Token != file.Token {
		return backup.E(backup.ChecksumMismatch, "object %s does not carry the token of this upload", file.Key)
	}
	if !object.Checked {
		return backup.E(backup.ChecksumMissing, "object %s: the storage reports no CRC64NVME of the whole", file.Key)
	}
	if object.SizeBytes != file.Pin.SizeBytes || object.CRC64NVME != file.CRC64NVME {
		return backup.E(backup.ChecksumMismatch, "object %s has %d bytes with checksum %016x, sent were %d with %016x",
			file.Key, object.SizeBytes, object.CRC64NVME, file.Pin.SizeBytes, file.CRC64NVME)
	}
	return nil
}

// missing is for an object that is not there although its completion succeeded: that of a multipart upload may still
// come, that of a single one was there when its part was recorded.
func missing(file backup.File) error {
	if _, single := backup.SingleUploadToken(file.UploadID); single {
		return backup.E(backup.UploadLost, "object %s is gone", file.Key)
	}
	return backup.E(backup.StorageUnavailable, "object %s is not there after completion", file.Key)
}

func (s CompleteMultipart) complete(ctx context.Context, file backup.File, parts []backup.Part) error {
	c := Completion{Key: file.Key, UploadID: file.UploadID, SizeBytes: file.Pin.SizeBytes, CRC64NVME: file.CRC64NVME, Parts: parts}
	err := s.Uploads.CompleteUpload(ctx, c)
	if !backup.Is(err, backup.ChecksumMismatch) {
		return err
	}
	current, lerr := s.currentParts(ctx, file, parts)
	if lerr != nil {
		return lerr
	}
	c.Parts = current
	return s.Uploads.CompleteUpload(ctx, c)
}

// currentParts takes over the ETags of parts that were uploaded once more after they had been recorded (a worker whose
// record got lost, or a late one of a dead attempt). Only a part of the recorded size and checksum is taken over.
func (s CompleteMultipart) currentParts(ctx context.Context, file backup.File, recorded []backup.Part) ([]backup.Part, error) {
	uploaded, err := s.Uploads.UploadedParts(ctx, file.Key, file.UploadID, 1, backup.MaxParts)
	if err != nil {
		return nil, err
	}
	if len(uploaded) != len(recorded) {
		return nil, backup.E(backup.ChecksumMismatch, "file %s: the storage holds %d parts, recorded are %d", file.Name, len(uploaded), len(recorded))
	}
	for i, u := range uploaded {
		r := recorded[i]
		if u.Number != r.Number || u.SizeBytes != r.SizeBytes || u.CRC64NVME != r.CRC64NVME {
			return nil, backup.E(backup.ChecksumMismatch, "file %s: part %d in the storage is not the recorded one", file.Name, r.Number)
		}
	}
	return uploaded, nil
}
