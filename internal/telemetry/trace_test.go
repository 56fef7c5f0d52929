package telemetry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/telemetry"
)

// daemon keeps datagrams as the X-Ray daemon gets them.
type daemon struct {
	mu        sync.Mutex
	datagrams [][]byte
}

func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.datagrams = append(d.datagrams, bytes.Clone(p))
	return len(p), nil
}

// subsegment is a document as X-Ray reads it.
type subsegment struct {
	Type        string         `json:"type"`
	TraceID     string         `json:"trace_id"`
	ParentID    string         `json:"parent_id"`
	ID          string         `json:"id"`
	Name        string         `json:"name"`
	StartTime   float64        `json:"start_time"`
	EndTime     float64        `json:"end_time"`
	Namespace   string         `json:"namespace"`
	Error       bool           `json:"error"`
	Throttle    bool           `json:"throttle"`
	Fault       bool           `json:"fault"`
	Annotations map[string]any `json:"annotations"`
	AWS         map[string]any `json:"aws"`
	Cause       struct {
		Exceptions []struct{ ID, Type string }
	} `json:"cause"`
	HTTP struct {
		Request  struct{ Method, URL string }
		Response struct {
			Status        int
			ContentLength int64 `json:"content_length"`
		}
	} `json:"http"`
}

func (s subsegment) exception() string {
	if len(s.Cause.Exceptions) != 1 {
		return ""
	}
	return s.Cause.Exceptions[0].Type
}

// sent reads all datagrams, each of which must be a complete subsegment by itself.
func (d *daemon) sent(t *testing.T) (all []subsegment) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	id := regexp.MustCompile(`^[0-9a-f]{16}$`)
	for _, datagram := range d.datagrams {
		head, body, _ := bytes.Cut(datagram, []byte("\n"))
		var version struct {
			Format  string `json:"format"`
			Version int    `json:"version"`
		}
		if err := json.Unmarshal(head, &version); err != nil || version.Format != "json" || version.Version != 1 {
			t.Errorf("datagram begins %q", head)
		}
		var s subsegment
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s); err != nil || len(datagram) > 64<<10 {
			t.Errorf("%v in %s", err, body)
		}
		if s.Type != "subsegment" || !id.MatchString(s.ID) || !id.MatchString(s.ParentID) || s.Name == "" || s.StartTime <= 0 || s.EndTime < s.StartTime {
			t.Errorf("incomplete: %s", body)
		}
		all = append(all, s)
	}
	return all
}

func newTracer() (*telemetry.Tracer, *daemon) {
	d := &daemon{}
	return telemetry.NewTracer(d, time.Now, rand.Reader), d
}

// Work within work is told as such, each piece by itself when it ends, under Lambda's own segment.
func TestTrace(t *testing.T) {
	tracer, d := newTracer()
	ctx, outer := tracer.Begin(inLambda(t.Context(), sampledHeader), "export-range-upload")
	outer.Annotate("jobId", "01HZX")
	outer.Annotate("attempt", 2)
	_, inner := tracer.Begin(ctx, "DynamoDB")
	inner.End(nil)
	inner.End(errors.New("a second end"))
	inner.Annotate("late", true)
	_, second := tracer.Begin(ctx, "S3")
	second.End(fmt.Errorf("part 7: %w", backup.E(backup.UploadLost, "no upload")))
	outer.End(context.DeadlineExceeded)

	all := d.sent(t)
	if len(all) != 3 {
		t.Fatalf("%d subsegments", len(all))
	}
	first, next, last := all[0], all[1], all[2]
	for _, s := range all {
		if s.TraceID != "1-5759e988-bd862e3fe1be46a994272793" {
			t.Errorf("%s is of trace %q", s.Name, s.TraceID)
		}
	}
	if last.ParentID != "53995c3f42cd8ad8" || first.ParentID != last.ID || next.ParentID != last.ID || first.ID == next.ID {
		t.Errorf("%+v", all)
	}
	if last.Annotations["jobId"] != "01HZX" || last.Annotations["attempt"] != 2.0 || len(first.Annotations) > 0 {
		t.Errorf("annotations %v and %v", last.Annotations, first.Annotations)
	}
	if first.Fault || first.exception() != "" || !next.Fault || next.exception() != "UploadLost" || last.exception() != "DeadlineExceeded" {
		t.Errorf("%+v", all)
	}
}

