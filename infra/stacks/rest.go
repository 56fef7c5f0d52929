package stacks

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscognito"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/api"
)

// Throttles of all callers together. They keep a client that has gone mad from the account's other functions; a
// console that polls every two seconds is half a request a second.
const (
	requestsPerSecond = 200
	requestsAtOnce    = 400
)

// Route is one operation of the API.
type Route struct {
	Method string
	Path   string // below the stage, with {parameters}
	Body   bool   // the request has one
}

// Routes reads the operations out of the API's own document, and adds the document itself, and a HEAD to each GET.
func Routes() ([]Route, error) {
	document, err := api.OpenAPI("")
	if err != nil {
		return nil, fmt.Errorf("routes of the API: %w", err)
	}
	var parsed struct {
		Paths map[string]map[string]struct{ RequestBody *json.RawMessage }
	}
	if err := json.Unmarshal(document, &parsed); err != nil {
		return nil, fmt.Errorf("routes of the API: %w", err)
	}
	routes := []Route{{Method: http.MethodGet, Path: "/openapi.json"}, {Method: http.MethodHead, Path: "/openapi.json"}}
	for path, operations := range parsed.Paths {
		for method, operation := range operations {
			r := Route{Method: strings.ToUpper(method), Path: strings.TrimPrefix(path, api.Prefix), Body: operation.RequestBody != nil}
			routes = append(routes, r)
			if r.Method == http.MethodGet {
				routes = append(routes, Route{Method: http.MethodHead, Path: r.Path})
			}
		}
	}
	slices.SortFunc(routes, func(x, y Route) int { return strings.Compare(x.Path+" "+x.Method, y.Path+" "+y.Method) })
	return routes, nil
}

// Function is the one that serves the route: reads and writes have different roles.
func (r Route) Function() string {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return status
	}
	return create
}

func (a *App) addREST() {
	logs := a.accessLogs("Api")
	a.REST = awsapigateway.NewRestApi(a.Stack, jsii.String("Api"), &awsapigateway.RestApiProps{
		RestApiName:           jsii.String(a.config.Name),
		Description:           jsii.String("Backups of websites"),
		EndpointConfiguration: &awsapigateway.EndpointConfiguration{Types: &[]awsapigateway.EndpointType{awsapigateway.EndpointType_REGIONAL}},
		// API Gateway writes logs in one role for the whole account and region, which outlives this stack.
		CloudWatchRole: jsii.Bool(true), CloudWatchRoleRemovalPolicy: awscdk.RemovalPolicy_RETAIN,
		DeployOptions: &awsapigateway.StageOptions{
			StageName: jsii.String(StageName), TracingEnabled: jsii.Bool(true),
			LoggingLevel: awsapigateway.MethodLoggingLevel_ERROR, DataTraceEnabled: jsii.Bool(false),
			ThrottlingRateLimit: jsii.Number(requestsPerSecond), ThrottlingBurstLimit: jsii.Number(requestsAtOnce),
			AccessLogDestination: awsapigateway.NewLogGroupLogDestination(logs),
			AccessLogFormat:      awsapigateway.AccessLogFormat_Custom(jsii.String(strings.Replace(accessLog, "$user", a.caller(), 1))),
		},
		DefaultMethodOptions: a.authorization(),
	})
	a.REST.Node().TryRemoveChild(jsii.String("Endpoint")) // an output, which addOutputs names better
	// API Gateway would make this group itself, to be kept for ever.
	executionLogs := a.logGroup("ApiExecutionLogs", jsii.String("API-Gateway-Execution-Logs_"+*a.REST.RestApiId()+"/"+StageName))
	a.REST.DeploymentStage().Node().AddDependency(executionLogs)
	strictTLS(a.REST)
	a.addGatewayResponses()
	a.addRoutes()
}

// accessLogs is a group whose name CloudFormation makes up: API Gateway, which may make groups, can bring one back while its
// API is being deleted, and a name that was in use would then keep the next deployment from being made.
func (a *App) accessLogs(api string) awslogs.LogGroup {
	group := a.logGroup(api+"Logs", nil)
	output(a.Stack, api+"LogGroup", group.LogGroupName(), "Log of the calls to "+api)
	return group
}

