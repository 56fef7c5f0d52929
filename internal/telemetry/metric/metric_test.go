package metric_test

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Names are words that CloudWatch and Prometheus take, the unit is told and nothing is listed twice.
func TestTable(t *testing.T) {
	word := regexp.MustCompile(`^([A-Z][a-z]+)+$`)
	seen := map[string]bool{}
	for _, d := range metric.Table() {
		if !word.MatchString(d.Name) || seen[d.Name] || d.Help == "" || !strings.HasSuffix(d.Help, ".") {
			t.Errorf("%+v", d)
		}
		seen[d.Name] = true
		endsIn := map[metric.Unit]string{metric.Seconds: "Seconds", metric.Bytes: "Bytes", metric.None: "Hours"}[d.Unit]
		if !slices.Contains([]metric.Unit{metric.Count, metric.Seconds, metric.Bytes, metric.None}, d.Unit) || !strings.HasSuffix(d.Name, endsIn) {
			t.Errorf("%s has unit %s", d.Name, d.Unit)
		}
	}
}

// Every metric of the bus between functions and dashboards is there.
func TestTableHolds(t *testing.T) {
	var names []string
	for _, d := range metric.Table() {
		names = append(names, d.Name)
	}
	for _, want := range strings.Fields(`JobsCreated JobsDone JobsFailed JobsTimedOut JobsRetried JobDurationSeconds JobBytes PartsMoved PartBytes
		PartSeconds ExportBytes OldestGoodBackupHours SweepTended PushesFailed StraysFound`) {
		if !slices.Contains(names, want) {
			t.Errorf("no %s", want)
		}
	}
}

// Each value of a dimension is a metric that is paid for: all together stay below a bound, and none is somebody's id.
func TestCardinality(t *testing.T) {
	const bound = 120
	series := 0
	for _, d := range metric.Table() {
		series++
		if d.Dimension == nil {
			continue
		}
		if strings.Contains(strings.ToLower(d.Dimension.Name), "id") || d.Dimension != metric.Kind {
			t.Errorf("%s is divided by %s", d.Name, d.Dimension.Name)
		}
		series += len(d.Dimension.Values)
	}
	if series > bound {
		t.Errorf("%d series", series)
	}
	for _, k := range backup.Kinds() {
		if !slices.Contains(metric.Kind.Values, string(k)) {
			t.Errorf("kind %s is not in the list", k)
		}
	}
}

// What cannot be a value is refused, and a label outside the list becomes Other.
func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		sample metric.Sample
		label  string
		ok     bool
	}{
		"counter":               {metric.JobsDone.Of(3), "", true},
		"zero":                  {metric.JobsDone.Of(0), "", true},
		"gauge below zero":      {metric.OldestGoodBackupHours.Of(-1), "", true},
		"known label":           {metric.JobsFailed.For("TimedOut", 1), "TimedOut", true},
		"unknown label":         {metric.JobsFailed.For("01HZX", 1), metric.Other, true},
		"no label":              {metric.JobsFailed.Of(1), metric.Other, true},
		"largest":               {metric.JobBytes.Of(math.Ldexp(1, 360)), "", true},
		"too large":             {metric.JobBytes.Of(math.Ldexp(1.1, 360)), "", false},
		"too small":             {metric.OldestGoodBackupHours.Of(-math.Ldexp(1.1, 360)), "", false},
		"NaN":                   {metric.PartSeconds.Of(math.NaN()), "", false},
		"+Inf":                  {metric.PartSeconds.Of(math.Inf(1)), "", false},
		"-Inf":                  {metric.PartSeconds.Of(math.Inf(-1)), "", false},
		"counter below zero":    {metric.JobsDone.Of(-1), "", false},
		"label without meaning": {metric.JobsDone.For("shop", 1), "", false},
		"another definition":    {(&metric.Def{Name: "JobsDone"}).Of(1), "", false},
		"no definition":         {metric.Sample{Value: 1}, "", false},
	} {
		got, err := tc.sample.Check()
		if (err == nil) != tc.ok || (err == nil && got.Label != tc.label) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
