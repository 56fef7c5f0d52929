package backuptest

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Store  = (*MemoryStore)(nil)
	_ step.Purger = (*MemoryStore)(nil)
)

// MemoryStore keeps the contract of step.Store in maps under one lock: the plainest reading of it, which
// StoreConformance holds other stores against, and a fast store for tests that need no file.
type MemoryStore struct {
	mu      sync.Mutex
	jobs    map[string]backup.Job
	keys    map[userKey]usedKey
	files   map[fileKey]backup.File
	parts   map[partKey]backup.Part
	errors  map[fileKey]lastError
	sites   map[userKey]backup.Site
	tickets map[string]backup.Ticket
	usage   map[string]backup.Usage
	quotas  backup.Quotas
}

type (
	userKey   struct{ userID, name string }
	fileKey   struct{ jobID, name string }
	lastError struct {
		failure *backup.Failure
		writes  int64
	}
	partKey struct {
		file     fileKey
		uploadID string
		number   int
	}
	usedKey struct {
		backup.Idempotency
		jobID string
	}
)

// NewMemoryStore makes an empty store without quotas.
func NewMemoryStore() *MemoryStore { return NewMemoryStoreWithin(backup.Quotas{}) }

// NewMemoryStoreWithin makes an empty store.
func NewMemoryStoreWithin(q backup.Quotas) *MemoryStore {
	return &MemoryStore{
		quotas: q, usage: map[string]backup.Usage{},
		jobs: map[string]backup.Job{}, keys: map[userKey]usedKey{}, files: map[fileKey]backup.File{},
		parts: map[partKey]backup.Part{}, errors: map[fileKey]lastError{}, sites: map[userKey]backup.Site{}, tickets: map[string]backup.Ticket{},
	}
}

// CreateJob implements step.JobStore.
func (m *MemoryStore) CreateJob(ctx context.Context, job backup.Job, key backup.Idempotency) (backup.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	used, taken := m.keys[userKey{key.UserID, key.Key}]
	switch {
	case ctx.Err() != nil:
		return backup.Job{}, ctx.Err()
	case key.Key == "", !taken, !job.CreatedAt.Before(used.ExpiresAt):
	case used.BodyHash != key.BodyHash:
		return backup.Job{}, backup.E(backup.IdempotencyReuse, "the key was used with another body")
	default:
		return m.jobs[used.jobID], nil
	}
	job.JobID = backup.JobIDAfter(m.newestOf(job), job.JobID)
	stored, err := m.storeJob(job)
	if err == nil && key.Key != "" {
		m.keys[userKey{key.UserID, key.Key}] = usedKey{key, job.JobID}
	}
	return stored, err
}

// newestOf is the newest id of the job's site; "" when there is none.
func (m *MemoryStore) newestOf(job backup.Job) (newest string) {
	for id, other := range m.jobs {
		if other.UserID == job.UserID && other.SiteID == job.SiteID {
			newest = max(newest, id)
		}
	}
	return newest
}

func (m *MemoryStore) storeJob(next backup.Job) (backup.Job, error) {
	if m.jobs[next.JobID].Rev != next.Rev {
		return backup.Job{}, backup.E(backup.Conflict, "job %s moved on", next.JobID)
	}
	for _, other := range m.jobs {
		if next.Active() && other.Active() && other.JobID != next.JobID && other.UserID == next.UserID && other.SiteID == next.SiteID {
			return backup.Job{}, backup.E(backup.SiteBusy, "job %s is active", other.JobID)
		}
	}
	if err := m.use(next.UserID, m.jobs[next.JobID].UsageChange(next).Plus(m.released(next)), next.UpdatedAt); err != nil {
		return backup.Job{}, err
	}
	next.Rev++
	m.jobs[next.JobID] = inUTC(next)
	return m.jobs[next.JobID], nil
}

