package provider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/step"
)

const (
	headerCanary = "canary-in-the-header"
	queryCanary  = "canary-in-the-query"
	exportBytes  = 1 << 20
)

// storedSecrets knows one secret.
type storedSecrets struct{}

func (storedSecrets) Authorization(_ context.Context, userID, ref string) (string, error) {
	if userID != "ann" || ref != "token" {
		return "", backup.E(backup.SecretMissing, "secret %s is not stored", ref)
	}
	return "Bearer " + headerCanary, nil
}

func (storedSecrets) Forget(string, string) {}

func loopbackGuard(t testing.TB) *provider.Guard {
	g, err := provider.ParseGuard([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newClient(t testing.TB, timeouts provider.Timeouts) *provider.Client {
	c := provider.New(provider.Config{Guard: loopbackGuard(t), Secrets: storedSecrets{}, Timeouts: timeouts, Now: fixedNow})
	t.Cleanup(c.Close)
	return c
}

func fixedNow() time.Time { return time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC) }

func exportAt(url string) step.Export {
	return step.Export{
		UserID: "ann", URL: url + "?key=" + queryCanary, SecretRef: "token", BackupID: "01JBY4WZ5M3QK8T9V2X6C7D1EF",
	}
}

func content() *backuptest.Zip { return backuptest.ZipOf(1, exportBytes) }

// readRange pins nothing: it asks for the given range of version 1.
func readRange(ctx context.Context, c *provider.Client, e step.Export, offset, lengthBytes int64) ([]byte, error) {
	pin := backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}
	body, err := c.Range(ctx, e, pin, offset, lengthBytes)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// An honest provider's export is pinned and read in ranges that are exactly the export's bytes.
func TestHonestProvider(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	c := newClient(t, provider.Timeouts{})
	pin, err := c.Pin(t.Context(), exportAt(p.URL))
	if err != nil {
		t.Fatal(err)
	}
	if want := (backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}); pin != want {
		t.Fatalf("pin is %+v, want %+v", pin, want)
	}
	var got bytes.Buffer
	for offset := int64(0); offset < exportBytes; offset += 300_000 {
		part, err := readRange(t.Context(), c, exportAt(p.URL), offset, min(300_000, exportBytes-offset))
		if err != nil {
			t.Fatal(err)
		}
		got.Write(part)
	}
	want := make([]byte, exportBytes)
	if _, err := content().ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the ranges do not add up to the export")
	}
	for _, r := range p.Requests() {
		if r.BackupID != "01JBY4WZ5M3QK8T9V2X6C7D1EF" || r.Authorization != "Bearer "+headerCanary {
			t.Errorf("%s carried Backup-Id %q and Authorization %q", r.Method, r.BackupID, r.Authorization)
		}
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("User-Agent") != "Sitevault" {
			t.Errorf("%s carried %v", r.Method, r.Header)
		}
		if r.Method == http.MethodGet && r.IfMatch != pin.ETag {
			t.Errorf("GET carried If-Match %q", r.IfMatch)
		}
		if alone := r.Header.Get("Connection") == "close"; alone != (r.Method == http.MethodHead) {
			t.Errorf("%s carried %v: only HEAD has a connection of its own", r.Method, r.Header)
		}
	}
}

