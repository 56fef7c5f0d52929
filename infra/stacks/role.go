package stacks

import (
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/dynamo"
)

// grant attaches the policy of one function: its Grants and what Lambda itself does in the role's name.
func (a *App) grant(f Function) {
	arns := a.arns(f)
	statements := []awsiam.PolicyStatement{}
	for _, g := range merged(append(slices.Clone(f.Grants), platform(f)...)) {
		statements = append(statements, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions: jsii.Strings(g.Actions...), Resources: jsii.Strings(arns[g.On]...), Conditions: a.conditions(g),
		}))
	}
	attached := awsiam.NewPolicy(a.Stack, jsii.String(pascal(f.Name)+"Policy"), &awsiam.PolicyProps{
		Roles: &[]awsiam.IRole{a.roles[f.Name]}, Statements: &statements,
	})
	// Lambda tries the role when it makes the function (X-Ray) and when it is told of the dead-letter queue.
	a.Functions[f.Name].Node().AddDependency(attached)
}

// platform are the grants for what Lambda does with the function's role.
func platform(f Function) set {
	grants := set{
		allow(LogStreams, "logs:CreateLogStream", "logs:PutLogEvents"),
		allow(Everything, "xray:PutTraceSegments", "xray:PutTelemetryRecords"),
	}
	if f.KeepsFailures() {
		grants = append(grants, allow(DeadLetters, "sqs:SendMessage"))
	}
	if f.Name == stream {
		grants = grants.and(readStream, set{allow(DeadLetters, "sqs:SendMessage")})
	}
	return grants
}

// merged has one grant for each resource and condition, with its actions sorted.
func merged(grants []Grant) []Grant {
	type place struct {
		on  Resource
		via string
	}
	actions := map[place]map[string]bool{}
	for _, g := range grants {
		p := place{g.On, g.Via}
		if actions[p] == nil {
			actions[p] = map[string]bool{}
		}
		for _, action := range g.Actions {
			actions[p][action] = true
		}
	}
	all := make([]Grant, 0, len(actions))
	for p, set := range actions {
		all = append(all, Grant{On: p.on, Via: p.via, Actions: slices.Sorted(maps.Keys(set))})
	}
	slices.SortFunc(all, func(x, y Grant) int {
		if x.On < y.On || (x.On == y.On && x.Via < y.Via) {
			return -1
		}
		return 1
	})
	return all
}

// conditions narrow a grant: to the service that alone uses what is granted, or to rows of one kind.
func (a *App) conditions(g Grant) *map[string]any {
	switch {
	case g.On == RequestCounts:
		return &map[string]any{"ForAllValues:StringLike": map[string][]string{"dynamodb:LeadingKeys": {dynamo.RequestCounts}}}
	case g.Via == "":
		return nil
	case g.On == ScheduleRole:
		return &map[string]any{"StringEquals": map[string]string{"iam:PassedToService": g.Via + ".amazonaws.com"}}
	}
	return &map[string]any{"StringEquals": map[string]string{"kms:ViaService": g.Via + "." + *a.Stack.Region() + ".amazonaws.com"}}
}

// arns are those that a function's grants can name.
func (a *App) arns(f Function) map[Resource][]string {
	table, bucket := *a.data.Table.TableArn(), *a.data.Bucket.BucketArn()
	arns := map[Resource][]string{
		TheTable:      {table},
		RequestCounts: {table},
		DueIndex:      {table + "/index/" + dueIndex},
		TableStream:   {*a.data.Table.TableStreamArn()},
		TheBucket:     {bucket},
		Objects:       {bucket + "/*"},
		DataKey:       {*a.data.Key.KeyArn()},
		Machine:       {*a.Machine.StateMachineArn()},
		Executions:    {a.arn("states", "execution", ":", *a.Machine.StateMachineName()+":*")},
		Bus:           {*a.bus.EventBusArn()},
		Schedules:     {a.arn("scheduler", "schedule", "/", *a.schedules.Ref()+"/*")},
		ScheduleRole:  {*a.scheduleRole.RoleArn()},
		Connections: {
			a.arn("execute-api", *a.Socket.ApiId(), "/", StageName+"/POST/@connections/*"),
			a.arn("execute-api", *a.Socket.ApiId(), "/", StageName+"/DELETE/@connections/*"),
		},
		Secrets:    {a.arn("secretsmanager", "secret", ":", a.config.Name+"/*")},
		LogStreams: {*a.logs[f.Name].LogGroupArn()},
		Everything: {"*"},
	}
	if queue := a.DeadLetters[f.Name]; queue != nil {
		arns[DeadLetters] = []string{*queue.QueueArn()}
	}
	return arns
}

// arn names a resource of this account and region.
func (a *App) arn(service, resource, separator, name string) string {
	format := awscdk.ArnFormat_SLASH_RESOURCE_NAME
	if separator == ":" {
		format = awscdk.ArnFormat_COLON_RESOURCE_NAME
	}
	return *a.Stack.FormatArn(&awscdk.ArnComponents{
		Service: &service, Resource: &resource, ResourceName: &name, ArnFormat: format,
	})
}
