package exportd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"
)

const (
	// prepareWait spares small sites the round trip of a 503.
	prepareWait = 2 * time.Second
	// maxRetryAfter bounds the pause asked of a client while a big site is being archived.
	maxRetryAfter = 30 * time.Second
	// stoppingRetryAfter is the pause asked for while the agent restarts.
	stoppingRetryAfter = 5 * time.Second
)

// backupIDForm is what a Backup-Id may look like.
var backupIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// refusal is an answer other than the archive.
type refusal struct {
	status     int
	retryAfter time.Duration // 0: none
	detail     string        // a sentence for people, without secrets
}

func (r *refusal) Error() string { return r.detail }

func errGone() error {
	return &refusal{
		status: http.StatusPreconditionFailed,
		detail: "the archive that If-Match names is not held any more; ask by HEAD for the present one",
	}
}

// export answers one request for an export: the archive, or a refusal.
func (s *Server) export(w http.ResponseWriter, r *http.Request, name string) error {
	backupID, err := backupIDOf(r.Header)
	if err != nil {
		return err
	}
	sn, err := s.acquire(name, backupID, r.Header.Get("If-Match"))
	if err != nil {
		return err
	}
	if err := s.await(r.Context(), sn); err != nil {
		return err
	}
	return s.send(w, r, sn)
}

func backupIDOf(h http.Header) (string, error) {
	values := h.Values("Backup-Id")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || !backupIDForm.MatchString(values[0]) {
		return "", &refusal{
			status: http.StatusBadRequest,
			detail: "Backup-Id must be one value of at most 128 letters, digits, dots, underscores and hyphens",
		}
	}
	return values[0], nil
}

// await waits a little for sn. Whoever hears of a failure makes the next request start anew.
func (s *Server) await(ctx context.Context, sn *snapshot) error {
	patience := time.NewTimer(prepareWait)
	defer patience.Stop()
	select {
	case <-sn.ready:
	case <-patience.C:
		return s.errPreparing(sn)
	case <-ctx.Done():
		return s.errPreparing(sn)
	}
	if sn.err == nil {
		return nil
	}
	s.mu.Lock()
	s.forget(sn)
	s.mu.Unlock()
	return failure(sn)
}

// errPreparing asks for a longer pause the longer the snapshot has been taking already.
func (s *Server) errPreparing(sn *snapshot) error {
	elapsed := s.config.Now().Sub(sn.created)
	return &refusal{
		status: http.StatusServiceUnavailable, retryAfter: min(max(elapsed/10, time.Second), maxRetryAfter),
		detail: fmt.Sprintf("the snapshot of %s is being made", sn.export),
	}
}

// failure words the end of a snapshot that did not come about.
func failure(sn *snapshot) error {
	switch {
	case errors.Is(sn.err, context.Canceled):
		return &refusal{
			status: http.StatusServiceUnavailable, retryAfter: stoppingRetryAfter,
			detail: "the agent is stopping; the snapshot is made when it runs again",
		}
	case errors.Is(sn.err, errNoRoom), diskFull(sn.err):
		return &refusal{
			status: http.StatusInsufficientStorage,
			detail: fmt.Sprintf("the snapshot of %s does not fit on the agent's disk: %v", sn.export, sn.err),
		}
	}
	return &refusal{
		status: http.StatusInternalServerError,
		detail: fmt.Sprintf("the snapshot of %s failed: %v", sn.export, sn.err),
	}
}

// send serves a finished snapshot. What http.ServeContent would answer in plain text or against the contract is refused
// before it: a pin that does not fit, more than one range, a range outside the archive.
func (s *Server) send(w http.ResponseWriter, r *http.Request, sn *snapshot) error {
	ifMatch := r.Header.Get("If-Match")
	if pinned(ifMatch) && !matches(ifMatch, sn.etag) {
		return errGone()
	}
	f, err := s.open(sn)
	if err != nil {
		return s.lost(sn, ifMatch, err)
	}
	defer f.Close()
	if r.Method == http.MethodHead {
		r = r.Clone(r.Context())
		r.Header.Del("Range") // RFC 9110 section 14.2: a range is defined for GET only
	}
	if err := checkRange(r.Header.Get("Range"), sn.sizeBytes); err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", sn.sizeBytes))
		return err
	}
	h := w.Header()
	h.Set("ETag", sn.etag)
	h.Set("Content-Type", "application/zip")
	h.Set("Cache-Control", "private, no-transform") // a proxy that recompresses would change bytes and weaken the ETag
	// An archive is read for hours, and by services that ask for no ranges in one request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // a writer without deadlines needs none lifted
	http.ServeContent(w, r, "", sn.created, f)
	s.touch(sn)
	return nil
}

// open checks under the lock that sn is still the one held, because its successor would have the same file name, and the
// size: an archive cut short by someone else must not go out under its ETag.
func (s *Server) open(sn *snapshot) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[sn.stem] != sn {
		return nil, errors.New("dropped a moment ago")
	}
	f, err := os.Open(s.path(sn.stem, zipEnding))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != sn.sizeBytes {
		err = fmt.Errorf("%s has %d bytes, not %d", f.Name(), info.Size(), sn.sizeBytes)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lost drops a snapshot whose file expired a moment ago or was damaged from outside.
func (s *Server) lost(sn *snapshot, ifMatch string, cause error) error {
	s.config.Log.Warn("snapshot file lost", "file", sn.export, "jobId", sn.backupID, "error", cause)
	s.mu.Lock()
	s.forget(sn)
	s.mu.Unlock()
	if pinned(ifMatch) {
		return errGone()
	}
	return &refusal{
		status: http.StatusServiceUnavailable, retryAfter: time.Second,
		detail: fmt.Sprintf("the snapshot of %s was lost and is made anew", sn.export),
	}
}

// singleRange is the form that the contract uses: one range, at most 18 digits so that it fits an int64.
var singleRange = regexp.MustCompile(`^bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))$`)

// checkRange lets through what http.ServeContent answers by one 206 (or, with no Range, by 200).
func checkRange(header string, sizeBytes int64) error {
	if header == "" {
		return nil
	}
	m := singleRange.FindStringSubmatch(header)
	if m == nil {
		return errRange("want one range of the form bytes=first-last")
	}
	first, last, suffix := number(m[1], 0), number(m[2], sizeBytes), number(m[3], 1)
	if first >= sizeBytes || last < first || suffix == 0 {
		return errRange(fmt.Sprintf("no such range in %d bytes", sizeBytes))
	}
	return nil
}

func errRange(detail string) error {
	return &refusal{status: http.StatusRequestedRangeNotSatisfiable, detail: detail}
}

// number reads digits that a pattern has already checked.
func number(digits string, absent int64) int64 {
	if digits == "" {
		return absent
	}
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

// problem is the body of a refusal, RFC 9457.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func writeProblem(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		return // the connection broke while an answer was being written
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if r.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(r.retryAfter.Round(time.Second).Seconds())))
	}
	switch r.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="sitevault agent"`)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD")
	}
	body, _ := json.Marshal(problem{Title: http.StatusText(r.status), Status: r.status, Detail: r.detail})
	w.WriteHeader(r.status)
	_, _ = w.Write(append(body, '\n'))
}