// Each way in which an answer to Pin can break the contract has its own kind, and no error repeats a secret.
func TestPinMisbehaviour(t *testing.T) {
	tests := map[string]struct {
		answer backuptest.Answer
		want   backup.Kind
	}{
		"preparing":           {backuptest.AnswerPreparing("7"), backup.ProviderPreparing},
		"accepted":            {backuptest.AnswerStatus(202), backup.ProviderPreparing},
		"503 without a date":  {backuptest.AnswerStatus(503), backup.ProviderUnavailable},
		"503 and nonsense":    {backuptest.AnswerPreparing("soon"), backup.ProviderUnavailable},
		"500":                 {backuptest.AnswerStatus(500), backup.ProviderUnavailable},
		"502":                 {backuptest.AnswerStatus(502), backup.ProviderUnavailable},
		"504":                 {backuptest.AnswerStatus(504), backup.ProviderUnavailable},
		"429":                 {backuptest.AnswerStatus(429), backup.ProviderUnavailable},
		"408":                 {backuptest.AnswerStatus(408), backup.ProviderUnavailable},
		"425":                 {backuptest.AnswerStatus(425), backup.ProviderUnavailable},
		"401":                 {backuptest.AnswerStatus(401), backup.ProviderRefused},
		"403":                 {backuptest.AnswerStatus(403), backup.ProviderRefused},
		"404":                 {backuptest.AnswerStatus(404), backup.ProviderNotFound},
		"410":                 {backuptest.AnswerStatus(410), backup.ProviderNotFound},
		"412":                 {backuptest.AnswerStatus(412), backup.ProviderChanged},
		"redirect":            {backuptest.AnswerRedirect("https://elsewhere.example/" + headerCanary + "?" + queryCanary), backup.ProviderRedirected},
		"permanent redirect":  {backuptest.AnswerStatus(308), backup.ProviderRedirected},
		"moved":               {backuptest.AnswerStatus(301), backup.ProviderRedirected},
		"see other":           {backuptest.AnswerStatus(303), backup.ProviderRedirected},
		"not modified":        {backuptest.AnswerStatus(304), backup.ProviderUnexpected},
		"use proxy":           {backuptest.AnswerStatus(305), backup.ProviderUnexpected},
		"no content":          {backuptest.AnswerStatus(204), backup.ProviderUnexpected},
		"bad request":         {backuptest.AnswerStatus(400), backup.ProviderUnexpected},
		"legal reasons":       {backuptest.AnswerStatus(451), backup.ProviderUnexpected},
		"HTML page":           {backuptest.AnswerPage(), backup.ProviderUnpinned},
		"weak ETag":           {backuptest.AnswerHeader("ETag", `W/"version-1"`), backup.ProviderUnpinned},
		"no ETag":             {backuptest.AnswerHeader("ETag", ""), backup.ProviderUnpinned},
		"ETag without quotes": {backuptest.AnswerHeader("ETag", "version-1"), backup.ProviderUnpinned},
		"ETag with a secret":  {backuptest.AnswerHeader("ETag", headerCanary), backup.ProviderUnpinned},
		"no length":           {backuptest.AnswerHeader("Content-Length", ""), backup.ProviderUnsized},
		"empty":               {backuptest.AnswerSize(0), backup.ExportEmpty},
		"compressed":          {backuptest.AnswerGzip(), backup.ProviderEncoded},
		"no ranges":           {backuptest.AnswerHeader("Accept-Ranges", "none"), backup.ProviderNoRanges},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, content())
			p.Misbehave(backuptest.FirstRequests(1, test.answer))
			_, err := newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt(p.URL))
			checkKind(t, err, test.want)
			if p.Faults() != 1 || len(p.Requests()) != 1 {
				t.Errorf("%d faults in %d requests, want one request", p.Faults(), len(p.Requests()))
			}
		})
	}
}

