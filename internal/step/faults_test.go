package step_test

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// fault says what happens at the n-th call that the steps make of any port.
type fault struct {
	n       int
	effect  bool // the call has its effect, only its answer is lost
	crashes bool // the process ends there: nothing that it does afterwards has any effect
}

// faults stands between the steps and their ports.
type faults struct {
	mu    sync.Mutex
	set   *fault // nil: none
	calls int    // since arm, until disarm
	fired string // the call that the fault hit
	dead  bool
	kill  context.CancelFunc // ends what runs in the process that crashes

	away  map[backup.Kind]func() bool // who is not there, by the kind of the error that tells
	asked map[backup.Kind]int         // calls, whether or not they were answered
	hung  map[string]*hang            // calls that hang, by their operation
}

// hang holds one call.
type hang struct {
	reached chan struct{}
	release chan struct{}
}

// hang makes the next call of an operation hang.
func (f *faults) hang(op string) *hang {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung = map[string]*hang{op: newHang()}
	return f.hung[op]
}

func newHang() *hang { return &hang{reached: make(chan struct{}), release: make(chan struct{})} }

func (h *hang) hold() {
	close(h.reached)
	<-h.release
}

func (f *faults) hold(op string) {
	f.mu.Lock()
	h := f.hung[op]
	delete(f.hung, op)
	f.mu.Unlock()
	if h != nil {
		h.hold()
	}
}

// gone counts the call and tells whether the one who is asked is not there.
func (f *faults) gone(kind backup.Kind) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away[kind] == nil {
		return false
	}
	f.asked[kind]++
	return f.away[kind]()
}

func (f *faults) arm(next fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set, f.calls, f.fired, f.dead = &next, 0, "", false
}

// disarm lets every call through again, as of a process started anew. It returns the call that the fault hit.
func (f *faults) disarm() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set, f.dead = nil, false
	return f.fired
}

// hits counts the call and tells whether the fault hits it, and whether the process is dead.
func (f *faults) hits(op string) (hit *fault, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, true
	}
	if f.set == nil {
		return nil, false
	}
	if f.calls++; f.calls != f.set.n {
		return nil, false
	}
	f.fired = op
	if f.set.crashes && !f.set.effect {
		f.dead = true
	}
	return f.set, false
}

func (f *faults) die() {
	f.mu.Lock()
	f.dead = true
	kill := f.kill
	f.mu.Unlock()
	if kill != nil {
		kill()
	}
}

func call[T any](f *faults, op string, kind backup.Kind, do func() (T, error)) (T, error) {
	var none T
	lost := backup.E(kind, "%s: no answer", op)
	f.hold(op)
	if f.gone(kind) {
		return none, lost
	}
	hit, dead := f.hits(op)
	switch {
	case dead:
		return none, lost
	case hit == nil:
		return do()
	}
	if hit.effect {
		_, _ = do() // what it answers gets lost
	}
	if hit.crashes {
		f.die()
	}
	return none, lost
}

func act(f *faults, op string, kind backup.Kind, do func() error) error {
	_, err := call(f, op, kind, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// store is the steps' way to the rows.
type store struct {
	step.Store
	f *faults
}

func rows[T any](s *store, op string, do func() (T, error)) (T, error) {
	return call(s.f, op, backup.StoreUnavailable, do)
}

func (s *store) CreateJob(ctx context.Context, job backup.Job, key backup.Idempotency) (backup.Job, error) {
	return rows(s, "CreateJob", func() (backup.Job, error) { return s.Store.CreateJob(ctx, job, key) })
}

func (s *store) GetJob(ctx context.Context, jobID string) (backup.Job, error) {
	return rows(s, "GetJob", func() (backup.Job, error) { return s.Store.GetJob(ctx, jobID) })
}

func (s *store) SwapJob(ctx context.Context, next backup.Job) error {
	return act(s.f, "SwapJob", backup.StoreUnavailable, func() error { return s.Store.SwapJob(ctx, next) })
}

func (s *store) ListJobs(ctx context.Context, q backup.JobQuery) ([]backup.Job, error) {
	return rows(s, "ListJobs", func() ([]backup.Job, error) { return s.Store.ListJobs(ctx, q) })
}

func (s *store) DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error) {
	return rows(s, "DueJobs", func() ([]backup.Job, error) { return s.Store.DueJobs(ctx, now, limit) })
}

func (s *store) Files(ctx context.Context, jobID string) ([]backup.File, error) {
	return rows(s, "Files", func() ([]backup.File, error) { return s.Store.Files(ctx, jobID) })
}

func (s *store) GetFile(ctx context.Context, jobID, name string) (backup.File, error) {
	return rows(s, "GetFile", func() (backup.File, error) { return s.Store.GetFile(ctx, jobID, name) })
}

func (s *store) SwapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	return act(s.f, "SwapFile", backup.StoreUnavailable, func() error { return s.Store.SwapFile(ctx, g, next) })
}

