package step

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/transfer"
)

// ExportRangeUpload moves one batch: it pulls each part's range from the provider, streams it into the upload and
// records it. Parts recorded before are left out. Near its own deadline it ends with BatchUnfinished and is called
// again for the rest.
type ExportRangeUpload struct {
	Jobs    JobStore
	Files   FileStore
	Errors  ErrorStore
	Exports Exporter
	Uploads Uploader
	Memory  *transfer.Budget // of all workers of the process
	Now     func() time.Time
	// Doubtful tells whether the storage may be away. nil: no process knows of the others; it may whenever the state is repeated.
	Doubtful func() bool
}

// ExportRangeUploadIn is one batch; both ends are inclusive.
type ExportRangeUploadIn struct {
	JobID    string `json:"jobId"`
	Attempt  int    `json:"attempt"`
	File     string `json:"file"`
	UploadID string `json:"uploadId"`
	First    int    `json:"first"`
	Last     int    `json:"last"`
	Retries  int    `json:"retries,omitempty"` // of the state: how often it has failed before
}

// ExportRangeUploadOut is kept small: a Map returns one for every batch.
type ExportRangeUploadOut struct {
	Parts int `json:"parts"` // moved by this call
}

// lastStart is the time before the worker's deadline after which it begins no further part, unless parts have proved to
// take longer.
const lastStart = 2 * time.Minute

// Handle runs the step.
func (s ExportRangeUpload) Handle(ctx context.Context, in ExportRangeUploadIn) (ExportRangeUploadOut, error) {
	recorder := recorderOf(s.Errors, backup.Guard(in.JobID, in.Attempt), in.File, s.Now)
	recorder.try = in.Retries + 1
	s.Exports, s.Uploads = watchedExporter{s.Exports, recorder}, watchedUploader{s.Uploads, recorder}
	b, err := s.batch(ctx, in)
	if err != nil {
		return ExportRangeUploadOut{}, err
	}
	if err = b.askStorage(ctx); err == nil {
		err = s.Memory.Run(ctx, b.export.UserID, b.ranges(), b.store)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = b.outOfTime(err)
	}
	if err != nil {
		recorder.failed(ctx, err)
		return ExportRangeUploadOut{}, err
	}
	return ExportRangeUploadOut{Parts: b.moved}, nil
}

// batch is one call's work.
type batch struct {
	ExportRangeUpload
	in      ExportRangeUploadIn
	file    backup.File
	export  Export
	missing []int
	moved   int // parts recorded by this call

	doubtful bool // the storage may not answer
}

func (s ExportRangeUpload) batch(ctx context.Context, in ExportRangeUploadIn) (*batch, error) {
	job, err := runningJob(ctx, s.Jobs, in.JobID, in.Attempt)
	if err != nil {
		return nil, err
	}
	export, err := exportOf(job, in.File)
	if err != nil {
		return nil, err
	}
	// The parts are read first: they go once the file is done, which the file then shows.
	recorded, err := s.Files.Parts(ctx, backup.File{JobID: in.JobID, Name: in.File, UploadID: in.UploadID}, in.First, in.Last)
	if err != nil {
		return nil, err
	}
	file, err := s.Files.GetFile(ctx, in.JobID, in.File)
	if err != nil {
		return nil, err
	}
	if file.UploadID != in.UploadID {
		return nil, backup.E(backup.StaleAttempt, "file %s: batch %d-%d belongs to another upload", in.File, in.First, in.Last)
	}
	b := &batch{ExportRangeUpload: s, in: in, file: file, export: export}
	if !file.Settled() {
		b.missing = missingParts(in.First, in.Last, recorded)
	}
	b.doubtful = in.Retries > 0
	if s.Doubtful != nil {
		b.doubtful = s.Doubtful()
	}
	return b, nil
}

// askStorage makes sure that a storage which may be away answers and knows the upload before anything is fetched for it once
// more: a range that cannot be stored costs the site's web server for nothing.
func (b *batch) askStorage(ctx context.Context) error {
	if !b.doubtful || len(b.missing) == 0 {
		return nil
	}
	_, err := b.Uploads.UploadedParts(ctx, b.file.Key, b.in.UploadID, b.missing[0], b.missing[0])
	return err
}

// missingParts are the numbers first..last without those of recorded, which is in order.
func missingParts(first, last int, recorded []backup.Part) []int {
	var missing []int
	for n := first; n <= last; n++ {
		if len(recorded) > 0 && recorded[0].Number == n {
			recorded = recorded[1:]
			continue
		}
		missing = append(missing, n)
	}
	return missing
}

func (b *batch) ranges() []transfer.Range {
	var deadline partClock
	ranges := make([]transfer.Range, len(b.missing))
	for i, n := range b.missing {
		offset, length := b.file.PartRange(n)
		ranges[i] = transfer.Range{Number: n, Open: func(ctx context.Context) (io.ReadCloser, error) {
			if !deadline.allows(ctx) {
				return nil, backup.E(backup.BatchUnfinished, "file %s: time is up before part %d", b.in.File, n)
			}
			return b.Exports.Range(ctx, b.export, b.file.Pin, offset, length)
		}}
	}
	return ranges
}

// partClock decides whether the time left suffices for one more part. It goes by the clock of the context's deadline,
// not by the one that rows are stamped with. Only the goroutine that reads ahead uses it.
type partClock struct {
	started time.Time
	slowest time.Duration
}

func (c *partClock) allows(ctx context.Context) bool {
	now := time.Now()
	if !c.started.IsZero() {
		c.slowest = max(c.slowest, now.Sub(c.started))
	}
	c.started = now
	deadline, ok := ctx.Deadline()
	return !ok || deadline.Sub(now) > max(lastStart, 2*c.slowest)
}

// store uploads one part and records it. A part whose record got lost is moved again; the storage keeps the newer one
// and CompleteMultipart settles which.
func (b *batch) store(ctx context.Context, number int, body *transfer.Body) error {
	_, size := b.file.PartRange(number)
	etag, err := b.Uploads.UploadPart(ctx, PartUpload{Key: b.file.Key, UploadID: b.in.UploadID, Number: number, SizeBytes: size, Body: body})
	if err != nil {
		return err
	}
	err = b.Files.RecordPart(ctx, backup.PartWrite{
		JobID: b.in.JobID, Attempt: b.in.Attempt, File: b.in.File, UploadID: b.in.UploadID,
		Part: backup.Part{Number: number, ETag: etag, SizeBytes: size, CRC64NVME: body.CRC64NVME()},
		At:   b.Now(),
	})
	if err == nil {
		b.moved++
	}
	return err
}

// outOfTime judges an error of a worker whose time is up. After a part it is no failure: the next call goes on.
func (b *batch) outOfTime(err error) error {
	_, known := errors.AsType[*backup.Error](err)
	switch {
	case err != nil && b.moved > 0:
		return backup.E(backup.BatchUnfinished, "file %s: time was up within part %d", b.in.File, b.missing[min(b.moved, len(b.missing)-1)])
	case err != nil && !known:
		return backup.E(backup.ProviderTimeout, "file %s: part %d takes longer than a worker has: %w", b.in.File, b.missing[0], err)
	}
	return err
}