// Each way in which an answer to a range can break the contract has its own kind, and no error repeats a secret.
func TestRangeMisbehaviour(t *testing.T) {
	const offset, length = 100_000, 500_000
	tests := map[string]struct {
		answer backuptest.Answer
		want   backup.Kind
	}{
		"preparing":          {backuptest.AnswerPreparing("7"), backup.ProviderPreparing},
		"500":                {backuptest.AnswerStatus(500), backup.ProviderUnavailable},
		"403":                {backuptest.AnswerStatus(403), backup.ProviderRefused},
		"404":                {backuptest.AnswerStatus(404), backup.ProviderNotFound},
		"412":                {backuptest.AnswerStatus(412), backup.ProviderChanged},
		"416":                {backuptest.AnswerStatus(416), backup.ProviderWrongRange},
		"416, other size":    {unsatisfiable("bytes */7"), backup.ProviderChanged},
		"416, same size":     {unsatisfiable(fmt.Sprintf("bytes */%d", exportBytes)), backup.ProviderWrongRange},
		"redirect":           {backuptest.AnswerRedirect("/login?" + queryCanary), backup.ProviderRedirected},
		"whole file":         {backuptest.AnswerWhole(), backup.ProviderNoRanges},
		"HTML page":          {backuptest.AnswerPage(), backup.ProviderNoRanges},
		"teapot":             {backuptest.AnswerStatus(418), backup.ProviderUnexpected},
		"compressed":         {backuptest.AnswerGzip(), backup.ProviderEncoded},
		"weak ETag":          {backuptest.AnswerHeader("ETag", `W/"version-1"`), backup.ProviderUnpinned},
		"no ETag":            {backuptest.AnswerHeader("ETag", ""), backup.ProviderUnpinned},
		"other ETag":         {backuptest.AnswerHeader("ETag", `"`+headerCanary+`"`), backup.ProviderChanged},
		"other range":        {backuptest.AnswerShifted(1), backup.ProviderWrongRange},
		"other total":        {backuptest.AnswerSize(exportBytes + 1), backup.ProviderWrongRange},
		"total unknown":      {backuptest.AnswerHeader("Content-Range", "bytes 100000-599999/*"), backup.ProviderWrongRange},
		"any range":          {backuptest.AnswerHeader("Content-Range", "bytes */*"), backup.ProviderWrongRange},
		"no range":           {backuptest.AnswerHeader("Content-Range", "bytes */1048576"), backup.ProviderWrongRange},
		"two Content-Ranges": {twice("Content-Range"), backup.ProviderWrongRange},
		"two ETags":          {twice("ETag"), backup.ProviderUnpinned},
		"not modified":       {backuptest.AnswerStatus(304), backup.ProviderUnexpected},
		"no Content-Range":   {backuptest.AnswerHeader("Content-Range", ""), backup.ProviderWrongRange},
		"odd Content-Range":  {backuptest.AnswerHeader("Content-Range", headerCanary), backup.ProviderWrongRange},
		"other length":       {otherLength, backup.ProviderWrongRange},
		"several ranges":     {backuptest.AnswerHeader("Content-Type", "multipart/byteranges; boundary=x"), backup.ProviderWrongRange},
		"short":              {backuptest.AnswerShort(1000), backup.ProviderShortBody},
		"short by one":       {backuptest.AnswerShort(length - 1), backup.ProviderShortBody},
		"nothing":            {backuptest.AnswerShort(0), backup.ProviderShortBody},
		"short, chunked":     {backuptest.AnswerShortChunked(1000), backup.ProviderShortBody},
		"long by one":        {backuptest.AnswerLong(1), backup.ProviderLongBody},
		"endless":            {backuptest.AnswerEndless(), backup.ProviderLongBody},
		"reset":              {backuptest.AnswerReset(1000), backup.ProviderUnavailable},
		"stalls":             {backuptest.AnswerStall(1000, nil), backup.ProviderTimeout},
		"stalls after range": {stallAfterRange, backup.ProviderTimeout},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, content())
			p.Misbehave(backuptest.EveryRange(test.answer))
			c := newClient(t, provider.Timeouts{BodyIdle: idleFor(test.want)})
			_, err := readRange(t.Context(), c, exportAt(p.URL), offset, length)
			checkKind(t, err, test.want)
			if p.Faults() != 1 || len(p.Requests()) != 1 {
				t.Errorf("%d faults in %d requests, want one request", p.Faults(), len(p.Requests()))
			}
		})
	}
}

// idleFor keeps every test but the ones that wait for it from depending on the idle timeout.
func idleFor(want backup.Kind) time.Duration {
	if want == backup.ProviderTimeout {
		return 20 * time.Millisecond
	}
	return time.Hour
}

func unsatisfiable(contentRange string) backuptest.Answer {
	return func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
		backuptest.AnswerStatus(416)(reply, req)
		reply.Header.Set("Content-Range", contentRange)
	}
}

