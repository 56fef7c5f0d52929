package stacks

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdadestinations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"
)

// asyncMaxAgeMinutes is how long Lambda tries to deliver an event to a throttled or broken Async function: the six hours
// that it can.
const asyncMaxAgeMinutes = 6 * 60

func (a *App) addFunction(f Function) {
	id := pascal(f.Name)
	a.roles[f.Name] = awsiam.NewRole(a.Stack, jsii.String(id+"Role"), &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
		Description: jsii.String("What the function " + f.Name + " may do"),
	})
	a.logs[f.Name] = a.logGroup(id+"Logs", jsii.String("/aws/lambda/"+a.config.functionName(f.Name)))
	props := &awslambda.FunctionProps{
		FunctionName: jsii.String(a.config.functionName(f.Name)),
		Description:  jsii.String("Sitevault " + f.Name),
		Runtime:      awslambda.Runtime_PROVIDED_AL2023(),
		Architecture: awslambda.Architecture_ARM_64(),
		Handler:      jsii.String("bootstrap"),
		Code:         awslambda.Code_FromAsset(jsii.String(a.config.asset(f.Name)), nil),
		MemorySize:   jsii.Number(f.MemoryMiB),
		Timeout:      seconds(f.Timeout.Seconds()),
		Environment:  a.env(f),
		Tracing:      awslambda.Tracing_ACTIVE,
		LogGroup:     a.logs[f.Name],
		// What a role allows is grant's table and nothing that a construct would add on the way.
		Role: a.roles[f.Name].WithoutPolicyUpdates(nil),
	}
	if f.Reserved > 0 {
		props.ReservedConcurrentExecutions = jsii.Number(f.Reserved)
	}
	if f.Async {
		props.RetryAttempts = jsii.Number(f.Retries)
		props.MaxEventAge = awscdk.Duration_Minutes(jsii.Number(asyncMaxAgeMinutes))
	}
	if f.Periodic {
		props.MaxEventAge = awscdk.Duration_Minutes(jsii.Number(sweepMinutes))
	}
	if f.KeepsFailures() {
		props.OnFailure = awslambdadestinations.NewSqsDestination(a.DeadLetters[f.Name])
	}
	function := awslambda.NewFunction(a.Stack, jsii.String(id), props)
	a.Functions[f.Name] = function
	if f.Name == dailyRun {
		a.environment[DailyRunARN] = function.FunctionArn()
	}
}

func (a *App) logGroup(id string, name *string) awslogs.LogGroup {
	return awslogs.NewLogGroup(a.Stack, jsii.String(id), &awslogs.LogGroupProps{
		LogGroupName: name, Retention: retentions[a.config.LogRetention], RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
}

// deadLettersDays is the longest that SQS keeps a message.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html (read 2026-11)
const deadLettersDays = 14

func (a *App) addQueues(functions []Function) {
	for _, f := range functions {
		if f.DeadLetters() {
			a.DeadLetters[f.Name] = awssqs.NewQueue(a.Stack, jsii.String(pascal(f.Name)+"DeadLetters"), &awssqs.QueueProps{
				QueueName:  jsii.String(a.config.queueName(f.Name)),
				Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: jsii.Bool(true),
				RetentionPeriod: awscdk.Duration_Days(jsii.Number(deadLettersDays)),
			})
		}
	}
	a.environment[ScheduleDLQARN] = a.DeadLetters[dailyRun].QueueArn()
}

func seconds(n float64) awscdk.Duration { return awscdk.Duration_Seconds(jsii.Number(n)) }

// pascal turns export-range-upload into ExportRangeUpload.
func pascal(name string) string {
	var id strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		id.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return id.String()
}
