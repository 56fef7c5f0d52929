package stacks

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdaeventsources"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
	"github.com/sitevault/sitevault/internal/step"
)

// EventSource is the source of the domain events on the bus.
const EventSource = "sitevault"

const dueIndex = dynamo.DueIndex

func (a *App) addBus() {
	a.bus = awsevents.NewEventBus(a.Stack, jsii.String("Bus"), &awsevents.EventBusProps{
		EventBusName: jsii.String(a.config.Name), Description: jsii.String("Domain events of Sitevault"),
	})
	a.environment[EventBus] = a.bus.EventBusName()
}

// addRules connects the functions that events call. Each rule's target has the dead-letter queue of its function, for
// events that cannot be delivered.
func (a *App) addRules() {
	a.rule("Sweep", sweep, sweepMaxAgeMinutes, &awsevents.RuleProps{
		Description: jsii.String("Tends all jobs that are due"),
		Schedule:    awsevents.Schedule_Rate(awscdk.Duration_Minutes(jsii.Number(sweepMinutes))),
	})
	a.rule("ExecutionEnded", executionEnded, eventMaxAgeMinutes, &awsevents.RuleProps{
		Description: jsii.String("An execution ended without its FinishJob"),
		EventPattern: &awsevents.EventPattern{
			Source: jsii.Strings("aws.states"), DetailType: jsii.Strings("Step Functions Execution Status Change"),
			Detail: &map[string]any{
				"stateMachineArn": []*string{a.Machine.StateMachineArn()},
				"status":          []string{"TIMED_OUT", "FAILED", "ABORTED"},
			},
		},
	})
	a.rule("Deleting", clean, eventMaxAgeMinutes, &awsevents.RuleProps{
		Description: jsii.String("A job is to be deleted"), EventBus: a.bus,
		EventPattern: &awsevents.EventPattern{Source: jsii.Strings(EventSource), DetailType: jsii.Strings(string(backup.BackupJobDeleting))},
	})
	a.rule("Cancelled", clean, eventMaxAgeMinutes, &awsevents.RuleProps{
		Description: jsii.String("A job was cancelled"), EventBus: a.bus,
		EventPattern: &awsevents.EventPattern{
			Source: jsii.Strings(EventSource), DetailType: jsii.Strings(string(backup.BackupJobFinished)),
			Detail: &map[string]any{"failureKind": []string{string(backup.Cancelled)}},
		},
	})
}

const (
	sweepMinutes       = int(step.SweepInterval / time.Minute)
	sweepMaxAgeMinutes = sweepMinutes // the next run does what this one should have
	eventMaxAgeMinutes = 6 * 60       // the sweeper has done it long before
	eventRetries       = 20
)

func (a *App) rule(id, function string, maxAgeMinutes int, props *awsevents.RuleProps) {
	rule := awsevents.NewRule(a.Stack, jsii.String(id+"Rule"), props)
	rule.AddTarget(awseventstargets.NewLambdaFunction(a.Functions[function], &awseventstargets.LambdaFunctionProps{
		DeadLetterQueue: a.DeadLetters[function], RetryAttempts: jsii.Number(eventRetries),
		MaxEventAge: awscdk.Duration_Minutes(jsii.Number(maxAgeMinutes)),
	}))
}

// addScheduleGroup makes the group of the sites' schedules, which the functions write one by one, and the role in which
// EventBridge Scheduler acts on them.
func (a *App) addScheduleGroup() {
	a.schedules = awsscheduler.NewCfnScheduleGroup(a.Stack, jsii.String("Schedules"), &awsscheduler.CfnScheduleGroupProps{
		Name: jsii.String(a.config.Name),
	})
	a.scheduleRole = awsiam.NewRole(a.Stack, jsii.String("ScheduleRole"), &awsiam.RoleProps{
		Description: jsii.String("What the sites' schedules may do"),
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]*string{
				"aws:SourceAccount": a.Stack.Account(), "aws:SourceArn": a.schedules.AttrArn(),
			}},
		}),
	})
	a.environment[ScheduleGroup], a.environment[ScheduleRoleARN] = a.schedules.Ref(), a.scheduleRole.RoleArn()
}

func (a *App) addScheduleRights() {
	statements := []awsiam.PolicyStatement{
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: jsii.Strings("lambda:InvokeFunction"), Resources: &[]*string{a.Functions[dailyRun].FunctionArn()},
		}),
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: jsii.Strings("sqs:SendMessage"), Resources: &[]*string{a.DeadLetters[dailyRun].QueueArn()},
		}),
	}
	awsiam.NewPolicy(a.Stack, jsii.String("SchedulePolicy"), &awsiam.PolicyProps{Roles: &[]awsiam.IRole{a.scheduleRole}, Statements: &statements})
}

// How the stream is read. A batch that fails is tried again in halves, so that one bad change does not hold up others for
// long; whatever is lost here is a push, an event, a second look at a bucket or the time of a good backup, never a job's state.
const (
	streamBatch       = 100
	streamParallel    = 10 // batches of one shard at a time; the changes of one row stay in order
	streamWindow      = 1  // seconds; also the pace of pushes
	streamRetries     = 8
	streamMaxAgeHours = 6
)

func (a *App) addStream() {
	policy := a.Stack.Node().FindChild(jsii.String(pascal(stream) + "Policy"))
	mapping := awslambda.NewEventSourceMapping(a.Stack, jsii.String("StreamMapping"), &awslambda.EventSourceMappingProps{
		Target: a.Functions[stream], EventSourceArn: a.data.Table.TableStreamArn(),
		StartingPosition:      awslambda.StartingPosition_TRIM_HORIZON,
		ParallelizationFactor: jsii.Number(streamParallel),
		BatchSize:             jsii.Number(streamBatch), MaxBatchingWindow: seconds(streamWindow),
		BisectBatchOnError: jsii.Bool(true), ReportBatchItemFailures: jsii.Bool(true),
		RetryAttempts: jsii.Number(streamRetries), MaxRecordAge: awscdk.Duration_Hours(jsii.Number(streamMaxAgeHours)),
		OnFailure: awslambdaeventsources.NewSqsDlq(a.DeadLetters[stream]),
		Filters:   &[]*map[string]any{changes(), purges()},
	})
	mapping.Node().AddDependency(policy)
}

// changes are rows that were written and that somebody may want to hear of.
func changes() *map[string]any {
	return awslambda.FilterCriteria_Filter(&map[string]any{
		"dynamodb": map[string]any{"NewImage": typeIs(dynamo.JobType, dynamo.FileType, dynamo.PartType, dynamo.ErrorType)},
	})
}

// purges are jobs whose row DynamoDB itself removed after its time to live.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html (read 2026-11)
func purges() *map[string]any {
	return awslambda.FilterCriteria_Filter(&map[string]any{
		"userIdentity": map[string]any{"type": []string{"Service"}, "principalId": []string{"dynamodb.amazonaws.com"}},
		"dynamodb":     map[string]any{"OldImage": typeIs(dynamo.JobType)},
	})
}

func typeIs(types ...string) map[string]any {
	return map[string]any{dynamo.TypeAttribute: map[string]any{"S": types}}
}
