package metric_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// docs/telemetry.md lists the table as it is.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	forms := map[metric.Form]string{metric.Counter: "counter", metric.Gauge: "gauge", metric.Distribution: "distribution"}
	var want []string
	for _, d := range metric.Table() {
		dimension := ""
		if d.Dimension != nil {
			dimension = "`" + d.Dimension.Name + "`"
		}
		want = append(want, strings.Join([]string{"`" + d.Name + "`", string(d.Unit), forms[d.Form], dimension}, "|"))
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		row := cells[1:5]
		for i := range row {
			row[i] = strings.TrimSpace(row[i])
		}
		got = append(got, strings.Join(row, "|"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/telemetry.md lists\n%s\nthe table\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
