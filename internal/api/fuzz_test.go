package api_test

import (
	"net/url"
	"testing"
)

// Whatever is sent as a body, a page token or an id is answered in a documented way and never as a failure of ours.
func FuzzRequests(f *testing.F) {
	fixture := newFixture(f)
	fixture.putSite("alice", "shop")
	jobID := fixture.done("alice", "shop")
	for _, seed := range []string{
		"", "shop", "eyJhIjoieCJ9", `{"siteId":"shop"}`, `{"siteId":"shop","keepDays":3}`, `{"deleteAt":"2026-12-01T00:00:00Z"}`,
		`{"providers":[{"name":"a","url":"https://a.example"}],"schedule":{"at":"03:00","timeZone":"Europe/Berlin"}}`, "\x00", "../..", `{"siteId":1e999}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fixture := fixture.in(t)
		for _, r := range []request{
			{method: "POST", path: "/backup", body: s},
			{method: "PUT", path: "/site/fuzzed", body: s},
			{method: "PATCH", path: "/backup/" + jobID, body: s},
			{method: "GET", path: "/backup?pageToken=" + url.QueryEscape(s)},
			{method: "GET", path: "/site?pageToken=" + url.QueryEscape(s) + "&limit=" + url.QueryEscape(s)},
			{method: "GET", path: "/backup/" + jobID + "/tasks?pageToken=" + url.QueryEscape(s)},
		} {
			if a := fixture.do(r); a.status >= 500 {
				t.Errorf("%s %s with %q: %d %s", r.method, r.path, s, a.status, a.body)
			}
		}
	})
}
