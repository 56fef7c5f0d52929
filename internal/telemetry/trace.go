package telemetry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-xray-sdk-go/v2/header"
)

// Limits of X-Ray: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html (read 2026-11).
const (
	maxNameBytes       = 200
	maxAnnotationBytes = 1000
)

// maxSubsegments bounds what one invocation adds to its trace. A batch of parts stays far below.
const maxSubsegments = 100

// datagramHeader precedes each document that the X-Ray daemon is sent:
// https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html (read 2026-11).
const datagramHeader = `{"format": "json", "version": 1}` + "\n"

// Tracer sends the subsegments of sampled Lambda invocations to the X-Ray daemon, each by itself when it ends. The
// segments above them are Lambda's own. A nil Tracer traces nothing, and so does any outside a sampled invocation.
//
// The segments of the X-Ray SDK are not used: its package xray links gRPC, protobuf and fasthttp, 3.5 MB of each
// function's zip, and starts a goroutine for each segment. Its package header is.
type Tracer struct {
	out    io.Writer
	now    func() time.Time
	random io.Reader
}

// DialTracer makes a Tracer for the daemon at address, which is what Lambda puts into AWS_XRAY_DAEMON_ADDRESS: host:port,
// or "tcp:host:port udp:host:port". No packet is sent before the first subsegment. "" makes a nil Tracer.
func DialTracer(address string, now func() time.Time, random io.Reader) (*Tracer, error) {
	if address == "" {
		return nil, nil
	}
	for _, form := range strings.Fields(address) {
		if udp, ok := strings.CutPrefix(form, "udp:"); ok {
			address = udp
		}
	}
	daemon, err := net.Dial("udp", address)
	if err != nil {
		return nil, fmt.Errorf("X-Ray daemon %q: %w", address, err)
	}
	return NewTracer(daemon, now, random), nil
}

// NewTracer writes each subsegment to out as one datagram; random gives the ids.
func NewTracer(out io.Writer, now func() time.Time, random io.Reader) *Tracer {
	return &Tracer{out: out, now: now, random: random}
}

// traceHeader is what the X-Amzn-Trace-Id header of an invocation says.
type traceHeader struct {
	traceID  string // "": there is none
	parentID string
	sampled  bool
}

var (
	traceIDPattern   = regexp.MustCompile(`^1-[0-9a-f]{8}-[0-9a-f]{24}$`)
	segmentIDPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// lambdaTraceKey is the key under which aws-lambda-go keeps the header in an invocation's context.
const lambdaTraceKey = "x-amzn-trace-id"

func traceHeaderOf(ctx context.Context) traceHeader {
	text, _ := ctx.Value(lambdaTraceKey).(string)
	return parseTraceHeader(text)
}

func parseTraceHeader(text string) traceHeader {
	if text == "" {
		return traceHeader{}
	}
	h := header.FromString(text)
	if !traceIDPattern.MatchString(h.TraceID) {
		return traceHeader{}
	}
	parsed := traceHeader{traceID: h.TraceID}
	if segmentIDPattern.MatchString(h.ParentID) {
		parsed.parentID = h.ParentID
		parsed.sampled = h.SamplingDecision == header.Sampled
	}
	return parsed
}

// Subsegment is a piece of work on its way. A nil one is not traced; all its methods do nothing.
type Subsegment struct {
	tracer *Tracer
	trace  *traceState
	mu     sync.Mutex
	ended  bool
	doc    document
}

// traceState is shared by all subsegments of an invocation.
type traceState struct{ left atomic.Int32 }

// document is a subsegment that is sent by itself.
type document struct {
	Type        string         `json:"type"`
	TraceID     string         `json:"trace_id"`
	ParentID    string         `json:"parent_id"`
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	StartTime   float64        `json:"start_time"`
	EndTime     float64        `json:"end_time"`
	Namespace   string         `json:"namespace,omitempty"`
	Error       bool           `json:"error,omitempty"`    // the caller's fault
	Throttle    bool           `json:"throttle,omitempty"` // ... which asks too often
	Fault       bool           `json:"fault,omitempty"`    // any other failure
	Cause       *cause         `json:"cause,omitempty"`
	HTTP        *httpData      `json:"http,omitempty"`
	AWS         map[string]any `json:"aws,omitempty"`
	Annotations map[string]any `json:"annotations,omitempty"`
}

// cause names what went wrong, never its message: that may quote what the other side sent.
type cause struct {
	Exceptions []exception `json:"exceptions"`
}

type exception struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type httpData struct {
	Request  *httpRequest  `json:"request,omitempty"`
	Response *httpResponse `json:"response,omitempty"`
}

type httpRequest struct {
	Method string `json:"method"`
	URL    string `json:"url"`
}

type httpResponse struct {
	Status        int   `json:"status"`
	ContentLength int64 `json:"content_length,omitempty"`
}

type subsegmentKey struct{}

// Begin begins a subsegment below the one of the context, or below the invocation's segment. The context that it
// returns makes it the parent of what begins under it.
func (t *Tracer) Begin(ctx context.Context, name string) (context.Context, *Subsegment) {
	if t == nil {
		return ctx, nil
	}
	s := t.below(ctx)
	if s == nil || s.trace.left.Add(-1) < 0 {
		return ctx, nil
	}
	s.doc.Type, s.doc.Name, s.doc.ID, s.doc.StartTime = "subsegment", segmentName(name), t.newID(), t.seconds()
	return context.WithValue(ctx, subsegmentKey{}, s), s
}

func (t *Tracer) below(ctx context.Context) *Subsegment {
	if parent, ok := ctx.Value(subsegmentKey{}).(*Subsegment); ok {
		return &Subsegment{tracer: t, trace: parent.trace, doc: document{TraceID: parent.doc.TraceID, ParentID: parent.doc.ID}}
	}
	h := traceHeaderOf(ctx)
	if !h.sampled {
		return nil
	}
	s := &Subsegment{tracer: t, trace: &traceState{}, doc: document{TraceID: h.traceID, ParentID: h.parentID}}
	s.trace.left.Store(maxSubsegments)
	return s
}

func (t *Tracer) newID() string {
	var id [8]byte
	_, _ = io.ReadFull(t.random, id[:]) // the system's randomness does not fail
	return hex.EncodeToString(id[:])
}

// seconds is the time as X-Ray writes it, to the microsecond.
func (t *Tracer) seconds() float64 { return float64(t.now().UnixMicro()) / 1e6 }

// segmentName leaves the characters that X-Ray allows.
func segmentName(s string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune(` _.:/%&#=+\-@`, r):
			return r
		}
		return '_'
	}, s)
	if name == "" {
		return "unnamed"
	}
	return name[:min(len(name), maxNameBytes)]
}

