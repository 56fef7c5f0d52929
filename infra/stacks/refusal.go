package stacks

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/jsii-runtime-go"

	"github.com/sitevault/sitevault/internal/backup"
)

// Refusal is an answer of API Gateway's own, in the shape of all problems of the API.
type Refusal struct {
	Type    string // of the gateway's response
	Status  int    // 0: left as it is, for a whole class of types
	Kind    backup.Kind
	Detail  string
	Headers map[string]string
}

var (
	signIn   = map[string]string{"WWW-Authenticate": `Bearer realm="sitevault"`}
	patience = map[string]string{"Retry-After": "2"}
)

// Refusals are all answers of API Gateway's own; the two defaults are for the types that have no line here.
func Refusals() []Refusal {
	return []Refusal{
		{Type: "DEFAULT_4XX", Kind: backup.InvalidRequest, Detail: "the request was refused before it reached the service"},
		{Type: "DEFAULT_5XX", Kind: backup.Internal},
		{Type: "UNAUTHORIZED", Status: http.StatusUnauthorized, Kind: backup.Unauthenticated, Detail: "send a valid token that has not expired as Authorization: Bearer <token>", Headers: signIn},
		{Type: "EXPIRED_TOKEN", Status: http.StatusUnauthorized, Kind: backup.Unauthenticated, Detail: "the token has expired", Headers: signIn},
		{Type: "ACCESS_DENIED", Status: http.StatusUnauthorized, Kind: backup.Unauthenticated, Detail: "the token is not valid", Headers: signIn},
		// An authorizer that fails, and one that says that the keys of the issuer cannot be had.
		{Type: "AUTHORIZER_FAILURE", Status: http.StatusServiceUnavailable, Kind: backup.IssuerUnavailable, Detail: "try again in a moment", Headers: patience},
		{Type: "AUTHORIZER_CONFIGURATION_ERROR", Status: http.StatusServiceUnavailable, Kind: backup.IssuerUnavailable, Detail: "try again in a moment", Headers: patience},
		// This is what API Gateway calls a route that it does not have, and a bearer token there, which it takes for a signature.
		{Type: "INVALID_SIGNATURE", Status: http.StatusNotFound, Kind: backup.NotFound, Detail: "no such route; see /v1/openapi.json"},
		{Type: "MISSING_AUTHENTICATION_TOKEN", Status: http.StatusNotFound, Kind: backup.NotFound, Detail: "no such route; see /v1/openapi.json"},
		{Type: "RESOURCE_NOT_FOUND", Status: http.StatusNotFound, Kind: backup.NotFound, Detail: "no such route; see /v1/openapi.json"},
		{Type: "BAD_REQUEST_BODY", Status: http.StatusBadRequest, Kind: backup.InvalidRequest, Detail: "the body is not a JSON object"},
		{Type: "REQUEST_TOO_LARGE", Status: http.StatusRequestEntityTooLarge, Kind: backup.InvalidRequest, Detail: "the request is too large"},
		{Type: "UNSUPPORTED_MEDIA_TYPE", Status: http.StatusUnsupportedMediaType, Kind: backup.InvalidRequest, Detail: "send the body as Content-Type: application/json"},
		// Of the kinds that a client may try again this is the nearest: the service has no room right now.
		{Type: "THROTTLED", Status: http.StatusTooManyRequests, Kind: backup.StoreUnavailable, Detail: "too many requests at the same time; try again in a moment", Headers: patience},
		{Type: "INTEGRATION_TIMEOUT", Status: http.StatusGatewayTimeout, Kind: backup.Internal, Detail: "the service did not answer in time; look whether it did what was asked before trying again"},
	}
}

// Template is the body as a template of API Gateway.
func (r Refusal) Template() string {
	problem := map[string]any{"type": "urn:sitevault:problem:" + string(r.Kind), "title": r.Kind.Sentence(), "kind": r.Kind}
	if r.Status != 0 {
		problem["status"] = r.Status
	}
	if r.Detail != "" {
		problem["detail"] = r.Detail
	}
	body, err := json.Marshal(problem)
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return string(body)
}

func (a *App) addGatewayResponses() {
	for _, r := range Refusals() {
		headers := map[string]*string{"Content-Type": jsii.String("'application/problem+json'")}
		for name, value := range r.Headers {
			headers[name] = jsii.String("'" + value + "'")
		}
		options := &awsapigateway.GatewayResponseOptions{
			Type: awsapigateway.ResponseType_Of(jsii.String(r.Type)), ResponseHeaders: &headers,
			Templates: &map[string]*string{"application/json": jsii.String(r.Template())},
		}
		if r.Status != 0 {
			options.StatusCode = jsii.String(strconv.Itoa(r.Status))
		}
		a.REST.AddGatewayResponse(jsii.String("Refusal-"+r.Type), options)
	}
}
