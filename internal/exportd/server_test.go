package exportd_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/exportd"
)

// counter is a source whose n-th archive says n, so that a test sees which snapshot it got.
type counter struct{ made atomic.Int64 }

func (c *counter) Snapshot(_ context.Context, w io.Writer) (exportd.Report, error) {
	return exportd.Report{Entries: 1}, zipOf(w, "n.txt", fmt.Sprintf("snapshot %d", c.made.Add(1)))
}

// sourceFunc is a source written in place.
type sourceFunc func(ctx context.Context, w io.Writer) error

func (f sourceFunc) Snapshot(ctx context.Context, w io.Writer) (exportd.Report, error) {
	return exportd.Report{}, f(ctx, w)
}

func zipOf(w io.Writer, name, content string) error {
	z := zip.NewWriter(w)
	entry, err := z.CreateHeader(&zip.FileHeader{Name: name})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(entry, content); err != nil {
		return err
	}
	return z.Close()
}

func start(t *testing.T, config exportd.Config) *exportd.Server {
	t.Helper()
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	s, err := exportd.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *exportd.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func only(source exportd.Source) map[string]exportd.Source {
	return map[string]exportd.Source{"files": source}
}

// local is how a service on the same machine calls an agent.
const local = "http://127.0.0.1:8421"

// ask sends one request straight to the handler; headers are name, value pairs.
func ask(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, local+path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d; body: %s", w.Code, status, w.Body)
	}
}

// wantProblem checks a refusal's form and returns its sentence.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder, status int) string {
	t.Helper()
	wantStatus(t, w, status)
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if w.Header().Get("ETag") != "" {
		t.Error("a refusal carries an ETag")
	}
	var p struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != status || p.Title == "" || p.Detail == "" {
		t.Errorf("problem %s: %v", w.Body, err)
	}
	return p.Detail
}

// TestForeignPages: an agent without a token tells nothing to a web page in the browser of this machine's user, neither under a
// name that the page binds to this machine nor across origins, and makes no snapshot for it. One with a token needs no such rule.
func TestForeignPages(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"rebound name": func(r *http.Request) { r.Host = "evil.example" },
		"other origin": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"image":        func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		for _, token := range []string{"", "s3cret"} {
			exports := new(counter)
			server := start(t, exportd.Config{Exports: only(exports), Token: token})
			for _, path := range []string{"/files", "/none", "/healthz"} {
				r, w := httptest.NewRequest(http.MethodGet, local+path, nil), httptest.NewRecorder()
				r.Header.Set("Authorization", "Bearer s3cret")
				change(r)
				server.ServeHTTP(w, r)
				if (w.Code == http.StatusUnauthorized) != (token == "") {
					t.Errorf("%s, token %q: %s: %d %s", name, token, path, w.Code, w.Body)
				}
			}
			if made := exports.made.Load() > 0; made != (token != "") {
				t.Errorf("%s, token %q: a snapshot was made: %t", name, token, made)
			}
		}
	}
}

// TestSlowDownload: a client that reads slowly gets the whole archive, however little time the server has for other answers.
func TestSlowDownload(t *testing.T) {
	const sizeBytes = 32 << 20 // more than the buffers of a connection hold
	source := sourceFunc(func(_ context.Context, w io.Writer) error { return zipOf(w, "large", strings.Repeat("x", sizeBytes)) })
	ts := httptest.NewUnstartedServer(start(t, exportd.Config{Exports: only(source)}))
	ts.Config.WriteTimeout = 100 * time.Millisecond
	ts.Start()
	defer ts.Close()
	var resp *http.Response
	for resp == nil || resp.StatusCode == http.StatusServiceUnavailable {
		var err error
		if resp, err = http.Get(ts.URL + "/files"); err != nil {
			continue // the answer that the snapshot is being made came too late for the server
		}
		defer resp.Body.Close()
	}
	time.Sleep(200 * time.Millisecond)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < sizeBytes {
		t.Errorf("%s: %d bytes, %v", resp.Status, n, err)
	}
}

