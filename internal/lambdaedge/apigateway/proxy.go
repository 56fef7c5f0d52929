// Package apigateway is the edge between API Gateway and us: it carries requests of a REST API to the http.Handler that
// listens on one machine, lets in who may come in, and hands on what sockets do.
package apigateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/awslabs/aws-lambda-go-api-proxy/core"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

// Proxy serves proxy events by h, whose routes begin with prefix. API Gateway takes the stage's name off the path, and
// a custom domain may do the same with its base path: whatever is missing of prefix is put back.
func Proxy(prefix string, h http.Handler, log *slog.Logger) lambdaedge.Handler {
	h = contained(h, log)
	return lambdaedge.Function(func(ctx context.Context, e events.APIGatewayProxyRequest) (events.APIGatewayProxyResponse, error) {
		if e.Path != prefix && !strings.HasPrefix(e.Path, prefix+"/") {
			e.Path = prefix + e.Path
		}
		answer := core.NewProxyResponseWriter()
		var accessor core.RequestAccessor
		r, err := accessor.EventToRequestWithContext(ctx, e)
		if err != nil {
			refuse(answer, http.StatusBadRequest, backup.InvalidRequest, "the request's path or body is not encoded properly")
		} else {
			h.ServeHTTP(answer, r)
		}
		response, err := answer.GetProxyResponse()
		if err != nil {
			return response, fmt.Errorf("answer %s %s: %w", e.HTTPMethod, e.Resource, err)
		}
		return response, nil
	})
}

// contained answers a request whose handler panics, as net/http's server does by hanging up.
func contained(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(r.Context(), "request failed", "error", fmt.Sprintf("panic: %v", p), "stack", string(debug.Stack()))
				refuse(w, http.StatusInternalServerError, backup.Internal, "")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// ReadsOnly keeps writes from a function whose role allows none.
func ReadsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, backup.InvalidRequest, "this function answers reads")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers in the shape of every problem of the API (RFC 9457).
func refuse(w http.ResponseWriter, status int, kind backup.Kind, detail string) {
	body, _ := json.Marshal(map[string]any{ // texts and a number always marshal
		"type": "urn:sitevault:problem:" + string(kind), "title": kind.Sentence(), "status": status, "kind": kind, "detail": detail,
	})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	w.Write(body)
}
