package cloud

import (
	"context"
	"net/http"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/identity"
)

// Identify reads ISSUER and AUDIENCE, and at once the issuer's keys.
func (s *Service) Identify(ctx context.Context) func(*http.Request) (backup.Caller, error) {
	issuer, audience := s.Settings.URL("ISSUER"), s.Settings.Text("AUDIENCE")
	if s.Settings.Err() != nil {
		return nil // Start says so
	}
	return part(s, "ISSUER", func() (func(*http.Request) (backup.Caller, error), error) {
		return identity.OIDC(ctx, issuer, audience, time.Now)
	})
}
