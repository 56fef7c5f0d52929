package local

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
)

// changed hears of every committed write.
func (s *Service) changed(c backup.Change) {
	s.metrics.Record(context.Background(), telemetry.FromChange(c)...)
	s.hub.Notify(c)
}

// measured are the ports whose calls are timed.
func (s *Service) measured() (step.Exporter, step.Uploader) {
	now := s.config.Now
	return telemetry.Exports(s.exports, s.metrics, nil, now), telemetry.Uploads(s.storage, s.metrics, now)
}

// onThisMachine answers callers on the same machine only: the numbers are those of all users together, and who scrapes
// them has no token. A request that a proxy passes on comes from elsewhere.
func onThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		passedOn := r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != ""
		if err != nil || !peer.Addr().Unmap().IsLoopback() || passedOn {
			http.Error(w, "only for callers on the same machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
