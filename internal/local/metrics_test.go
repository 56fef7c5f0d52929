package local_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/local"
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

// Only who calls from the same machine, and directly, gets the numbers.
func TestMetricsElsewhere(t *testing.T) {
	h := local.OnThisMachine(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, tc := range []struct {
		peer, header string
		want         int
	}{
		{"127.0.0.1:5", "", 204},
		{"[::1]:5", "", 204},
		{"[::ffff:127.0.0.1]:5", "", 204},
		{"192.0.2.1:5", "", 403},
		{"[2001:db8::1]:5", "", 403},
		{"", "", 403},
		{"127.0.0.1:5", "X-Forwarded-For", 403},
		{"127.0.0.1:5", "Forwarded", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = tc.peer
		if tc.header != "" {
			r.Header.Set(tc.header, "for=192.0.2.1")
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.peer, tc.header, w.Code, tc.want)
		}
	}
}
