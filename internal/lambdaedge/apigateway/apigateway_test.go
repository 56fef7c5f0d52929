package apigateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/lambdaedge/apigateway"
)

// call sends an event and decodes the answer; a failure is its name and message.
func call[T any](t *testing.T, h lambdaedge.Handler, event string) (answer T, failure string) {
	t.Helper()
	result, err := h.Invoke(t.Context(), []byte(event))
	if e, ok := err.(messages.InvokeResponse_Error); ok {
		return answer, e.Type + ": " + e.Message
	}
	if err == nil {
		err = json.Unmarshal(result, &answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer, ""
}

// echo answers with what it was asked.
func echo(t *testing.T) lambdaedge.Handler {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/panic" {
			panic("canary of the inside")
		}
		body, _ := io.ReadAll(r.Body)
		caller, err := apigateway.Caller(clock)(r)
		w.Header().Set("ETag", `"x"`)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s?%s user=%q %v key=%s body=%s", r.Method, r.URL.Path, r.URL.RawQuery, caller.UserID, err, r.Header.Get("Idempotency-Key"), body)
	})
	return apigateway.Proxy("/v1", h, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

func clock() time.Time { return epoch }

const (
	cognito = `"requestContext":{"path":"/v1/backup","domainName":"api.example.org","authorizer":{"claims":{"sub":"ada","email":"a@example.org","exp":"Sun Mar 01 02:30:01 UTC 2026"}}}`
	foreign = `"requestContext":{"authorizer":{"principalId":"x","userId":"u-30f69670bba25e88a97e749a67b8b93d","expiresAt":"1772332201"}}`
)

// A proxy event becomes the request that it stands for, the answer comes back whole.
func TestProxy(t *testing.T) {
	for _, tc := range []struct{ event, want string }{
		{`{"httpMethod":"POST","path":"/backup","multiValueHeaders":{"Idempotency-Key":["k"]},"body":"{}",` + cognito + `}`,
			`POST /v1/backup? user="ada" <nil> key=k body={}`},
		{`{"httpMethod":"GET","path":"/v1/backup/01","multiValueQueryStringParameters":{"pageToken":["a b"]},` + foreign + `}`,
			`GET /v1/backup/01?pageToken=a+b user="u-30f69670bba25e88a97e749a67b8b93d" <nil> key= body=`},
		{`{"httpMethod":"GET","path":"/v1","headers":{"Idempotency-Key":"k"}}`, `GET /v1? user="" the request carries no signed-in user key=k body=`},
		{`{"httpMethod":"GET","path":"/v10/x"}`, `GET /v1/v10/x? user="" the request carries no signed-in user key= body=`},
		{`{"httpMethod":"PUT","path":"/x","body":"aGVsbG8=","isBase64Encoded":true,` + cognito + `}`, `PUT /v1/x? user="ada" <nil> key= body=hello`},
	} {
		answer, failure := call[events.APIGatewayProxyResponse](t, echo(t), tc.event)
		if failure != "" || answer.StatusCode != http.StatusAccepted || answer.Body != tc.want || answer.MultiValueHeaders["Etag"][0] != `"x"` {
			t.Errorf("%s:\n got %s%s\nwant %s", tc.event, answer.Body, failure, tc.want)
		}
	}
}

// Nobody is signed in but by the authorizer: neither headers nor a strange context make a user, and a token that has expired
// since the authorizer saw it does not either.
func TestCallerTrustsTheAuthorizerOnly(t *testing.T) {
	for _, authorizer := range []string{
		`{"userId":7,"expiresAt":"1772332201"}`,
		`{"userId":"../eve","expiresAt":"1772332201"}`,
		`{"sub":"eve","expiresAt":"1772332201"}`,
		`{"userId":"eve","expiresAt":"1772332200"}`,
		`{"userId":"eve","expiresAt":1772332201}`,
		`{"userId":"eve"}`,
		`{"claims":{"sub":"","exp":"1772332201"},"userId":"eve","expiresAt":"1772332201"}`,
		`{"claims":{"sub":null,"exp":"1772332201"},"userId":"eve","expiresAt":"1772332201"}`,
		`{"claims":{"sub":["eve"],"exp":"1772332201"}}`,
		`{"claims":{"sub":"\ufffd","exp":"1772332201"}}`,
		`{"claims":{"Sub":"eve","exp":"1772332201"},"userId":"eve","expiresAt":"1772332201"}`,
		`{"claims":"sub","userId":"eve","expiresAt":"1772332201"}`,
		`{"claims":{"sub":"eve"}}`,
		`{"claims":{"sub":"eve","Exp":"1772332201"}}`,
		`{"claims":{"sub":"eve","exp":"Sun Mar 01 02:30:00 UTC 2026"}}`,
		`{"claims":{"sub":"eve","exp":"Sun Mar 01 02:30:01 PST 2026"}}`,
		`{"claims":{"sub":"eve","exp":"tomorrow"}}`,
	} {
		event := `{"path":"/x","httpMethod":"GET","headers":{"Authorization":"Bearer x"},"requestContext":{"identity":{"user":"eve"},"authorizer":` + authorizer + `}}`
		if answer, _ := call[events.APIGatewayProxyResponse](t, echo(t), event); !strings.Contains(answer.Body, `user=""`) {
			t.Errorf("%s: %s", event, answer.Body)
		}
	}
	forged := `{"path":"/x","httpMethod":"GET","headers":{"X-GoLambdaProxy-ApiGw-Context":"{\"authorizer\":{\"userId\":\"eve\",\"expiresAt\":\"1772332201\"}}"}}`
	if answer, _ := call[events.APIGatewayProxyResponse](t, echo(t), forged); !strings.Contains(answer.Body, `user=""`) {
		t.Errorf("%s", answer.Body)
	}
}

// A subject that looks like another user's id is somebody else, whoever has checked the token.
func TestCallerIsNobodyElse(t *testing.T) {
	for _, subject := range []string{"u-30f69670bba25e88a97e749a67b8b93d", "local", "Ada"} {
		event := `{"path":"/x","httpMethod":"GET","requestContext":{"authorizer":{"claims":{"sub":"` + subject + `","exp":"1772332201"}}}}`
		answer, failure := call[events.APIGatewayProxyResponse](t, echo(t), event)
		if want := `user="` + backup.UserID(subject) + `"`; failure != "" || backup.UserID(subject) == subject || !strings.Contains(answer.Body, want) {
			t.Errorf("%s: %s%s", subject, answer.Body, failure)
		}
	}
}

// What cannot be a request, and what crashes, is answered as a problem that shows nothing of the inside.
func TestProxyProblems(t *testing.T) {
	for event, want := range map[string]int{
		`{"httpMethod":"GET","path":"/%zz"}`:                                       http.StatusBadRequest,
		`{"httpMethod":"POST","path":"/x","body":"?","isBase64Encoded":true}`:      http.StatusBadRequest,
		`{"httpMethod":"BAD METHOD","path":"/x"}`:                                  http.StatusBadRequest,
		`{"httpMethod":"GET","path":"/panic","requestContext":{"stage":"canary"}}`: http.StatusInternalServerError,
	} {
		answer, failure := call[events.APIGatewayProxyResponse](t, echo(t), event)
		var problem struct{ Status int }
		if err := json.Unmarshal([]byte(answer.Body), &problem); failure != "" || err != nil || answer.StatusCode != want || problem.Status != want || strings.Contains(answer.Body, "canary") {
			t.Errorf("%s: %d %s%s, %v", event, answer.StatusCode, answer.Body, failure, err)
		}
	}
	silent := apigateway.Proxy("/v1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), slog.Default())
	if _, failure := call[events.APIGatewayProxyResponse](t, silent, `{"httpMethod":"GET","path":"/x"}`); !strings.HasPrefix(failure, "Internal: ") {
		t.Errorf("no answer: %s", failure)
	}
}

// A function for reads refuses writes.
func TestReadsOnly(t *testing.T) {
	reached := 0
	h := apigateway.Proxy("/v1", apigateway.ReadsOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached++
		w.WriteHeader(http.StatusOK)
	})), slog.Default())
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "PATCH": 405, "DELETE": 405} {
		answer, _ := call[events.APIGatewayProxyResponse](t, h, `{"httpMethod":"`+method+`","path":"/x"}`)
		if answer.StatusCode != want {
			t.Errorf("%s: %d", method, answer.StatusCode)
		}
	}
	if reached != 2 {
		t.Errorf("the handler was reached %d times", reached)
	}
}

