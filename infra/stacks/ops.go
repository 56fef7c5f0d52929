package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/interfaces/interfacesawscloudwatch"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/telemetry/metric"
)

// Ops is the stack that watches the service: alarms, a dashboard and, if wanted, a topic that sends e-mail.
type Ops struct {
	Stack awscdk.Stack

	config Config
	data   *Data
}

// NewOps adds the stack to the app.
func NewOps(app constructs.Construct, c Config, data *Data) *Ops {
	o := &Ops{Stack: newStack(app, c, "ops", "Alarms and dashboard of Sitevault"), config: c, data: data}
	var alarms []interfacesawscloudwatch.IAlarmRef
	action := o.notify()
	for _, spec := range o.Alarms() {
		alarm := o.addAlarm(spec)
		if action != nil {
			alarm.AddAlarmAction(action)
			alarm.AddOkAction(action)
		}
		alarms = append(alarms, alarm)
	}
	o.addDashboard(alarms)
	return o
}

// notify is nil when nobody gave an address.
func (o *Ops) notify() awscloudwatch.IAlarmAction {
	if o.config.AlarmEmail == "" {
		return nil
	}
	topic := awssns.NewTopic(o.Stack, jsii.String("Alarms"), &awssns.TopicProps{
		DisplayName: jsii.String("Alarms of " + o.config.Name), EnforceSSL: jsii.Bool(true),
	})
	// A topic with a policy of its own has nothing else: CloudWatch must be named.
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("Alarms"), Actions: jsii.Strings("sns:Publish"), Resources: &[]*string{topic.TopicArn()},
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil)},
		Conditions: &map[string]any{"StringEquals": map[string]*string{"aws:SourceAccount": o.Stack.Account()}},
	}))
	topic.AddSubscription(awssnssubscriptions.NewEmailSubscription(jsii.String(o.config.AlarmEmail), nil))
	return awscloudwatchactions.NewSnsAction(topic)
}

// withDeadLetters are the functions that have a dead-letter queue.
func (o *Ops) withDeadLetters() []string {
	var names []string
	for _, f := range Functions(o.config) {
		if f.DeadLetters() {
			names = append(names, f.Name)
		}
	}
	return names
}

// Sizes on a dashboard, which is 24 wide.
const (
	full, half, third, quarter = 24, 12, 8, 6
	tall                       = 6
)

func (o *Ops) addDashboard(alarms []interfacesawscloudwatch.IAlarmRef) {
	all := func(names []string, name, statistic string) []awscloudwatch.IMetric {
		var metrics []awscloudwatch.IMetric
		for _, f := range names {
			metrics = append(metrics, o.lambda(f, name, statistic, 5))
		}
		return metrics
	}
	var queues []awscloudwatch.IMetric
	for _, f := range o.withDeadLetters() {
		queues = append(queues, o.deadLetters(f))
	}
	var names []string
	for _, f := range Functions(o.config) {
		names = append(names, f.Name)
	}
	awscloudwatch.NewDashboard(o.Stack, jsii.String("Dashboard"), &awscloudwatch.DashboardProps{
		DashboardName: jsii.String(o.config.Name),
		Widgets: &[]*[]awscloudwatch.IWidget{
			{awscloudwatch.NewAlarmStatusWidget(&awscloudwatch.AlarmStatusWidgetProps{
				Title: jsii.String("Alarms"), Alarms: &alarms, Width: jsii.Number(full), Height: jsii.Number(4),
			})},
			{
				o.graph("Sites without a backup for 26 hours", quarter, o.own(metric.SitesWithoutBackup, "Maximum", 15)),
				o.graph("Oldest good backup, hours", quarter, o.own(metric.OldestGoodBackupHours, "Maximum", 15)),
				o.graph("Backups", quarter, o.sums(metric.JobsCreated, metric.JobsDone, metric.JobsFailed, metric.JobsTimedOut, metric.JobsRetried)...),
				o.graph("Duration of a backup, seconds", quarter, o.spread(metric.JobDurationSeconds)...),
			},
			{
				o.graph("Bytes moved", third, o.sums(metric.PartBytes)...),
				o.graph("Size of a backup, bytes", third, o.spread(metric.JobBytes)...),
				o.graph("Seconds for a part, and until a provider answers", third, append(o.spread(metric.PartSeconds), o.spread(metric.ProviderSeconds)...)...),
			},
			{
				o.graph("Sweeper, pushes, strays", half, o.sums(metric.SweepTended, metric.CleanupsFailing, metric.PushesFailed, metric.StraysFound)...),
				o.graph("Dead letters", half, queues...),
			},
			{
				o.graph("Errors of functions", half, all(names, "Errors", "Sum")...),
				o.graph("Throttled calls of functions", half, all(names, "Throttles", "Sum")...),
			},
			{
				o.graph("API", third, o.rest("Count"), o.rest("4XXError"), o.rest("5XXError")),
				o.graph("Stream behind, milliseconds", third, o.lambda(stream, "IteratorAge", "Maximum", 5)),
				o.graph("Throttled requests of the table", third, o.tableThrottles()),
			},
		},
	})
}

func (o *Ops) graph(title string, width int, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{
		Title: jsii.String(title), Width: jsii.Number(width), Height: jsii.Number(tall), Left: &metrics,
	})
}

func (o *Ops) sums(definitions ...*metric.Def) []awscloudwatch.IMetric {
	var metrics []awscloudwatch.IMetric
	for _, def := range definitions {
		metrics = append(metrics, o.own(def, "Sum", 60))
	}
	return metrics
}

// spread shows the middle and the slow end.
func (o *Ops) spread(def *metric.Def) []awscloudwatch.IMetric {
	return []awscloudwatch.IMetric{o.own(def, "p50", 60), o.own(def, "p99", 60)}
}