// TestContract walks the contract over a real connection: every answer's status and headers.
func TestContract(t *testing.T) {
	server := start(t, exportd.Config{Exports: only(new(counter)), Token: "s3cret"})
	ts := httptest.NewServer(server)
	defer ts.Close()
	send := func(method, path string, headers ...string) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, ts.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", "identity")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, body
	}
	auth, job := []string{"Authorization", "Bearer s3cret"}, []string{"Backup-Id", "01JOB"}

	head, body := send("HEAD", "/files", append(auth, job...)...)
	size, etag := head.ContentLength, head.Header.Get("ETag")
	if head.StatusCode != 200 || len(body) != 0 || size < 22 || len(etag) != 66 || etag[0] != '"' {
		t.Fatalf("HEAD: %s, length %d, etag %s", head.Status, size, etag)
	}
	_, whole := send("GET", "/files", append(auth, job...)...)
	if sum := sha256.Sum256(whole); `"`+hex.EncodeToString(sum[:])+`"` != etag || int64(len(whole)) != size {
		t.Fatalf("ETag %s is not the digest of the %d bytes", etag, len(whole))
	}

	of := func(span string) string { return fmt.Sprintf("bytes %s/%d", span, size) }
	last := strconv.FormatInt(size-1, 10)
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
		contentRange       string
		body               []byte
		header             string // one more header that must be there, as Name: value
	}{
		{"pinned head", "HEAD", "/files", []string{"If-Match", etag}, 200, "", nil, "Content-Length: " + strconv.FormatInt(size, 10)},
		{"range of a head is ignored", "HEAD", "/files", []string{"Range", "bytes=0-3"}, 200, "", nil, "Content-Length: " + strconv.FormatInt(size, 10)},
		{"first bytes", "GET", "/files", []string{"Range", "bytes=0-3", "If-Match", etag}, 206, of("0-3"), whole[:4], "Content-Length: 4"},
		{"middle", "GET", "/files", []string{"Range", "bytes=10-30", "If-Match", etag}, 206, of("10-30"), whole[10:31], "Content-Length: 21"},
		{"one of several pins", "GET", "/files", []string{"Range", "bytes=0-0", "If-Match", `"x", ` + etag}, 206, of("0-0"), whole[:1], ""},
		{"any archive", "GET", "/files", []string{"Range", "bytes=0-0", "If-Match", "*"}, 206, of("0-0"), whole[:1], ""},
		{"open end", "GET", "/files", []string{"Range", "bytes=5-", "If-Match", etag}, 206, of("5-" + last), whole[5:], ""},
		{"tail", "GET", "/files", []string{"Range", "bytes=-22", "If-Match", etag}, 206, of(fmt.Sprintf("%d-%s", size-22, last)), whole[size-22:], ""},
		{"end past the end is clamped", "GET", "/files", []string{"Range", "bytes=20-99999999", "If-Match", etag}, 206, of("20-" + last), whole[20:], ""},
		{"other pin", "GET", "/files", []string{"Range", "bytes=0-3", "If-Match", `"other"`}, 412, "", nil, ""},
		{"weak pin", "GET", "/files", []string{"Range", "bytes=0-3", "If-Match", "W/" + etag}, 412, "", nil, ""},
		{"range at the end", "GET", "/files", []string{"Range", fmt.Sprintf("bytes=%d-", size), "If-Match", etag}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"two ranges", "GET", "/files", []string{"Range", "bytes=0-1,4-5", "If-Match", etag}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"backward range", "GET", "/files", []string{"Range", "bytes=5-4"}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"empty tail", "GET", "/files", []string{"Range", "bytes=-0"}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"unknown unit", "GET", "/files", []string{"Range", "lines=1-2"}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"number too big", "GET", "/files", []string{"Range", "bytes=99999999999999999999-"}, 416, fmt.Sprintf("bytes */%d", size), nil, ""},
		{"unchanged", "GET", "/files", []string{"If-None-Match", etag}, 304, "", nil, ""},
		{"unknown export", "GET", "/database", nil, 404, "", nil, ""},
		{"root", "GET", "/", nil, 404, "", nil, ""},
		{"below an export", "GET", "/files/", nil, 404, "", nil, ""},
		{"write", "POST", "/files", nil, 405, "", nil, "Allow: GET, HEAD"},
		{"health", "GET", "/healthz", nil, 200, "", []byte("ok\n"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, got := send(c.method, c.path, append(append(c.headers, auth...), job...)...)
			h := resp.Header
			if resp.StatusCode != c.status || h.Get("Content-Range") != c.contentRange {
				t.Fatalf("%s, Content-Range %q; want %d, %q", resp.Status, h.Get("Content-Range"), c.status, c.contentRange)
			}
			if c.body != nil && !bytes.Equal(got, c.body) {
				t.Errorf("body %q, want %q", got, c.body)
			}
			if name, value, ok := strings.Cut(c.header, ": "); ok && h.Get(name) != value {
				t.Errorf("%s: %q, want %q", name, h.Get(name), value)
			}
			if h.Get("Content-Encoding") != "" {
				t.Error("the answer is encoded")
			}
			archive := c.status < 300 && c.path == "/files"
			if archive && (h.Get("ETag") != etag || h.Get("Accept-Ranges") != "bytes" || h.Get("Content-Type") != "application/zip" ||
				!strings.Contains(h.Get("Cache-Control"), "no-transform")) {
				t.Errorf("headers %v", h)
			}
			if c.status >= 400 && h.Get("Content-Type") != "application/problem+json" {
				t.Errorf("refusal as %s", h.Get("Content-Type"))
			}
		})
	}
}