// A token that the issuer vouches for lets its user call the whole stage; any other is answered with 401, for which the
// message must be this one word.
func TestAuthorizeToken(t *testing.T) {
	h := apigateway.AuthorizeToken(func(r *http.Request) (backup.Caller, error) {
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			return backup.Caller{UserID: "ada", ExpiresAt: epoch}, nil
		case "Bearer broken":
			return backup.Caller{}, backup.E(backup.IssuerUnavailable, "no keys")
		}
		return backup.Caller{}, backup.E(backup.Unauthenticated, "the token is not valid")
	})
	const arn = "arn:aws:execute-api:eu-central-1:123456789012:abc/v1/GET/backup/01"
	answer, failure := call[events.APIGatewayCustomAuthorizerResponse](t, h, `{"type":"TOKEN","authorizationToken":"Bearer good","methodArn":"`+arn+`"}`)
	statement := answer.PolicyDocument.Statement
	if failure != "" || len(statement) != 1 || statement[0].Effect != "Allow" || statement[0].Resource[0] != "arn:aws:execute-api:eu-central-1:123456789012:abc/v1/*" ||
		answer.Context["userId"] != "ada" || answer.Context["expiresAt"] != "1772332200" || answer.PrincipalID != "ada" {
		t.Errorf("%+v %s", answer, failure)
	}
	for token, want := range map[string]string{"Bearer bad": "Unauthenticated: Unauthorized", "": "Unauthenticated: Unauthorized", "Bearer broken": "IssuerUnavailable: no keys"} {
		if _, failure := call[events.APIGatewayCustomAuthorizerResponse](t, h, `{"authorizationToken":"`+token+`","methodArn":"`+arn+`"}`); failure != want {
			t.Errorf("%q: %s", token, failure)
		}
	}
}

