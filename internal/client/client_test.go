package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

// clock records pauses instead of making them.
type clock struct {
	mu     sync.Mutex
	pauses []time.Duration
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pauses = append(c.pauses, d)
	return ctx.Err()
}

// connect makes a client of h that never really waits.
func connect(t *testing.T, h http.Handler) (*client.Client, *clock) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	clock := &clock{}
	c, err := client.New(client.Config{Server: server.URL, Token: "t0ken", UserAgent: "test", Sleep: clock.sleep})
	if err != nil {
		t.Fatal(err)
	}
	return c, clock
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, kind backup.Kind, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Problem{Title: kind.Sentence(), Kind: kind, Detail: detail, Status: status})
}

// A refusal keeps its kind and status, whatever stands between us and the service.
func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		status  int
		kind    backup.Kind
		text    string
	}{
		"problem": {
			func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, backup.NotFound, `there is no site "x"`) },
			404, backup.NotFound, `There is nothing here under this id: there is no site "x"`,
		},
		"each wrong thing is named": {
			func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 422, api.Problem{Title: "The request is not valid.", Kind: backup.InvalidRequest, Errors: []api.Invalid{{Location: "body.keepDays", Message: "expected number"}}})
			},
			422, backup.InvalidRequest, "The request is not valid.; body.keepDays expected number",
		},
		"a proxy's page": {
			func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
			502, "", "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := connect(t, test.handler)
			_, _, err := c.Site(t.Context(), "x")
			refused, ok := errors.AsType[*client.Error](err)
			if !ok || refused.Problem.Status != test.status || refused.Problem.Kind != test.kind {
				t.Fatalf("got %#v", err)
			}
			if test.text != "" && err.Error() != test.text {
				t.Errorf("got %q", err)
			}
		})
	}
}

// An answer that is no JSON is an error, not an empty site.
func TestForeignAnswer(t *testing.T) {
	c, _ := connect(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>welcome</html>") }))
	if _, _, err := c.Site(t.Context(), "x"); err == nil {
		t.Fatal("accepted")
	}
}

// busy refuses the first n requests with 503.
type busy struct {
	n, seen    int
	retryAfter string
	keys       []string
}

func (b *busy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.seen++
	b.keys = append(b.keys, r.Header.Get("Idempotency-Key"))
	if b.seen <= b.n {
		w.Header().Set("Retry-After", b.retryAfter)
		refuse(w, 503, backup.StoreUnavailable, "try again in a moment")
		return
	}
	answer(w, 200, api.Backup{JobID: "j"})
}

// Only requests that may arrive twice are sent twice, after the pause that the service asks for, and not for ever.
func TestRepeats(t *testing.T) {
	get := func(ctx context.Context, c *client.Client) error { _, _, err := c.Backup(ctx, "j"); return err }
	create := func(ctx context.Context, c *client.Client) error {
		_, err := c.CreateBackup(ctx, api.CreateBackupBody{SiteID: "s"}, "")
		return err
	}
	retry := func(ctx context.Context, c *client.Client) error { _, err := c.RetryBackup(ctx, "j"); return err }
	tests := map[string]struct {
		call       func(context.Context, *client.Client) error
		refusals   int
		retryAfter string
		wantSeen   int
		wantOK     bool
		wantPauses []time.Duration
	}{
		"get":               {get, 2, "3", 3, true, []time.Duration{3 * time.Second, 3 * time.Second}},
		"create":            {create, 1, "1", 2, true, []time.Duration{time.Second}},
		"retry is not":      {retry, 1, "1", 1, false, nil},
		"not for ever":      {get, 99, "1", 4, false, []time.Duration{time.Second, time.Second, time.Second}},
		"not for an hour":   {get, 1, "3600", 2, true, []time.Duration{10 * time.Second}},
		"without a request": {get, 2, "", 3, true, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			service := &busy{n: test.refusals, retryAfter: test.retryAfter}
			c, clock := connect(t, service)
			err := test.call(t.Context(), c)
			if (err == nil) != test.wantOK || service.seen != test.wantSeen || !slices.Equal(clock.pauses, test.wantPauses) {
				t.Errorf("error %v, %d requests, pauses %v", err, service.seen, clock.pauses)
			}
			if len(slices.Compact(service.keys)) != 1 {
				t.Errorf("a repeated request changed its key: %q", service.keys)
			}
		})
	}
}

// Two backups asked for are two keys.
func TestKeysDiffer(t *testing.T) {
	service := &busy{}
	c, _ := connect(t, service)
	for range 2 {
		if _, err := c.CreateBackup(t.Context(), api.CreateBackupBody{SiteID: "s"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if service.keys[0] == "" || service.keys[0] == service.keys[1] {
		t.Errorf("keys %q", service.keys)
	}
}

// A service that is not there is tried a few times and then told from one that refuses.
func TestUnreachable(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	clock := &clock{}
	c, err := client.New(client.Config{Server: gone.URL, Sleep: clock.sleep})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Site(t.Context(), "x")
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok || len(clock.pauses) != 3 {
		t.Errorf("got %v after pauses %v", err, clock.pauses)
	}
}

// A list reads on until the last page, and no further than it is asked to.
func TestPages(t *testing.T) {
	reads := 0
	c, _ := connect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads++
		if r.Header.Get("Authorization") != "Bearer t0ken" || r.URL.Query().Get("siteId") != "shop" {
			t.Errorf("request %s with %q", r.URL, r.Header)
		}
		next := map[string]string{"": "p2", "p2": "p3", "p3": ""}[r.URL.Query().Get("pageToken")]
		answer(w, 200, api.BackupPage{Backups: []api.Backup{{JobID: fmt.Sprint(reads, "a")}, {JobID: fmt.Sprint(reads, "b")}}, NextPageToken: next})
	}))
	var ids []string
	for job, err := range c.Backups(t.Context(), "shop") {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.JobID)
	}
	if want := []string{"1a", "1b", "2a", "2b", "3a", "3b"}; !slices.Equal(ids, want) {
		t.Errorf("got %q", ids)
	}
	for range c.Backups(t.Context(), "shop") {
		break
	}
	if reads != 4 {
		t.Errorf("%d reads", reads)
	}
}

// What is no address of a service is refused before anything is sent.
func TestServerAddress(t *testing.T) {
	for _, server := range []string{"", "127.0.0.1:8420", "ftp://x", "http://", "http://user:pass@x", "http://x?a=b"} {
		if _, err := client.New(client.Config{Server: server}); err == nil {
			t.Errorf("%q was accepted", server)
		}
	}
}

// An address may end in the API's own prefix, as people copy it.
func TestServerPrefix(t *testing.T) {
	var path string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		answer(w, 200, api.Site{})
	}))
	defer server.Close()
	c, err := client.New(client.Config{Server: server.URL + "/stage/v1/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Site(t.Context(), "x"); err != nil || path != "/stage/v1/site/x" {
		t.Errorf("path %q, error %v", path, err)
	}
}
