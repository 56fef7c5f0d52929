package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	_ "modernc.org/sqlite"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
)

// fixture is the API on a real store, with executions that only take notes and a storage in memory.
type fixture struct {
	t          testing.TB
	handler    http.Handler
	store      *sqlite.Store
	storage    *backuptest.Storage
	executions *executions
	document   document
	path       string

	mu  sync.Mutex
	now time.Time
}

// userHeader names the user of a request; "" is nobody.
const userHeader = "Test-User"

const version = "1.2.3"

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		t: t, storage: backuptest.NewStorage(), executions: &executions{started: map[string]int{}},
		path: filepath.Join(t.TempDir(), "test.db"), now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC),
	}
	var err error
	if f.store, err = sqlite.Open(f.path, sqlite.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.store.Close() })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cleaner := step.Cleaner{Jobs: f.store, Files: f.store, Storage: f.storage, Executions: f.executions, Policy: policy, Now: f.clock}
	f.handler = api.New(api.Config{
		Backups: step.Backups{
			Jobs: f.store, Sites: f.store, Executions: f.executions, Cleaner: cleaner, Policy: policy, Now: f.clock, NewID: f.newID, Log: log,
		},
		Sites:   step.Sites{Store: f.store, Schedules: noSchedules{}, Now: f.clock},
		Status:  step.Status{Jobs: f.store, Files: f.store, Now: f.clock},
		Objects: f.storage, Tickets: f.store, Identify: identify, Secret: rand.Text, Now: f.clock, Version: version, Log: log,
	})
	f.document = readDocument(t)
	return f
}

var policy = backup.Policy{JobTimeout: 6 * time.Hour, FailedKeep: 7 * 24 * time.Hour, RetryWindow: time.Hour}

// in reports to a subtest.
func (f *fixture) in(t testing.TB) *fixture {
	return &fixture{
		t: t, handler: f.handler, store: f.store, storage: f.storage, executions: f.executions, document: f.document, path: f.path, now: f.clock(),
	}
}

func identify(r *http.Request) (backup.Caller, error) {
	user := r.Header.Get(userHeader)
	if user == "" {
		return backup.Caller{}, backup.E(backup.Unauthenticated, "sign in")
	}
	return backup.Caller{UserID: user}, nil
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// newID makes ids that grow with the clock; within one millisecond their order is random.
func (f *fixture) newID() string {
	return ulid.MustNew(ulid.Timestamp(f.clock()), rand.Reader).String()
}

// executions are those of a state machine that never gets to its first state.
type executions struct {
	mu      sync.Mutex
	started map[string]int // by name
	stopped int
	err     error // of Start
}

func (e *executions) Start(_ context.Context, job backup.Job) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.started[backup.ExecutionName(job.JobID, job.Attempt)]++
	return nil
}

func (e *executions) Stop(context.Context, string, int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped++
	return nil
}

type noSchedules struct{}

func (noSchedules) Put(context.Context, backup.Site) error       { return nil }
func (noSchedules) Delete(context.Context, string, string) error { return nil }

// request is one request; the zero value of each field is the usual one.
type request struct {
	method string
	path   string // below the prefix; a full path if it does not start with a slash
	user   string // "": alice; "-": nobody
	body   any    // a string is sent as it is
	header map[string]string
	values map[string][]string // of headers as they are
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request, and checks that the answer is one that the OpenAPI document tells of, that it grants nothing to
// other origins, and that an error is a problem document.
func (f *fixture) do(r request) answer {
	f.t.Helper()
	a := f.send(r)
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			f.t.Errorf("%s %s: answered with %s", r.method, r.path, name)
		}
	}
	if a.status >= 400 {
		checkProblem(f.t, r, a)
	}
	f.document.check(f.t, r, a)
	return a
}

func (f *fixture) send(r request) answer {
	req := httptest.NewRequest(r.method, "http://service.example"+r.url(), r.content())
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch r.user {
	case "":
		req.Header.Set(userHeader, "alice")
	case "-":
	default:
		req.Header.Set(userHeader, r.user)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
		if value == "" {
			req.Header.Del(name)
		}
	}
	maps.Copy(req.Header, r.values)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.String()}
}

func (r request) url() string {
	if strings.HasPrefix(r.path, "//") {
		return r.path[1:]
	}
	return api.Prefix + r.path
}

func (r request) content() *bytes.Buffer {
	var b bytes.Buffer
	switch body := r.body.(type) {
	case nil:
	case string:
		b.WriteString(body)
	default:
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			panic(err)
		}
	}
	return &b
}

// into expects the status and reads the answer.
func into[T any](f *fixture, status int, r request) (v T) {
	f.t.Helper()
	a := f.do(r)
	if a.status != status {
		f.t.Fatalf("%s %s: %d %s, want %d", r.method, r.path, a.status, a.body, status)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		f.t.Fatalf("%s %s: %v in %s", r.method, r.path, err, a.body)
	}
	return v
}

// refused expects a problem of the kind.
func (f *fixture) refused(status int, kind backup.Kind, r request) api.Problem {
	f.t.Helper()
	p := into[api.Problem](f, status, r)
	if p.Kind != kind {
		f.t.Errorf("%s %s: kind %s, want %s", r.method, r.path, p.Kind, kind)
	}
	return p
}