func (s *store) RecordPart(ctx context.Context, w backup.PartWrite) error {
	return act(s.f, "RecordPart", backup.StoreUnavailable, func() error { return s.Store.RecordPart(ctx, w) })
}

func (s *store) Parts(ctx context.Context, f backup.File, first, last int) ([]backup.Part, error) {
	return rows(s, "Parts", func() ([]backup.Part, error) { return s.Store.Parts(ctx, f, first, last) })
}

func (s *store) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	return rows(s, "GetSite", func() (backup.Site, error) { return s.Store.GetSite(ctx, userID, siteID) })
}

func (s *store) PutSite(ctx context.Context, site backup.Site) error {
	return act(s.f, "PutSite", backup.StoreUnavailable, func() error { return s.Store.PutSite(ctx, site) })
}

func (s *store) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	return act(s.f, "DeleteSite", backup.StoreUnavailable, func() error { return s.Store.DeleteSite(ctx, userID, siteID, rev) })
}

// storage is the steps' way to the bucket.
type storage struct {
	*backuptest.Storage
	f *faults
}

func bucket[T any](s *storage, op string, do func() (T, error)) (T, error) {
	return call(s.f, op, backup.StorageUnavailable, do)
}

func (s *storage) CreateUpload(ctx context.Context, key, token string) (string, error) {
	return bucket(s, "CreateUpload", func() (string, error) { return s.Storage.CreateUpload(ctx, key, token) })
}

func (s *storage) UploadPart(ctx context.Context, p step.PartUpload) (string, error) {
	return bucket(s, "UploadPart", func() (string, error) { return s.Storage.UploadPart(ctx, p) })
}

func (s *storage) UploadedParts(ctx context.Context, key, uploadID string, first, last int) ([]backup.Part, error) {
	return bucket(s, "UploadedParts", func() ([]backup.Part, error) { return s.Storage.UploadedParts(ctx, key, uploadID, first, last) })
}

func (s *storage) CompleteUpload(ctx context.Context, c step.Completion) error {
	return act(s.f, "CompleteUpload", backup.StorageUnavailable, func() error { return s.Storage.CompleteUpload(ctx, c) })
}

func (s *storage) AbortUpload(ctx context.Context, key, uploadID string) error {
	return act(s.f, "AbortUpload", backup.StorageUnavailable, func() error { return s.Storage.AbortUpload(ctx, key, uploadID) })
}

func (s *storage) Head(ctx context.Context, key string) (step.Object, error) {
	return bucket(s, "Head", func() (step.Object, error) { return s.Storage.Head(ctx, key) })
}

func (s *storage) ReadRange(ctx context.Context, key string, offset, lengthBytes int64) (io.ReadCloser, error) {
	return bucket(s, "ReadRange", func() (io.ReadCloser, error) { return s.Storage.ReadRange(ctx, key, offset, lengthBytes) })
}

func (s *storage) Put(ctx context.Context, key, contentType string, body []byte) error {
	return act(s.f, "Put", backup.StorageUnavailable, func() error { return s.Storage.Put(ctx, key, contentType, body) })
}

func (s *storage) AbortUploads(ctx context.Context, prefix string, keys []string, keep func(string) bool) (int, error) {
	return bucket(s, "AbortUploads", func() (int, error) { return s.Storage.AbortUploads(ctx, prefix, keys, keep) })
}

func (s *storage) DeleteObjects(ctx context.Context, prefix string, keep func(string) bool) (int, error) {
	return bucket(s, "DeleteObjects", func() (int, error) { return s.Storage.DeleteObjects(ctx, prefix, keep) })
}

// guardedExports is the steps' way to the providers.
type guardedExports struct {
	*exports
	f *faults
}

func (x guardedExports) Pin(ctx context.Context, e step.Export) (backup.Pin, error) {
	return call(x.f, "Pin", backup.ProviderUnavailable, func() (backup.Pin, error) { return x.exports.Pin(ctx, e) })
}

func (x guardedExports) Range(ctx context.Context, e step.Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	return call(x.f, "Range", backup.ProviderUnavailable, func() (io.ReadCloser, error) {
		return x.exports.Range(ctx, e, pin, offset, lengthBytes)
	})
}

// guarded is the steps' way to the executions.
type guarded struct {
	*executions
	f *faults
}

func (g guarded) Start(ctx context.Context, job backup.Job) error {
	return act(g.f, "Start", backup.StoreUnavailable, func() error { return g.executions.Start(ctx, job) })
}

func (g guarded) Stop(ctx context.Context, jobID string, attempt int) error {
	return act(g.f, "Stop", backup.StoreUnavailable, func() error { return g.executions.Stop(ctx, jobID, attempt) })
}