// twice repeats a header with the same value.
func twice(name string) backuptest.Answer {
	return func(reply *backuptest.ProviderReply, _ backuptest.ProviderRequest) {
		reply.Header.Add(name, reply.Header.Get(name))
	}
}

// otherLength announces less than Content-Range says.
func otherLength(reply *backuptest.ProviderReply, _ backuptest.ProviderRequest) {
	reply.LengthBytes--
	reply.Header.Set("Content-Length", fmt.Sprint(reply.LengthBytes))
}

// stallAfterRange sends every byte, but never the end of the chunked body.
func stallAfterRange(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
	reply.Header.Del("Content-Length")
	backuptest.AnswerStall(reply.LengthBytes, nil)(reply, req)
}

func checkKind(t *testing.T, err error, want backup.Kind) {
	t.Helper()
	if got := backup.KindOf(err); got != want {
		t.Errorf("kind is %q, want %s: %v", got, want, err)
	}
	checkNoSecret(t, err)
}

func checkNoSecret(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := fmt.Sprintf("%v %+v", e, e); strings.Contains(text, headerCanary) || strings.Contains(text, queryCanary) {
			t.Errorf("the error repeats a secret: %s", text)
		}
	}
}

// Whatever a server makes of the request it has just read, errors do not repeat it.
func TestErrorsDoNotEcho(t *testing.T) {
	echoes := map[string]string{
		"status line":    "%s\r\n\r\n",
		"reason":         "HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n",
		"status":         "HTTP/1.1 %s\r\n\r\n",
		"header line":    "HTTP/1.1 206 OK\r\n%s\r\n\r\n",
		"length":         "HTTP/1.1 206 OK\r\nContent-Length: %s\r\n\r\n",
		"encoding":       "HTTP/1.1 206 OK\r\nTransfer-Encoding: %s\r\n\r\n",
		"content coding": "HTTP/1.1 206 OK\r\nContent-Encoding: %s\r\nContent-Length: 0\r\n\r\n",
		"location":       "HTTP/1.1 302 Found\r\nLocation: /%s\r\nContent-Length: 0\r\n\r\n",
		"bad location":   "HTTP/1.1 302 Found\r\nLocation: ://%s\r\nContent-Length: 0\r\n\r\n",
		"retry":          "HTTP/1.1 503 Wait\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n",
		"chunk size":     "HTTP/1.1 206 OK\r\nETag: \"version-1\"\r\nContent-Range: bytes 0-9/1048576\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
	}
	for name, format := range echoes {
		t.Run(name, func(t *testing.T) {
			server := newRawServer(t, fmt.Sprintf(format, headerCanary+queryCanary))
			_, err := readRange(t.Context(), newClient(t, provider.Timeouts{}), exportAt(server.url), 0, 10)
			if err == nil {
				t.Fatal("the answer was accepted")
			}
			checkNoSecret(t, err)
			if server.answered.Load() == 0 {
				t.Error("the server was not asked")
			}
			if !strings.Contains(err.Error(), server.url+"/...") {
				t.Errorf("the error does not name the export: %v", err)
			}
		})
	}
}

// A Content-Length that is no number of bytes is refused at once, since asking again would bring the same.
func TestBadContentLength(t *testing.T) {
	for _, value := range []string{
		"-5", "-1", "9223372036854775808", "18446744073709551621", "99999999999999999999999", "+5", "5.0", "5e3", "0x5", "5 5", "5, 5", "5,6",
		"five", "", "٥", "5\r\nContent-Length: 6", headerCanary,
	} {
		server := newRawServer(t, "HTTP/1.1 206 OK\r\nETag: \"version-1\"\r\nContent-Range: bytes 0-9/1048576\r\nContent-Length: "+value+"\r\n\r\n0123456789")
		c := newClient(t, provider.Timeouts{})
		_, err := c.Pin(t.Context(), exportAt(server.url))
		checkKind(t, err, backup.ProviderUnsized)
		_, err = readRange(t.Context(), c, exportAt(server.url), 0, 10)
		checkKind(t, err, backup.ProviderWrongRange)
		if !strings.Contains(fmt.Sprint(err), "Content-Length is not one number") || server.answered.Load() != 2 {
			t.Errorf("%q: after %d answers: %v", value, server.answered.Load(), err)
		}
	}
}

