package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// contentType is version 0.0.4 of Prometheus' text format:
// https://prometheus.io/docs/instrumenting/exposition_formats/ (read 2026-11).
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// ServeHTTP answers GET with all series.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	_ = r.WriteText(w) // who asked has gone
}

// WriteText writes all series in Prometheus' text format.
func (r *Registry) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	var last *metric.Def
	for _, s := range r.Read() {
		if s.Def != last {
			last = s.Def
			fmt.Fprintf(out, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", exposedName(s.Def), escapeHelp.Replace(s.Def.Help), exposedType(s.Def.Form))
		}
		writeSeries(out, s)
	}
	return out.Flush()
}

func writeSeries(out io.Writer, s Series) {
	name := exposedName(s.Def)
	if s.Def.Form != metric.Distribution {
		fmt.Fprintf(out, "%s%s %s\n", name, labels(s, ""), number(s.Value))
		return
	}
	for i, bound := range Bounds(s.Def.Unit) {
		fmt.Fprintf(out, "%s_bucket%s %d\n", name, labels(s, number(bound)), s.Buckets[i])
	}
	fmt.Fprintf(out, "%s_bucket%s %d\n", name, labels(s, "+Inf"), s.Count)
	fmt.Fprintf(out, "%s_sum%s %s\n%[1]s_count%[2]s %[4]d\n", name, labels(s, ""), number(s.Value), s.Count)
}

// labels needs no escaping: dimensions, their values and numbers are plain words.
func labels(s Series, bound string) string {
	var pairs []string
	if s.Label != "" {
		pairs = append(pairs, fmt.Sprintf("%s=%q", strings.ToLower(s.Def.Dimension.Name), s.Label))
	}
	if bound != "" {
		pairs = append(pairs, fmt.Sprintf("le=%q", bound))
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

var escapeHelp = strings.NewReplacer(`\`, `\\`, "\n", `\n`)

// number writes whole numbers in full, as people read bytes.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func exposedType(f metric.Form) string {
	switch f {
	case metric.Counter:
		return "counter"
	case metric.Gauge:
		return "gauge"
	}
	return "histogram"
}

// exposedName is the name as Prometheus writes names: JobsFailed becomes sitevault_jobs_failed_total.
func exposedName(d *metric.Def) string {
	var name strings.Builder
	name.WriteString("sitevault")
	for _, r := range d.Name {
		if unicode.IsUpper(r) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(r))
	}
	if d.Form == metric.Counter {
		name.WriteString("_total")
	}
	return name.String()
}
