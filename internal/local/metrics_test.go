package local_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
)

// /metrics counts every job, file and part of a done and a failed backup once.
func TestMetrics(t *testing.T) {
	s, _ := e2e.Run(t)
	exports := e2e.Exports{"database": e2e.NewExport(t, 2, 1), "files": e2e.NewExport(t, 1, 3)}
	s.PutSite("shop", exports)
	s.Await(s.Create("shop"), backup.Done)
	inside := e2e.NewExport(t, 3, 1)
	inside.URL = "http://10.0.0.1/export"
	s.PutSite("blog", e2e.Exports{"files": inside})
	s.Fails(s.Create("blog"), backup.AddressForbidden)

	text := metrics(t, s.URL)
	bytes := exports["files"].Content.Size() + exports["database"].Content.Size()
	for _, want := range []string{
		"sitevault_jobs_created_total 2\n",
		"sitevault_jobs_done_total 1\n",
		"sitevault_jobs_failed_total{kind=\"AddressForbidden\"} 1\n",
		"sitevault_files_done_total 2\n",
		"sitevault_files_failed_total{kind=\"AddressForbidden\"} 1\n",
		"sitevault_job_duration_seconds_count 1\n",
		"sitevault_parts_moved_total 4\n",
		"sitevault_part_seconds_count 4\n",
		"sitevault_provider_seconds_count 7\n", // 3 pins and 4 ranges
		fmt.Sprintf("sitevault_part_bytes_total %d\n", bytes),
		fmt.Sprintf("sitevault_job_bytes_sum %d\n", bytes),
		"# TYPE sitevault_sweep_tended_total counter\n",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func metrics(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, text)
	}
	return string(text)
}

// With sign-in, when anybody may connect, the numbers are not where the API is but on a loopback address of their own, and
// like those without sign-in they are no web page's.
func TestMetricsWithSignIn(t *testing.T) {
	e2e.VersityGW(t)
	c := signedIn(t, backuptest.NewIssuer(t), nil)
	c.MetricsListen = "127.0.0.1:0"
	s := e2e.Start(t, c)
	if text := metrics(t, s.MetricsURL); !strings.Contains(text, "sitevault_") {
		t.Errorf("no metrics: %s", text)
	}
	for name, change := range map[string]func(*http.Request){
		"beside the API": func(r *http.Request) { r.URL.Host = strings.TrimPrefix(s.URL, "http://") },
		"rebound name":   func(r *http.Request) { r.Host = "evil.example" },
		"other origin":   func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
	} {
		r, err := http.NewRequest(http.MethodGet, s.MetricsURL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode < 400 || strings.Contains(string(text), "sitevault_") {
			t.Errorf("%s: %s, %v: %s", name, resp.Status, err, text)
		}
	}
}
