package step

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// OpenUpload pins one version of a provider's export, opens the multipart upload for it, and plans the batches that
// are still to move. On a later attempt with an unchanged pin it keeps the upload and plans what is missing.
type OpenUpload struct {
	Jobs      JobStore
	Files     FileStore
	Errors    ErrorStore
	Exports   Exporter
	Uploads   Uploader
	Now       func() time.Time
	NewRandom func() string // unguessable
	// SingleBytes is the size up to which a file of one part is put in one request; 0: every file is a multipart upload.
	SingleBytes int64
	// MaxParts is how many parts of a file the storage takes; 0: as many as S3.
	MaxParts int64
	// Doubtful tells whether the storage may be away. nil: no process knows of the others; it may when the last attempt failed by it.
	Doubtful func() bool
	// Trusted fails until the storage has been tried, and tells whether it replaces objects although it is asked not to.
	// nil: it need not be tried.
	Trusted func(ctx context.Context) (replaces bool, err error)
}

// OpenUploadIn names the file. Caught is set when the flow comes back because the upload cannot go on as it is; Restarts
// is what the last call gave out; Polls counts the times that the provider was still preparing.
type OpenUploadIn struct {
	JobID       string  `json:"jobId"`
	Attempt     int     `json:"attempt"`
	File        string  `json:"file"`
	Parallelism int     `json:"parallelism"`
	MaxBatches  int     `json:"maxBatches"`
	Polls       int     `json:"polls,omitempty"`
	Restarts    int     `json:"restarts,omitempty"`
	Caught      *Caught `json:"caught,omitempty"`
}

// FileNext is where the flow of a file goes on.
type FileNext string

const (
	NextWait     FileNext = "wait"
	NextUpload   FileNext = "upload"
	NextComplete FileNext = "complete"
	NextInspect  FileNext = "inspect"
	NextDone     FileNext = "done"
)

// OpenUploadOut carries the file on. Batches is set with NextUpload, WaitSeconds with NextWait, and Caught when the
// restart that it asks for has to wait.
type OpenUploadOut struct {
	JobID       string         `json:"jobId"`
	Attempt     int            `json:"attempt"`
	File        string         `json:"file"`
	Parallelism int            `json:"parallelism"`
	MaxBatches  int            `json:"maxBatches"`
	Polls       int            `json:"polls,omitempty"`
	Next        FileNext       `json:"next"`
	WaitSeconds int            `json:"waitSeconds,omitempty"`
	Restarts    int            `json:"restarts,omitempty"`
	Caught      *Caught        `json:"caught,omitempty"`
	UploadID    string         `json:"uploadId,omitempty"`
	Batches     []backup.Batch `json:"batches,omitempty"`
}

// maxWaitSeconds bounds one wait for a provider that prepares its export, whatever it asks for.
const maxWaitSeconds = 60

// Handle runs the step.
func (s OpenUpload) Handle(ctx context.Context, in OpenUploadIn) (OpenUploadOut, error) {
	out := OpenUploadOut{JobID: in.JobID, Attempt: in.Attempt, File: in.File, Parallelism: in.Parallelism, MaxBatches: in.MaxBatches}
	job, err := runningJob(ctx, s.Jobs, in.JobID, in.Attempt)
	if err != nil {
		return out, err
	}
	recorder := recorderOf(s.Errors, backup.Guard(in.JobID, in.Attempt), in.File, s.Now)
	s.Exports, s.Uploads = watchedExporter{s.Exports, recorder}, watchedUploader{s.Uploads, recorder}
	file, err := getFile(ctx, s.Files, in.JobID, in.File)
	if err != nil {
		return out, err
	}
	out.Restarts = file.RestartsIn(in.Attempt)
	if out.Restarts != in.Restarts {
		in.Caught = nil // this call repeats one that has begun the upload anew already
	}
	if out.Next = nextAfterUpload(file, in.Caught); out.Next != "" {
		return out, nil
	}
	if in.Caught != nil && out.Restarts >= backup.MaxRestarts {
		return out, backup.E(in.Caught.Kind(), "begun anew %d times, the last time because: %s", out.Restarts, in.Caught.Detail())
	}
	var pin backup.Pin
	if s, err = s.trusting(ctx, recorder); err == nil {
		err = s.askStorage(ctx, job, file)
	}
	if err == nil {
		pin, err = s.pin(ctx, job, in.File)
	}
	if err == nil {
		out, err = s.plan(ctx, job, file, pin, in, out)
	}
	if err == nil {
		return out, nil
	}
	recorder.failed(ctx, err)
	if wait, ok := preparing(err, in.Polls); ok {
		out.Next, out.WaitSeconds, out.Polls, out.Caught = NextWait, wait, in.Polls+1, in.Caught
		return out, nil
	}
	return out, err
}

