package local

import (
	"context"
	"fmt"
	"net/http"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/httpserver"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
)

// changed hears of every committed write.
func (s *Service) changed(c backup.Change) {
	s.metrics.Record(context.Background(), telemetry.FromChange(c)...)
	s.hub.Notify(c)
}

// measured are the ports whose calls are timed. An export that hangs gives its place to others.
func (s *Service) measured() (step.Exporter, step.Uploader) {
	now := s.config.Now
	exports := yielding{telemetry.Exports(s.exports, s.metrics, nil, now), s.config.HangAfter}
	return exports, telemetry.Uploads(s.storage, s.metrics, now)
}

// metricsServer serves /metrics on a loopback address of its own.
type metricsServer struct {
	listener *httpserver.Listener
	server   *http.Server
}

func (s *Service) listenForMetrics() error {
	l, err := httpserver.Listen(s.config.MetricsListen, s.config.Limits, s.config.Log)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics)
	s.metricsServer = &metricsServer{l, httpserver.New(httpserver.LocalOnly(mux), s.config.Log)}
	if !l.Loopback() {
		return fmt.Errorf("metrics: listen on %s: they are those of all users together and need no sign-in; use a loopback address", l.Addr())
	}
	return nil
}

// serve answers until ctx ends.
func (m *metricsServer) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = m.server.Close() })()
	if err := m.server.Serve(m.listener); ctx.Err() == nil {
		return err
	}
	return nil
}
