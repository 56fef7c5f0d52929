package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// clock is put forward by the work that it measures.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time        { return c.now }
func (c *clock) pass(d time.Duration)  { c.now = c.now.Add(d) }
func newClock() *clock                 { return &clock{noon} }
func newRegistry() *telemetry.Registry { return telemetry.NewRegistry(slog.New(slog.DiscardHandler)) }
func errSecret(kind backup.Kind) error {
	return backup.E(kind, "GET https://user:%s@shop.example/?key=%[1]s", canary)
}
func timesOf(r *telemetry.Registry, d *metric.Def) (sum float64, count int64) {
	for _, s := range r.Read() {
		if s.Def == d {
			return s.Value, s.Count
		}
	}
	return 0, 0
}

// slowSite answers two seconds after it is asked, with body or err.
type slowSite struct {
	clock *clock
	err   error
	body  io.Reader
}

func (s slowSite) Pin(context.Context, step.Export) (backup.Pin, error) {
	s.clock.pass(2 * time.Second)
	return backup.Pin{ETag: `"1"`, SizeBytes: 9}, s.err
}

func (s slowSite) Range(context.Context, step.Export, backup.Pin, int64, int64) (io.ReadCloser, error) {
	s.clock.pass(2 * time.Second)
	if s.err != nil {
		return nil, s.err
	}
	return io.NopCloser(s.body), nil
}

var secretExport = step.Export{
	UserID: "u", URL: "https://user:" + canary + "@shop.example:8443/" + canary + "?key=" + canary + "#" + canary, SecretRef: canary, BackupID: "01HZX",
}

// A request to a provider is measured until it is answered, and told by method, host and size only.
func TestExports(t *testing.T) {
	clock, metrics := newClock(), newRegistry()
	tracer, d := newTracer()
	ctx := inLambda(t.Context(), sampledHeader)
	x := telemetry.Exports(slowSite{clock: clock, body: strings.NewReader("exported")}, metrics, tracer, clock.Now)
	pin, err := x.Pin(ctx, secretExport)
	if err != nil || pin.SizeBytes != 9 {
		t.Fatalf("%+v, %v", pin, err)
	}
	body, err := x.Range(ctx, secretExport, pin, 0, 8)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.sent(t)); n != 1 {
		t.Errorf("%d requests were told before the range was read", n)
	}
	text, err := io.ReadAll(body)
	body.Close()
	body.Close()
	if string(text) != "exported" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	all := d.sent(t)
	if len(all) != 2 || all[0].HTTP.Request.Method != "HEAD" || all[1].HTTP.Request.Method != "GET" || all[1].HTTP.Response.ContentLength != 8 {
		t.Fatalf("%+v", all)
	}
	for _, s := range all {
		if s.Name != "shop.example:8443" || s.Namespace != "remote" || s.HTTP.Request.URL != "https://shop.example:8443" || s.Fault {
			t.Errorf("%+v", s)
		}
	}
	if sum, n := timesOf(metrics, metric.ProviderSeconds); sum != 4 || n != 2 {
		t.Errorf("%v seconds in %d requests", sum, n)
	}
	noCanary(t, d)
}

// A request that fails, at once or in the middle of its body, is told by its kind only.
func TestExportsFail(t *testing.T) {
	cut := io.MultiReader(strings.NewReader("exp"), brokenReader{errSecret(backup.ProviderShortBody)})
	for name, tc := range map[string]struct {
		site slowSite
		want string
	}{
		"at once":      {slowSite{err: errSecret(backup.ProviderRefused)}, "ProviderRefused"},
		"in its body":  {slowSite{body: cut}, "ProviderShortBody"},
		"unnamed kind": {slowSite{err: errors.New(canary)}, "Internal"},
		"foreign kind": {slowSite{err: backup.E("<"+backup.Kind("k")+">", canary)}, "_k_"},
	} {
		clock := newClock()
		tc.site.clock = clock
		tracer, d := newTracer()
		x := telemetry.Exports(tc.site, newRegistry(), tracer, clock.Now)
		body, err := x.Range(inLambda(t.Context(), sampledHeader), secretExport, backup.Pin{}, 0, 8)
		if err == nil {
			_, err = io.ReadAll(body)
			body.Close()
		}
		if s := d.sent(t)[0]; err == nil || !s.Fault || s.exception() != tc.want {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
		noCanary(t, d)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// A URL that is none has no host to tell.
func TestExportsOddURL(t *testing.T) {
	for _, url := range []string{"", "://" + canary, "http://%zz" + canary, canary} {
		clock := newClock()
		tracer, d := newTracer()
		x := telemetry.Exports(slowSite{clock: clock}, newRegistry(), tracer, clock.Now)
		if _, err := x.Pin(inLambda(t.Context(), sampledHeader), step.Export{URL: url}); err != nil {
			t.Fatal(err)
		}
		if s := d.sent(t)[0]; s.Name != "provider" {
			t.Errorf("%q is told as %q", url, s.Name)
		}
		noCanary(t, d)
	}
}

// Untraced, the body is handed through as it is.
func TestExportsUntraced(t *testing.T) {
	clock := newClock()
	want := io.NopCloser(strings.NewReader("x"))
	x := telemetry.Exports(oneBody{slowSite{clock: clock}, want}, newRegistry(), nil, clock.Now)
	if body, err := x.Range(t.Context(), secretExport, backup.Pin{}, 0, 1); body != want || err != nil {
		t.Errorf("%v, %v", body, err)
	}
}

type oneBody struct {
	slowSite
	body io.ReadCloser
}

func (b oneBody) Range(context.Context, step.Export, backup.Pin, int64, int64) (io.ReadCloser, error) {
	return b.body, nil
}

// slowStorage takes three seconds for each part and refuses those with odd numbers.
type slowStorage struct {
	step.Uploader
	clock *clock
}

func (s slowStorage) UploadPart(_ context.Context, p step.PartUpload) (string, error) {
	s.clock.pass(3 * time.Second)
	if p.Number%2 == 1 {
		return "", backup.E(backup.StorageUnavailable, "part %d", p.Number)
	}
	return fmt.Sprint("etag-", p.Number), nil
}

// The time of stored parts is measured, of refused ones not.
func TestUploads(t *testing.T) {
	clock, metrics := newClock(), newRegistry()
	u := telemetry.Uploads(slowStorage{clock: clock}, metrics, clock.Now)
	for n := 1; n <= 4; n++ {
		etag, err := u.UploadPart(t.Context(), step.PartUpload{Number: n})
		if (err == nil) != (n%2 == 0) || (err == nil && etag != fmt.Sprint("etag-", n)) {
			t.Errorf("part %d: %q, %v", n, etag, err)
		}
	}
	if sum, n := timesOf(metrics, metric.PartSeconds); sum != 6 || n != 2 {
		t.Errorf("%v seconds in %d parts", sum, n)
	}
}