// trusting waits for the storage's trial. Where objects are replaced, every file is a multipart upload, whose id no other worker has.
func (s OpenUpload) trusting(ctx context.Context, r errorRecorder) (OpenUpload, error) {
	if s.Trusted == nil {
		return s, nil
	}
	replaces, err := stored(ctx, r, "try the storage", func() (bool, error) { return s.Trusted(ctx) })
	if replaces {
		s.SingleBytes = 0
	}
	return s, err
}

// askStorage makes sure that a storage which may be away answers before the provider is asked anything: by the upload, or by an
// object that cannot be there yet. What else it says of them is found out later.
func (s OpenUpload) askStorage(ctx context.Context, job backup.Job, file backup.File) error {
	doubtful := job.LastError != nil && job.LastError.Kind == backup.StorageUnavailable
	if s.Doubtful != nil {
		doubtful = s.Doubtful()
	}
	if !doubtful {
		return nil
	}
	key, uploadID := file.Key, file.UploadID
	if uploadID == "" {
		key, uploadID = job.FileKey(file.Name, job.Attempt, file.Uploads+1), backup.SingleUploadID("")
	}
	if _, err := s.Uploads.UploadedParts(ctx, key, uploadID, 1, 1); backup.Is(err, backup.StorageUnavailable) {
		return err
	}
	return nil
}

// nextAfterUpload is where a file goes whose parts are all in the storage; "" for any other file.
func nextAfterUpload(f backup.File, caught *Caught) FileNext {
	switch {
	case f.Status == backup.FileDone:
		return NextDone
	case f.Status == backup.FileStored:
		return NextInspect
	case f.Status == backup.FileCompleting && caught == nil:
		return NextComplete
	}
	return ""
}

func (s OpenUpload) pin(ctx context.Context, job backup.Job, name string) (backup.Pin, error) {
	export, err := exportOf(job, name)
	if err != nil {
		return backup.Pin{}, err
	}
	pin, err := s.Exports.Pin(ctx, export)
	if err != nil {
		return backup.Pin{}, err
	}
	if pin.SizeBytes <= 0 {
		return backup.Pin{}, backup.E(backup.ExportEmpty, "provider %s exports %d bytes", name, pin.SizeBytes)
	}
	if pin.SizeBytes > job.Limits.MaxFileBytes {
		return backup.Pin{}, backup.E(backup.ExportTooLarge, "provider %s exports %d bytes, the site's limit is %d", name, pin.SizeBytes, job.Limits.MaxFileBytes)
	}
	if size := s.partSizeBytes(pin.SizeBytes); size > backup.MaxPartSizeBytes {
		return backup.Pin{}, backup.E(backup.ExportTooLarge, "provider %s exports %d bytes, more than the storage takes as one object", name, pin.SizeBytes)
	}
	return pin, nil
}

func (s OpenUpload) partSizeBytes(sizeBytes int64) int64 {
	if s.MaxParts == 0 {
		return backup.PartSizeBytes(sizeBytes)
	}
	return backup.PartSizeWithin(sizeBytes, s.MaxParts)
}

// preparing turns a provider's "not ready yet" into a wait of the state machine, which costs nothing and is not an
// error: what the provider asked for, but at least a growing and at most a bounded time.
func preparing(err error, polls int) (waitSeconds int, ok bool) {
	var e *backup.Error
	if !errors.As(err, &e) || e.Kind != backup.ProviderPreparing {
		return 0, false
	}
	growing := 1 << min(polls/4, 6)
	asked := int((e.RetryAfter + time.Second - 1) / time.Second)
	return min(max(asked, growing), maxWaitSeconds), true
}

