package apigateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/awslabs/aws-lambda-go-api-proxy/core"

	"github.com/sitevault/sitevault/internal/backup"
)

// What our authorizers tell the functions behind them, as texts: API Gateway hands nothing else on.
const (
	factUserID    = "userId"
	factExpiresAt = "expiresAt" // of the token, in seconds since 1970
)

// facts say who the caller is.
func facts(c backup.Caller) map[string]any {
	return map[string]any{factUserID: c.UserID, factExpiresAt: strconv.FormatInt(c.ExpiresAt.Unix(), 10)}
}

// Caller tells whom the API's authorizer has let in: the subject of the token, as a Cognito authorizer leaves its claims in
// the request's context, or the user of the function authorize. Headers count for nothing. API Gateway remembers what its
// authorizer said, so that the token may have expired since.
func Caller(now func() time.Time) func(*http.Request) (backup.Caller, error) {
	return func(r *http.Request) (backup.Caller, error) {
		c, _ := core.GetAPIGatewayContextFromContext(r.Context())
		caller := callerOf(c.Authorizer)
		if !backup.ValidUserID(caller.UserID) {
			return backup.Caller{}, backup.E(backup.Unauthenticated, "the request carries no signed-in user")
		}
		if !now().Before(caller.ExpiresAt) {
			return backup.Caller{}, backup.E(backup.Unauthenticated, "the token has expired")
		}
		return caller, nil
	}
}

// callerOf has no user's id if the authorizer names nobody.
func callerOf(authorizer map[string]any) backup.Caller {
	if claims, ok := authorizer["claims"]; ok {
		return subjectOf(claims)
	}
	userID, _ := authorizer[factUserID].(string)
	return backup.Caller{UserID: userID, ExpiresAt: date(authorizer[factExpiresAt])}
}

func subjectOf(claims any) backup.Caller {
	c, _ := claims.(map[string]any)
	subject, _ := c["sub"].(string)
	if !backup.ValidSubject(subject) {
		return backup.Caller{}
	}
	return backup.Caller{UserID: backup.UserID(subject), ExpiresAt: date(c["exp"])}
}

// cognitoDate is how a Cognito authorizer hands the claim exp on, "Wed May 18 15:32:21 UTC 2022".
const cognitoDate = "Mon Jan 02 15:04:05 UTC 2006"

// date reads a time of a Cognito authorizer, or of ours; zero if it is none.
func date(fact any) time.Time {
	text, _ := fact.(string)
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC()
	}
	t, _ := time.Parse(cognitoDate, text)
	return t
}
