package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// OperationsGuide has a paragraph for each alarm.
const OperationsGuide = "docs/operations.md"

// Alarm rings when its metric was beyond the threshold for Periods of its periods in a row.
type Alarm struct {
	ID        string
	Anchor    string // of the paragraph in OperationsGuide
	Text      string
	Metric    awscloudwatch.IMetric
	Beyond    awscloudwatch.ComparisonOperator
	Threshold float64
	Periods   int
	// Silence rings as well. Without it no data is good news: nothing happened.
	Silence bool
}

const (
	over    = awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD
	atLeast = awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD
	under   = awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD
)

func (o *Ops) Alarms() []Alarm {
	all := []Alarm{
		{
			ID: "NoGoodBackup", Anchor: "a-site-has-no-good-backup", Text: "More sites with a daily schedule than are tolerated have had no good backup for 26 hours.",
			Metric: o.own(metric.SitesWithoutBackup, "Maximum", 15), Beyond: over, Threshold: float64(o.config.Tolerated), Periods: 2,
		},
		{
			ID: "ManyFail", Anchor: "many-backups-fail", Text: "More than one in five backups of the last hour failed, and at least five.",
			Metric: o.failedShare(), Beyond: over, Threshold: 20, Periods: 1,
		},
		{
			ID: "TimedOut", Anchor: "backups-time-out", Text: "A backup was given up at its deadline.",
			Metric: o.own(metric.JobsTimedOut, "Sum", 60), Beyond: atLeast, Threshold: 1, Periods: 1,
		},
		{
			ID: "SweeperStill", Anchor: "the-sweeper-stands-still", Text: "The sweeper has not run well for a quarter of an hour: starts, deadlines and deletions wait for it.",
			Metric: o.goodRuns(sweep, 15), Beyond: under, Threshold: 1, Periods: 1, Silence: true,
		},
		{
			ID: "StreamLags", Anchor: "the-stream-lags", Text: "Changes reach the bus and the open sockets more than five minutes late.",
			Metric: o.lambda(stream, "IteratorAge", "Maximum", 5), Beyond: atLeast, Threshold: 5 * 60 * 1000, Periods: 3,
		},
		{
			ID: "ApiFails", Anchor: "the-api-fails", Text: "The API answers with errors of its own.",
			Metric: o.rest("5XXError"), Beyond: atLeast, Threshold: 5, Periods: 2,
		},
		{
			ID: "Strays", Anchor: "strays-were-found", Text: "Objects were found whose job is long gone.",
			Metric: o.own(metric.StraysFound, "Sum", 60), Beyond: atLeast, Threshold: 1, Periods: 1,
		},
		{
			ID: "CleanupsFail", Anchor: "a-cleanup-fails", Text: "Nothing of a failed or deleted backup could be removed from the storage for a day: it is still paid for.",
			Metric: o.own(metric.CleanupsFailing, "Sum", 60), Beyond: atLeast, Threshold: 1, Periods: 1,
		},
		{
			ID: "Throttled", Anchor: "functions-are-throttled", Text: "Functions wait for a place among the account's concurrent executions.",
			Metric: o.throttles(), Beyond: atLeast, Threshold: 10, Periods: 3,
		},
		{
			ID: "TableThrottles", Anchor: "the-table-throttles", Text: "The table refuses requests for a while.",
			Metric: o.tableThrottles(), Beyond: atLeast, Threshold: 100, Periods: 3,
		},
	}
	for _, f := range o.withDeadLetters() {
		all = append(all, Alarm{
			ID: pascal(f) + "DeadLetters", Anchor: "dead-letters", Text: "An event for the function " + f + " was given up.",
			Metric: o.deadLetters(f), Beyond: atLeast, Threshold: 1, Periods: 1,
		})
	}
	return all
}

func (o *Ops) addAlarm(a Alarm) awscloudwatch.Alarm {
	missing := awscloudwatch.TreatMissingData_NOT_BREACHING
	if a.Silence {
		missing = awscloudwatch.TreatMissingData_BREACHING
	}
	return awscloudwatch.NewAlarm(o.Stack, jsii.String(a.ID), &awscloudwatch.AlarmProps{
		AlarmName:        jsii.String(o.config.Name + "-" + a.ID),
		AlarmDescription: jsii.String(a.Text + " See " + OperationsGuide + "#" + a.Anchor),
		Metric:           a.Metric, Threshold: jsii.Number(a.Threshold), ComparisonOperator: a.Beyond,
		EvaluationPeriods: jsii.Number(a.Periods), TreatMissingData: missing,
	})
}