// Annotate adds a fact that traces can be searched by. value is a string, a number or a bool.
func (s *Subsegment) Annotate(key string, value any) {
	s.change(func(d *document) {
		if text, ok := value.(string); ok {
			value = strings.ToValidUTF8(text[:min(len(text), maxAnnotationBytes)], "")
		}
		if d.Annotations == nil {
			d.Annotations = map[string]any{}
		}
		d.Annotations[key] = value
	})
}

// remote says that the subsegment is a request to somebody else. Of the URL only scheme and host are told.
func (s *Subsegment) remote(method, rawURL string) {
	s.change(func(d *document) {
		d.Namespace = "remote"
		d.HTTP = &httpData{Request: &httpRequest{Method: method, URL: origin(rawURL)}}
	})
}

func origin(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

// host names a request by whom it is sent to.
func host(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Host != "" {
		return u.Host
	}
	return "provider"
}

func (s *Subsegment) response(status int, contentLength int64) {
	s.change(func(d *document) {
		if d.HTTP == nil {
			d.HTTP = &httpData{}
		}
		d.HTTP.Response = &httpResponse{Status: status, ContentLength: max(contentLength, 0)}
	})
}

func (s *Subsegment) change(change func(d *document)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		change(&s.doc)
	}
}

// End ends the subsegment and sends it; only the first End counts. Of err only its kind is told.
func (s *Subsegment) End(err error) {
	s.change(func(d *document) {
		s.ended = true
		d.EndTime = s.tracer.seconds()
		if err != nil {
			d.fail(err, s.tracer.newID())
		}
		s.tracer.send(*d)
	})
}

func (d *document) fail(err error, id string) {
	status := 0
	if d.HTTP != nil && d.HTTP.Response != nil {
		status = d.HTTP.Response.Status
	}
	d.Throttle = status == 429
	d.Error = status >= 400 && status < 500
	d.Fault = !d.Error
	d.Cause = &cause{Exceptions: []exception{{ID: id, Type: errorName(err)}}}
}

// send never fails the work that it tells of: a lost subsegment is a gap in a picture.
func (t *Tracer) send(d document) {
	body, err := json.Marshal(d)
	if err != nil {
		return
	}
	_, _ = t.out.Write(append([]byte(datagramHeader), body...))
}

// downstream is the trace header for whom the subsegment calls.
func (s *Subsegment) downstream() string {
	h := header.Header{TraceID: s.doc.TraceID, ParentID: s.doc.ID, SamplingDecision: header.Sampled}
	return h.String()
}
