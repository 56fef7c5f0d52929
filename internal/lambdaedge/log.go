package lambdaedge

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// NewLogger writes JSON lines at LOG_LEVEL (info unless given). Lines of an invocation carry its requestId and traceId.
func NewLogger(w io.Writer, s *Settings) *slog.Logger {
	var level slog.Level
	if name := s.Optional("LOG_LEVEL"); name != "" && level.UnmarshalText([]byte(name)) != nil {
		s.refuse("LOG_LEVEL", "debug, info, warn or error", name)
	}
	return slog.New(invocationLog{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

// invocationLog adds what the context says of the invocation.
type invocationLog struct{ slog.Handler }

// traceKey is what the runtime keeps the X-Ray header under.
const traceKey = "x-amzn-trace-id"

func (h invocationLog) Handle(ctx context.Context, r slog.Record) error {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.AddAttrs(slog.String("requestId", lc.AwsRequestID))
	}
	if header, ok := ctx.Value(traceKey).(string); ok {
		if id := traceID(header); id != "" {
			r.AddAttrs(slog.String("traceId", id))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h invocationLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return invocationLog{h.Handler.WithAttrs(attrs)}
}

func (h invocationLog) WithGroup(name string) slog.Handler {
	return invocationLog{h.Handler.WithGroup(name)}
}

// traceID is the Root of an X-Ray header "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=...;Sampled=1".
func traceID(header string) string {
	for _, field := range strings.Split(header, ";") {
		if id, ok := strings.CutPrefix(strings.TrimSpace(field), "Root="); ok {
			return id
		}
	}
	return ""
}
