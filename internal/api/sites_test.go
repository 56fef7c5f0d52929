package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
)

// A site is created, changed and removed; who says which state they have seen is told when it has changed since.
func TestSitePreconditions(t *testing.T) {
	f := newFixture(t)
	put := func(header map[string]string) request {
		return request{method: "PUT", path: "/site/shop", body: site(), header: header}
	}
	isNew, anyOf := map[string]string{"If-None-Match": "*"}, func(tag string) map[string]string { return map[string]string{"If-Match": tag} }
	f.refused(http.StatusPreconditionFailed, backup.Conflict, put(anyOf(`"r1"`)))
	f.refused(http.StatusPreconditionFailed, backup.Conflict, put(anyOf(`*`)))
	created := f.do(put(isNew))
	if created.status != http.StatusCreated || created.header.Get("ETag") != `"r1"` {
		t.Fatalf("created: %d %v", created.status, created.header)
	}
	f.refused(http.StatusPreconditionFailed, backup.Conflict, put(isNew))
	changed := f.do(put(anyOf(`"r1"`)))
	if changed.status != http.StatusOK || changed.header.Get("ETag") != `"r2"` {
		t.Fatalf("changed: %d %v", changed.status, changed.header)
	}
	for _, tag := range []string{`"r1"`, `"r3"`, `r2`, `"2"`, `W/"r2"`, `"r02"`, `"r2`, `"r-1"`, `"r99999999999999999999"`, `"x"`, `' OR 1=1`} {
		f.refused(http.StatusPreconditionFailed, backup.Conflict, put(anyOf(tag)))
	}
	if got := f.do(request{method: "GET", path: "/site/shop"}); got.header.Get("ETag") != `"r2"` || got.body != changed.body {
		t.Errorf("read: %v %s", got.header, got.body)
	}
	if known := f.do(request{method: "GET", path: "/site/shop", header: map[string]string{"If-None-Match": `"r2"`}}); known.status != http.StatusNotModified {
		t.Errorf("known state: %d", known.status)
	}
	if a := f.do(request{method: "HEAD", path: "/site/shop"}); a.status != http.StatusOK || a.header.Get("ETag") != `"r2"` {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	if again := f.do(put(anyOf(`*`))); again.status != http.StatusOK || again.header.Get("ETag") != `"r3"` {
		t.Errorf("whatever is there: %d %v", again.status, again.header)
	}
	if a := f.do(request{method: "DELETE", path: "/site/shop"}); a.status != http.StatusNoContent || a.body != "" {
		t.Errorf("removed: %d %s", a.status, a.body)
	}
	for _, method := range []string{"GET", "DELETE"} {
		f.refused(http.StatusNotFound, backup.NotFound, request{method: method, path: "/site/shop"})
	}
}

// What a client leaves out gets its default, and all of it is shown.
func TestSiteDefaults(t *testing.T) {
	f := newFixture(t)
	s := into[api.Site](f, http.StatusCreated, request{method: "PUT", path: "/site/shop", body: site()})
	if s.KeepDays != backup.DefaultKeepDays || s.Limits.Parallelism != backup.DefaultParallelism || s.Limits.MaxFileBytes != backup.DefaultMaxFileBytes {
		t.Errorf("site is %+v", s)
	}
	if s.Schedule.At == "" || s.NextRunAt == nil || !s.NextRunAt.After(f.clock()) || s.UserID != "alice" {
		t.Errorf("site is %+v", s)
	}
	limited := site()
	limited["limits"] = map[string]any{"parallelism": 2}
	if s := into[api.Site](f, http.StatusOK, request{method: "PUT", path: "/site/shop", body: limited}); s.Limits.Parallelism != 2 || s.Limits.MaxFileBytes != backup.DefaultMaxFileBytes {
		t.Errorf("with one limit: %+v", s)
	}
	off := site()
	off["schedule"] = map[string]any{"off": true}
	if s := into[api.Site](f, http.StatusOK, request{method: "PUT", path: "/site/shop", body: off}); s.NextRunAt != nil {
		t.Errorf("without a schedule: %+v", s)
	}
}

// Somebody else's site or backup is answered, on every route, byte for byte as one that does not exist.
func TestForeignIsAbsent(t *testing.T) {
	f, empty := newFixture(t), newFixture(t)
	f.putSite("alice", "shop")
	jobID := f.done("alice", "shop")
	routes := []request{
		{method: "GET", path: "/backup/" + jobID}, {method: "DELETE", path: "/backup/" + jobID}, {method: "GET", path: "/backup/" + jobID + "/tasks"},
		{method: "PATCH", path: "/backup/" + jobID, body: `{"deleteAt":"2026-12-01T00:00:00Z"}`},
		{method: "POST", path: "/backup/" + jobID + "/retry"}, {method: "POST", path: "/backup/" + jobID + "/cancel"},
		{method: "GET", path: "/backup/" + jobID + "/files/files"}, {method: "GET", path: "/site/shop"}, {method: "DELETE", path: "/site/shop"},
		{method: "POST", path: "/backup", body: `{"siteId":"shop"}`}, {method: "GET", path: "/backup"}, {method: "GET", path: "/backup?siteId=shop"},
		{method: "GET", path: "/site"}, {method: "PUT", path: "/site/shop", body: site(), header: map[string]string{"If-Match": `"r1"`}},
	}
	before := f.do(request{method: "GET", path: "/backup/" + jobID}).body
	f.sameRows(func() {
		for _, r := range routes {
			r.user = "bob"
			foreign, absent := f.do(r), empty.do(r)
			if foreign.status != absent.status || foreign.body != absent.body || len(foreign.header) != len(absent.header) {
				t.Errorf("%s %s: foreign %d %v %s, absent %d %v %s", r.method, r.path, foreign.status, foreign.header, foreign.body, absent.status, absent.header, absent.body)
			}
			for name := range foreign.header {
				if foreign.header.Get(name) != absent.header.Get(name) {
					t.Errorf("%s %s: %s is %q, absent %q", r.method, r.path, name, foreign.header.Get(name), absent.header.Get(name))
				}
			}
		}
	})
	if after := f.do(request{method: "GET", path: "/backup/" + jobID}).body; after != before {
		t.Errorf("the backup was %s, is %s", before, after)
	}
	f.putSite("bob", "shop") // the same name is another site
	if own := f.done("bob", "shop"); own == jobID {
		t.Error("two users share a backup")
	}
}

// A ticket is a secret of its own each time, stored as a digest only, for its user and for half a minute.
func TestTickets(t *testing.T) {
	f := newFixture(t)
	r := request{method: "POST", path: "/ticket"}
	one, two := into[api.Ticket](f, http.StatusCreated, r), into[api.Ticket](f, http.StatusCreated, r)
	if one.Ticket == two.Ticket || len(one.Ticket) < 20 || !one.ExpiresAt.After(f.clock()) {
		t.Errorf("tickets are %+v and %+v", one, two)
	}
	if _, err := f.store.TakeTicket(t.Context(), one.Ticket, f.clock()); !backup.Is(err, backup.NotFound) {
		t.Errorf("the store holds the ticket itself: %v", err)
	}
	got, err := f.store.TakeTicket(t.Context(), backup.TicketDigest(one.Ticket), f.clock())
	if err != nil || got.UserID != "alice" {
		t.Errorf("taken: %+v, %v", got, err)
	}
	if _, err := f.store.TakeTicket(t.Context(), backup.TicketDigest(one.Ticket), f.clock()); !backup.Is(err, backup.NotFound) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := f.store.TakeTicket(t.Context(), backup.TicketDigest(two.Ticket), two.ExpiresAt); !backup.Is(err, backup.NotFound) {
		t.Errorf("taken late: %v", err)
	}
}

// A store that does not answer is a 503 that says when to come again and tells nothing of its inside.
func TestStoreUnavailable(t *testing.T) {
	f := newFixture(t)
	f.putSite("alice", "shop")
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	for path, operations := range f.document.Paths {
		for method := range operations {
			path := strings.NewReplacer("/v1", "", "{jobId}", absentJob, "{siteId}", "shop", "{provider}", "files").Replace(path)
			r := request{method: strings.ToUpper(method), path: path}
			switch r.method + " " + r.path {
			case "POST /backup":
				r.body = `{"siteId":"shop"}`
			case "PUT /site/shop":
				r.body = site()
			case "PATCH /backup/" + absentJob:
				r.body = `{"deleteAt":"2026-12-01T00:00:00Z"}`
			}
			a := f.do(r)
			if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "sql") || strings.Contains(a.body, "closed") {
				t.Errorf("%s %s: %d %v %s", r.method, r.path, a.status, a.header, a.body)
			}
		}
	}
}