func (s OpenUpload) plan(ctx context.Context, job backup.Job, file backup.File, pin backup.Pin, in OpenUploadIn, out OpenUploadOut) (OpenUploadOut, error) {
	lost := in.Caught != nil && in.Caught.Kind() != backup.ProviderChanged
	var err error
	if !lost && file.Resumable() && file.Pin == pin {
		file, err = s.resume(ctx, file, in)
	} else {
		file, err = s.open(ctx, job, file, pin, lost, in)
	}
	if err != nil {
		return out, err
	}
	recorded, err := s.Files.Parts(ctx, file, 1, file.PartCount())
	if err != nil {
		return out, err
	}
	out.UploadID, out.Restarts = file.UploadID, file.Restarts
	out.Batches = backup.Missing(backup.Batches(file.PartCount(), in.Parallelism, in.MaxBatches), recorded)
	out.Next = NextUpload
	if len(out.Batches) == 0 {
		out.Next = NextComplete
	}
	return out, nil
}

// resume keeps the upload. Coming back after ProviderChanged with the same pin counts as a restart too: a provider
// that refuses its own ETag must not keep the flow going round.
func (s OpenUpload) resume(ctx context.Context, file backup.File, in OpenUploadIn) (backup.File, error) {
	return advanceFile(ctx, s.Files, backup.Guard(in.JobID, in.Attempt), in.File, func(f backup.File) (backup.File, error) {
		if in.Caught != nil && f.Rev == file.Rev {
			f.Restarts++
			f.UpdatedAt = s.Now()
			return f, nil
		}
		return f.Resume(in.Attempt, s.Now())
	})
}

// open begins a fresh upload. Its key follows from the row as it was read, so that a sweep knows it even if nothing is
// written here. The loser of a race aborts its own upload; the winner aborts the one it replaced.
func (s OpenUpload) open(ctx context.Context, job backup.Job, file backup.File, pin backup.Pin, lost bool, in OpenUploadIn) (backup.File, error) {
	u := backup.Upload{Key: job.FileKey(in.File, in.Attempt, file.Uploads+1), Token: s.NewRandom(), PartSizeBytes: s.partSizeBytes(pin.SizeBytes)}
	next, err := file.Open(in.Attempt, u, pin, lost, s.Now())
	if err != nil {
		return file, err
	}
	if next.UploadID, err = s.create(ctx, next); err != nil {
		return file, err
	}
	err = s.Files.SwapFile(ctx, backup.Guard(in.JobID, in.Attempt), next)
	if backup.Is(err, backup.Conflict) || backup.Is(err, backup.StaleAttempt) || backup.Is(err, backup.QuotaExceeded) {
		return file, errors.Join(err, s.discard(ctx, next))
	}
	if err != nil {
		return file, err // perhaps only the answer was lost: the next call goes on with the upload, or the end of the job aborts it
	}
	next.Rev++
	if file.UploadID != "" {
		err = s.abort(ctx, file.Key, file.UploadID)
	}
	return next, err
}

// create decides between one request and a multipart upload.
func (s OpenUpload) create(ctx context.Context, f backup.File) (uploadID string, err error) {
	if f.PartCount() == 1 && f.Pin.SizeBytes <= s.SingleBytes {
		return backup.SingleUploadID(f.Token), nil
	}
	return s.Uploads.CreateUpload(ctx, f.Key, f.Token)
}

// discard aborts the upload of a row that was not written. A single upload has sent nothing yet, and what stands under
// its key is that of the row that was.
func (s OpenUpload) discard(ctx context.Context, f backup.File) error {
	if _, single := backup.SingleUploadToken(f.UploadID); single {
		return nil
	}
	return s.abort(ctx, f.Key, f.UploadID)
}

const abortTimeout = 30 * time.Second

// abort works although ctx may be over: what was opened is closed again. The sweep at the end of the job gets what a
// crash leaves.
func (s OpenUpload) abort(ctx context.Context, key, uploadID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	return s.Uploads.AbortUpload(ctx, key, uploadID)
}

func exportOf(job backup.Job, name string) (Export, error) {
	p, err := job.Provider(name)
	if err != nil {
		return Export{}, err
	}
	return Export{UserID: job.UserID, URL: p.URL, SecretRef: p.SecretRef, BackupID: job.JobID}, nil
}