// TestAuthorisation: without the right bearer token nothing is told, not even which exports exist.
func TestAuthorisation(t *testing.T) {
	source := new(counter)
	s := start(t, exportd.Config{Exports: only(source), Token: "s3cret"})
	for _, path := range []string{"/files", "/none"} {
		for _, header := range []string{"", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret"} {
			w := ask(s, "GET", path, "Authorization", header)
			wantProblem(t, w, 401)
			if !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%q: no challenge", header)
			}
		}
	}
	if source.made.Load() != 0 {
		t.Error("an unauthorised request started a snapshot")
	}
	wantStatus(t, ask(s, "GET", "/healthz"), 200)
	wantStatus(t, ask(s, "GET", "/files", "Authorization", "bearer s3cret"), 200)
}

// TestHostileBackupID: what does not look like an id is refused, and no id chooses a path on the agent's disk.
func TestHostileBackupID(t *testing.T) {
	dir := t.TempDir()
	s := start(t, exportd.Config{Exports: only(new(counter)), Dir: filepath.Join(dir, "snapshots")})
	for _, id := range []string{"", "../../etc/passwd", "a/b", `a\b`, ".hidden", "-x", "a b", "a\x00b", "ä", strings.Repeat("x", 129)} {
		wantProblem(t, ask(s, "GET", "/files", "Backup-Id", id), 400)
	}
	wantProblem(t, ask(s, "GET", "/files", "Backup-Id", "a", "Backup-Id", "b"), 400)
	for _, id := range []string{"a", "..a"[2:], "con", strings.Repeat("x", 128)} {
		wantStatus(t, ask(s, "GET", "/files", "Backup-Id", id), 200)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files outside the snapshot folder: %v %v", entries, err)
	}
}

// TestPinSurvivesChange: a job reads the bytes of its first request while the folder changes and other jobs see the change.
func TestPinSurvivesChange(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "a.txt"), "before")
	s := start(t, exportd.Config{Exports: only(folder(t, root))})
	first := ask(s, "GET", "/files", "Backup-Id", "job1")
	wantStatus(t, first, 200)
	write(t, filepath.Join(root, "a.txt"), "after, and longer")
	again := ask(s, "GET", "/files", "Backup-Id", "job1", "If-Match", first.Header().Get("ETag"))
	if !bytes.Equal(first.Body.Bytes(), again.Body.Bytes()) {
		t.Error("the pinned archive changed")
	}
	other := ask(s, "GET", "/files", "Backup-Id", "job2")
	if other.Header().Get("ETag") == first.Header().Get("ETag") {
		t.Error("another job got the old archive")
	}
	wantProblem(t, ask(s, "GET", "/files", "Backup-Id", "job2", "If-Match", first.Header().Get("ETag")), 412)
}