// A Content-Range is told as the header has it, an unknown total included.
func TestWrongContentRangeIsTold(t *testing.T) {
	for _, value := range []string{"bytes 0-9/*", "bytes */100", "bytes 1-10/1048576", "bytes 0-9/1048577"} {
		p := backuptest.NewProvider(t, content())
		p.Misbehave(backuptest.EveryRange(backuptest.AnswerHeader("Content-Range", value)))
		_, err := readRange(t.Context(), newClient(t, provider.Timeouts{}), exportAt(p.URL), 0, 10)
		checkKind(t, err, backup.ProviderWrongRange)
		if want := fmt.Sprintf("Content-Range is %q, want %q", value, "bytes 0-9/1048576"); !strings.Contains(fmt.Sprint(err), want) || p.Faults() != 1 {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// Whatever goes wrong, of an export's URL no error shows more than scheme, host and the first element of the path.
func TestErrorsHideTheToken(t *testing.T) {
	const token = "t0ken-in-the-path"
	p := backuptest.NewProvider(t, content())
	p.Misbehave(func(backuptest.ProviderRequest) backuptest.Answer { return backuptest.AnswerStatus(404) })
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example"+r.URL.Path)
		w.WriteHeader(http.StatusFound)
	}))
	t.Cleanup(front.Close)
	for name, base := range map[string]string{
		"not found": p.URL, "redirect": front.URL + "/export", "nobody listens": "http://127.0.0.1:1/export", "private": "http://10.0.0.1/export",
		"not TLS": strings.Replace(p.URL, "http:", "https:", 1), "no URL": "http://a b/export",
	} {
		e := exportAt(base)
		e.URL = base + "/" + token + "/files?key=" + queryCanary
		c := newClient(t, provider.Timeouts{})
		for _, err := range []error{pinError(t, c, e), rangeError(t, c, e)} {
			checkNoSecret(t, err)
			if err == nil || strings.Contains(err.Error(), token) {
				t.Fatalf("%s: %v", name, err)
			}
			if name != "no URL" && !strings.Contains(err.Error(), base+"/...") {
				t.Errorf("%s: the error does not name %s/...: %v", name, base, err)
			}
		}
	}
}

func pinError(t *testing.T, c *provider.Client, e step.Export) error {
	_, err := c.Pin(t.Context(), e)
	return err
}

func rangeError(t *testing.T, c *provider.Client, e step.Export) error {
	_, err := readRange(t.Context(), c, e, 0, 10)
	return err
}

type rawServer struct {
	url      string
	answered atomic.Int32
}

// newRawServer answers every connection's first request with the given bytes and closes it.
func newRawServer(t *testing.T, answer string) *rawServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + listener.Addr().String() + "/export"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			s.answered.Add(1)
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return s
}

// Retry-After reaches the caller, bounded.
func TestRetryAfter(t *testing.T) {
	tests := map[string]struct {
		answer backuptest.Answer
		want   time.Duration
	}{
		"seconds": {backuptest.AnswerPreparing("7"), 7 * time.Second},
		"date":    {backuptest.AnswerPreparing("Thu, 05 Nov 2026 12:01:30 GMT"), 90 * time.Second},
		"past":    {backuptest.AnswerPreparing("Thu, 05 Nov 2026 11:00:00 GMT"), 0},
		"a year":  {backuptest.AnswerPreparing("31536000"), provider.MaxRetryAfter},
		"later":   {backuptest.AnswerPreparing("Fri, 05 Nov 2027 12:00:00 GMT"), provider.MaxRetryAfter},
		"429": {func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
			backuptest.AnswerStatus(429)(reply, req)
			reply.Header.Set("Retry-After", "3")
		}, 3 * time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, content())
			p.Misbehave(backuptest.FirstRequests(1, test.answer))
			_, err := newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt(p.URL))
			failure, ok := errors.AsType[*backup.Error](err)
			if !ok || failure.RetryAfter != test.want || p.Faults() != 1 {
				t.Errorf("got %#v after %d faults, want RetryAfter %s", failure, p.Faults(), test.want)
			}
		})
	}
}