// released is what the files of a job give back that becomes deleted.
func (m *MemoryStore) released(next backup.Job) (change backup.Usage) {
	if next.Status != backup.Deleted || m.jobs[next.JobID].Status == backup.Deleted {
		return change
	}
	for key, f := range m.files {
		if key.jobID == next.JobID {
			change.StoredBytes -= f.HeldBytes()
		}
	}
	return change
}

// use takes a change into the user's usage, if his quotas admit it.
func (m *MemoryStore) use(userID string, change backup.Usage, at time.Time) error {
	if err := m.quotas.Refuse(m.usage[userID], change, at); err != nil {
		return err
	}
	m.usage[userID] = m.usage[userID].Plus(change)
	return nil
}

// Usage implements step.UsageStore.
func (m *MemoryStore) Usage(ctx context.Context, userID string, at time.Time) (backup.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usage[userID].Plus(backup.Usage{Day: backup.UsageDay(at)}), ctx.Err()
}

// GetJob implements step.JobStore.
func (m *MemoryStore) GetJob(ctx context.Context, jobID string) (backup.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	job, ok := m.jobs[jobID]
	if !ok {
		return job, backup.E(backup.NotFound, "no job %s", jobID)
	}
	return job, ctx.Err()
}

// SwapJob implements step.JobStore.
func (m *MemoryStore) SwapJob(ctx context.Context, next backup.Job) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if next.Rev == 0 {
		return backup.E(backup.Conflict, "job %s was never read", next.JobID)
	}
	_, err := m.storeJob(next)
	return err
}

// ListJobs implements step.JobStore.
func (m *MemoryStore) ListJobs(ctx context.Context, q backup.JobQuery) ([]backup.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := chosen(m.jobs, func(j backup.Job) bool {
		return j.UserID == q.UserID && (q.SiteID == "" || j.SiteID == q.SiteID) && (q.Before == "" || j.JobID < q.Before)
	})
	slices.SortFunc(list, func(a, b backup.Job) int { return cmp.Compare(b.JobID, a.JobID) })
	return list[:min(q.Limit, len(list))], ctx.Err()
}

// DueJobs implements step.JobStore.
func (m *MemoryStore) DueJobs(ctx context.Context, now time.Time, limit int) ([]backup.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := chosen(m.jobs, func(j backup.Job) bool { return !j.DueAt.IsZero() && !j.DueAt.After(now) })
	slices.SortFunc(list, func(a, b backup.Job) int { return a.DueAt.Compare(b.DueAt) })
	return list[:min(limit, len(list))], ctx.Err()
}

// Files implements step.FileStore.
func (m *MemoryStore) Files(ctx context.Context, jobID string) ([]backup.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := chosen(m.files, func(f backup.File) bool { return f.JobID == jobID })
	for key := range m.errors {
		if _, row := m.files[key]; key.jobID == jobID && !row {
			list = append(list, backup.File{JobID: jobID, Name: key.name})
		}
	}
	for i, f := range list {
		list[i] = m.withLastError(f)
	}
	slices.SortFunc(list, func(a, b backup.File) int { return cmp.Compare(a.Name, b.Name) })
	return list, ctx.Err()
}

// GetFile implements step.FileStore.
func (m *MemoryStore) GetFile(ctx context.Context, jobID, name string) (backup.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file, ok := m.files[fileKey{jobID, name}]
	if !ok {
		return file, backup.E(backup.NotFound, "no file %s of job %s", name, jobID)
	}
	return m.withLastError(file), ctx.Err()
}

func (m *MemoryStore) withLastError(f backup.File) backup.File {
	last := m.errors[fileKey{f.JobID, f.Name}]
	f.LastError, f.Changes = last.failure, f.Changes+last.writes
	return f
}

