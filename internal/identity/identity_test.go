package identity_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/identity"
)

// issuer is an OpenID provider on the loopback interface.
type issuer struct {
	*testing.T
	url  string
	key  *rsa.PrivateKey
	id   string // of the key
	read int    // how often its keys were read
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{T: t, key: newKey(t), id: "key-1"}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.write(w, map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/auth", "token_endpoint": i.url + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.read++
		i.write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: i.id, Algorithm: "RS256", Use: "sig"}}})
	})
	return i
}

func newKey(t *testing.T) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *issuer) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.Error(err)
	}
}

func (i *issuer) claims() jwt.Claims {
	return jwt.Claims{
		Issuer: i.url, Subject: "ada", Audience: jwt.Audience{"sitevault"},
		IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
}

func (i *issuer) sign(key any, algorithm jose.SignatureAlgorithm, claims jwt.Claims) string {
	i.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", i.id))
	if err != nil {
		i.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		i.Fatal(err)
	}
	return token
}

func (i *issuer) identify() func(*http.Request) (string, error) {
	i.Helper()
	identify, err := identity.OIDC(i.Context(), i.url, "sitevault")
	if err != nil {
		i.Fatal(err)
	}
	return identify
}

func bearing(t *testing.T, authorization string) *http.Request {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/backup", nil)
	r.Header.Set("Authorization", authorization)
	return r
}

// Only a token that the issuer signed, for us, and that is still valid, says who sends a request.
func TestOIDC(t *testing.T) {
	i := newIssuer(t)
	identify := i.identify()
	good := i.sign(i.key, jose.RS256, i.claims())
	signed := func(change func(*jwt.Claims)) string {
		c := i.claims()
		change(&c)
		return "Bearer " + i.sign(i.key, jose.RS256, c)
	}
	parts := strings.Split(good, ".")
	for _, tc := range []struct{ name, authorization, user string }{
		{"a good token", "Bearer " + good, "ada"},
		{"one of several audiences", signed(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other", "sitevault"} }), "ada"},
		{"a subject that is no plain id", signed(func(c *jwt.Claims) { c.Subject = "auth0|../x" }), backup.UserID("auth0|../x")},

		{"nothing", "", ""},
		{"no token", "Bearer ", ""},
		{"another scheme", "Basic " + good, ""},
		{"no JWT", "Bearer abc", ""},
		{"another audience", signed(func(c *jwt.Claims) { c.Audience = jwt.Audience{"other"} }), ""},
		{"no audience", signed(func(c *jwt.Claims) { c.Audience = nil }), ""},
		{"another issuer", signed(func(c *jwt.Claims) { c.Issuer = "https://example.org" }), ""},
		{"expired", signed(func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }), ""},
		{"without an end", signed(func(c *jwt.Claims) { c.Expiry = nil }), ""},
		{"not valid yet", signed(func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }), ""},
		{"signed by another key", "Bearer " + i.sign(newKey(t), jose.RS256, i.claims()), ""},
		{"signed with the public key as a secret", "Bearer " + i.sign(i.key.N.Bytes(), jose.HS256, i.claims()), ""},
		{"unsigned", "Bearer " + parts[0] + "." + parts[1] + ".", ""},
		{"algorithm none", "Bearer eyJhbGciOiJub25lIn0." + parts[1] + ".", ""},
		{"another body under the signature", "Bearer " + parts[0] + "." + strings.Split(signed(func(c *jwt.Claims) { c.Subject = "eve" }), ".")[1] + "." + parts[2], ""},
	} {
		user, err := identify(bearing(t, tc.authorization))
		if user != tc.user || (err == nil) != (tc.user != "") || (err != nil && !backup.Is(err, backup.Unauthenticated)) {
			t.Errorf("%s: %q, %v", tc.name, user, err)
		}
	}
	if _, err := identify(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)); !backup.Is(err, backup.Unauthenticated) {
		t.Errorf("no Authorization at all: %v", err)
	}
}

// When the issuer changes its key, tokens of the new one are good and those of the old one are not any more.
func TestOIDCKeyChange(t *testing.T) {
	i := newIssuer(t)
	identify := i.identify()
	old := i.sign(i.key, jose.RS256, i.claims())
	if _, err := identify(bearing(t, "Bearer "+old)); err != nil {
		t.Fatal(err)
	}
	i.key, i.id = newKey(t), "key-2"
	if user, err := identify(bearing(t, "Bearer "+i.sign(i.key, jose.RS256, i.claims()))); err != nil || user != "ada" {
		t.Errorf("a token of the new key: %q, %v", user, err)
	}
	if user, err := identify(bearing(t, "Bearer "+old)); err == nil {
		t.Errorf("a token of the old key: %q", user)
	}
	if i.read < 2 {
		t.Errorf("the keys were read %d times", i.read)
	}
}

// An issuer that does not answer, or answers as another one, is noticed at the start.
func TestOIDCIssuer(t *testing.T) {
	i := newIssuer(t)
	if _, err := identity.OIDC(t.Context(), i.url+"/other", "sitevault"); err == nil {
		t.Error("an issuer without configuration is accepted")
	}
	i.url = "https://example.org"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.write(w, map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys"})
	}))
	defer server.Close()
	if _, err := identity.OIDC(t.Context(), server.URL, "sitevault"); err == nil {
		t.Error("an issuer that calls itself by another name is accepted")
	}
}
