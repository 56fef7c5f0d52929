package telemetry_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// environment answers as lambdaedge.Settings does.
type environment map[string]string

func (e environment) Text(name string) string     { return e[name] }
func (e environment) Optional(name string) string { return e[name] }

var _ telemetry.Settings = (*lambdaedge.Settings)(nil)

// output keeps the lines of a function's standard output: those of metrics apart from those of the log.
func output(t *testing.T, out *bytes.Buffer) (log []map[string]any, metrics []emfLine) {
	t.Helper()
	s := loadSchema(t)
	for text := range bytes.Lines(out.Bytes()) {
		if bytes.Contains(text, []byte(`"_aws"`)) {
			line, err := readEMF(s, text)
			if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			metrics = append(metrics, line)
			continue
		}
		var line map[string]any
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		log = append(log, line)
	}
	return log, metrics
}

func newFunction(t *testing.T, more environment) (f *telemetry.Function, out *bytes.Buffer, clock *clock) {
	t.Helper()
	env := environment{"METRIC_NAMESPACE": "Sitevault", "AWS_LAMBDA_FUNCTION_NAME": "start-job"}
	for name, value := range more {
		env[name] = value
	}
	out, clock = &bytes.Buffer{}, newClock()
	f, err := telemetry.NewFunction(env, out, clock.Now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return f, out, clock
}

const startInput = `{"jobId":"01HZX","attempt":2,"file":"files","siteId":"shop","uploadId":"` + canary + `"}`

// One call: its lines carry what its payload says, its metrics are written when it ends, and next sees the payload.
func TestFunction(t *testing.T) {
	f, out, _ := newFunction(t, nil)
	call := f.Wrap(func(ctx context.Context, payload []byte) ([]byte, error) {
		f.Log.InfoContext(ctx, "hello")
		f.Metrics.Record(ctx, metric.PartsMoved.Of(2))
		if string(payload) != startInput {
			t.Errorf("payload %s", payload)
		}
		return []byte(`"result"`), nil
	})
	for range 2 {
		out.Reset()
		result, err := call(inLambda(t.Context(), sampledHeader), []byte(startInput))
		if string(result) != `"result"` || err != nil {
			t.Errorf("%s, %v", result, err)
		}
		log, metrics := output(t, out)
		if len(log) != 1 || len(metrics) != 1 {
			t.Fatalf("%s", out)
		}
		for _, line := range []map[string]any{log[0], metrics[0].members} {
			if line["jobId"] != "01HZX" || line["attempt"] != 2.0 || line["file"] != "files" || line["siteId"] != "shop" || line["requestId"] != "request-1" {
				t.Errorf("%v", line)
			}
		}
		if n, _ := sum(metrics, "PartsMoved"); n != 2 || strings.Contains(out.String(), canary) {
			t.Errorf("%s", out)
		}
	}
}

// A failure is logged once, as loud as its kind deserves, and returned as it is.
func TestFunctionFails(t *testing.T) {
	for _, tc := range []struct {
		err         error
		kind, level string
	}{
		{backup.E(backup.BatchUnfinished, "time is up"), "BatchUnfinished", "INFO"},
		{backup.E(backup.ProviderTimeout, "no answer"), "ProviderTimeout", "WARN"},
		{lambdaedge.NewFailure(backup.E(backup.UploadLost, "gone")), "UploadLost", "WARN"},
		{errors.New("index out of range"), "Internal", "ERROR"},
	} {
		f, out, clock := newFunction(t, nil)
		call := f.Wrap(func(ctx context.Context, _ []byte) ([]byte, error) {
			clock.pass(1500 * time.Millisecond)
			f.Metrics.Record(ctx, metric.SweepTended.Of(1))
			return nil, tc.err
		})
		_, err := call(t.Context(), []byte(startInput))
		log, metrics := output(t, out)
		if err != tc.err || len(log) != 1 || len(metrics) != 1 {
			t.Fatalf("%v, %s", err, out)
		}
		line := log[0]
		if line["kind"] != tc.kind || line["level"] != tc.level || line["error"] != tc.err.Error() || line["durationMs"] != 1500.0 || line["jobId"] != "01HZX" {
			t.Errorf("%v", line)
		}
	}
}

// A call that panics goes on panicking, with its metrics written and its subsegment sent as failed.
func TestFunctionPanics(t *testing.T) {
	listener := listen(t)
	f, out, _ := newFunction(t, environment{"AWS_XRAY_DAEMON_ADDRESS": listener.LocalAddr().String()})
	call := f.Wrap(func(ctx context.Context, _ []byte) ([]byte, error) {
		f.Metrics.Record(ctx, metric.SweepTended.Of(1))
		panic("broken")
	})
	func() {
		defer func() {
			if p := recover(); p != "broken" {
				t.Errorf("recovered %v", p)
			}
		}()
		_, _ = call(inLambda(t.Context(), sampledHeader), []byte(startInput))
	}()
	_, metrics := output(t, out)
	if n, _ := sum(metrics, "SweepTended"); n != 1 {
		t.Errorf("%s", out)
	}
	if s := receive(t, listener); !s.Fault {
		t.Errorf("%+v", s)
	}
}

// A call stands in the trace under the function's name and can be found by job and attempt.
func TestFunctionTraced(t *testing.T) {
	listener := listen(t)
	f, _, _ := newFunction(t, environment{"AWS_XRAY_DAEMON_ADDRESS": listener.LocalAddr().String()})
	call := f.Wrap(func(ctx context.Context, _ []byte) ([]byte, error) { return nil, backup.E(backup.UploadLost, canary) })
	_, _ = call(inLambda(t.Context(), sampledHeader), []byte(startInput))
	s := receive(t, listener)
	if s.Name != "start-job" || s.Annotations["jobId"] != "01HZX" || s.Annotations["attempt"] != 2.0 || s.exception() != "UploadLost" {
		t.Errorf("%+v", s)
	}
}

func listen(t *testing.T) net.PacketConn {
	t.Helper()
	listener, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func receive(t *testing.T, listener net.PacketConn) subsegment {
	t.Helper()
	if err := listener.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	datagram := make([]byte, 64<<10)
	n, _, err := listener.ReadFrom(datagram)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{datagrams: [][]byte{datagram[:n]}}
	noCanary(t, d)
	return d.sent(t)[0]
}

// Payloads that are no step's are passed on without facts.
func TestFunctionPayloads(t *testing.T) {
	large := `{"jobId":"` + strings.Repeat("x", 17<<10) + `"}`
	for _, payload := range []string{``, `null`, `[]`, `"text"`, `{"jobId":1}`, `{"httpMethod":"POST","body":"{\"jobId\":\"x\"}"}`, `{`, large} {
		f, out, _ := newFunction(t, nil)
		call := f.Wrap(func(ctx context.Context, got []byte) ([]byte, error) {
			f.Log.InfoContext(ctx, "hello")
			return got, nil
		})
		if got, err := call(t.Context(), []byte(payload)); string(got) != payload || err != nil {
			t.Errorf("%.40q, %v", got, err)
		}
		log, metrics := output(t, out)
		if len(log) != 1 || log[0]["jobId"] != nil || len(metrics) > 0 {
			t.Errorf("%.40s: %.200s", payload, out)
		}
	}
}

// The environment chooses the level and turns tracing off; what it gets wrong is said with its name.
func TestNewFunction(t *testing.T) {
	f, _, _ := newFunction(t, environment{"LOG_LEVEL": "warn", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000", "AWS_XRAY_SDK_DISABLED": "true"})
	if f.Log.Enabled(t.Context(), slog.LevelInfo) || !f.Log.Enabled(t.Context(), slog.LevelWarn) || f.Trace != nil {
		t.Errorf("%+v", f)
	}
	if f, _, _ = newFunction(t, nil); !f.Log.Enabled(t.Context(), slog.LevelInfo) || f.Trace != nil {
		t.Errorf("%+v", f)
	}
	f, out, _ := newFunction(t, environment{"AWS_XRAY_DAEMON_ADDRESS": "nowhere"})
	if f.Trace != nil || !strings.Contains(out.String(), "nowhere") {
		t.Errorf("%+v, %s", f.Trace, out)
	}
	_, err := telemetry.NewFunction(environment{"LOG_LEVEL": "loud"}, out, time.Now, rand.Reader)
	if err == nil || !strings.Contains(err.Error(), "LOG_LEVEL") {
		t.Error(err)
	}
}

// Nothing of a function runs beside its calls.
func TestFunctionGoroutines(t *testing.T) {
	listener := listen(t)
	before := runtime.NumGoroutine()
	for range 10 {
		f, _, _ := newFunction(t, environment{"AWS_XRAY_DAEMON_ADDRESS": listener.LocalAddr().String()})
		call := f.Wrap(func(context.Context, []byte) ([]byte, error) { return nil, nil })
		if _, err := call(inLambda(t.Context(), sampledHeader), nil); err != nil {
			t.Fatal(err)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, before %d", after, before)
	}
}

// BenchmarkNewFunction is what telemetry adds to a cold start.
func BenchmarkNewFunction(b *testing.B) {
	env := environment{"METRIC_NAMESPACE": "Sitevault", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"}
	var out bytes.Buffer
	for b.Loop() {
		if _, err := telemetry.NewFunction(env, &out, time.Now, rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}

// Between lambdaedge's two halves a call is logged by its kind and still fails under it towards the state machine.
func TestFunctionAtTheEdge(t *testing.T) {
	f, out, _ := newFunction(t, nil)
	type in struct {
		JobID string `json:"jobId"`
	}
	step := func(context.Context, in) (string, error) {
		return "", backup.E(backup.ProviderChanged, "another version")
	}
	_, err := lambdaedge.Handler(f.Wrap(lambdaedge.Function(step))).Invoke(t.Context(), []byte(startInput))
	named, ok := errors.AsType[messages.InvokeResponse_Error](err)
	if log, _ := output(t, out); !ok || named.Type != "ProviderChanged" || len(log) != 1 || log[0]["kind"] != "ProviderChanged" {
		t.Errorf("%#v, %s", err, out)
	}
}