// RecordError implements step.ErrorStore.
func (m *MemoryStore) RecordError(ctx context.Context, g backup.FileGuard, e *backup.Failure) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !m.admits(g) {
		return backup.E(backup.StaleAttempt, "job %s is not %s in attempt %d", g.JobID, g.Status, g.Attempt)
	}
	key := fileKey{g.JobID, e.File}
	file := m.files[key]
	file.LastError = m.errors[key].failure
	next, err := file.RecordError(e)
	if errors.Is(err, backup.ErrAlready) {
		return nil
	}
	if err == nil {
		m.errors[key] = lastError{inUTC(next), m.errors[key].writes + 1}
	}
	return err
}

// SwapFile implements step.FileStore.
func (m *MemoryStore) SwapFile(ctx context.Context, g backup.FileGuard, next backup.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := fileKey{next.JobID, next.Name}
	old := m.files[key]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !m.admits(g):
		return backup.E(backup.StaleAttempt, "job %s is not %s in attempt %d", g.JobID, g.Status, g.Attempt)
	case old.Rev != next.Rev:
		return backup.E(backup.Conflict, "file %s of job %s moved on", next.Name, next.JobID)
	}
	if g.Status != backup.Deleted {
		if err := m.use(m.jobs[g.JobID].UserID, old.UsageChange(next), next.UpdatedAt); err != nil {
			return err
		}
	}
	next.Rev, next.Changes, next.Recorded, next.LastError = next.Rev+1, old.Changes+1, backup.Progress{}, nil
	if next.UploadID == old.UploadID {
		next.Recorded = old.Recorded
	}
	m.files[key] = inUTC(next)
	drop(m.parts, func(k partKey, _ backup.Part) bool {
		return k.file == key && (next.Status == backup.FileDone || k.uploadID != next.UploadID)
	})
	return nil
}

func (m *MemoryStore) admits(g backup.FileGuard) bool {
	job, ok := m.jobs[g.JobID]
	return ok && job.Status == g.Status && job.Attempt == g.Attempt
}

// RecordPart implements step.FileStore.
func (m *MemoryStore) RecordPart(ctx context.Context, w backup.PartWrite) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := m.jobs[w.JobID].RunningAttempt(w.Attempt); err != nil {
		return err
	}
	file := m.files[fileKey{w.JobID, w.File}]
	if err := file.CheckPart(w); err != nil {
		return err
	}
	key := partKey{fileKey{w.JobID, w.File}, w.UploadID, w.Part.Number}
	if _, stands := m.parts[key]; stands {
		return nil
	}
	file.Recorded.Parts, file.Recorded.Bytes, file.Changes = file.Recorded.Parts+1, file.Recorded.Bytes+w.Part.SizeBytes, file.Changes+1
	file.Recorded.At = w.At.UTC()
	m.parts[key], m.files[key.file] = w.Part, file
	return nil
}

// Parts implements step.FileStore.
func (m *MemoryStore) Parts(ctx context.Context, f backup.File, first, last int) ([]backup.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []backup.Part
	for k, p := range m.parts {
		if k.file == (fileKey{f.JobID, f.Name}) && k.uploadID == f.UploadID && first <= k.number && k.number <= last {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b backup.Part) int { return a.Number - b.Number })
	return list, ctx.Err()
}

// GetSite implements step.SiteStore.
func (m *MemoryStore) GetSite(ctx context.Context, userID, siteID string) (backup.Site, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	site, ok := m.sites[userKey{userID, siteID}]
	if !ok {
		return site, backup.E(backup.NotFound, "no site %s", siteID)
	}
	return site, ctx.Err()
}

// PutSite implements step.SiteStore.
func (m *MemoryStore) PutSite(ctx context.Context, site backup.Site) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := userKey{site.UserID, site.SiteID}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.sites[key].Rev != site.Rev {
		return backup.E(backup.Conflict, "site %s moved on", site.SiteID)
	}
	if site.Rev == 0 {
		if err := m.use(site.UserID, backup.Usage{Sites: 1}, site.UpdatedAt); err != nil {
			return err
		}
	}
	site.Rev++
	m.sites[key] = inUTC(site)
	return nil
}

