package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/sitevault/sitevault/internal/telemetry"
)

// logged is what one line says, without its time, level and message.
func logged(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	at, _ := line["timestamp"].(string)
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Errorf("timestamp %q: %v", at, err)
	}
	maps.DeleteFunc(line, func(key string, _ any) bool { return slices.Contains([]string{"timestamp", "level", "msg"}, key) })
	return line
}

// A line says whom it concerns: what the call, the logger and the context say, in this order of precedence, each key once.
func TestLogContext(t *testing.T) {
	lambda := func(ctx context.Context) context.Context { return inLambda(ctx, sampledHeader) }
	job := func(ctx context.Context) context.Context {
		return telemetry.With(ctx, slog.String(telemetry.KeyJobID, "01HZX"), slog.Int(telemetry.KeyAttempt, 1))
	}
	again := func(ctx context.Context) context.Context {
		return telemetry.With(job(ctx), slog.Int(telemetry.KeyAttempt, 2))
	}
	plain := func(l *slog.Logger) *slog.Logger { return l }
	for name, tc := range map[string]struct {
		ctx    func(context.Context) context.Context
		logger func(*slog.Logger) *slog.Logger
		args   []any
		want   string
	}{
		"nothing known":  {func(ctx context.Context) context.Context { return ctx }, plain, nil, `{}`},
		"in Lambda":      {lambda, plain, []any{"bytes", 5}, `{"requestId":"request-1","traceId":"1-5759e988-bd862e3fe1be46a994272793","bytes":5}`},
		"of a job":       {job, plain, nil, `{"jobId":"01HZX","attempt":1}`},
		"said again":     {again, plain, nil, `{"jobId":"01HZX","attempt":2}`},
		"the call first": {job, plain, []any{"jobId", "other"}, `{"jobId":"other","attempt":1}`},
		"the logger first": {job, func(l *slog.Logger) *slog.Logger { return l.With("jobId", "logger") }, nil,
			`{"jobId":"logger","attempt":1}`},
		"in a group": {job, func(l *slog.Logger) *slog.Logger { return l.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h") }, []any{"c", 3},
			`{"jobId":"01HZX","attempt":1,"a":1,"g":{"b":2,"h":{"c":3}}}`},
	} {
		var out bytes.Buffer
		tc.logger(slog.New(telemetry.NewJSONHandler(&out, slog.LevelInfo))).InfoContext(tc.ctx(t.Context()), "hello", tc.args...)
		var want map[string]any
		if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
			t.Fatal(err)
		}
		got := logged(t, out.Bytes())
		gotText, _ := json.Marshal(got)
		wantText, _ := json.Marshal(want)
		if string(gotText) != string(wantText) {
			t.Errorf("%s: %s, want %s", name, gotText, wantText)
		}
		if n := bytes.Count(out.Bytes(), []byte(`"jobId"`)); n > 1 {
			t.Errorf("%s: jobId stands %d times in %s", name, n, &out)
		}
	}
}

// A trace header that is none adds no traceId.
func TestLogTraceID(t *testing.T) {
	for header, want := range map[string]any{
		sampledHeader: "1-5759e988-bd862e3fe1be46a994272793",
		"Root=1-5759e988-bd862e3fe1be46a994272793": "1-5759e988-bd862e3fe1be46a994272793",
		"Root=\"},{": nil, "": nil, "Sampled=1": nil,
	} {
		var out bytes.Buffer
		slog.New(telemetry.NewJSONHandler(&out, slog.LevelInfo)).InfoContext(inLambda(t.Context(), header), "hello")
		if got := logged(t, out.Bytes())["traceId"]; got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}

// Lines below the level cost nothing and are not written.
func TestLogLevel(t *testing.T) {
	var out bytes.Buffer
	h := telemetry.NewJSONHandler(&out, slog.LevelWarn)
	slog.New(h).Info("hello")
	if out.Len() > 0 || h.Enabled(t.Context(), slog.LevelInfo) || !h.Enabled(t.Context(), slog.LevelWarn) {
		t.Error(out.String())
	}
}

// The wrapper keeps every rule of a slog.Handler.
func TestLogHandlerRules(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return telemetry.WithContext(slog.NewJSONHandler(&out, nil))
	}, func(t *testing.T) map[string]any {
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	})
}

// Loggers made of one another do not share what they add.
func TestLogSiblings(t *testing.T) {
	var out bytes.Buffer
	base := slog.New(telemetry.NewJSONHandler(&out, slog.LevelInfo)).WithGroup("g").With("a", 1)
	left, right := base.With("b", 2), base.With("b", 3)
	left.Info("hello")
	right.Info("hello")
	lines := slices.Collect(bytes.Lines(out.Bytes()))
	for i, want := range []float64{2, 3} {
		g, _ := logged(t, lines[i])["g"].(map[string]any)
		if g["b"] != want || g["a"] != 1.0 {
			t.Errorf("%v", g)
		}
	}
}
