// Package identity tells who sends a request.
package identity

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/sitevault/sitevault/internal/backup"
)

// OneUser makes every request the given user's, for a service behind httpserver.LocalOnly.
func OneUser(userID string) func(*http.Request) (string, error) {
	return func(*http.Request) (string, error) { return userID, nil }
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