// TestRestartKeepsPin: the next agent serves the same bytes under the same ETag, without making a snapshot.
func TestRestartKeepsPin(t *testing.T) {
	source, dir := new(counter), t.TempDir()
	s := start(t, exportd.Config{Exports: only(source), Dir: dir})
	pinned := ask(s, "GET", "/files", "Backup-Id", "job1")
	shared := ask(s, "GET", "/files")
	stop(t, s)
	s = start(t, exportd.Config{Exports: only(source), Dir: dir})
	for _, c := range []struct {
		name    string
		before  *httptest.ResponseRecorder
		headers []string
	}{{"pinned", pinned, []string{"Backup-Id", "job1"}}, {"shared", shared, nil}} {
		after := ask(s, "GET", "/files", c.headers...)
		wantStatus(t, after, 200)
		for _, name := range []string{"ETag", "Last-Modified", "Content-Length"} {
			if got, want := after.Header().Get(name), c.before.Header().Get(name); got != want || want == "" {
				t.Errorf("%s: %s is %q, was %q", c.name, name, got, want)
			}
		}
		if !bytes.Equal(after.Body.Bytes(), c.before.Body.Bytes()) {
			t.Errorf("%s: other bytes after the restart", c.name)
		}
	}
	if n := source.made.Load(); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
}

// TestConcurrentFirstRequests: many first requests of one job start one snapshot and get the same archive.
func TestConcurrentFirstRequests(t *testing.T) {
	source := new(counter)
	s := start(t, exportd.Config{Exports: only(source)})
	etags := make([]string, 32)
	var requests sync.WaitGroup
	for i := range etags {
		requests.Go(func() { etags[i] = ask(s, "HEAD", "/files", "Backup-Id", "job1").Header().Get("ETag") })
	}
	requests.Wait()
	for _, etag := range etags {
		if etag == "" || etag != etags[0] {
			t.Fatalf("etags %v", etags)
		}
	}
	if n := source.made.Load(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

// TestPreparing: while a snapshot takes long, requests are told to come back, later and later, and then get it.
func TestPreparing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, exportd.Config{Exports: only(sourceFunc(func(_ context.Context, w io.Writer) error {
			time.Sleep(10 * time.Minute)
			return zipOf(w, "a", "b")
		}))})
		began := time.Now()
		for _, c := range []struct {
			after      time.Duration
			retryAfter string
		}{{0, "1"}, {50 * time.Second, "5"}, {8 * time.Minute, "30"}} {
			time.Sleep(time.Until(began.Add(c.after)))
			w := ask(s, "HEAD", "/files", "Backup-Id", "job1")
			wantProblem(t, w, 503)
			if got := w.Header().Get("Retry-After"); got != c.retryAfter {
				t.Errorf("after %v: Retry-After %s, want %s", c.after, got, c.retryAfter)
			}
		}
		if wait := time.Since(began); wait != 8*time.Minute+2*time.Second {
			t.Errorf("the last answer came after %v: want a wait of 2 s", wait)
		}
		time.Sleep(2 * time.Minute)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 200)
		stop(t, s)
	})
}

// TestOneSnapshotAtATime: a second job's snapshot of the same export waits for the first one's, another export does not.
func TestOneSnapshotAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		slow := sourceFunc(func(_ context.Context, w io.Writer) error {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Minute)
			running.Add(-1)
			return zipOf(w, "a", "b")
		})
		s := start(t, exportd.Config{Exports: map[string]exportd.Source{"files": slow, "database": new(counter)}})
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 503)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job2"), 503)
		wantStatus(t, ask(s, "HEAD", "/database", "Backup-Id", "job1"), 200)
		time.Sleep(2 * time.Minute)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 200)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job2"), 200)
		if most.Load() != 1 {
			t.Errorf("%d at once", most.Load())
		}
		stop(t, s)
	})
}

