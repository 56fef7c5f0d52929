package stacks

import (
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// explain gives the reason for each rule of AwsSolutions that the stacks do not follow.
func explain(data *Data, service *App) {
	if data.Users != nil {
		because(data.Users, "COG2", "Whoever runs the service decides whether its users must have a second factor; they can always add one. Requiring it would lock out clients that sign in by themselves.")
		because(data.Users, "COG3", "Threat protection is a paid plan of Cognito. Users are invited, passwords are long, and sign-up is off.")
	}
	if data.Users == nil {
		because(service.REST, "COG4", "The function authorize checks the tokens of the issuer that this deployment was given.")
	}
	for _, queue := range service.DeadLetters {
		because(queue, "SQS3", "It is a dead-letter queue: of a function, a rule, a schedule or a stream, which the rule does not see.")
	}
	because(service.Machine, "SF1", "The history of each execution stays for 90 days with Step Functions. A log of all events would cost more than the execution and hold each payload once more.")
	because(service.REST.DeploymentStage(), "APIG3", "A web ACL costs more each month than a small deployment. Every route asks for a token, bodies and rates are bounded, and an operator can attach an ACL to the stage.")
	because(service.REST, "IAM4", "The one policy that AWS keeps for the role in which API Gateway writes logs; the role is the account's, not the service's.",
		"Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs")
	for _, route := range []string{"$disconnect", "$default"} {
		because(service.Socket.Node().FindChild(jsii.String(route+"-Route")), "APIG4", "API Gateway authorizes a socket once, at $connect; messages on it carry what the authorizer said.")
	}
	explainWildcards(service)
}

func explainWildcards(service *App) {
	for _, f := range Functions(service.config) {
		for _, g := range merged(append(f.Grants, platform(f)...)) {
			if w, ok := Wildcards[g.On]; ok && w.finding != "" {
				because(service.Stack.Node().FindChild(jsii.String(pascal(f.Name)+"Policy")), "IAM5", w.Reason, &cdknag.RegexAppliesTo{Regex: jsii.String(w.finding)})
			}
		}
	}
	because(service.Stack.Node().FindChild(jsii.String("MachinePolicy")), "IAM5", "The delivery of logs and X-Ray have no resources to name.", "Resource::*")
}

// because suppresses one rule below a construct; with findings, only those findings of the rule.
func because(construct any, rule, reason string, findings ...any) {
	suppression := &cdknag.NagPackSuppression{Id: jsii.String("AwsSolutions-" + rule), Reason: jsii.String(reason)}
	if len(findings) > 0 {
		suppression.AppliesTo = &findings
	}
	cdknag.NagSuppressions_AddResourceSuppressions(construct, &[]*cdknag.NagPackSuppression{suppression}, jsii.Bool(true))
}