// What is no sampled trace of Lambda's is left alone.
func TestTraceHeader(t *testing.T) {
	const root, parent = "Root=1-5759e988-bd862e3fe1be46a994272793", "Parent=53995c3f42cd8ad8"
	for header, want := range map[string]bool{
		root + ";" + parent + ";Sampled=1":                                               true,
		root + "; " + parent + "; Sampled=1":                                             true,
		"Sampled=1;" + parent + ";" + root:                                               true,
		root + ";" + parent + ";Sampled=1;Lineage=25:3d5c1b34:0":                         true,
		"Self=1-67891234-abcdef012345678912345678;" + root + ";" + parent + ";Sampled=1": true,
		root + ";" + parent + ";Sampled=0":                                               false,
		root + ";" + parent + ";Sampled=?":                                               false,
		root + ";" + parent:                                                              false,
		root + ";Sampled=1":                                                              false,
		parent + ";Sampled=1":                                                            false,
		"Root=1-5759e988-bd862e3fe1be46a99427279;" + parent + ";Sampled=1":               false,
		"Root=2-5759e988-bd862e3fe1be46a994272793;" + parent + ";Sampled=1":              false,
		root + ";Parent=53995C3F42CD8AD8;Sampled=1":                                      false,
		root + ";Parent=\"},\";Sampled=1":                                                false,
		"":                                                                               false, ";;;===": false,
	} {
		tracer, d := newTracer()
		_, s := tracer.Begin(inLambda(t.Context(), header), "work")
		s.Annotate("jobId", "01HZX")
		s.End(nil)
		if got := len(d.sent(t)) == 1; got != want || (s != nil) != want {
			t.Errorf("%q is traced: %t", header, got)
		}
	}
}

// Whatever a header holds, what is sent is well-formed.
func FuzzTraceHeader(f *testing.F) {
	f.Add(sampledHeader)
	f.Add("Root=;Parent=;Sampled=1")
	f.Fuzz(func(t *testing.T, header string) {
		tracer, d := newTracer()
		_, s := tracer.Begin(inLambda(t.Context(), header), header)
		s.End(nil)
		d.sent(t)
	})
}

// Without a daemon, and outside Lambda, nothing is traced and nothing fails.
func TestTraceNothing(t *testing.T) {
	none, err := telemetry.DialTracer("", time.Now, rand.Reader)
	if err != nil || none != nil || none.AWS() != nil {
		t.Fatalf("%v, %v", none, err)
	}
	ctx, s := none.Begin(inLambda(t.Context(), sampledHeader), "work")
	s.Annotate("jobId", "01HZX")
	s.End(errors.New("broken"))
	if s != nil || ctx == nil {
		t.Errorf("%v", s)
	}
	tracer, d := newTracer()
	_, s = tracer.Begin(t.Context(), "work")
	s.End(nil)
	if len(d.sent(t)) > 0 {
		t.Error("traced outside Lambda")
	}
}

// One invocation adds a bounded number of subsegments; what goes beyond runs untraced.
func TestTraceBound(t *testing.T) {
	tracer, d := newTracer()
	ctx, outer := tracer.Begin(inLambda(t.Context(), sampledHeader), "work")
	for range 1000 {
		_, s := tracer.Begin(ctx, "call")
		s.End(nil)
	}
	outer.End(nil)
	if n := len(d.sent(t)); n != 100 {
		t.Errorf("%d subsegments", n)
	}
}

// Names and annotations are cut to what X-Ray takes.
func TestTraceNames(t *testing.T) {
	tracer, d := newTracer()
	for name := range map[string]string{"": "unnamed", "a\"b\nc": "a_b_c", "[::1]:80": "_::1_:80", "exämple": "ex_mple"} {
		_, s := tracer.Begin(inLambda(t.Context(), sampledHeader), name)
		s.End(nil)
	}
	_, s := tracer.Begin(inLambda(t.Context(), sampledHeader), strings.Repeat("n", 300))
	s.Annotate("long", strings.Repeat("ä", 1000))
	s.End(nil)
	all := d.sent(t)
	var names []string
	for _, s := range all[:4] {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if want := []string{"_::1_:80", "a_b_c", "ex_mple", "unnamed"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if text, _ := all[4].Annotations["long"].(string); len(all[4].Name) != 200 || len(text) != 1000 {
		t.Errorf("name of %d, annotation of %d bytes", len(all[4].Name), len(text))
	}
}

// The daemon gets each subsegment as one datagram, at either form of its address. Nobody listening is no failure.
func TestTraceUDP(t *testing.T) {
	listener, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.LocalAddr().String()
	for _, form := range []string{address, "tcp:127.0.0.1:1 udp:" + address} {
		tracer, err := telemetry.DialTracer(form, time.Now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, s := tracer.Begin(inLambda(t.Context(), sampledHeader), "work")
		s.End(nil)
		datagram := make([]byte, 64<<10)
		if err := listener.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := listener.ReadFrom(datagram)
		if err != nil {
			t.Fatal(err)
		}
		d := &daemon{datagrams: [][]byte{datagram[:n]}}
		if all := d.sent(t); all[0].Name != "work" {
			t.Errorf("%+v", all)
		}
	}
	tracer, err := telemetry.DialTracer(address, time.Now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for range 3 {
		_, s := tracer.Begin(inLambda(t.Context(), sampledHeader), "work")
		s.End(nil)
	}
	if _, err := telemetry.DialTracer("127.0.0.1", time.Now, rand.Reader); err == nil {
		t.Error("an address without a port was dialed")
	}
}
