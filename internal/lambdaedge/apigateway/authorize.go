package apigateway

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

// errUnauthorized is the one error of an authorizer that API Gateway answers with 401; all others become 500:
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html (read 2026-11).
func errUnauthorized() error { return backup.E(backup.Unauthenticated, "Unauthorized") }

// AuthorizeToken is a TOKEN authorizer for bearer tokens that identify accepts. Its answer lets the user call the whole
// API, since API Gateway remembers it for the token and not for the route.
func AuthorizeToken(identify func(*http.Request) (backup.Caller, error)) lambdaedge.Handler {
	return lambdaedge.Function(func(ctx context.Context, e events.APIGatewayCustomAuthorizerRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if err != nil {
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		r.Header.Set("Authorization", e.AuthorizationToken)
		caller, err := identify(r)
		if backup.Is(err, backup.Unauthenticated) {
			err = errUnauthorized()
		}
		if err != nil {
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		return allow(caller, wholeStage(e.MethodArn)), nil
	})
}

// AuthorizeSocket is the authorizer of $connect: whoever brings an unused ticket in the query gets one socket.
func AuthorizeSocket(take func(ctx context.Context, ticket string) (backup.Ticket, error)) lambdaedge.Handler {
	return lambdaedge.Function(func(ctx context.Context, e events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error) {
		ticket, err := take(ctx, e.QueryStringParameters["ticket"])
		if backup.Is(err, backup.NotFound) {
			err = errUnauthorized()
		}
		if err != nil {
			return events.APIGatewayCustomAuthorizerResponse{}, err
		}
		return allow(backup.Caller{UserID: ticket.UserID, ExpiresAt: ticket.TokenExpiresAt}, e.MethodArn), nil
	})
}

// wholeStage turns arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path> into everything of the stage.
func wholeStage(methodARN string) string {
	parts := strings.SplitN(methodARN, "/", 3)
	if len(parts) < 3 {
		return methodARN
	}
	return parts[0] + "/" + parts[1] + "/*"
}

func allow(caller backup.Caller, resource string) events.APIGatewayCustomAuthorizerResponse {
	return events.APIGatewayCustomAuthorizerResponse{
		PrincipalID: caller.UserID,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
			Version:   "2012-10-17",
			Statement: []events.IAMPolicyStatement{{Action: []string{"execute-api:Invoke"}, Effect: "Allow", Resource: []string{resource}}},
		},
		Context: facts(caller),
	}
}
