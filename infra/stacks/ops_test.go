package stacks_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/infra/stacks"
	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

func guide(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile("../../" + stacks.OperationsGuide)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

// anchors are those that a page's headings get where it is shown.
func anchors(page string) []string {
	var found []string
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		slug := strings.Map(func(r rune) rune {
			if r == ' ' {
				return '-'
			}
			if r == '-' || (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
				return r
			}
			return -1
		}, strings.ToLower(match[1]))
		found = append(found, slug)
	}
	return found
}

// Each alarm says what is wrong and where it is written what to do, that paragraph exists, and the guide's list of
// alarms is the real one.
func TestAlarmsLeadToTheGuide(t *testing.T) {
	d, page := synthesised(t, standard), guide(t)
	alarms := of(d.ops, "AWS::CloudWatch::Alarm")
	if len(alarms) != 10+len(of(d.app, "AWS::SQS::Queue")) {
		t.Errorf("%d alarms", len(alarms))
	}
	for _, alarm := range alarms {
		description, _ := alarm.at("AlarmDescription").(string)
		what, anchor, found := strings.Cut(description, " See "+stacks.OperationsGuide+"#")
		if !found || what == "" || !slices.Contains(anchors(page), anchor) {
			t.Errorf("%s: %q leads nowhere", alarm.ID, description)
		}
		name, _ := alarm.at("AlarmName").(string)
		name = strings.TrimPrefix(name, "sitevault-")
		if strings.HasSuffix(name, "DeadLetters") {
			name = "<Function>DeadLetters"
		}
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("%s is not in the guide's list", name)
		}
		if len(many(alarm.at("AlarmActions"))) != 1 || alarm.at("AlarmActions") == nil || alarm.at("OKActions") == nil {
			t.Errorf("%s tells nobody", alarm.ID)
		}
	}
}

// Links within the guide lead somewhere.
func TestLinksOfTheGuide(t *testing.T) {
	page := guide(t)
	links := regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(page, -1)
	if len(links) < 10 {
		t.Fatalf("%d links", len(links))
	}
	for _, link := range links {
		if !slices.Contains(anchors(page), link[1]) {
			t.Errorf("#%s leads nowhere", link[1])
		}
	}
}

// Each setting is in the guide.
func TestSettingsAreInTheGuide(t *testing.T) {
	page, seen := guide(t), 0
	if _, err := stacks.ReadConfig(func(key string) any {
		seen++
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + key + "`[^|]*\\|").MatchString(page) {
			t.Errorf("%s is not described", key)
		}
		return nil
	}); err != nil || seen < 10 {
		t.Errorf("%d settings, %v", seen, err)
	}
}

// The alarm that counts looks at the number of sites without a good backup, as the service publishes it, and rings above
// what is tolerated. No data is no alarm there, since the sweeper that counts has an alarm for silence.
func TestTheAlarmThatCounts(t *testing.T) {
	d := synthesised(t, standard)
	alarm := named(t, d.ops, "AWS::CloudWatch::Alarm", "NoGoodBackup")
	if alarm.at("Namespace") != metric.Namespace || alarm.at("MetricName") != metric.SitesWithoutBackup.Name || alarm.at("Dimensions") != nil ||
		alarm.at("Statistic") != "Maximum" || alarm.at("Threshold") != 0.0 || alarm.at("ComparisonOperator") != "GreaterThanThreshold" ||
		alarm.at("TreatMissingData") != "notBreaching" {
		t.Errorf("%s", text(alarm.Properties))
	}
	if tolerant := named(t, synthesised(t, foreign).ops, "AWS::CloudWatch::Alarm", "NoGoodBackup"); tolerant.at("Threshold") != 12.0 {
		t.Errorf("%s", text(tolerant.Properties))
	}
	if silence := named(t, d.ops, "AWS::CloudWatch::Alarm", "SweeperStill"); silence.at("TreatMissingData") != "breaching" || silence.at("ComparisonOperator") != "LessThanThreshold" {
		t.Errorf("%s", text(silence.Properties))
	}
}

// Alarms and dashboard look at what the service publishes: at metrics of its table, under its namespace.
func TestMetricsExist(t *testing.T) {
	for namespace, d := range map[string]deployment{"Sitevault": synthesised(t, standard), "Sitevault/staging": synthesised(t, foreign)} {
		for _, f := range byFunction(d) {
			if f.at("Environment", "Variables", "METRIC_NAMESPACE") != namespace {
				t.Errorf("%s publishes under %v", f.ID, f.at("Environment", "Variables", "METRIC_NAMESPACE"))
			}
		}
		board := text(one(t, d.ops, "AWS::CloudWatch::Dashboard").at("DashboardBody"))
		for _, def := range []*metric.Def{
			metric.JobsCreated, metric.JobsDone, metric.JobsFailed, metric.JobsTimedOut, metric.JobsRetried, metric.JobDurationSeconds,
			metric.JobBytes, metric.PartBytes, metric.OldestGoodBackupHours, metric.SitesWithoutBackup, metric.StraysFound, metric.PushesFailed, metric.CleanupsFailing,
		} {
			if !strings.Contains(board, `\"`+namespace+`\",\"`+def.Name+`\"`) && !strings.Contains(board, `\\\"`+namespace+`\\\",\\\"`+def.Name+`\\\"`) {
				t.Errorf("the dashboard does not show %s of %s", def.Name, namespace)
			}
		}
	}
}

// The topic speaks TLS only, and CloudWatch may publish to it.
func TestTopic(t *testing.T) {
	d := synthesised(t, standard)
	policy := text(one(t, d.ops, "AWS::SNS::TopicPolicy").at("PolicyDocument"))
	for _, want := range []string{`"aws:SecureTransport":"false"`, `"Service":"cloudwatch.amazonaws.com"`, `"aws:SourceAccount"`} {
		if !strings.Contains(policy, want) {
			t.Errorf("%s is missing in %s", want, policy)
		}
	}
	if subscription := one(t, d.ops, "AWS::SNS::Subscription"); subscription.at("Endpoint") != "ops@example.org" || subscription.at("Protocol") != "email" {
		t.Errorf("%s", text(subscription.Properties))
	}
	if topics := of(synthesised(t, foreign).ops, "AWS::SNS::Topic"); len(topics) != 0 {
		t.Errorf("a topic for nobody: %v", topics)
	}
}
