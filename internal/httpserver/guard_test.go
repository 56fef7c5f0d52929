package httpserver_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/httpserver"
)

// Without sign-in, only requests that name a loopback host and come from no other origin are answered, reading ones too.
func TestLocalOnly(t *testing.T) {
	for _, tc := range []struct {
		name, method, host string
		header             map[string]string
		ok                 bool
	}{
		{"the command line", "POST", "127.0.0.1:8420", nil, true},
		{"by name", "POST", "localhost:8420", nil, true},
		{"without a port", "GET", "localhost", nil, true},
		{"IPv6", "DELETE", "[::1]:8420", nil, true},
		{"IPv6 without a port", "GET", "[::1]", nil, true},
		{"another loopback address", "GET", "127.9.9.9:80", nil, true},
		{"our own page", "POST", "127.0.0.1:8420", map[string]string{"Origin": "http://127.0.0.1:8420", "Sec-Fetch-Site": "same-origin"}, true},
		{"typed into the browser", "GET", "127.0.0.1:8420", map[string]string{"Sec-Fetch-Site": "none"}, true},

		{"in capitals", "GET", "LocalHost:8420", nil, true},
		{"IPv4 in IPv6", "GET", "[::ffff:127.0.0.1]:8420", nil, true},

		{"a name bound to loopback by its owner", "GET", "rebound.example:8420", nil, false},
		{"a name that begins like ours", "GET", "localhost.example:8420", nil, false},
		{"a name that begins like an address", "GET", "127.0.0.1.nip.example:8420", nil, false},
		{"another address", "GET", "192.168.1.5:8420", nil, false},
		{"any address", "GET", "0.0.0.0:8420", nil, false},
		{"no host", "GET", "", nil, false},
		{"two hosts", "GET", "localhost,example.org", nil, false},
		{"another page's form", "POST", "127.0.0.1:8420", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{"another port's page", "POST", "127.0.0.1:8420", map[string]string{"Origin": "http://127.0.0.1:9999"}, false},
		{"another page of an old browser", "DELETE", "127.0.0.1:8420", map[string]string{"Origin": "https://example.org"}, false},
		{"another page that reads", "GET", "127.0.0.1:8420", map[string]string{"Origin": "https://example.org"}, false},
		{"another page's image", "GET", "127.0.0.1:8420", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{"another port's page that reads", "HEAD", "127.0.0.1:8420", map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		{"another page that asks first", "OPTIONS", "127.0.0.1:8420", map[string]string{"Origin": "https://example.org"}, false},
		{"a sandboxed page", "POST", "127.0.0.1:8420", map[string]string{"Origin": "null"}, false},
	} {
		reached := false
		h := httpserver.LocalOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached = true }))
		r, w := httptest.NewRequestWithContext(t.Context(), tc.method, "/v1/backup", nil), httptest.NewRecorder()
		r.Host = tc.host
		for k, v := range tc.header {
			r.Header.Set(k, v)
		}
		h.ServeHTTP(w, r)
		if reached != tc.ok || (w.Code == http.StatusUnauthorized) == tc.ok || (!tc.ok && !strings.Contains(w.Body.String(), `"kind":"Unauthenticated"`)) {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
	}
}
