package apigateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

// MaxSocketLife is when API Gateway closes a socket at the latest; one that is silent for ten minutes goes before:
// https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html (read 2026-11).
const MaxSocketLife = 2 * time.Hour

type (
	socketEvent  = events.APIGatewayWebsocketProxyRequest
	socketAnswer = events.APIGatewayProxyResponse
)

var ok = socketAnswer{StatusCode: http.StatusOK}

// Connect is $connect: it opens the socket of the user whom AuthorizeSocket has let in, until the token expires that the
// ticket was got with; one more than the user's quota is refused. Until it has answered, nothing can be sent to the socket.
func Connect(open func(ctx context.Context, socket backup.Socket) error, now func() time.Time) lambdaedge.Handler {
	return lambdaedge.Function(func(ctx context.Context, e socketEvent) (socketAnswer, error) {
		authorizer, _ := e.RequestContext.Authorizer.(map[string]any)
		caller, at := callerOf(authorizer), now()
		if !backup.ValidUserID(caller.UserID) || !at.Before(caller.ExpiresAt) {
			return socketAnswer{StatusCode: http.StatusUnauthorized}, nil
		}
		closes := at.Add(MaxSocketLife)
		expires := closes
		if caller.ExpiresAt.Before(expires) {
			expires = caller.ExpiresAt
		}
		err := open(ctx, backup.Socket{SocketID: e.RequestContext.ConnectionID, UserID: caller.UserID, ExpiresAt: expires, ClosesAt: closes})
		if full, _ := errors.AsType[*backup.Error](err); full != nil && full.Kind == backup.QuotaExceeded {
			return socketAnswer{StatusCode: http.StatusConflict, Body: full.Error()}, nil
		}
		return ok, err
	})
}

// Disconnect is $disconnect. API Gateway calls it if it can; the sockets' rows have a time to live for when it cannot.
func Disconnect(closeSocket func(ctx context.Context, socketID string) error) lambdaedge.Handler {
	return lambdaedge.Function(func(ctx context.Context, e socketEvent) (socketAnswer, error) {
		return ok, closeSocket(ctx, e.RequestContext.ConnectionID)
	})
}

// Message is $default: everything that clients send. Answers go out as messages of their own.
func Message(serve func(ctx context.Context, socketID string, body []byte) error) lambdaedge.Handler {
	return lambdaedge.Function(func(ctx context.Context, e socketEvent) (socketAnswer, error) {
		body := []byte(e.Body)
		if e.IsBase64Encoded {
			body, _ = base64.StdEncoding.DecodeString(e.Body) // what is no base64 is no request either
		}
		return ok, serve(ctx, e.RequestContext.ConnectionID, body)
	})
}