// A server without HEAD is pinned by its first byte, and judged as strictly.
func TestPinWithoutHead(t *testing.T) {
	tests := map[string]struct {
		content backuptest.Content
		get     backuptest.Answer
		want    backup.Kind
	}{
		"honest":      {content(), nil, ""},
		"empty":       {strings.NewReader(""), nil, backup.ExportEmpty},
		"no ranges":   {content(), backuptest.AnswerWhole(), backup.ProviderNoRanges},
		"other range": {content(), backuptest.AnswerShifted(1), backup.ProviderWrongRange},
		"unsized":     {content(), backuptest.AnswerHeader("Content-Range", "bytes 0-0/*"), backup.ProviderUnsized},
		"weak":        {content(), backuptest.AnswerHeader("ETag", `W/"1"`), backup.ProviderUnpinned},
		"preparing":   {content(), backuptest.AnswerPreparing("1"), backup.ProviderPreparing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, test.content)
			p.Misbehave(func(req backuptest.ProviderRequest) backuptest.Answer {
				if req.Method == http.MethodHead {
					return backuptest.AnswerStatus(405)
				}
				return test.get
			})
			pin, err := newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt(p.URL))
			checkKind(t, err, test.want)
			if err == nil && pin != (backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}) {
				t.Errorf("pin is %+v", pin)
			}
			if got := p.Requests(); len(got) != 2 || got[1].LengthBytes != 1 {
				t.Errorf("requests were %+v", got)
			}
		})
	}
}

// Absent Accept-Ranges is accepted, since the first 206 proves more.
func TestPinWithoutAcceptRanges(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	p.Misbehave(backuptest.FirstRequests(1, backuptest.AnswerHeader("Accept-Ranges", "")))
	if _, err := newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt(p.URL)); err != nil || p.Faults() != 1 {
		t.Errorf("%d faults, %v", p.Faults(), err)
	}
}

// A version that changes between two ranges is never mixed with the pinned one.
func TestChangeInTheMiddle(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	c := newClient(t, provider.Timeouts{})
	if _, err := readRange(t.Context(), c, exportAt(p.URL), 0, 1000); err != nil {
		t.Fatal(err)
	}
	p.Change(backuptest.ZipOf(2, exportBytes), `"version-2"`)
	_, err := readRange(t.Context(), c, exportAt(p.URL), 1000, 1000)
	checkKind(t, err, backup.ProviderChanged)
}

// Ranges one after the other share a connection, refused ones and chunked ones included.
func TestConnectionIsReused(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	p.Misbehave(func(req backuptest.ProviderRequest) backuptest.Answer {
		switch req.Number % 3 {
		case 1:
			return backuptest.AnswerPreparing("1")
		case 2:
			return backuptest.AnswerLong(0)
		}
		return nil
	})
	c := newClient(t, provider.Timeouts{})
	for range 30 {
		_, err := readRange(t.Context(), c, exportAt(p.URL), 5000, 100_000)
		if err != nil && !backup.Is(err, backup.ProviderPreparing) {
			t.Fatal(err)
		}
	}
	if p.Connections() != 1 || p.Faults() != 20 {
		t.Errorf("30 ranges took %d connections with %d faults, want 1 and 20", p.Connections(), p.Faults())
	}
}

