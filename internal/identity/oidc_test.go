package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/identity"
)

// verified accepts the tokens of an issuer, by a clock that the test can put forward.
type verified struct {
	*backuptest.Issuer
	identify func(*http.Request) (backup.Caller, error)

	mu    sync.Mutex
	ahead time.Duration
}

func verify(t *testing.T) *verified {
	t.Helper()
	v := &verified{Issuer: backuptest.NewIssuer(t)}
	var err error
	if v.identify, err = identity.OIDC(t.Context(), v.URL, backuptest.Audience, v.now); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *verified) now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Now().Add(v.ahead)
}

func (v *verified) advance(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ahead += d
}

func (v *verified) bearing(authorization ...string) (backup.Caller, error) {
	r := httptest.NewRequest(http.MethodGet, "/v1/backup", nil)
	r.Header["Authorization"] = authorization
	return v.identify(r)
}

func (v *verified) token(token string) (backup.Caller, error) { return v.bearing("Bearer " + token) }

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The scheme's name may be written in any case, and more than one space may follow it; there is one header.
func TestBearer(t *testing.T) {
	v := verify(t)
	good := v.Token("ada")
	for _, authorization := range []string{"Bearer " + good, "bearer " + good, "BEARER " + good, "bEaReR   " + good, "Bearer " + good + " "} {
		if caller, err := v.bearing(authorization); err != nil || caller.UserID != "ada" {
			t.Errorf("%.10q: %+v, %v", authorization, caller, err)
		}
	}
	for name, authorization := range map[string][]string{
		"nothing": nil, "no token": {"Bearer "}, "spaces": {"Bearer    "}, "the scheme alone": {"Bearer"}, "no scheme": {good}, "another scheme": {"Basic " + good},
		"no space": {"Bearer" + good}, "a tab": {"Bearer\t" + good}, "no JWT": {"Bearer abc"}, "two tokens": {"Bearer " + good + " " + good},
		"two headers": {"Bearer " + good, "Bearer " + v.Token("eve")},
	} {
		if caller, err := v.bearing(authorization...); !backup.Is(err, backup.Unauthenticated) || caller != (backup.Caller{}) {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
}

// Only a token that the issuer signed says who sends a request.
func TestSignature(t *testing.T) {
	v := verify(t)
	good := v.Token("ada")
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, token := range map[string]string{
		"another key":                        v.Forge(jose.ES256, newKey(t), "key-1", v.Claims("ada")),
		"the public key as a secret":         v.Forge(jose.HS256, []byte(strings.Repeat("k", 64)), "key-1", v.Claims("ada")),
		"no signature":                       parts[0] + "." + parts[1] + ".",
		"algorithm none":                     none + "." + parts[1] + ".",
		"another payload with the signature": parts[0] + "." + strings.Split(v.Token("eve"), ".")[1] + "." + parts[2],
		"cut":                                good[:len(good)-8],
	} {
		if caller, err := v.token(token); !backup.Is(err, backup.Unauthenticated) || caller != (backup.Caller{}) {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
	if caller, err := v.token(good); err != nil || caller.UserID != "ada" {
		t.Errorf("a good token: %+v, %v", caller, err)
	}
	if v.KeyReads() != 1 {
		t.Errorf("the keys were read %d times", v.KeyReads())
	}
}

// A token is of the issuer, for us and valid now.
func TestClaims(t *testing.T) {
	v := verify(t)
	now := time.Now().Unix()
	for _, tc := range []struct {
		claim string
		value any
		ok    bool
	}{
		{"aud", []string{"other", backuptest.Audience}, true},
		{"aud", "other", false}, {"aud", []string{}, false}, {"aud", nil, false}, {"aud", 7, false},
		{"aud", []any{backuptest.Audience, 7}, false}, {"aud", map[string]string{"a": backuptest.Audience}, false},
		{"iss", "https://example.org", false}, {"iss", nil, false}, {"iss", []string{v.URL}, false}, {"iss", v.URL + "/", false},
		{"exp", float64(now) + 60.5, true}, {"exp", now, false}, {"exp", 0, false}, {"exp", -1, false}, {"exp", nil, false}, {"exp", true, false},
		{"exp", fmt.Sprint(now + 60), false}, {"exp", "tomorrow", false}, {"exp", []int64{now + 60}, false}, {"exp", 1e30, false},
		{"nbf", now + 60, true}, {"nbf", now + 3600, false}, {"nbf", fmt.Sprint(now - 60), false}, {"nbf", nil, false}, {"nbf", false, false},
		{"iat", now + 60, true}, {"iat", now + 3600, false}, {"iat", fmt.Sprint(now), false}, {"iat", nil, false},
		{"sub", "", false}, {"sub", nil, false}, {"sub", 7, false}, {"sub", true, false}, {"sub", []string{"ada"}, false}, {"sub", map[string]string{"sub": "ada"}, false},
		{"extra", map[string]any{"sub": "eve", "exp": "x"}, true},
	} {
		claims := v.Claims("ada")
		claims[tc.claim] = tc.value
		caller, err := v.token(v.Sign(claims))
		if tc.ok != (err == nil) || (tc.ok && caller.UserID != "ada") || (!tc.ok && (!backup.Is(err, backup.Unauthenticated) || caller != (backup.Caller{}))) {
			t.Errorf("%s = %v: %+v, %v", tc.claim, tc.value, caller, err)
		}
	}
	for _, claim := range []string{"iss", "aud", "sub", "exp"} {
		claims := v.Claims("ada")
		delete(claims, claim)
		if caller, err := v.token(v.Sign(claims)); !backup.Is(err, backup.Unauthenticated) {
			t.Errorf("without %s: %+v, %v", claim, caller, err)
		}
	}
}

// The caller is the user whose subject the token has, for as long as the token is valid.
func TestCaller(t *testing.T) {
	v := verify(t)
	claims := v.Claims("auth0|../x")
	claims["exp"] = time.Now().Add(time.Minute).Unix()
	token := v.Sign(claims)
	caller, err := v.token(token)
	if err != nil || caller.UserID != backup.UserID("auth0|../x") || caller.ExpiresAt.Unix() != claims["exp"] {
		t.Errorf("%+v, %v", caller, err)
	}
	v.advance(time.Minute)
	if caller, err := v.token(token); !backup.Is(err, backup.Unauthenticated) {
		t.Errorf("after its end: %+v, %v", caller, err)
	}
}

// Claims are read by their exact names, a name that comes twice is refused, and so is a subject that is no text.
func TestClaimNames(t *testing.T) {
	v := verify(t)
	payload := func(fields string) string {
		return v.SignRaw(fmt.Appendf(nil, `{"iss":%q,"aud":"sitevault","exp":%d,%s}`, v.URL, time.Now().Unix()+3600, fields))
	}
	for fields, want := range map[string]string{
		`"sub":"victim","Sub":"mallory"`:                 "victim",
		`"Sub":"mallory","sub":"victim"`:                 "victim",
		`"sub":"victim","SUB":"mallory","sUb":"mallory"`: "victim",
		`"sub":"victim","EXP":1,"Aud":"x","ISS":"y"`:     "victim",
		`"sub":"ſub","ſub":"mallory"`:                    backup.UserID("ſub"),
		`"Sub":"mallory"`:                                "",
		`"sub":null,"Sub":"mallory"`:                     "",
		`"sub":"victim","sub":"mallory"`:                 "",
		`"sub":"victim","\u0073ub":"mallory"`:            "",
		`"sub":"victim","sub":"victim"`:                  "",
		`"sub":"victim","exp":99999999999`:               "",
		`"sub":"victim","aud":"other"`:                   "",
		`"sub":"\ud800"`:                                 "",
		"\"sub\":\"\xff\"":                               "",
		`"sub":"victim"},{"sub":"mallory"`:               "",
	} {
		caller, err := v.token(payload(fields))
		if caller.UserID != want || (err == nil) != (want != "") || (err != nil && !backup.Is(err, backup.Unauthenticated)) {
			t.Errorf("%s: %+v, %v", fields, caller, err)
		}
	}
	for name, payload := range map[string]string{"nothing": "", "text": `"sub"`, "null": "null", "a list": `[{"sub":"ada"}]`} {
		if caller, err := v.token(v.SignRaw([]byte(payload))); !backup.Is(err, backup.Unauthenticated) {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
	misnamed := func(from, to string) string {
		raw, err := json.Marshal(v.Claims("ada"))
		if err != nil {
			t.Fatal(err)
		}
		return v.SignRaw([]byte(strings.Replace(string(raw), `"`+from+`"`, `"`+to+`"`, 1)))
	}
	for _, name := range []string{"iss", "aud", "exp", "sub"} {
		if caller, err := v.token(misnamed(name, strings.ToUpper(name))); !backup.Is(err, backup.Unauthenticated) {
			t.Errorf("%s in upper case: %+v, %v", name, caller, err)
		}
	}
}
