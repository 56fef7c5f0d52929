package identity_test

import (
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

// hang holds a request until its sender goes.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// When the issuer changes its key, tokens of the new one are good at once and those of the old one are not any more.
func TestKeyChange(t *testing.T) {
	v := verify(t)
	old := v.Token("ada")
	if _, err := v.token(old); err != nil {
		t.Fatal(err)
	}
	v.Rotate("key-2")
	if caller, err := v.token(v.Token("ada")); err != nil || caller.UserID != "ada" {
		t.Errorf("a token of the new key: %+v, %v", caller, err)
	}
	if caller, err := v.token(old); !backup.Is(err, backup.Unauthenticated) {
		t.Errorf("a token of the old key: %+v, %v", caller, err)
	}
	if v.KeyReads() != 2 {
		t.Errorf("the keys were read %d times", v.KeyReads())
	}
}

// A key that the issuer has withdrawn is good for a while only, though nobody brings a token of another one.
func TestKeyWithdrawn(t *testing.T) {
	v := verify(t)
	claims := v.Claims("ada")
	claims["exp"] = time.Now().Add(24 * time.Hour).Unix()
	old := v.Sign(claims)
	v.Rotate("key-2")
	v.advance(time.Hour)
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := v.token(old); err != nil {
			if !backup.Is(err, backup.Unauthenticated) {
				t.Error(err)
			}
			return
		}
		if time.Now().After(until) {
			t.Fatal("a withdrawn key is still good")
		}
	}
}

// Tokens with made-up key ids cause one look at the issuer's keys in a while, together, and not one each.
func TestUnknownKeys(t *testing.T) {
	v := verify(t)
	key := newKey(t)
	var together sync.WaitGroup
	for n := range 100 {
		token := v.Forge(jose.ES256, key, fmt.Sprint("made-up-", n), v.Claims("ada"))
		together.Go(func() {
			if caller, err := v.token(token); !backup.Is(err, backup.Unauthenticated) {
				t.Errorf("%+v, %v", caller, err)
			}
		})
	}
	together.Wait()
	if got := v.KeyReads(); got != 2 {
		t.Errorf("the keys were read %d times, not at the start and once more", got)
	}
	v.Rotate("key-2")
	v.advance(time.Minute)
	if _, err := v.token(v.Token("ada")); err != nil || v.KeyReads() != 3 {
		t.Errorf("a new key after that: %v, the keys were read %d times", err, v.KeyReads())
	}
}

// While the issuer's keys cannot be had, those known go on being good; whoever has a token of another one is told to come
// again, within a bounded time.
func TestIssuerOutage(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusBadGateway) },
		"a page":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>canary</html>")) },
		"no keys": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
		"hangs":   hang,
		"is endless": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verify(t)
			known := v.Token("ada")
			v.Rotate("key-2")
			v.AnswerKeys(answer)
			v.advance(30 * time.Minute)
			var together sync.WaitGroup
			for range 10 {
				together.Go(func() {
					if caller, err := v.token(v.Token("ada")); !backup.Is(err, backup.IssuerUnavailable) {
						t.Errorf("an unknown key: %+v, %v", caller, err)
					}
				})
				if caller, err := v.token(known); err != nil || caller.UserID != "ada" {
					t.Errorf("a known key: %+v, %v", caller, err)
				}
			}
			together.Wait()
			if got := v.KeyReads(); got != 2 {
				t.Errorf("the keys were read %d times, not at the start and once more", got)
			}
			v.AnswerKeys(nil)
			v.advance(time.Minute)
			if caller, err := v.token(v.Token("ada")); err != nil || caller.UserID != "ada" {
				t.Errorf("after the outage: %+v, %v", caller, err)
			}
		})
	}
}

// Keys of a kind that is not known here do not hide the others.
func TestForeignKeys(t *testing.T) {
	v := verify(t)
	key := newKey(t)
	v.AnswerKeys(func(w http.ResponseWriter, _ *http.Request) {
		good, err := jose.JSONWebKey{Key: key.Public(), KeyID: "good"}.MarshalJSON()
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"future","kid":"a"},{"kty":"oct","kid":"b","k":"c2VjcmV0"},%s]}`, good)
	})
	if caller, err := v.token(v.Forge(jose.ES256, key, "good", v.Claims("ada"))); err != nil || caller.UserID != "ada" {
		t.Errorf("%+v, %v", caller, err)
	}
	if caller, err := v.token(v.Forge(jose.HS256, []byte("secret"+strings.Repeat("x", 32)), "b", v.Claims("ada"))); !backup.Is(err, backup.Unauthenticated) {
		t.Errorf("a symmetric key: %+v, %v", caller, err)
	}
}

// A token without a key id is good by any of the issuer's keys, also by one that is new.
func TestNoKeyID(t *testing.T) {
	v := verify(t)
	v.Rotate("")
	if caller, err := v.token(v.Token("ada")); err != nil || caller.UserID != "ada" {
		t.Errorf("%+v, %v", caller, err)
	}
}

// An issuer that does not answer, answers as another one or could be imitated is noticed at the start, in a bounded time.
func TestOIDCRefuses(t *testing.T) {
	elsewhere := backuptest.NewIssuer(t)
	serve := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	discovery := func(keys string) string {
		var url string
		url = serve(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, url, keys)
		})
		return url
	}
	for name, issuer := range map[string]struct{ url, says string }{
		"no configuration": {elsewhere.URL + "/other", "404"},
		"another name": {serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}), "did not match"},
		"hangs":         {serve(hang), "Get "},
		"its keys hang": {discovery(serve(hang)), "Get "},
		"no keys":       {discovery(serve(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })), "no key"},
		"keys by http":  {discovery("http://issuer.invalid/keys"), "https"},
		"redirected to http": {serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://issuer.invalid/", http.StatusFound)
		}), "https"},
		"by http": {"http://issuer.example", "https"},
		"by http, an address beside the loopback ones": {"http://127.0.0.1.nip.example", "https"},
		"not a URL":    {"issuer.example", "https"},
		"another kind": {"ftp://127.0.0.1/", "https"},
		"a query":      {"https://issuer.example/?x=y", "https"},
		"credentials":  {"https://user:secret@issuer.example/", "https"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := identity.OIDC(t.Context(), issuer.url, "sitevault", time.Now); err == nil || !strings.Contains(err.Error(), issuer.says) {
				t.Errorf("%v", err)
			}
		})
	}
}
