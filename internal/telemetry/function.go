package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// Settings reads the environment of a function; lambdaedge.Settings is one.
type Settings interface {
	Text(name string) string     // which the function cannot do without
	Optional(name string) string // "" when it is not given
}

// Function is what one Lambda function logs, counts and traces with.
type Function struct {
	Log     *slog.Logger
	Metrics *EMF
	Trace   *Tracer // nil: nothing is traced

	name string
	now  func() time.Time
}

// Handler is a function as Lambda's runtime calls it, JSON in and JSON out.
type Handler = func(ctx context.Context, payload []byte) ([]byte, error)

// NewFunction reads METRIC_NAMESPACE and, where they are given, LOG_LEVEL (debug, info, warn or error; info otherwise)
// and what Lambda itself sets: AWS_LAMBDA_FUNCTION_NAME and AWS_XRAY_DAEMON_ADDRESS. AWS_XRAY_SDK_DISABLED=true turns
// tracing off. Lines go to out, which is the function's standard output.
func NewFunction(s Settings, out io.Writer, now func() time.Time, random io.Reader) (*Function, error) {
	var level slog.Level
	if text := s.Optional("LOG_LEVEL"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return nil, fmt.Errorf("LOG_LEVEL: %w", err)
		}
	}
	f := &Function{Log: slog.New(NewJSONHandler(out, level)), name: s.Optional("AWS_LAMBDA_FUNCTION_NAME"), now: now}
	f.Metrics = NewEMF(out, s.Text("METRIC_NAMESPACE"), now, f.Log)
	if s.Optional("AWS_XRAY_SDK_DISABLED") == "true" {
		return f, nil
	}
	var err error
	if f.Trace, err = DialTracer(s.Optional("AWS_XRAY_DAEMON_ADDRESS"), now, random); err != nil {
		f.Log.Warn("nothing is traced", "error", err)
	}
	return f, nil
}

// Wrap makes each call of next carry the facts of its payload in logs, stand as a subsegment, have its failure logged
// and its metrics written, also when it panics. It wraps what knows the error's kind: what lambdaedge.Function
// makes, before its Invoke.
func (f *Function) Wrap(next Handler) Handler {
	return func(ctx context.Context, payload []byte) (result []byte, err error) {
		facts := factsOf(payload)
		ctx, s := f.Trace.Begin(With(ctx, facts.attrs()...), f.name)
		facts.annotate(s)
		began, ended := f.now(), errPanicked
		defer f.Metrics.Flush(ctx)
		defer func() { s.End(ended) }()
		result, err = next(ctx, payload)
		if ended = err; err != nil {
			LogFailure(ctx, f.Log, err, f.now().Sub(began))
		}
		return result, err
	}
}

// errPanicked is how a call ended that never returned.
var errPanicked = errors.New("panic")

// LogFailure writes down why a call failed that the state machine or another caller will judge.
func LogFailure(ctx context.Context, log *slog.Logger, err error, took time.Duration) {
	kind := backup.KindOf(err)
	level := slog.LevelWarn
	switch kind {
	case backup.Internal:
		level = slog.LevelError
	case backup.BatchUnfinished, backup.NoRoom, backup.ProviderPreparing: // it is simply called again
		level = slog.LevelInfo
	}
	log.LogAttrs(ctx, level, "invocation failed",
		slog.String("kind", string(kind)), slog.Any("error", err), slog.Int64(KeyDurationMS, took.Milliseconds()))
}

// Facts are what a payload says about whom it concerns, as arguments of a logger's With.
func Facts(payload []byte) (args []any) {
	for _, a := range factsOf(payload).attrs() {
		args = append(args, a)
	}
	return args
}

// facts are what payloads of the state machine and of the scheduler say about whom they concern.
type facts struct {
	JobID   string `json:"jobId"`
	SiteID  string `json:"siteId"`
	File    string `json:"file"`
	Attempt int    `json:"attempt"`
}

// maxFactsBytes is the largest payload that is looked at: those of steps are small, events in batches are not.
const maxFactsBytes = 16 << 10

func factsOf(payload []byte) (f facts) {
	if len(payload) <= maxFactsBytes {
		_ = json.Unmarshal(payload, &f) // other payloads have no facts
	}
	return f
}

func (f facts) attrs() (attrs []slog.Attr) {
	for _, a := range []slog.Attr{slog.String(KeyJobID, f.JobID), slog.String(KeySiteID, f.SiteID), slog.String(KeyFile, f.File)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if f.Attempt > 0 {
		attrs = append(attrs, slog.Int(KeyAttempt, f.Attempt))
	}
	return attrs
}

func (f facts) annotate(s *Subsegment) {
	if f.JobID != "" {
		s.Annotate(KeyJobID, f.JobID)
	}
	if f.Attempt > 0 {
		s.Annotate(KeyAttempt, f.Attempt)
	}
}
