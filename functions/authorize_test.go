package functions_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sitevault/sitevault/internal/awstest"
)

// newIssuer is an OIDC issuer; sign makes its tokens for an audience.
func newIssuer(t *testing.T) (url string, sign func(audience string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("/.well-known/openid-configuration", map[string]any{
		"issuer": server.URL, "jwks_uri": server.URL + "/keys", "authorization_endpoint": server.URL + "/auth",
		"token_endpoint": server.URL + "/token", "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	answer("/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, func(audience string) string {
		token, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: server.URL, Subject: "auth0|ada", Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
}

// Tokens of a foreign issuer for our audience are let in under an id that can stand in a key, all others are not.
func TestAuthorize(t *testing.T) {
	program(t, "authorize")
	server := awstest.New(t)
	issuer, sign := newIssuer(t)
	f := start(t, "authorize", only(environment(server, "ISSUER="+issuer), slices.Concat(everywhere, needed["authorize"]))...)
	f.awaitReady()
	for audience, want := range map[string]string{"sitevault": `"userId":"u-`, "another": `"errorMessage":"Unauthorized"`} {
		o := f.invoke(fmt.Appendf(nil, `{"type":"TOKEN","authorizationToken":"Bearer %s","methodArn":"arn:aws:execute-api:r:1:a/v1/GET/backup"}`, sign(audience)))
		if !strings.Contains(string(o.result)+string(o.failure), want) {
			t.Errorf("%s: %s%s", audience, o.result, o.failure)
		}
	}
	if out := f.output.String(); strings.Contains(out, "eyJ") {
		t.Errorf("a token in the log:\n%s", out)
	}
}

// An issuer that does not answer is named when the function starts, which Lambda then tries again.
func TestAuthorizeWithoutIssuer(t *testing.T) {
	program(t, "authorize")
	server := awstest.New(t)
	f := start(t, "authorize", only(environment(server), slices.Concat(everywhere, needed["authorize"]))...)
	<-f.ended
	if f.process.ProcessState.Success() || !strings.Contains(f.output.String(), "issuer "+server.URL) {
		t.Errorf("%s:\n%s", f.process.ProcessState, f.output)
	}
}
