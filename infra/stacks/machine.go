package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/statemachine"
)

// machineLogs is what Step Functions does with the machine's role to deliver logs and traces. None of it knows
// resources. https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html (read 2026-11)
var machineLogs = []string{
	"logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery", "logs:ListLogDeliveries",
	"logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
	"xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets",
}

// addMachine makes the state machine out of statemachine/backup.asl.json, with the ARNs of the functions that exist by
// now in place of its ${<State>}.
func (a *App) addMachine() {
	role := awsiam.NewRole(a.Stack, jsii.String("MachineRole"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("states.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]*string{"aws:SourceAccount": a.Stack.Account()}},
		}),
		Description: jsii.String("What the state machine may do"),
	})
	arns := map[string]*string{}
	var invoked []*string
	for _, f := range stateFunctions(a.config) {
		arns[f.State] = a.Functions[f.Name].FunctionArn()
		invoked = append(invoked, arns[f.State])
	}
	statements := []awsiam.PolicyStatement{
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: jsii.Strings("lambda:InvokeFunction"), Resources: &invoked}),
		awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: jsii.Strings(machineLogs...), Resources: jsii.Strings("*")}),
	}
	attached := awsiam.NewPolicy(a.Stack, jsii.String("MachinePolicy"), &awsiam.PolicyProps{Roles: &[]awsiam.IRole{role}, Statements: &statements})
	a.Machine = awsstepfunctions.NewStateMachine(a.Stack, jsii.String("Machine"), &awsstepfunctions.StateMachineProps{
		StateMachineName:        jsii.String(a.config.Name),
		StateMachineType:        awsstepfunctions.StateMachineType_STANDARD,
		DefinitionBody:          awsstepfunctions.DefinitionBody_FromString(jsii.String(string(statemachine.Backup))),
		DefinitionSubstitutions: &arns,
		Role:                    role.WithoutPolicyUpdates(nil),
		TracingEnabled:          jsii.Bool(true),
		Logs: &awsstepfunctions.LogOptions{
			// Groups of this prefix need no resource policy of their own, which an account has only ten of.
			Destination:          a.logGroup("MachineLogs", jsii.String("/aws/vendedlogs/states/"+a.config.Name)),
			Level:                awsstepfunctions.LogLevel_ERROR,
			IncludeExecutionData: jsii.Bool(false),
		},
	})
	a.Machine.Node().AddDependency(attached) // Step Functions tries the role when it is told to log
	a.environment[StateMachineARN] = a.Machine.StateMachineArn()
}