// A caller that stops in the middle of a range costs the connection, not the rest of the range.
func TestCloseInTheMiddle(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	gone := make(chan struct{})
	p.Misbehave(backuptest.EveryRange(untilGone(gone)))
	c := newClient(t, provider.Timeouts{BodyIdle: time.Hour})
	body, err := c.Range(t.Context(), exportAt(p.URL), backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}, 0, exportBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	body.Close()
	<-gone
	if _, err := body.Read(make([]byte, 1<<20)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close: %v", err)
	}
}

// untilGone sends a little, then nothing until the client has closed the connection.
func untilGone(gone chan struct{}) backuptest.Answer {
	return func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
		backuptest.AnswerStall(1000, nil)(reply, req)
		stall := reply.Send
		reply.Send = func(w http.ResponseWriter, r *http.Request) {
			stall(w, r)
			close(gone)
		}
	}
}

// An endless body is cut off at its first byte too many, and no memory grows with what was read.
func TestEndlessBodyTakesNoMemory(t *testing.T) {
	const size = 256 << 20
	p := backuptest.NewProvider(t, backuptest.ZipOf(1, size))
	gone := make(chan struct{})
	p.Misbehave(backuptest.EveryRange(func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
		backuptest.AnswerEndless()(reply, req)
		endless := reply.Send
		reply.Send = func(w http.ResponseWriter, r *http.Request) {
			endless(w, r)
			close(gone)
		}
	}))
	c := newClient(t, provider.Timeouts{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body, err := c.Range(t.Context(), exportAt(p.URL), backup.Pin{ETag: `"version-1"`, SizeBytes: size}, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	buffer, read := make([]byte, 256<<10), int64(0)
	for err == nil {
		var n int
		n, err = body.Read(buffer)
		read += int64(n)
	}
	runtime.ReadMemStats(&after)
	checkKind(t, err, backup.ProviderLongBody)
	<-gone // the client has hung up, or the server would write for ever
	if read != size {
		t.Errorf("read %d bytes, want the range's %d and no more", read, size)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 4<<20 {
		t.Errorf("reading %d bytes allocated %d", size, allocated)
	}
}

// countedConn notes how large a piece of memory each read from the network may fill.
type countedConn struct {
	net.Conn
	largest *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	c.largest.Store(max(c.largest.Load(), int64(len(p))))
	return c.Conn.Read(p)
}

// A large Read reaches the connection in one piece.
func TestLargeReadsGoStraightToTheConnection(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	c := newClient(t, provider.Timeouts{})
	var largest atomic.Int64
	c.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return countedConn{conn, &largest}, err
	})
	body, err := c.Range(t.Context(), exportAt(p.URL), backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}, 0, exportBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	buffer := make([]byte, 256<<10)
	for err == nil {
		_, err = body.Read(buffer)
	}
	if err != io.EOF || largest.Load() != int64(len(buffer)) {
		t.Errorf("the largest read from the connection had room for %d bytes, want %d (%v)", largest.Load(), len(buffer), err)
	}
}

// A cancelled ctx stays context.Canceled and blames nobody; a passed deadline is a timeout.
func TestContextEnds(t *testing.T) {
	for name, inBody := range map[string]bool{"before the answer": false, "in the body": true} {
		t.Run(name, func(t *testing.T) {
			p := backuptest.NewProvider(t, content())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answered := make(chan struct{})
			p.Misbehave(backuptest.EveryRange(func(reply *backuptest.ProviderReply, req backuptest.ProviderRequest) {
				if !inBody {
					cancel()
					<-answered // before a header is sent: an answer that has begun is the other case
				}
				backuptest.AnswerStall(1000, nil)(reply, req)
			}))
			c := newClient(t, provider.Timeouts{BodyIdle: time.Hour})
			body, err := c.Range(ctx, exportAt(p.URL), backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}, 0, exportBytes)
			close(answered)
			if inBody && err == nil {
				defer body.Close()
				cancel()
				_, err = io.ReadAll(body)
			}
			if !errors.Is(err, context.Canceled) || p.Faults() != 1 {
				t.Errorf("%d faults, got %v", p.Faults(), err)
			}
			if _, blamed := errors.AsType[*backup.Error](err); blamed {
				t.Errorf("a cancellation got the kind %s", backup.KindOf(err))
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		p := backuptest.NewProvider(t, content())
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		_, err := readRange(ctx, newClient(t, provider.Timeouts{}), exportAt(p.URL), 0, 10)
		checkKind(t, err, backup.ProviderTimeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// What cannot be asked for is not asked for.
func TestNoRequestIsSent(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	pin := backup.Pin{ETag: `"version-1"`, SizeBytes: 100}
	tests := map[string]struct {
		change         func(*step.Export)
		offset, length int64
		want           backup.Kind
	}{
		"negative offset": {nil, -1, 10, backup.Internal},
		"no length":       {nil, 0, 0, backup.Internal},
		"past the end":    {nil, 91, 10, backup.Internal},
		"overflow":        {nil, 90, 1<<63 - 1, backup.Internal},
		"unknown secret":  {func(e *step.Export) { e.SecretRef = "other" }, 0, 10, backup.SecretMissing},
		"other's secret":  {func(e *step.Export) { e.UserID = "bob" }, 0, 10, backup.SecretMissing},
		"relative URL":    {func(e *step.Export) { e.URL = "/export?key=" + queryCanary }, 0, 10, backup.InvalidRequest},
		"broken URL":      {func(e *step.Export) { e.URL = "http://a b/?key=" + queryCanary }, 0, 10, backup.InvalidRequest},
		"file URL":        {func(e *step.Export) { e.URL = "file://host/etc/passwd" }, 0, 10, backup.InvalidRequest},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := exportAt(p.URL)
			if test.change != nil {
				test.change(&e)
			}
			_, err := newClient(t, provider.Timeouts{}).Range(t.Context(), e, pin, test.offset, test.length)
			checkKind(t, err, test.want)
		})
	}
	if len(p.Requests()) != 0 {
		t.Errorf("%d requests were sent", len(p.Requests()))
	}
}

// A secret that is no header value is reported without being shown.
func TestUnusableSecret(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	for _, value := range []string{"", "Bearer " + headerCanary + "\r\nX-Evil: 1", "Bearer " + headerCanary + "\x00"} {
		c := provider.New(provider.Config{Guard: loopbackGuard(t), Secrets: fixedSecret(value)})
		_, err := c.Pin(t.Context(), exportAt(p.URL))
		checkKind(t, err, backup.SecretMissing)
	}
	_, err := provider.New(provider.Config{Guard: loopbackGuard(t)}).Pin(t.Context(), exportAt(p.URL))
	checkKind(t, err, backup.SecretMissing)
	if len(p.Requests()) != 0 {
		t.Errorf("%d requests were sent", len(p.Requests()))
	}
}

type fixedSecret string

func (s fixedSecret) Authorization(context.Context, string, string) (string, error) {
	return string(s), nil
}

func (fixedSecret) Forget(string, string) {}

// Over TLS a trusted server is read, an untrusted one is nothing to try again.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v"`)
		w.Header().Set("Content-Length", "5")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the refused handshake is meant to be
	server.StartTLS()
	t.Cleanup(server.Close)
	trusting := newClient(t, provider.Timeouts{})
	trusting.Trust(server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs)
	if _, err := trusting.Pin(t.Context(), exportAt(server.URL)); err != nil {
		t.Error(err)
	}
	_, err := newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt(server.URL))
	checkKind(t, err, backup.ProviderUnexpected)

	plain := backuptest.NewProvider(t, content())
	_, err = trusting.Pin(t.Context(), exportAt(strings.Replace(plain.URL, "http:", "https:", 1)))
	checkKind(t, err, backup.ProviderUnexpected)
}

// Nobody listening is a provider that is unavailable.
func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, err = newClient(t, provider.Timeouts{}).Pin(t.Context(), exportAt("http://"+listener.Addr().String()))
	checkKind(t, err, backup.ProviderUnavailable)
}
