package telemetry

import (
	"context"
	"io"
	"log/slog"
	"slices"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// The keys of log lines. A fact that has a key here is logged under no other.
const (
	KeyJobID      = "jobId"
	KeySiteID     = "siteId"
	KeyTaskID     = "taskId"
	KeyFile       = "file"
	KeyAttempt    = "attempt"
	KeyPartNumber = "partNumber"
	KeyBytes      = "bytes"
	KeyDurationMS = "durationMs"
	KeyRequestID  = "requestId"
	KeyTraceID    = "traceId"
)

// NewJSONHandler writes one JSON object a line, with what the context carries. The time is called timestamp, which is
// what Lambda's own log levels look for beside level:
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html (read 2026-11).
func NewJSONHandler(out io.Writer, level slog.Leveler) slog.Handler {
	rename := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Key = "timestamp"
		}
		return a
	}
	return WithContext(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: rename}))
}

// WithContext adds what the context of a log call carries to each line of the handler: the attributes of With, and of
// a Lambda invocation its requestId and traceId. What the line says itself goes before.
func WithContext(inner slog.Handler) slog.Handler { return &contextHandler{inner: inner} }

type attrsKey struct{}

// With makes every line that is logged under the context carry attrs.
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	return context.WithValue(ctx, attrsKey{}, slices.Concat(without(carried(ctx), attrs), attrs))
}

func carried(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return attrs
}

// without are the attributes of all but those whose keys taken has.
func without(all, taken []slog.Attr) []slog.Attr {
	var left []slog.Attr
	for _, a := range all {
		if !slices.ContainsFunc(taken, func(t slog.Attr) bool { return t.Key == a.Key }) {
			left = append(left, a)
		}
	}
	return left
}

// invocation are the ids of the Lambda invocation that the context belongs to; none outside Lambda.
func invocation(ctx context.Context) []slog.Attr {
	var ids []slog.Attr
	if l, ok := lambdacontext.FromContext(ctx); ok && l.AwsRequestID != "" {
		ids = append(ids, slog.String(KeyRequestID, l.AwsRequestID))
	}
	if h := traceHeaderOf(ctx); h.traceID != "" {
		ids = append(ids, slog.String(KeyTraceID, h.traceID))
	}
	return ids
}

// contextHandler keeps groups to itself, since inner would put the context's attributes into the open one.
type contextHandler struct {
	inner  slog.Handler
	preset []slog.Attr // outside all groups; inner has them too
	groups []logGroup  // open, outermost first
}

type logGroup struct {
	name   string
	preset []slog.Attr
}

func (h *contextHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

func (h *contextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	if len(attrs) == 0 {
		return h
	}
	if n := len(h.groups); n > 0 {
		next.groups = slices.Clone(h.groups)
		next.groups[n-1].preset = slices.Concat(h.groups[n-1].preset, attrs)
		return &next
	}
	next.inner = h.inner.WithAttrs(attrs)
	next.preset = slices.Concat(h.preset, attrs)
	return &next
}

func (h *contextHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.groups = append(slices.Clone(h.groups), logGroup{name: name})
	return &next
}

func (h *contextHandler) Handle(ctx context.Context, r slog.Record) error {
	said := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool { said = append(said, a); return true })
	for _, g := range slices.Backward(h.groups) {
		said = []slog.Attr{{Key: g.name, Value: slog.GroupValue(slices.Concat(g.preset, said)...)}}
	}
	from := without(slices.Concat(invocation(ctx), carried(ctx)), slices.Concat(h.preset, said))
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	line.AddAttrs(from...)
	line.AddAttrs(said...)
	return h.inner.Handle(ctx, line)
}
