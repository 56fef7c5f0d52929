package stacks

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2authorizers"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2integrations"
	"github.com/aws/jsii-runtime-go"
)

// Throttles of messages that clients send, all together: each subscribes once and says little after that.
const (
	messagesPerSecond = 100
	messagesAtOnce    = 200
)

// addSocketAPI makes the API before its routes, whose functions may want to know its address.
func (a *App) addSocketAPI() {
	a.Socket = awsapigatewayv2.NewWebSocketApi(a.Stack, jsii.String("Socket"), &awsapigatewayv2.WebSocketApiProps{
		ApiName: jsii.String(a.config.Name + "-socket"), Description: jsii.String("Live progress of backups"),
		RouteSelectionExpression: jsii.String("$request.body.type"),
	})
	a.environment[SocketEndpoint] = jsii.String("https://" + *a.Socket.ApiId() + ".execute-api." + *a.Stack.Region() + "." +
		*a.Stack.UrlSuffix() + "/" + StageName)
}

func (a *App) addSocketRoutes() {
	integration := func(function string) awsapigatewayv2.WebSocketRouteIntegration {
		return awsapigatewayv2integrations.NewWebSocketLambdaIntegration(jsii.String(pascal(function)), a.Functions[function], nil)
	}
	connect := a.Socket.AddRoute(jsii.String("$connect"), &awsapigatewayv2.WebSocketRouteOptions{
		Integration: integration(socketConnect),
		Authorizer: awsapigatewayv2authorizers.NewWebSocketLambdaAuthorizer(jsii.String("Ticket"), a.Functions[socketAuthorize],
			&awsapigatewayv2authorizers.WebSocketLambdaAuthorizerProps{IdentitySource: jsii.Strings("route.request.querystring.ticket")}),
	})
	disconnect := a.Socket.AddRoute(jsii.String("$disconnect"), &awsapigatewayv2.WebSocketRouteOptions{Integration: integration(socketDisconnect)})
	other := a.Socket.AddRoute(jsii.String("$default"), &awsapigatewayv2.WebSocketRouteOptions{Integration: integration(socketMessage)})
	stage := awsapigatewayv2.NewWebSocketStage(a.Stack, jsii.String("SocketStage"), &awsapigatewayv2.WebSocketStageProps{
		WebSocketApi: a.Socket, StageName: jsii.String(StageName), AutoDeploy: jsii.Bool(true),
		Throttle: &awsapigatewayv2.ThrottleSettings{RateLimit: jsii.Number(messagesPerSecond), BurstLimit: jsii.Number(messagesAtOnce)},
	})
	stage.Node().AddDependency(connect, disconnect, other) // else it may be deployed before it has a route
	cfn := stage.Node().DefaultChild().(awsapigatewayv2.CfnStage)
	cfn.SetAccessLogSettings(&awsapigatewayv2.CfnStage_AccessLogSettingsProperty{
		DestinationArn: a.accessLogs("Socket").LogGroupArn(), Format: jsii.String(socketLog),
	})
	cfn.Node().AddDependency(a.REST.Node().FindChild(jsii.String("Account"))) // in whose role it writes its log
}

// socketLog leaves out the query, which has the ticket.
const socketLog = `{"requestId":"$context.requestId","time":"$context.requestTime","route":"$context.routeKey",` +
	`"event":"$context.eventType","status":"$context.status","connection":"$context.connectionId","ip":"$context.identity.sourceIp",` +
	`"user":"$context.authorizer.userId","error":"$context.error.responseType"}`
