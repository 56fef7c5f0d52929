package stacks_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/infra/stacks"
	"github.com/sitevault/sitevault/internal/api"
)

// Reads and writes are told apart by their method alone.
func TestRouteFunctions(t *testing.T) {
	routes, err := stacks.Routes()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, r := range routes {
		seen[r.Method+" "+r.Path] = r.Function()
	}
	for route, want := range map[string]string{
		"GET /backup": "status", "POST /backup": "create", "DELETE /backup/{jobId}": "create", "POST /ticket": "create",
		"GET /backup/{jobId}/files/{provider}": "status", "PUT /site/{siteId}": "create", "GET /openapi.json": "status",
		"HEAD /site/{siteId}": "status", "HEAD /openapi.json": "status",
	} {
		if seen[route] != want {
			t.Errorf("%s goes to %q", route, seen[route])
		}
	}
	for route, function := range seen {
		if (function == "status") != (strings.HasPrefix(route, "GET ") || strings.HasPrefix(route, "HEAD ")) {
			t.Errorf("%s goes to %s", route, function)
		}
	}
}

// API Gateway's own answers are problems such as the service's: one JSON object each, of a known kind, whatever
// variables API Gateway would put into them.
func TestRefusals(t *testing.T) {
	defaults := 0
	for _, r := range stacks.Refusals() {
		var p api.Problem
		if err := json.Unmarshal([]byte(r.Template()), &p); err != nil {
			t.Errorf("%s: %v", r.Type, err)
			continue
		}
		if !p.Kind.Known() || p.Title == "" || p.Type != "urn:sitevault:problem:"+string(p.Kind) || p.Status != r.Status {
			t.Errorf("%s: %s", r.Type, r.Template())
		}
		if strings.Contains(r.Template(), "$") {
			t.Errorf("%s: API Gateway puts text of the request into %s", r.Type, r.Template())
		}
		if (r.Status == http.StatusUnauthorized) != (r.Headers["WWW-Authenticate"] != "") {
			t.Errorf("%s: %v", r.Type, r.Headers)
		}
		if strings.HasPrefix(r.Type, "DEFAULT_") {
			defaults++
		}
	}
	if defaults != 2 {
		t.Errorf("%d defaults", defaults)
	}
}