// TestSharedSnapshot: requests without a Backup-Id share the present snapshot for a while; a transfer that has begun goes
// on by its ETag alone after a newer one was made.
func TestSharedSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, exportd.Config{Exports: only(new(counter))})
		old := ask(s, "GET", "/files")
		time.Sleep(4 * time.Minute)
		if got := ask(s, "HEAD", "/files").Header().Get("ETag"); got != old.Header().Get("ETag") {
			t.Error("not shared within five minutes")
		}
		time.Sleep(time.Minute)
		if got := ask(s, "HEAD", "/files").Header().Get("ETag"); got == "" || got == old.Header().Get("ETag") {
			t.Errorf("no new snapshot after five minutes: %q", got)
		}
		rest := ask(s, "GET", "/files", "Range", "bytes=10-", "If-Match", old.Header().Get("ETag"))
		wantStatus(t, rest, 206)
		if !bytes.Equal(rest.Body.Bytes(), old.Body.Bytes()[10:]) {
			t.Error("the rest belongs to another archive")
		}
		stop(t, s)
	})
}

// TestPinnedRequestStartsNothing: an archive that is not held is answered by 412 at once.
func TestPinnedRequestStartsNothing(t *testing.T) {
	source := new(counter)
	s := start(t, exportd.Config{Exports: only(source)})
	for _, headers := range [][]string{{"If-Match", `"gone"`}, {"If-Match", `"gone"`, "Backup-Id", "job1"}} {
		wantProblem(t, ask(s, "GET", "/files", append(headers, "Range", "bytes=0-3")...), 412)
	}
	if source.made.Load() != 0 {
		t.Error("a snapshot was made")
	}
}

// TestExpiry: a snapshot lives KeepFor after its last use, which a restart remembers, and its room is given back.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, dir := new(counter), t.TempDir()
		config := exportd.Config{Exports: only(source), Dir: dir, KeepFor: 3 * time.Hour}
		s := start(t, config)
		ask(s, "HEAD", "/files", "Backup-Id", "job1")
		for range 3 {
			time.Sleep(2 * time.Hour)
			wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 200)
		}
		stop(t, s)
		s = start(t, config)
		time.Sleep(2 * time.Hour)
		if n := countFiles(t, dir, "*.zip"); n != 1 || source.made.Load() != 1 {
			t.Fatalf("%d archives held, %d made; want the first one kept by its use", n, source.made.Load())
		}
		time.Sleep(time.Hour + 2*time.Minute)
		if n := countFiles(t, dir, "*.*"); n != 0 {
			t.Errorf("%d files left after the last use plus KeepFor", n)
		}
		stop(t, s)
	})
}

// TestExpiryWhileServing: a download that is under way when its snapshot expires still gets every byte.
func TestExpiryWhileServing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := start(t, exportd.Config{Exports: only(new(counter)), Dir: dir, KeepFor: time.Hour})
		whole := ask(s, "GET", "/files").Body.Bytes()
		slow := &slowWriter{ResponseRecorder: httptest.NewRecorder(), pause: 2 * time.Hour}
		s.ServeHTTP(slow, httptest.NewRequest("GET", local+"/files", nil))
		if slow.paused != 1 || !bytes.Equal(slow.Body.Bytes(), whole) {
			t.Errorf("got %d of %d bytes", slow.Body.Len(), len(whole))
		}
		if n := countFiles(t, dir, "*.zip"); n != 0 {
			t.Errorf("%d archives left", n)
		}
		stop(t, s)
	})
}

// slowWriter pauses before the first byte of the body.
type slowWriter struct {
	*httptest.ResponseRecorder
	pause  time.Duration
	paused int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.paused++; w.paused == 1 {
		time.Sleep(w.pause)
	}
	return w.ResponseRecorder.Write(p)
}

