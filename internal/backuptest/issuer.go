package backuptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audience is whom the tokens of an Issuer are meant for.
const Audience = "sitevault"

// Issuer is an OpenID provider on the loopback interface. It signs whatever it is asked to.
type Issuer struct {
	URL string
	tb  testing.TB

	mu      sync.Mutex
	key     *ecdsa.PrivateKey
	keyID   string
	reads   int
	instead http.HandlerFunc
}

// NewIssuer runs until the end of the test.
func NewIssuer(tb testing.TB) *Issuer {
	i := &Issuer{tb: tb}
	i.Rotate("key-1")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("/keys", i.keys)
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	i.answer(w, map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
		"id_token_signing_alg_values_supported": []jose.SignatureAlgorithm{jose.ES256, jose.HS256},
	})
}

func (i *Issuer) keys(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.reads++
	instead, key := i.instead, jose.JSONWebKey{Key: i.key.Public(), KeyID: i.keyID, Algorithm: string(jose.ES256), Use: "sig"}
	i.mu.Unlock()
	if instead != nil {
		instead(w, r)
		return
	}
	i.answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
}

func (i *Issuer) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.tb.Error(err)
	}
}

// Rotate makes the issuer sign with a new key of the given id.
func (i *Issuer) Rotate(keyID string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.tb.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.keyID = key, keyID
}

// AnswerKeys lets answer stand for the list of the keys; nil: the issuer's own.
func (i *Issuer) AnswerKeys(answer http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.instead = answer
}

// KeyReads is how often the keys were asked for.
func (i *Issuer) KeyReads() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.reads
}

// Claims are those of a good token, valid for an hour.
func (i *Issuer) Claims(subject string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{"iss": i.URL, "sub": subject, "aud": Audience, "iat": now, "exp": now + 3600}
}

// Token is a good token.
func (i *Issuer) Token(subject string) string { return i.Sign(i.Claims(subject)) }

// Sign makes a token of the claims.
func (i *Issuer) Sign(claims map[string]any) string {
	i.tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		i.tb.Fatal(err)
	}
	return i.SignRaw(payload)
}

// SignRaw makes a token of any bytes.
func (i *Issuer) SignRaw(payload []byte) string {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sign(jose.ES256, i.key, i.keyID, payload)
}

// Forge makes a token of the claims with a key that is not the issuer's.
func (i *Issuer) Forge(algorithm jose.SignatureAlgorithm, key any, keyID string, claims map[string]any) string {
	i.tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		i.tb.Fatal(err)
	}
	return i.sign(algorithm, key, keyID, payload)
}

func (i *Issuer) sign(algorithm jose.SignatureAlgorithm, key any, keyID string, payload []byte) string {
	i.tb.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", keyID).WithType("JWT"))
	if err != nil {
		i.tb.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		i.tb.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		i.tb.Fatal(err)
	}
	return token
}
