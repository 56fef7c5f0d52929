package statemachine_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Uploader = (*ledger)(nil)
	_ step.Objects  = (*ledger)(nil)
	_ step.Sweeping = (*ledger)(nil)
)

// ledger is a bucket that keeps sizes and checksums and no bytes, and counts the requests that internal/s3store sends
// for each call. So a backup of any size is counted in a moment.
type ledger struct {
	archives map[int64]*backuptest.Zip // what objects of a size hold

	mu       sync.Mutex
	requests map[string]int // by the names of S3's API
	uploads  map[string]step.Object
	keys     map[string]string // of the uploads
	objects  map[string]step.Object
}

func newLedger(archives map[int64]*backuptest.Zip) *ledger {
	return &ledger{
		archives: archives, requests: map[string]int{}, uploads: map[string]step.Object{}, keys: map[string]string{},
		objects: map[string]step.Object{},
	}
}

// request counts; it is called with every look at the rest.
func (l *ledger) request(op string) func() {
	l.mu.Lock()
	l.requests[op]++
	return l.mu.Unlock
}

func (l *ledger) CreateUpload(_ context.Context, key, token string) (string, error) {
	defer l.request("CreateMultipartUpload")()
	id := fmt.Sprintf("%0128d", len(l.keys)+1) // as long as those of S3
	l.uploads[id], l.keys[id] = step.Object{Token: token, Checked: true}, key
	return id, nil
}

func (l *ledger) UploadPart(_ context.Context, p step.PartUpload) (etag string, err error) {
	if _, err := io.Copy(io.Discard, p.Body); err != nil {
		return "", err
	}
	etag = fmt.Sprintf(`"%032d"`, p.Number)
	if token, single := backup.SingleUploadToken(p.UploadID); single {
		defer l.request("PutObject")()
		l.objects[p.Key] = step.Object{SizeBytes: p.SizeBytes, CRC64NVME: p.Body.CRC64NVME(), Checked: true, Token: token}
		return etag, nil
	}
	defer l.request("UploadPart")()
	return etag, nil
}

func (l *ledger) UploadedParts(context.Context, string, string, int, int) ([]backup.Part, error) {
	defer l.request("ListParts")()
	return nil, backup.E(backup.StorageRefused, "nobody should have to look at the parts")
}

func (l *ledger) CompleteUpload(_ context.Context, c step.Completion) error {
	if _, single := backup.SingleUploadToken(c.UploadID); single {
		return nil
	}
	defer l.request("CompleteMultipartUpload")()
	object := l.uploads[c.UploadID]
	object.SizeBytes, object.CRC64NVME = c.SizeBytes, c.CRC64NVME
	l.objects[c.Key] = object
	delete(l.uploads, c.UploadID)
	return nil
}

func (l *ledger) AbortUpload(_ context.Context, _, uploadID string) error {
	defer l.request("AbortMultipartUpload")()
	delete(l.uploads, uploadID)
	return nil
}

func (l *ledger) Head(_ context.Context, key string) (step.Object, error) {
	defer l.request("HeadObject")()
	object, found := l.objects[key]
	if !found {
		return object, backup.E(backup.NotFound, "no object %s", key)
	}
	return object, nil
}

func (l *ledger) ReadRange(_ context.Context, key string, offset, lengthBytes int64) (io.ReadCloser, error) {
	defer l.request("GetObject")()
	return io.NopCloser(io.NewSectionReader(l.archives[l.objects[key].SizeBytes], offset, lengthBytes)), nil
}

func (l *ledger) Put(_ context.Context, key, _ string, body []byte) error {
	defer l.request("PutObject")()
	l.objects[key] = step.Object{SizeBytes: int64(len(body))}
	return nil
}

func (l *ledger) PresignGet(context.Context, string, string, time.Duration) (string, error) {
	return "", backup.E(backup.StorageRefused, "nobody asks for links here")
}

// AbortUploads lists until nothing is left to remove, as internal/s3store does.
func (l *ledger) AbortUploads(ctx context.Context, prefix string, _ []string, keep func(string) bool) (removed int, err error) {
	for {
		done := l.request("ListMultipartUploads")
		var found []string
		for id := range l.uploads {
			if strings.HasPrefix(l.keys[id], prefix) && (keep == nil || !keep(l.keys[id])) {
				found = append(found, id)
			}
		}
		done()
		if len(found) == 0 {
			return removed, nil
		}
		for _, id := range found {
			_ = l.AbortUpload(ctx, l.keys[id], id)
		}
		removed += len(found)
	}
}

// DeleteObjects likewise; one request deletes all of a page.
func (l *ledger) DeleteObjects(_ context.Context, prefix string, keep func(string) bool) (removed int, err error) {
	for {
		done := l.request("ListObjectVersions")
		found := slices.DeleteFunc(slices.Collect(maps.Keys(l.objects)), func(key string) bool {
			return !strings.HasPrefix(key, prefix) || (keep != nil && keep(key))
		})
		done()
		if len(found) == 0 {
			return removed, nil
		}
		done = l.request("DeleteObjects")
		for _, key := range found {
			delete(l.objects, key)
		}
		done()
		removed += len(found)
	}
}

// sum adds up the requests of some kinds.
func (l *ledger) sum(ops ...string) (n int) {
	for _, op := range ops {
		n += l.requests[op]
	}
	return n
}

// thinExports announces exports of any size, whose ranges have one byte each: who moves them does not look.
type thinExports map[string]int64 // size by URL

func (x thinExports) Pin(_ context.Context, e step.Export) (backup.Pin, error) {
	return backup.Pin{ETag: `"5f2c-60a1b2c3d4e5f"`, SizeBytes: x[e.URL]}, nil
}

func (x thinExports) Range(context.Context, step.Export, backup.Pin, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(".")), nil
}

// counter counts the executions that are started and stopped.
type counter struct{ started, stopped int }

func (c *counter) Start(context.Context, backup.Job) error { c.started++; return nil }
func (c *counter) Stop(context.Context, string, int) error { c.stopped++; return nil }