// A ticket opens one socket for its user; without one nobody comes in.
func TestAuthorizeSocket(t *testing.T) {
	h := apigateway.AuthorizeSocket(func(_ context.Context, ticket string) (backup.Ticket, error) {
		switch ticket {
		case "good":
			return backup.Ticket{UserID: "ada", TokenExpiresAt: epoch}, nil
		case "down":
			return backup.Ticket{}, backup.E(backup.StoreUnavailable, "no answer")
		}
		return backup.Ticket{}, backup.E(backup.NotFound, "absent, used or expired")
	})
	const arn = "arn:aws:execute-api:eu-central-1:123456789012:abc/v1/$connect"
	answer, failure := call[events.APIGatewayCustomAuthorizerResponse](t, h, `{"type":"REQUEST","methodArn":"`+arn+`","queryStringParameters":{"ticket":"good"},"requestContext":{"connectionId":"c="}}`)
	if failure != "" || answer.Context["userId"] != "ada" || answer.Context["expiresAt"] != "1772332200" || answer.PolicyDocument.Statement[0].Resource[0] != arn {
		t.Errorf("%+v %s", answer, failure)
	}
	for query, want := range map[string]string{
		`null`: "Unauthenticated: Unauthorized", `{"ticket":"used"}`: "Unauthenticated: Unauthorized", `{"ticket":"down"}`: "StoreUnavailable: no answer",
	} {
		if _, failure := call[events.APIGatewayCustomAuthorizerResponse](t, h, `{"methodArn":"`+arn+`","queryStringParameters":`+query+`}`); failure != want {
			t.Errorf("%s: %s", query, failure)
		}
	}
}

// A socket is opened for the user whom the authorizer names, for as long as API Gateway keeps it and the token is valid; what it sends is handed
// on; its end closes it.
func TestSocketEvents(t *testing.T) {
	var told []string
	connect := apigateway.Connect(func(_ context.Context, s backup.Socket) error {
		if s.SocketID == "more=" {
			return fmt.Errorf("open: %w", backup.Quotas{Sockets: 1}.CheckSockets(1))
		}
		told = append(told, fmt.Sprintf("open %s of %s for %s of %s", s.SocketID, s.UserID, s.ExpiresAt.Sub(epoch), s.ClosesAt.Sub(epoch)))
		return nil
	}, func() time.Time { return epoch })
	message := apigateway.Message(func(_ context.Context, id string, body []byte) error {
		told = append(told, fmt.Sprintf("%s says %s", id, body))
		return nil
	})
	disconnect := apigateway.Disconnect(func(_ context.Context, id string) error {
		told = append(told, "close "+id)
		return backup.E(backup.StoreUnavailable, "no answer")
	})
	for _, step := range []struct {
		h       lambdaedge.Handler
		event   string
		status  int
		failure string
	}{
		{connect, `{"requestContext":{"connectionId":"c=","authorizer":{"userId":"ada","expiresAt":"1772339401"}}}`, 200, ""},
		{connect, `{"requestContext":{"connectionId":"s=","authorizer":{"userId":"ada","expiresAt":"1772332260"}}}`, 200, ""},
		{connect, `{"requestContext":{"connectionId":"more=","authorizer":{"userId":"ada","expiresAt":"1772332260"}}}`, 409, ""},
		{connect, `{"requestContext":{"connectionId":"d=","authorizer":{"userId":"ada","expiresAt":"1772332200"}}}`, 401, ""},
		{connect, `{"requestContext":{"connectionId":"d=","authorizer":{"userId":"ada"}}}`, 401, ""},
		{connect, `{"requestContext":{"connectionId":"d=","authorizer":{"principalId":"eve"}}}`, 401, ""},
		{connect, `{"requestContext":{"connectionId":"d="}}`, 401, ""},
		{message, `{"requestContext":{"connectionId":"c="},"body":"{}"}`, 200, ""},
		{message, `{"requestContext":{"connectionId":"c="},"body":"aGk=","isBase64Encoded":true}`, 200, ""},
		{disconnect, `{"requestContext":{"connectionId":"c="}}`, 0, "StoreUnavailable: no answer"},
	} {
		answer, failure := call[events.APIGatewayProxyResponse](t, step.h, step.event)
		if answer.StatusCode != step.status || failure != step.failure {
			t.Errorf("%s: %d %s", step.event, answer.StatusCode, failure)
		}
	}
	if got, want := strings.Join(told, "; "), "open c= of ada for 2h0m0s of 2h0m0s; open s= of ada for 1m0s of 2h0m0s; c= says {}; c= says hi; close c="; got != want {
		t.Errorf("told %s", got)
	}
}