// accessLog holds neither queries nor headers: those are where secrets travel.
const accessLog = `{"requestId":"$context.requestId","lambdaRequestId":"$context.integration.requestId","time":"$context.requestTime","method":"$context.httpMethod",` +
	`"route":"$context.resourcePath","path":"$context.path","status":"$context.status","bytes":"$context.responseLength",` +
	`"latencyMs":"$context.responseLatency","integrationMs":"$context.integrationLatency","ip":"$context.identity.sourceIp",` +
	`"user":"$user","error":"$context.error.responseType","tls":"$context.tlsVersion"}`

// strictTLS refuses what is older than TLS 1.2, and requests that name another host than the one they connected to.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-security-policies.html (read 2026-11)
func strictTLS(rest awsapigateway.RestApi) {
	cfn := rest.Node().DefaultChild().(awsapigateway.CfnRestApi)
	cfn.SetSecurityPolicy(jsii.String("SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09"))
	cfn.SetEndpointAccessMode(jsii.String("STRICT"))
}

// caller is the variable that has the user's id at the issuer.
func (a *App) caller() string {
	if a.data.Users == nil {
		return "$context.authorizer.principalId"
	}
	return "$context.authorizer.claims.sub"
}

// authorization is asked for by every route.
func (a *App) authorization() *awsapigateway.MethodOptions {
	if a.data.Users == nil {
		return &awsapigateway.MethodOptions{
			AuthorizationType: awsapigateway.AuthorizationType_CUSTOM,
			Authorizer: awsapigateway.NewTokenAuthorizer(a.Stack, jsii.String("Authorizer"), &awsapigateway.TokenAuthorizerProps{
				Handler: a.Functions[authorize], ResultsCacheTtl: awscdk.Duration_Minutes(jsii.Number(5)),
				// What is no bearer token costs no call. The scheme may be written in upper or lower case.
				ValidationRegex: jsii.String(`^[Bb][Ee][Aa][Rr][Ee][Rr] +[-0-9A-Za-z_.]+$`),
			}),
		}
	}
	return &awsapigateway.MethodOptions{
		AuthorizationType: awsapigateway.AuthorizationType_COGNITO,
		Authorizer: awsapigateway.NewCognitoUserPoolsAuthorizer(a.Stack, jsii.String("Authorizer"), &awsapigateway.CognitoUserPoolsAuthorizerProps{
			CognitoUserPools: &[]awscognito.IUserPool{a.data.Users}, ResultsCacheTtl: awscdk.Duration_Minutes(jsii.Number(5)),
		}),
	}
}

func (a *App) addRoutes() {
	routes, err := Routes()
	if err != nil {
		panic(err)
	}
	integrations := map[string]awsapigateway.Integration{}
	for _, name := range []string{create, status} {
		integrations[name] = awsapigateway.NewLambdaIntegration(a.Functions[name], &awsapigateway.LambdaIntegrationOptions{
			ScopePermissionToMethod: jsii.Bool(false),
		})
	}
	validator := a.REST.AddRequestValidator(jsii.String("Bodies"), &awsapigateway.RequestValidatorOptions{
		ValidateRequestBody: jsii.Bool(true), ValidateRequestParameters: jsii.Bool(true),
	})
	// JSON that is no object never reaches a function. What is wrong inside of one, or is said to be something else, the
	// function tells better: it names each member, as it does on one machine.
	object := a.REST.AddModel(jsii.String("Object"), &awsapigateway.ModelOptions{
		ContentType: jsii.String("application/json"),
		Schema:      &awsapigateway.JsonSchema{Schema: awsapigateway.JsonSchemaVersion_DRAFT4, Type: awsapigateway.JsonSchemaType_OBJECT},
	})
	for _, r := range routes {
		options := &awsapigateway.MethodOptions{RequestValidator: validator}
		if r.Body {
			options.RequestModels = &map[string]awsapigateway.IModel{"application/json": object}
		}
		a.REST.Root().ResourceForPath(jsii.String(r.Path)).AddMethod(jsii.String(r.Method), integrations[r.Function()], options)
	}
}
