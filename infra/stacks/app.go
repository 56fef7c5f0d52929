package stacks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// StageName is the stage of both APIs.
const StageName = "v1"

// App is the stack of the service itself. It holds nothing that another deployment of it could not make again: the
// schedules are written anew when their sites are.
type App struct {
	Stack awscdk.Stack

	Machine     awsstepfunctions.StateMachine
	REST        awsapigateway.RestApi
	Socket      awsapigatewayv2.WebSocketApi
	Functions   map[string]awslambda.Function // by name
	DeadLetters map[string]awssqs.Queue       // by the name of the function whose events they hold

	config       Config
	data         *Data
	bus          awsevents.EventBus
	schedules    awsscheduler.CfnScheduleGroup
	scheduleRole awsiam.Role
	roles        map[string]awsiam.Role
	logs         map[string]awslogs.LogGroup
	environment  map[Variable]*string
}

// NewApp adds the stack to the app.
func NewApp(app constructs.Construct, c Config, data *Data) *App {
	a := &App{
		Stack: newStack(app, c, "app", "The backup service Sitevault"), config: c, data: data,
		Functions: map[string]awslambda.Function{}, DeadLetters: map[string]awssqs.Queue{}, roles: map[string]awsiam.Role{},
		logs: map[string]awslogs.LogGroup{},
	}
	a.environment = settings(c, data)
	functions := Functions(c)
	a.addQueues(functions)
	a.addBus()
	a.addSocketAPI()
	a.addScheduleGroup()
	for _, f := range functions {
		if f.State == "" && a.Machine == nil {
			a.addMachine() // of the functions of the states, which come first
		}
		a.addFunction(f)
	}
	a.addScheduleRights()
	a.addRules()
	a.addREST()
	a.addSocketRoutes()
	for _, f := range functions {
		a.grant(f)
	}
	a.addStream()
	a.addOutputs()
	return a
}

// settings are the variables that the configuration and the data decide.
func settings(c Config, data *Data) map[Variable]*string {
	environment := map[Variable]*string{
		Table: data.Table.TableName(), Quotas: jsii.String(c.quotas()), Bucket: data.Bucket.BucketName(), SecretPrefix: jsii.String(c.Name),
		JobTimeout: jsii.String(c.JobTimeout.String()), FailedKeep: jsii.String(c.FailedKeep.String()), RetryWindow: jsii.String(c.RetryWindow.String()),
		MetricNamespace: jsii.String(c.namespace()), ServiceVersion: jsii.String(c.Version), LogLevel: jsii.String("INFO"),
		AllowHosts: optional(join(c.AllowHosts)), Issuer: optional(c.Issuer), Audience: optional(c.Audience), S3Endpoint: optional(c.S3Endpoint), S3PathStyle: nil,
	}
	if c.S3Endpoint != "" {
		environment[S3PathStyle] = jsii.String("true") // an emulator's buckets have no host names
	}
	return environment
}

// optional is nil, so that the variable is not set, for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// CheckAssets tells which functions have not been built.
func CheckAssets(c Config) error {
	var missing []string
	for _, f := range Functions(c) {
		if _, err := os.Stat(c.asset(f.Name)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, f.Name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no zip in %s for the functions %s: run make functions", c.AssetsDir, join(missing))
	}
	return nil
}

func (c Config) asset(function string) string { return filepath.Join(c.AssetsDir, function+".zip") }

// output shows one value after a deployment.
func output(stack awscdk.Stack, name string, value *string, description string) {
	awscdk.NewCfnOutput(stack, jsii.String(name), &awscdk.CfnOutputProps{Value: value, Description: jsii.String(description)})
}

func (a *App) addOutputs() {
	output(a.Stack, "ApiUrl", a.REST.UrlForPath(jsii.String("/")), "Base URL of the API")
	output(a.Stack, "SocketUrl", jsii.String(*a.Socket.ApiEndpoint()+"/"+StageName), "URL of the live socket")
	output(a.Stack, "StateMachineArn", a.Machine.StateMachineArn(), "State machine of the backups")
}

// env is the environment of one function.
func (a *App) env(f Function) *map[string]*string {
	environment := map[string]*string{}
	for _, v := range f.Reads {
		value, known := a.environment[v]
		if !known {
			panic(fmt.Sprintf("function %s reads %s, which is not known before what needs the function", f.Name, v))
		}
		if value != nil {
			environment[string(v)] = value
		}
	}
	return &environment
}

func join(items []string) string { return strings.Join(items, ",") }