// TestFailure: a failed snapshot is told in plain words once, leaves nothing behind, and the next request tries anew.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	var tries atomic.Int64
	s := start(t, exportd.Config{Dir: dir, Exports: only(sourceFunc(func(_ context.Context, w io.Writer) error {
		if tries.Add(1) == 1 {
			_, _ = w.Write(make([]byte, 1<<20))
			return errors.New("open uploads/a.jpg: permission denied")
		}
		return zipOf(w, "a", "b")
	}))})
	detail := wantProblem(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 500)
	if !strings.Contains(detail, "uploads/a.jpg") {
		t.Errorf("the cause is not named: %s", detail)
	}
	if n := countFiles(t, dir, "*.*"); n != 0 {
		t.Errorf("%d files left by the failure", n)
	}
	wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 200)
	if tries.Load() != 2 {
		t.Errorf("%d tries", tries.Load())
	}
}

// TestFailureIsTold: a failure that comes after the 503 is told to the next request instead of a new start.
func TestFailureIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, exportd.Config{Exports: only(sourceFunc(func(context.Context, io.Writer) error {
			time.Sleep(time.Minute)
			return errors.New("broken")
		}))})
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 503)
		time.Sleep(2 * time.Minute)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 500)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 503)
		stop(t, s)
	})
}

// TestNoRoom: a snapshot that does not fit is 507 with a sentence, whoever found out and however the source worded it.
func TestNoRoom(t *testing.T) {
	for _, c := range []struct {
		name     string
		maxBytes int64
		source   sourceFunc
	}{
		{"size limit", 1 << 16, func(_ context.Context, w io.Writer) error {
			return zipOf(w, "a", strings.Repeat("x", 1<<20))
		}},
		{"size limit, error swallowed", 1 << 16, func(_ context.Context, w io.Writer) error {
			_, _ = w.Write(make([]byte, 1<<20))
			return nil
		}},
		{"disk full", 0, func(context.Context, io.Writer) error {
			return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, exportd.Config{Dir: dir, Exports: only(c.source), MaxBytes: c.maxBytes})
			wantProblem(t, ask(s, "GET", "/files", "Backup-Id", "job1"), 507)
			if n := countFiles(t, dir, "*.*"); n != 0 {
				t.Errorf("%d files left", n)
			}
		})
	}
}

// TestFullDiskGivesWay: a snapshot that does not fit is made again when idle ones have made room, and refused when none can.
func TestFullDiskGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, tries := t.TempDir(), 0
		s := start(t, exportd.Config{Dir: dir, Exports: only(sourceFunc(func(_ context.Context, w io.Writer) error {
			tries++
			if len(glob(t, dir, "*.zip")) > 1 {
				_, err := w.Write(make([]byte, 100))
				return errors.Join(err, syscall.ENOSPC)
			}
			return zipOf(w, "a", "content")
		}))})
		for _, job := range []string{"job1", "job2"} {
			wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", job), 200)
		}
		wantProblem(t, ask(s, "HEAD", "/files", "Backup-Id", "job3"), 507)
		time.Sleep(19 * time.Minute)
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job2"), 200)
		wantProblem(t, ask(s, "HEAD", "/files", "Backup-Id", "job4"), 507) // stays held as failed, and is no room
		time.Sleep(2 * time.Minute)
		tries = 0
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job3"), 200)
		if archives := len(glob(t, dir, "*.zip")); tries != 2 || archives != 2 {
			t.Errorf("%d tries, %d archives", tries, archives)
		}
		stop(t, s)
	})
}

// TestFailureGivesRoomBack: what a failed snapshot had reserved does not count against the next one.
func TestFailureGivesRoomBack(t *testing.T) {
	tries := 0
	s := start(t, exportd.Config{MaxBytes: 1 << 16, Exports: only(sourceFunc(func(_ context.Context, w io.Writer) error {
		for tries++; tries == 1; {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return err
			}
		}
		return zipOf(w, "a", strings.Repeat("x", 60_000))
	}))})
	wantStatus(t, ask(s, "GET", "/files", "Backup-Id", "job1"), 507)
	wantStatus(t, ask(s, "GET", "/files", "Backup-Id", "job1"), 200)
}

