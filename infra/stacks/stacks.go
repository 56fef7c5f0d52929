package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// New adds all stacks of a deployment to the app. Synthesis then fails on whatever the AwsSolutions rules of cdk-nag
// find and no reason here explains.
func New(app constructs.Construct, c Config) {
	data := NewData(app, c)
	service := NewApp(app, c, data)
	ops := NewOps(app, c, data)
	ops.Stack.AddStackDependency(service.Stack, jsii.String("its alarms ring for what is not there"))
	explain(data, service)
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{Reports: jsii.Bool(false)}), nil)
}
