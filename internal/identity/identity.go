// Package identity tells who sends a request.
package identity

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sitevault/sitevault/internal/backup"
)

// OneUser makes every request the given user's: for a service that listens on the loopback interface only. So that no
// web page in the user's browser can speak in the user's name, requests must name a loopback host (a page that binds
// its own name to 127.0.0.1 does not), and those that come from another origin are refused.
func OneUser(userID string) func(*http.Request) (string, error) {
	var origins http.CrossOriginProtection
	return func(r *http.Request) (string, error) {
		if !loopbackHost(r.Host) {
			return "", backup.E(backup.Unauthenticated, "this service without sign-in answers on loopback addresses only, not as %q", r.Host)
		}
		if err := origins.Check(r); err != nil {
			return "", backup.E(backup.Unauthenticated, "%w", err)
		}
		return userID, nil
	}
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// OIDC accepts bearer tokens of the issuer that are meant for the audience. It reads the issuer's keys at once, and
// again when they change.
func OIDC(ctx context.Context, issuer, audience string) (func(*http.Request) (string, error), error) {
	p, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", issuer, err)
	}
	verifier := p.Verifier(&oidc.Config{ClientID: audience})
	return func(r *http.Request) (string, error) {
		raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return "", backup.E(backup.Unauthenticated, "send the issuer's token as Authorization: Bearer <token>")
		}
		token, err := verifier.Verify(r.Context(), raw)
		if err != nil {
			return "", backup.E(backup.Unauthenticated, "the token is not valid: %w", err)
		}
		return backup.UserID(token.Subject), nil
	}, nil
}
