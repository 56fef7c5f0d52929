package backuptest

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Content is what a Provider exports: a *Zip, a *bytes.Reader, a *strings.Reader. Content with WriteRange (as Zip has
// it) is served without being copied.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Provider is an export server that keeps the contract of the export API, until a test makes it misbehave.
type Provider struct {
	URL string

	stop chan struct{}

	mu          sync.Mutex
	content     Content
	etag        string
	misbehave   func(ProviderRequest) Answer
	connections int
	faults      int
	requests    []ProviderRequest
	sentBytes   map[int64]int64 // offset of a range -> bytes of body sent in answers to it
}

// ProviderRequest is what a Provider was asked.
type ProviderRequest struct {
	Number        int // from 1, in the order of arrival
	Method        string
	Ranged        bool
	Offset        int64 // of a ranged request
	LengthBytes   int64
	IfMatch       string
	BackupID      string
	Authorization string
	Header        http.Header
}

// ProviderReply is the answer about to be sent.
type ProviderReply struct {
	Status      int
	Header      http.Header
	Offset      int64 // of the first byte of the body
	LengthBytes int64 // of the body

	// Send writes the body; nil sends LengthBytes from Offset of the content. Not called for HEAD.
	Send func(w http.ResponseWriter, r *http.Request)
	p    *Provider
}

// Answer changes the honest reply into another one.
type Answer func(reply *ProviderReply, req ProviderRequest)

// NewProvider starts a Provider on the loopback interface and stops it with the test.
func NewProvider(tb testing.TB, content Content) *Provider {
	p := &Provider{content: content, etag: `"version-1"`, stop: make(chan struct{}), sentBytes: map[int64]int64{}}
	server := httptest.NewUnstartedServer(p)
	server.Config.ConnState = p.countConnection
	server.Start()
	tb.Cleanup(func() {
		close(p.stop)
		server.CloseClientConnections()
		server.Close()
	})
	p.URL = server.URL + "/export"
	return p
}

// Change exports other content under another ETag from now on.
func (p *Provider) Change(content Content, etag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.content, p.etag = content, etag
}

// Misbehave asks decide for each request how to answer it; nil is the honest answer. Requests may arrive at the same
// time, decide is called for one after the other.
func (p *Provider) Misbehave(decide func(ProviderRequest) Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.misbehave = decide
}

// Faults counts the requests that were not answered honestly.
func (p *Provider) Faults() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// Requests lists what was asked, in order of arrival.
func (p *Provider) Requests() []ProviderRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Connections counts the connections ever accepted.
func (p *Provider) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connections
}

// Fetches counts the GET requests for a range that starts at offset.
func (p *Provider) Fetches(offset int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.requests {
		if r.Method == http.MethodGet && r.Ranged && r.Offset == offset {
			n++
		}
	}
	return n
}

// SentBytes tells for each offset how many bytes of body went out in answers to ranges that start there.
func (p *Provider) SentBytes() map[int64]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.sentBytes)
}

func (p *Provider) countConnection(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.connections++
	}
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, reply := p.take(r)
	maps.Copy(w.Header(), reply.Header)
	w.WriteHeader(reply.Status)
	if r.Method == http.MethodHead {
		return
	}
	reply.Send(&countedWriter{ResponseWriter: w, p: p, offset: req.Offset}, r)
}

// take notes the request and makes its reply, all under one lock, so that a change of version falls between requests.
func (p *Provider) take(r *http.Request) (ProviderRequest, *ProviderReply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	req := ProviderRequest{
		Number: len(p.requests) + 1, Method: r.Method, Header: r.Header,
		IfMatch: r.Header.Get("If-Match"), BackupID: r.Header.Get("Backup-Id"), Authorization: r.Header.Get("Authorization"),
	}
	req.Offset, req.LengthBytes, req.Ranged = byteRange(r.Header.Get("Range"))
	p.requests = append(p.requests, req)
	reply := p.honest(req)
	if p.misbehave != nil {
		if answer := p.misbehave(req); answer != nil {
			p.faults++
			answer(reply, req)
		}
	}
	if reply.Send == nil {
		reply.Send = reply.send(p.content)
	}
	return req, reply
}

func byteRange(header string) (offset, lengthBytes int64, ok bool) {
	var last int64
	if _, err := fmt.Sscanf(header, "bytes=%d-%d", &offset, &last); err != nil {
		return 0, 0, false
	}
	return offset, last - offset + 1, true
}

func (p *Provider) honest(req ProviderRequest) *ProviderReply {
	size := p.content.Size()
	reply := &ProviderReply{Status: http.StatusOK, Header: http.Header{}, LengthBytes: size, p: p}
	reply.Header.Set("ETag", p.etag)
	reply.Header.Set("Accept-Ranges", "bytes")
	reply.Header.Set("Content-Type", "application/zip")
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		reply.refuse(http.StatusMethodNotAllowed)
	case req.IfMatch != "" && req.IfMatch != p.etag:
		reply.refuse(http.StatusPreconditionFailed)
	case req.Ranged && req.Method == http.MethodGet:
		reply.ranged(req, size)
	default:
		reply.Header.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	return reply
}

func (r *ProviderReply) refuse(status int) {
	r.Status, r.Offset, r.LengthBytes = status, 0, 0
	r.Header.Set("Content-Length", "0")
}

func (r *ProviderReply) ranged(req ProviderRequest, size int64) {
	if req.LengthBytes <= 0 || req.Offset >= size {
		r.refuse(http.StatusRequestedRangeNotSatisfiable)
		r.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return
	}
	r.Status, r.Offset, r.LengthBytes = http.StatusPartialContent, req.Offset, min(req.LengthBytes, size-req.Offset)
	r.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", r.Offset, r.Offset+r.LengthBytes-1, size))
	r.Header.Set("Content-Length", strconv.FormatInt(r.LengthBytes, 10))
}

func (r *ProviderReply) send(content Content) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		// An error means that the client has gone.
		_ = writeRange(w, content, r.Offset, r.LengthBytes)
	}
}

func writeRange(w io.Writer, content Content, offset, lengthBytes int64) error {
	if direct, ok := content.(interface {
		WriteRange(w io.Writer, off, lengthBytes int64) (int64, error)
	}); ok {
		_, err := direct.WriteRange(w, offset, lengthBytes)
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(content, offset, lengthBytes))
	return err
}

type countedWriter struct {
	http.ResponseWriter
	p      *Provider
	offset int64
}

func (w *countedWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.sentBytes[w.offset] += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FirstRequests answers the first n requests with answer and the rest honestly.
func FirstRequests(n int, answer Answer) func(ProviderRequest) Answer {
	return func(req ProviderRequest) Answer {
		if req.Number <= n {
			return answer
		}
		return nil
	}
}

// EveryRange answers every GET with answer and every HEAD honestly.
func EveryRange(answer Answer) func(ProviderRequest) Answer {
	return func(req ProviderRequest) Answer {
		if req.Method == http.MethodGet {
			return answer
		}
		return nil
	}
}

// RangeAt answers the first n ranges that start at offset with answer, and everything else honestly.
func RangeAt(offset int64, n int, answer Answer) func(ProviderRequest) Answer {
	left := n
	return func(req ProviderRequest) Answer {
		if req.Method != http.MethodGet || !req.Ranged || req.Offset != offset || left == 0 {
			return nil
		}
		left--
		return answer
	}
}

var errorPage = "<!doctype html><title>Error</title>" + strings.Repeat("<p>Something went wrong.</p>\n", 20)
