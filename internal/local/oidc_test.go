package local_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
)

// issuer is an OIDC issuer with one key.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{key: newKey(t)}
	mux := http.NewServeMux()
	answer := func(path string, v func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v())
		})
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/auth", "token_endpoint": i.url + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}
	})
	answer("/keys", func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *issuer) claims(subject string) jwt.Claims {
	return jwt.Claims{Issuer: i.url, Subject: subject, Audience: jwt.Audience{"sitevault"}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour))}
}

func sign(t *testing.T, key any, algorithm jose.SignatureAlgorithm, c jwt.Claims) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// With an issuer, everybody signs in with its tokens and sees their own; a token that is not the issuer's, not for us or
// not valid any more opens nothing.
func TestIssuer(t *testing.T) {
	e2e.VersityGW(t)
	i := newIssuer(t)
	c := e2e.Config(t, nil)
	c.Issuer, c.Audience = i.url, "sitevault"
	s := e2e.Start(t, c)
	site := api.SiteBody{Providers: []backup.Provider{{Name: "files", URL: "https://site.example/"}}}
	alice := s.As("Bearer " + sign(t, i.key, jose.ES256, i.claims("alice")))
	if r := alice.Call(http.MethodPut, "/site/shop", site); r.Status != http.StatusCreated {
		t.Fatalf("alice: %d %s", r.Status, r.Body)
	}
	bob := s.As("Bearer " + sign(t, i.key, jose.ES256, i.claims("auth0|bob/../alice")))
	bob.Refused(http.StatusNotFound, backup.NotFound, http.MethodGet, "/site/shop", nil)
	if r := bob.Call(http.MethodPut, "/site/shop", site); r.Status != http.StatusCreated {
		t.Fatalf("bob: %d %s", r.Status, r.Body)
	}
	past, elsewhere, stranger := i.claims("alice"), i.claims("alice"), i.claims("alice")
	past.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Minute))
	elsewhere.Audience = jwt.Audience{"another"}
	stranger.Issuer = "https://evil.example"
	good := sign(t, i.key, jose.ES256, i.claims("alice"))
	for name, authorization := range map[string]string{
		"none": "", "no scheme": good, "other scheme": "Basic " + good, "garbage": "Bearer garbage", "cut": "Bearer " + good[:len(good)-8],
		"expired": "Bearer " + sign(t, i.key, jose.ES256, past), "other audience": "Bearer " + sign(t, i.key, jose.ES256, elsewhere),
		"other issuer": "Bearer " + sign(t, i.key, jose.ES256, stranger), "other key": "Bearer " + sign(t, newKey(t), jose.ES256, i.claims("alice")),
		"symmetric": "Bearer " + sign(t, []byte("0123456789abcdef0123456789abcdef"), jose.HS256, i.claims("alice")),
	} {
		t.Run(name, func(t *testing.T) {
			s.As(authorization).Refused(http.StatusUnauthorized, backup.Unauthenticated, http.MethodGet, "/site/shop", nil)
		})
	}
}