// TestLimitsGiveWay: a full agent refuses a new job while its snapshots are in use and drops idle ones afterwards.
func TestLimitsGiveWay(t *testing.T) {
	for _, c := range []struct {
		name   string
		config exportd.Config
		status int
	}{
		{"number", exportd.Config{MaxSnapshots: 2}, 503},
		{"bytes", exportd.Config{MaxBytes: 400}, 507}, // one archive has some 150 bytes
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.config.Dir, c.config.Exports = t.TempDir(), only(new(counter))
				s := start(t, c.config)
				for _, job := range []string{"job1", "job2"} {
					wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", job), 200)
				}
				full := ask(s, "HEAD", "/files", "Backup-Id", "job3")
				wantProblem(t, full, c.status)
				if c.status == 503 && full.Header().Get("Retry-After") != "60" {
					t.Errorf("Retry-After %q", full.Header().Get("Retry-After"))
				}
				time.Sleep(18 * time.Minute)
				wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job2"), 200)
				time.Sleep(4 * time.Minute)
				wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job3"), 200)
				if n := countFiles(t, c.config.Dir, "*.zip"); n != 2 {
					t.Errorf("%d archives", n)
				}
				pin := ask(s, "HEAD", "/files", "Backup-Id", "job2").Header().Get("ETag")
				wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job2", "If-Match", pin), 200)
				stop(t, s)
			})
		})
	}
}

// TestCrashLeftovers: what a killed agent left half done is removed at start and never served; foreign files stay.
func TestCrashLeftovers(t *testing.T) {
	source, dir := new(counter), t.TempDir()
	s := start(t, exportd.Config{Exports: only(source), Dir: dir})
	etag := ask(s, "HEAD", "/files", "Backup-Id", "whole").Header().Get("ETag")
	ask(s, "HEAD", "/files", "Backup-Id", "cut")
	stop(t, s)

	stem := func(n int) string { return fmt.Sprintf("files-%032x", n) }
	for _, name := range []string{stem(1) + ".zip.partial", stem(2) + ".zip", stem(3) + ".json", stem(4) + ".json.partial", stem(4) + ".zip"} {
		write(t, filepath.Join(dir, name), "{}")
	}
	write(t, filepath.Join(dir, "README.zip"), "not ours")
	for _, sidecar := range glob(t, dir, "*.json") {
		if data, err := os.ReadFile(sidecar); err == nil && bytes.Contains(data, []byte(`"cut"`)) {
			write(t, strings.TrimSuffix(sidecar, "json")+"zip", "cut short")
		}
	}

	s = start(t, exportd.Config{Exports: only(source), Dir: dir})
	if n := countFiles(t, dir, "*.*"); n != 3 {
		t.Errorf("left are %v, want one snapshot's two files and the foreign one", glob(t, dir, "*.*"))
	}
	if got := ask(s, "HEAD", "/files", "Backup-Id", "whole").Header().Get("ETag"); got != etag {
		t.Errorf("the whole snapshot is lost: %s", got)
	}
	wantStatus(t, ask(s, "GET", "/files", "Backup-Id", "cut"), 200)
	if source.made.Load() != 3 {
		t.Errorf("%d snapshots: the cut one was served", source.made.Load())
	}
}

// TestDamagedSnapshot: an archive that was cut or removed from outside is not served under its ETag.
func TestDamagedSnapshot(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"cut":     func(path string) error { return os.Truncate(path, 30) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, exportd.Config{Exports: only(new(counter)), Dir: dir})
			etag := ask(s, "HEAD", "/files", "Backup-Id", "job1").Header().Get("ETag")
			if err := damage(glob(t, dir, "*.zip")[0]); err != nil {
				t.Fatal(err)
			}
			wantProblem(t, ask(s, "GET", "/files", "Backup-Id", "job1", "If-Match", etag), 412)
			w := ask(s, "GET", "/files", "Backup-Id", "job1")
			wantStatus(t, w, 200)
			if w.Header().Get("ETag") == etag {
				t.Error("the new archive has the old ETag")
			}
		})
	}
}