// DeleteSite implements step.SiteStore.
func (m *MemoryStore) DeleteSite(ctx context.Context, userID, siteID string, rev int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := userKey{userID, siteID}
	site, ok := m.sites[key]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return backup.E(backup.NotFound, "no site %s", siteID)
	case site.Rev != rev:
		return backup.E(backup.Conflict, "site %s moved on", siteID)
	}
	delete(m.sites, key)
	return m.use(userID, backup.Usage{Sites: -1}, site.UpdatedAt)
}

// ListSites implements step.SiteStore.
func (m *MemoryStore) ListSites(ctx context.Context, q backup.SiteQuery) ([]backup.Site, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := chosen(m.sites, func(s backup.Site) bool { return s.UserID == q.UserID && s.SiteID > q.After })
	slices.SortFunc(list, func(a, b backup.Site) int { return cmp.Compare(a.SiteID, b.SiteID) })
	return list[:min(q.Limit, len(list))], ctx.Err()
}

// PutTicket implements step.TicketStore.
func (m *MemoryStore) PutTicket(ctx context.Context, digest string, t backup.Ticket) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() == nil {
		m.tickets[digest] = inUTC(t)
	}
	return ctx.Err()
}

// TakeTicket implements step.TicketStore.
func (m *MemoryStore) TakeTicket(ctx context.Context, digest string, now time.Time) (backup.Ticket, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ticket, ok := m.tickets[digest]
	if ctx.Err() != nil {
		return backup.Ticket{}, ctx.Err()
	}
	if !ok || !now.Before(ticket.ExpiresAt) {
		return backup.Ticket{}, backup.E(backup.NotFound, "no ticket")
	}
	delete(m.tickets, digest)
	return ticket, nil
}

// Purge implements step.Purger.
func (m *MemoryStore) Purge(ctx context.Context, now time.Time, lastLook func(context.Context, backup.Job) error) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.jobs)
	gone := func(jobID string) bool { _, ok := m.jobs[jobID]; return !ok }
	failed := ctx.Err()
	drop(m.jobs, func(_ string, j backup.Job) bool {
		if backup.Is(failed, backup.StorageUnavailable) || j.Status != backup.Deleted || j.PurgeAt.IsZero() || j.PurgeAt.After(now) {
			return false
		}
		err := lastLook(ctx, j)
		failed = errors.Join(failed, err)
		return err == nil
	})
	drop(m.files, func(k fileKey, _ backup.File) bool { return gone(k.jobID) })
	drop(m.parts, func(k partKey, _ backup.Part) bool { return gone(k.file.jobID) })
	drop(m.errors, func(k fileKey, _ lastError) bool { return gone(k.jobID) })
	drop(m.keys, func(_ userKey, u usedKey) bool { return gone(u.jobID) || !u.ExpiresAt.After(now) })
	drop(m.tickets, func(_ string, t backup.Ticket) bool { return !t.ExpiresAt.After(now) })
	return before - len(m.jobs), failed
}

// inUTC is a row with all its times in UTC.
func inUTC[T any](row T) T {
	toUTC(reflect.ValueOf(&row).Elem())
	return row
}

func toUTC(v reflect.Value) {
	switch at, isTime := v.Interface().(time.Time); {
	case isTime:
		v.Set(reflect.ValueOf(at.UTC()))
	case v.Kind() == reflect.Pointer && !v.IsNil():
		copied := reflect.New(v.Type().Elem())
		copied.Elem().Set(v.Elem())
		toUTC(copied.Elem())
		v.Set(copied)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			toUTC(v.Field(i))
		}
	}
}

func chosen[K comparable, V any](all map[K]V, keep func(V) bool) []V {
	var list []V
	for _, v := range all {
		if keep(v) {
			list = append(list, v)
		}
	}
	return list
}

func drop[K comparable, V any](all map[K]V, gone func(K, V) bool) {
	for k, v := range all {
		if gone(k, v) {
			delete(all, k)
		}
	}
}
