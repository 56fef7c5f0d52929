package step

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// tellAfter is how long others may take to answer, or to send or take the next bytes, before whoever watches the backup
// is told, and the time between that and being told again.
const tellAfter = 4 * time.Second

// watchdog records a wait that takes long, while it does. It costs nothing but a timer before that.
type watchdog struct {
	mu      sync.Mutex
	waiting bool
	closed  bool
	timer   *time.Timer
}

// watch makes a watchdog over waits for what, which fails with the given kind if it does not come.
func (r errorRecorder) watch(ctx context.Context, kind backup.Kind, what string) *watchdog {
	w := &watchdog{}
	w.timer = time.AfterFunc(tellAfter, func() {
		if w.again() { // it may have ended just now
			r.failed(ctx, backup.E(kind, "%s: no answer for more than %s, still waiting", what, tellAfter))
		}
	})
	w.timer.Stop()
	return w
}

// again tells whether the wait goes on, and sets the timer once more.
func (w *watchdog) again() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting {
		w.timer.Reset(tellAfter)
	}
	return w.waiting
}

func (w *watchdog) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.waiting = true
		w.timer.Reset(tellAfter)
	}
}

func (w *watchdog) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	w.timer.Stop()
}

// close ends it for good.
func (w *watchdog) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.closed = false, true
	w.timer.Stop()
}

// watched makes one call under a watchdog.
func watched[T any](ctx context.Context, r errorRecorder, kind backup.Kind, what string, call func() (T, error)) (T, error) {
	w := r.watch(ctx, kind, what)
	w.begin()
	defer w.end()
	return call()
}

// watchedBody watches each read.
type watchedBody struct {
	io.ReadCloser
	*watchdog
}

func (b watchedBody) Read(p []byte) (int, error) {
	b.begin()
	defer b.end()
	return b.ReadCloser.Read(p)
}

// watchedContent is what a storage takes: it is waited for the storage but while this reads.
type watchedContent struct {
	PartBody
	*watchdog
}

func (c watchedContent) Read(p []byte) (int, error) {
	c.end()
	defer c.begin()
	return c.PartBody.Read(p)
}

// watchedExporter watches the calls to a provider.
type watchedExporter struct {
	Exporter
	recorder errorRecorder
}

func (x watchedExporter) Pin(ctx context.Context, e Export) (backup.Pin, error) {
	return watched(ctx, x.recorder, backup.ProviderTimeout, "HEAD", func() (backup.Pin, error) { return x.Exporter.Pin(ctx, e) })
}

func (x watchedExporter) Range(ctx context.Context, e Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	const what = "GET of a range"
	body, err := watched(ctx, x.recorder, backup.ProviderTimeout, what, func() (io.ReadCloser, error) {
		return x.Exporter.Range(ctx, e, pin, offset, lengthBytes)
	})
	if err != nil {
		return nil, err
	}
	return watchedBody{body, x.recorder.watch(ctx, backup.ProviderTimeout, what)}, nil
}

// stored watches one call to the storage.
func stored[T any](ctx context.Context, r errorRecorder, what string, call func() (T, error)) (T, error) {
	return watched(ctx, r, backup.StorageUnavailable, what, call)
}

func none(err error) (struct{}, error) { return struct{}{}, err }

// watchedUploader watches the calls of an Uploader.
type watchedUploader struct {
	Uploader
	recorder errorRecorder
}

func (u watchedUploader) CreateUpload(ctx context.Context, key, token string) (string, error) {
	return stored(ctx, u.recorder, "CreateMultipartUpload", func() (string, error) { return u.Uploader.CreateUpload(ctx, key, token) })
}

func (u watchedUploader) UploadPart(ctx context.Context, p PartUpload) (string, error) {
	w := u.recorder.watch(ctx, backup.StorageUnavailable, "UploadPart")
	w.begin()
	defer w.close() // an HTTP transport may go on reading for a moment
	p.Body = watchedContent{p.Body, w}
	return u.Uploader.UploadPart(ctx, p)
}

func (u watchedUploader) UploadedParts(ctx context.Context, key, uploadID string, first, last int) ([]backup.Part, error) {
	return stored(ctx, u.recorder, "ListParts", func() ([]backup.Part, error) {
		return u.Uploader.UploadedParts(ctx, key, uploadID, first, last)
	})
}

func (u watchedUploader) CompleteUpload(ctx context.Context, c Completion) error {
	_, err := stored(ctx, u.recorder, "CompleteMultipartUpload", func() (struct{}, error) { return none(u.Uploader.CompleteUpload(ctx, c)) })
	return err
}

func (u watchedUploader) AbortUpload(ctx context.Context, key, uploadID string) error {
	_, err := stored(ctx, u.recorder, "AbortMultipartUpload", func() (struct{}, error) { return none(u.Uploader.AbortUpload(ctx, key, uploadID)) })
	return err
}

// watchedObjects watches the calls of Objects.
type watchedObjects struct {
	Objects
	recorder errorRecorder
}

func (o watchedObjects) Head(ctx context.Context, key string) (Object, error) {
	return stored(ctx, o.recorder, "HeadObject", func() (Object, error) { return o.Objects.Head(ctx, key) })
}

func (o watchedObjects) ReadRange(ctx context.Context, key string, offset, lengthBytes int64) (io.ReadCloser, error) {
	const what = "GetObject"
	body, err := stored(ctx, o.recorder, what, func() (io.ReadCloser, error) { return o.Objects.ReadRange(ctx, key, offset, lengthBytes) })
	if err != nil {
		return nil, err
	}
	return watchedBody{body, o.recorder.watch(ctx, backup.StorageUnavailable, what)}, nil
}

func (o watchedObjects) Put(ctx context.Context, key, contentType string, body []byte) error {
	_, err := stored(ctx, o.recorder, "PutObject", func() (struct{}, error) { return none(o.Objects.Put(ctx, key, contentType, body)) })
	return err
}

// watchedSweeping watches the calls of Sweeping.
type watchedSweeping struct {
	Sweeping
	recorder errorRecorder
}

func (s watchedSweeping) AbortUploads(ctx context.Context, prefix string, keys []string, keep func(key string) bool) (int, error) {
	return stored(ctx, s.recorder, "ListMultipartUploads", func() (int, error) { return s.Sweeping.AbortUploads(ctx, prefix, keys, keep) })
}

func (s watchedSweeping) DeleteObjects(ctx context.Context, prefix string, keep func(key string) bool) (int, error) {
	return stored(ctx, s.recorder, "DeleteObjects", func() (int, error) { return s.Sweeping.DeleteObjects(ctx, prefix, keep) })
}