// checkProblem makes sure that every error has the one shape.
func checkProblem(t testing.TB, r request, a answer) {
	t.Helper()
	var p api.Problem
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil || decoder.More() {
		t.Errorf("%s %s: %v in %q", r.method, r.path, err, a.body)
		return
	}
	if a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: Content-Type is %q", r.method, r.path, a.header.Get("Content-Type"))
	}
	if p.Status != a.status || !p.Kind.Known() || p.Type != "urn:sitevault:problem:"+string(p.Kind) || p.Title != p.Kind.Sentence() {
		t.Errorf("%s %s: %d with %+v", r.method, r.path, a.status, p)
	}
}

// rows counts the rows of every table, by its own connection.
func (f *fixture) rows() map[string]int {
	f.t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=query_only(1)")
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	counts := map[string]int{}
	for _, table := range []string{"sites", "jobs", "idempotency_keys", "files", "parts", "tickets"} {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			f.t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}

// sameRows runs do and makes sure that it stored nothing.
func (f *fixture) sameRows(do func()) {
	f.t.Helper()
	before := f.rows()
	do()
	if after := f.rows(); !maps.Equal(before, after) {
		f.t.Errorf("rows before: %v, after: %v", before, after)
	}
}

// site is the smallest valid body of a site.
func site() map[string]any {
	return map[string]any{"providers": []map[string]any{{"name": "files", "url": "https://site.example/export"}}}
}

// putSite registers a site of the user.
func (f *fixture) putSite(user, siteID string) {
	f.t.Helper()
	if a := f.do(request{method: "PUT", path: "/site/" + siteID, user: user, body: site()}); a.status/100 != 2 {
		f.t.Fatalf("put site: %d %s", a.status, a.body)
	}
}

// create makes a backup of the user's site.
func (f *fixture) create(user, siteID string) api.Backup {
	f.t.Helper()
	return into[api.Backup](f, http.StatusAccepted, request{method: "POST", path: "/backup", user: user, body: map[string]any{"siteId": siteID}})
}

// advanceJob applies a transition as a worker of the state machine does.
func (f *fixture) advanceJob(jobID string, transition func(backup.Job) (backup.Job, error)) backup.Job {
	f.t.Helper()
	job, err := f.store.GetJob(f.t.Context(), jobID)
	if err == nil {
		job, err = transition(job)
	}
	if err == nil {
		err = f.store.SwapJob(f.t.Context(), job)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return job
}

func (f *fixture) advanceFile(jobID string, transition func(backup.File) (backup.File, error)) {
	f.t.Helper()
	file, err := f.store.GetFile(f.t.Context(), jobID, "files")
	if backup.Is(err, backup.NotFound) {
		file, err = backup.File{JobID: jobID, Name: "files"}, nil
	}
	if err == nil {
		file, err = transition(file)
	}
	if err == nil {
		err = f.store.SwapFile(f.t.Context(), backup.Guard(jobID, 1), file)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

const partBytes = backup.BasePartSizeBytes

// run brings a pending job of one provider to running, with its upload of the given parts opened.
func (f *fixture) run(jobID string, parts int) {
	f.t.Helper()
	job := f.advanceJob(jobID, func(j backup.Job) (backup.Job, error) { return j.Start(1, f.clock(), policy) })
	f.advanceFile(jobID, func(file backup.File) (backup.File, error) {
		u := backup.Upload{UploadID: "upload", Key: job.FileKey("files", 1, 1), Token: "token"}
		return file.Open(1, u, backup.Pin{ETag: `"v1"`, SizeBytes: int64(parts) * partBytes}, false, f.clock())
	})
}

// record records a part of the running job.
func (f *fixture) record(jobID string, number int) {
	f.t.Helper()
	err := f.store.RecordPart(f.t.Context(), backup.PartWrite{
		JobID: jobID, Attempt: 1, File: "files", UploadID: "upload", At: f.clock(),
		Part: backup.Part{Number: number, ETag: fmt.Sprint("etag-", number), SizeBytes: partBytes, CRC64NVME: 1},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// finish brings a running job whose parts are recorded to done.
func (f *fixture) finish(jobID string, parts int) {
	f.t.Helper()
	f.advanceFile(jobID, func(file backup.File) (backup.File, error) { return file.Completing("upload", 0x1234, f.clock()) })
	f.advanceFile(jobID, func(file backup.File) (backup.File, error) { return file.Stored(file.UploadID, f.clock()) })
	f.advanceFile(jobID, func(file backup.File) (backup.File, error) {
		return file.Inspected(file.UploadID, backup.Archive{Entries: 7, UncompressedBytes: 99}, f.clock())
	})
	f.advanceJob(jobID, func(j backup.Job) (backup.Job, error) { return j.Finish(1, int64(parts)*partBytes, f.clock()) })
}

// done makes a done backup of the user's site.
func (f *fixture) done(user, siteID string) string {
	f.t.Helper()
	jobID := f.create(user, siteID).JobID
	f.run(jobID, 1)
	f.record(jobID, 1)
	f.finish(jobID, 1)
	return jobID
}

// fail fails the user's active job for the given reason.
func (f *fixture) fail(jobID string, kind backup.Kind) {
	f.t.Helper()
	f.advanceJob(jobID, func(j backup.Job) (backup.Job, error) {
		return j.Fail(j.Attempt, backup.NewFailure(kind, "files", "as told", f.clock()), f.clock(), policy)
	})
}