// own is one of the service's metrics, over all values of its dimension.
func (o *Ops) own(def *metric.Def, statistic string, minutes int) awscloudwatch.IMetric {
	return o.metric(o.config.namespace(), def.Name, statistic, minutes, nil)
}

func (o *Ops) lambda(function, name, statistic string, minutes int) awscloudwatch.IMetric {
	return o.metric("AWS/Lambda", name, statistic, minutes, map[string]*string{"FunctionName": jsii.String(o.config.functionName(function))})
}

func (o *Ops) rest(name string) awscloudwatch.IMetric {
	return o.metric("AWS/ApiGateway", name, "Sum", 5, map[string]*string{"ApiName": jsii.String(o.config.Name), "Stage": jsii.String(StageName)})
}

func (o *Ops) deadLetters(function string) awscloudwatch.IMetric {
	return o.metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", 5,
		map[string]*string{"QueueName": jsii.String(o.config.queueName(function))})
}

func (o *Ops) metric(namespace, name, statistic string, minutes int, dimensions map[string]*string) awscloudwatch.IMetric {
	props := &awscloudwatch.MetricProps{
		Namespace: jsii.String(namespace), MetricName: jsii.String(name), Statistic: jsii.String(statistic),
		Period: awscdk.Duration_Minutes(jsii.Number(minutes)),
	}
	if dimensions != nil {
		props.DimensionsMap = &dimensions
	}
	return awscloudwatch.NewMetric(props)
}

func (o *Ops) math(expression, label string, minutes int, metrics map[string]awscloudwatch.IMetric) awscloudwatch.IMetric {
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: jsii.String(expression), Label: jsii.String(label), UsingMetrics: &metrics,
		Period: awscdk.Duration_Minutes(jsii.Number(minutes)),
	})
}

// failedShare is 0 below five failures: one of two is no news.
func (o *Ops) failedShare() awscloudwatch.IMetric {
	return o.math("IF(FILL(failed, 0) >= 5, 100 * failed / (failed + FILL(done, 0)), 0)", "Failed, %", 60, map[string]awscloudwatch.IMetric{
		"failed": o.own(metric.JobsFailed, "Sum", 60), "done": o.own(metric.JobsDone, "Sum", 60),
	})
}

func (o *Ops) goodRuns(function string, minutes int) awscloudwatch.IMetric {
	return o.math("runs - FILL(errors, 0)", "Good runs of "+function, minutes, map[string]awscloudwatch.IMetric{
		"runs": o.lambda(function, "Invocations", "Sum", minutes), "errors": o.lambda(function, "Errors", "Sum", minutes),
	})
}

// throttles leaves out the function that moves ranges: its limit throttles it on purpose, and the state machine waits.
func (o *Ops) throttles() awscloudwatch.IMetric {
	return o.math("FILL(a, 0) + FILL(b, 0) + FILL(c, 0) + FILL(d, 0) + FILL(e, 0)", "Throttled calls", 5, map[string]awscloudwatch.IMetric{
		"a": o.lambda(create, "Throttles", "Sum", 5), "b": o.lambda(status, "Throttles", "Sum", 5),
		"c": o.lambda(stream, "Throttles", "Sum", 5), "d": o.lambda(socketConnect, "Throttles", "Sum", 5),
		"e": o.lambda(dailyRun, "Throttles", "Sum", 5),
	})
}

func (o *Ops) tableThrottles() awscloudwatch.IMetric {
	table := map[string]*string{"TableName": o.data.Table.TableName()}
	return o.math("FILL(r, 0) + FILL(w, 0)", "Throttled requests", 5, map[string]awscloudwatch.IMetric{
		"r": o.metric("AWS/DynamoDB", "ReadThrottleEvents", "Sum", 5, table), "w": o.metric("AWS/DynamoDB", "WriteThrottleEvents", "Sum", 5, table),
	})
}
