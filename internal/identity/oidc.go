package identity

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/httpserver"
)

// asymmetric are the algorithms whose keys may be known to everybody.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// verifier accepts the tokens of an issuer that are meant for an audience.
type verifier struct {
	issuer     string
	audience   string
	algorithms []jose.SignatureAlgorithm
	keys       *keySet
	now        func() time.Time
}

// OIDC accepts bearer tokens of the issuer that are meant for the audience. It reads the issuer's keys at once, and
// again when they change.
func OIDC(ctx context.Context, issuer, audience string, now func() time.Time) (func(*http.Request) (backup.Caller, error), error) {
	if err := CheckIssuer(issuer); err != nil {
		return nil, err
	}
	v := verifier{issuer: issuer, audience: audience, now: now}
	if err := v.discover(ctx); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", issuer, err)
	}
	return v.identify, nil
}

// CheckIssuer refuses issuers whose keys others could replace on their way.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !protected(u) {
		return fmt.Errorf("issuer %q: give its https URL; http is for an issuer on a loopback address of this machine only", issuer)
	}
	return nil
}

func protected(u *url.URL) bool {
	return u.Scheme == "https" || (u.Scheme == "http" && httpserver.LoopbackHost(u.Host))
}

// discover reads what the issuer says of itself, and its keys.
func (v *verifier) discover(ctx context.Context) error {
	client := newClient()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), v.issuer)
	if err != nil {
		return err
	}
	var says struct {
		Keys       string                    `json:"jwks_uri"`
		Algorithms []jose.SignatureAlgorithm `json:"id_token_signing_alg_values_supported"`
	}
	if err := provider.Claims(&says); err != nil {
		return err
	}
	v.algorithms = slices.DeleteFunc(says.Algorithms, func(a jose.SignatureAlgorithm) bool { return !slices.Contains(asymmetric, a) })
	if len(v.algorithms) == 0 {
		v.algorithms = []jose.SignatureAlgorithm{jose.RS256} // which every issuer has to support
	}
	v.keys, err = newKeySet(says.Keys, client, v.now)
	return err
}

func (v *verifier) identify(r *http.Request) (backup.Caller, error) {
	raw, ok := bearer(r.Header.Values("Authorization"))
	if !ok {
		return backup.Caller{}, backup.E(backup.Unauthenticated, "send the issuer's token as Authorization: Bearer <token>")
	}
	token, err := jwt.ParseSigned(raw, v.algorithms)
	if err != nil {
		return backup.Caller{}, invalid(err)
	}
	var c claims
	if err := v.keys.open(token, &c); err != nil {
		return backup.Caller{}, err
	}
	if err := c.check(v.issuer, v.audience, v.now()); err != nil {
		return backup.Caller{}, invalid(err)
	}
	return backup.Caller{UserID: backup.UserID(c.Subject), ExpiresAt: c.Expiry.Time}, nil
}

func invalid(err error) error {
	return backup.E(backup.Unauthenticated, "the token is not valid: %w", err)
}

// bearer is the token of a request's one Authorization header. The scheme's name may be written in upper or lower case,
// and spaces may follow it (RFC 9110, 11.4).
func bearer(headers []string) (token string, ok bool) {
	if len(headers) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.Trim(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}