// TestClose: closing stops a snapshot that is being made, leaves nothing half done and refuses new ones.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var stopped atomic.Bool
		s := start(t, exportd.Config{Dir: dir, Exports: only(sourceFunc(func(ctx context.Context, w io.Writer) error {
			_, _ = w.Write(make([]byte, 1<<20))
			<-ctx.Done()
			_, err := w.Write([]byte("more"))
			stopped.Store(err != nil)
			return nil // a source that does not look at its errors must not pass for a finished one
		}))})
		wantStatus(t, ask(s, "HEAD", "/files", "Backup-Id", "job1"), 503)
		if countFiles(t, dir, "*.partial") != 1 {
			t.Error("the snapshot had not begun")
		}
		stop(t, s)
		if n := countFiles(t, dir, "*.*"); n != 0 || !stopped.Load() {
			t.Errorf("%d files left, source stopped: %v", n, stopped.Load())
		}
		for _, job := range []string{"job1", "job2"} {
			w := ask(s, "HEAD", "/files", "Backup-Id", job)
			wantProblem(t, w, 503)
			if w.Header().Get("Retry-After") != "5" {
				t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
			}
		}
	})
}

// TestNewRefuses: settings that could not work or would publish backups are refused at start.
func TestNewRefuses(t *testing.T) {
	root := t.TempDir()
	taken := t.TempDir()
	start(t, exportd.Config{Exports: only(new(counter)), Dir: taken})
	inside := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, inside); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]exportd.Config{
		"no folder":         {Exports: only(new(counter))},
		"no export":         {Dir: t.TempDir()},
		"bad name":          {Dir: t.TempDir(), Exports: map[string]exportd.Source{"../x": new(counter)}},
		"health as export":  {Dir: t.TempDir(), Exports: map[string]exportd.Source{"healthz": new(counter)}},
		"inside the export": {Dir: filepath.Join(root, "backup"), Exports: only(folder(t, root))},
		"inside by a link":  {Dir: filepath.Join(inside, "backup"), Exports: only(folder(t, root))},
		"taken":             {Dir: taken, Exports: only(new(counter))},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := exportd.New(t.Context(), config); err == nil {
				stop(t, s)
				t.Error("accepted")
			}
		})
	}
}

// FuzzRange: whatever the Range header says, the answer is the whole archive, exactly the range it claims, or 416.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"", "bytes=0-0", "bytes=-5", "bytes=3-", "bytes=0-1,2-3", "bytes=9-1", "bytes=-0", "bytes= 1-2", "x=1-2", "bytes=-999999999999999999"} {
		f.Add(seed)
	}
	dir, err := os.MkdirTemp(f.TempDir(), "")
	if err != nil {
		f.Fatal(err)
	}
	s, err := exportd.New(f.Context(), exportd.Config{Exports: only(new(counter)), Dir: dir, ShareFor: 24 * time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	whole := ask(s, "GET", "/files").Body.Bytes()
	f.Fuzz(func(t *testing.T, header string) {
		w := ask(s, "GET", "/files", "Range", header)
		switch w.Code {
		case 200:
			if header != "" || !bytes.Equal(w.Body.Bytes(), whole) {
				t.Errorf("%q: whole archive", header)
			}
		case 206:
			var first, last, size int
			_, err := fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
			if err != nil || size != len(whole) || !bytes.Equal(w.Body.Bytes(), whole[first:last+1]) {
				t.Errorf("%q: %s with %d bytes: %v", header, w.Header().Get("Content-Range"), w.Body.Len(), err)
			}
		case 416:
		default:
			t.Errorf("%q: status %d", header, w.Code)
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, root string, exclude ...string) exportd.Source {
	t.Helper()
	f, err := exportd.Folder(root, exportd.FolderOptions{Exclude: exclude})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func countFiles(t *testing.T, dir, pattern string) int {
	t.Helper()
	return len(glob(t, dir, pattern))
}
