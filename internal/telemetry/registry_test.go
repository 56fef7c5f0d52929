package telemetry_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// scrape parses /metrics as Prometheus does: values by name and labels, types by name. Each name's lines stand
// together, after one HELP and one TYPE.
func scrape(t *testing.T, r *telemetry.Registry) (values map[string]float64, types map[string]string) {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	values, types = map[string]float64{}, map[string]string{}
	line := regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="[^"\\]*"(?:,[a-z]+="[^"\\]*")*\})? (\S+)$`)
	family, helped := "", ""
	for text := range strings.Lines(w.Body.String()) {
		text = strings.TrimSuffix(text, "\n")
		fields := strings.SplitN(text, " ", 4)
		switch {
		case strings.HasPrefix(text, "# HELP "):
			helped = fields[2]
			continue
		case strings.HasPrefix(text, "# TYPE "):
			family = fields[2]
			if _, twice := types[family]; twice || family != helped {
				t.Errorf("out of place: %s", text)
			}
			types[family] = fields[3]
			continue
		}
		m := line.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("line %q", text)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if _, twice := values[m[1]+m[2]]; err != nil || twice || (m[1] != family && !memberOf(m[1], family, types[family])) {
			t.Errorf("line %q of %s: %v", text, family, err)
		}
		values[m[1]+m[2]] = v
	}
	return values, types
}

func memberOf(name, family, kind string) bool {
	suffix := strings.TrimPrefix(name, family)
	return kind == "histogram" && slices.Contains([]string{"_bucket", "_sum", "_count"}, suffix)
}

// What was recorded is what a scrape reads.
func TestRegistry(t *testing.T) {
	r := telemetry.NewRegistry(slog.New(slog.DiscardHandler))
	r.Record(t.Context(), metric.JobsDone.Of(2), metric.JobsDone.Of(1), metric.JobsFailed.For("TimedOut", 1), metric.JobsFailed.For("UploadLost", 2))
	r.Record(t.Context(), metric.OldestGoodBackupHours.Of(30), metric.OldestGoodBackupHours.Of(2.5))
	r.Record(t.Context(), metric.PartSeconds.Of(0.3), metric.PartSeconds.Of(2), metric.PartSeconds.Of(1e6))
	r.Record(t.Context(), metric.JobBytes.Of(1<<50+1))
	values, types := scrape(t, r)
	for name, want := range map[string]float64{
		`sitevault_jobs_done_total`:                        3,
		`sitevault_jobs_created_total`:                     0,
		`sitevault_jobs_failed_total{kind="TimedOut"}`:     1,
		`sitevault_jobs_failed_total{kind="UploadLost"}`:   2,
		`sitevault_oldest_good_backup_hours`:               2.5,
		`sitevault_part_seconds_bucket{le="0.1"}`:          0,
		`sitevault_part_seconds_bucket{le="0.3"}`:          1,
		`sitevault_part_seconds_bucket{le="3"}`:            2,
		`sitevault_part_seconds_bucket{le="21600"}`:        2,
		`sitevault_part_seconds_bucket{le="+Inf"}`:         3,
		`sitevault_part_seconds_count`:                     3,
		`sitevault_part_seconds_sum`:                       1000002.3,
		`sitevault_job_bytes_sum`:                          1<<50 + 1,
		`sitevault_job_bytes_bucket{le="1099511627776"}`:   0,
		`sitevault_job_duration_seconds_bucket{le="+Inf"}`: 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"sitevault_jobs_done_total": "counter", "sitevault_oldest_good_backup_hours": "gauge", "sitevault_part_seconds": "histogram",
	} {
		if types[name] != want {
			t.Errorf("%s is a %s", name, types[name])
		}
	}
}

// Before anything happened counters stand at zero, so that their first step is seen, and gauges say nothing.
func TestRegistryFresh(t *testing.T) {
	values, types := scrape(t, telemetry.NewRegistry(slog.New(slog.DiscardHandler)))
	want := 0
	for _, d := range metric.Table() {
		if d.Dimension == nil && d.Form != metric.Gauge {
			want++
		}
	}
	if len(types) != want {
		t.Errorf("%d metrics, want %d", len(types), want)
	}
	if _, ok := types["sitevault_oldest_good_backup_hours"]; ok {
		t.Error("an age is told that nobody measured")
	}
	if v, ok := values["sitevault_jobs_done_total"]; !ok || v != 0 {
		t.Errorf("%v, %t", v, ok)
	}
}

// Odd values are dropped with a line in the log, and unknown labels share a series.
func TestRegistryOddValues(t *testing.T) {
	var log bytes.Buffer
	r := telemetry.NewRegistry(slog.New(slog.NewTextHandler(&log, nil)))
	before := len(r.Read())
	r.Record(t.Context(), metric.PartSeconds.Of(math.NaN()), metric.JobBytes.Of(math.Inf(1)), metric.JobsDone.Of(-1))
	if n := strings.Count(log.String(), "drop sample"); n != 3 {
		t.Errorf("%d lines: %s", n, &log)
	}
	for i := range 1000 {
		r.Record(t.Context(), metric.FilesFailed.For(fmt.Sprint("site-", i), 1))
	}
	all := r.Read()
	if len(all) != before+1 {
		t.Errorf("%d series, before %d", len(all), before)
	}
	if values, _ := scrape(t, r); values[`sitevault_files_failed_total{kind="Other"}`] != 1000 {
		t.Errorf("%v", values)
	}
}

// Concurrent writers and readers agree, and what a reader holds does not change.
func TestRegistryConcurrent(t *testing.T) {
	r := telemetry.NewRegistry(slog.New(slog.DiscardHandler))
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 500 {
				r.Record(t.Context(), metric.PartSeconds.Of(1), metric.JobsFailed.For("TimedOut", 1))
			}
			for _, s := range r.Read() {
				if s.Def == metric.PartSeconds && (s.Buckets[len(s.Buckets)-1] != s.Count || float64(s.Count) != s.Value) {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	work.Wait()
	values, _ := scrape(t, r)
	if values["sitevault_part_seconds_count"] != 4000 || values[`sitevault_jobs_failed_total{kind="TimedOut"}`] != 4000 {
		t.Errorf("%v", values)
	}
}
