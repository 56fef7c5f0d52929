package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// sweeperRule is the rule that calls the sweeper.
func (d *deployment) sweeperRule(t *testing.T) types.Rule {
	t.Helper()
	listed, err := eventbridge.NewFromConfig(d.config).ListRules(t.Context(), &eventbridge.ListRulesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range listed.Rules {
		if rule.ScheduleExpression != nil && rule.State == types.RuleStateEnabled {
			return rule
		}
	}
	t.Fatalf("no rule has a schedule: %+v", listed.Rules)
	return types.Rule{}
}

// sweeperRuns waits until the rule has called the sweeper, which then tells the age of the oldest good backup.
func (s *story) sweeperRuns(t *testing.T) {
	if got := *s.sweeperRule(t).ScheduleExpression; got != "rate(1 minute)" {
		t.Errorf("the sweeper runs at %s", got)
	}
	await(t, "the rule calls the sweeper", 2*time.Minute, func() bool {
		return len(s.metrics(t, "sweep")[metric.OldestGoodBackupHours.Name]) > s.swept
	})
	for _, hours := range s.metrics(t, "sweep")[metric.OldestGoodBackupHours.Name] {
		if hours < 0 || hours > 1 {
			t.Errorf("the oldest good backup is said to be %g hours old", hours)
		}
	}
}

// metricsAreTold compares the metrics in the functions' logs with what has happened.
func (s *story) metricsAreTold(t *testing.T) {
	sums := map[string]float64{}
	for _, function := range s.functionNames(t) {
		for metric, values := range s.metrics(t, function) {
			for _, v := range values {
				sums[metric] += v
			}
		}
	}
	t.Logf("sums of all metrics: %v", sums)
	for _, want := range []struct {
		of    *metric.Def
		least float64
	}{
		{metric.JobsCreated, 6}, {metric.JobsDone, 4}, {metric.JobsFailed, 1}, {metric.JobsCancelled, 1}, {metric.JobsRetried, 1},
		{metric.FilesDone, 8}, {metric.FilesFailed, 2}, {metric.PartsMoved, 16}, {metric.PartBytes, 4 * float64(s.job.SizeBytes)},
		{metric.PartSeconds, 0}, {metric.ProviderSeconds, 0}, {metric.JobDurationSeconds, 0}, {metric.JobBytes, 4 * float64(s.job.SizeBytes)},
		{metric.ExportBytes, 4 * float64(s.job.SizeBytes)}, {metric.SweepTended, 1}, {metric.StraysFound, 1},
	} {
		if got, told := sums[want.of.Name]; !told || got < want.least {
			t.Errorf("%s sums up to %g (told: %t), not to %g at least", want.of.Name, got, told, want.least)
		}
	}
	for _, never := range []*metric.Def{metric.JobsTimedOut, metric.PushesFailed} {
		if sums[never.Name] != 0 {
			t.Errorf("%s sums up to %g", never.Name, sums[never.Name])
		}
	}
}

// metrics are the values that the function has written in CloudWatch's embedded metric format, by metric.
func (d *deployment) metrics(t *testing.T, function string) map[string][]float64 {
	t.Helper()
	told := map[string][]float64{}
	for _, line := range d.logs(t, function) {
		if !strings.Contains(line, `"_aws"`) {
			continue
		}
		var fields map[string]json.RawMessage
		var directive struct {
			CloudWatchMetrics []struct {
				Namespace string
				Metrics   []struct{ Name string }
			}
		}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if err := json.Unmarshal(fields["_aws"], &directive); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if strings.Contains(line, siteID+`"`) && strings.Contains(string(fields["_aws"]), "siteId") {
			t.Errorf("a site is a dimension: %s", line)
		}
		for _, set := range directive.CloudWatchMetrics {
			if set.Namespace != metric.Namespace {
				t.Errorf("metrics in the namespace %s: %s", set.Namespace, line)
			}
			for _, m := range set.Metrics {
				told[m.Name] = append(told[m.Name], numbers(t, fields[m.Name])...)
			}
		}
	}
	return told
}

// numbers reads a metric's value, which is a number or a list of numbers.
func numbers(t *testing.T, value json.RawMessage) []float64 {
	t.Helper()
	var one float64
	if json.Unmarshal(value, &one) == nil {
		return []float64{one}
	}
	var many []float64
	if err := json.Unmarshal(value, &many); err != nil {
		t.Fatalf("%v in %s", err, value)
	}
	return many
}
