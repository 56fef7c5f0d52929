package cloud

import (
	"context"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sitevault/sitevault/internal/identity"
)

// issuerTimeout bounds a request for the issuer's keys.
const issuerTimeout = 5 * time.Second

// Identify reads ISSUER and AUDIENCE, and at once the issuer's keys.
func (s *Service) Identify(ctx context.Context) func(*http.Request) (userID string, err error) {
	issuer, audience := s.Settings.URL("ISSUER"), s.Settings.Text("AUDIENCE")
	if s.Settings.Err() != nil {
		return nil // Start says so
	}
	ctx = oidc.ClientContext(ctx, &http.Client{Timeout: issuerTimeout})
	return part(s, "ISSUER", func() (func(*http.Request) (string, error), error) { return identity.OIDC(ctx, issuer, audience) })
}
