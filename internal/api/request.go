package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	maxBodyBytes = 256 << 10 // far above any request of the API
	bodyTime     = 10 * time.Second
)

// badBody are the problems of a request whose body cannot be read.
var badBody = []int{http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}

// filledHeaders refuses a header of the operation that has no value or several: the framework would take the first case for a
// request without it and ignore all but one of the others, which does what the client meant to prevent.
func (s server) filledHeaders(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		for _, p := range ctx.Operation().Parameters {
			values := r.Header.Values(p.Name)
			if p.In == "header" && len(values) > 0 && (len(values) > 1 || strings.TrimSpace(values[0]) == "") {
				s.refuse(api, ctx, http.StatusBadRequest, "send "+p.Name+" with one value, or leave it out")
				return
			}
		}
		next(ctx)
	}
}

// onlyJSON refuses bodies that do not say that they are JSON, in whatever case and with whatever parameters: those are what
// another site's form can send.
func (s server) onlyJSON(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if ctx.Operation().RequestBody == nil {
			next(ctx)
			return
		}
		mediaType, _, err := mime.ParseMediaType(ctx.Header("Content-Type"))
		if err != nil || mediaType != "application/json" {
			s.refuse(api, ctx, http.StatusUnsupportedMediaType, "send the body as Content-Type: application/json")
			return
		}
		r, _ := humago.Unwrap(ctx)
		r.Header.Set("Content-Type", mediaType) // the framework knows it in lower case only
		next(ctx)
	}
}

// readBody reads the body before the framework does, which takes one that breaks off for a failure of ours.
func (s server) readBody(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if ctx.Operation().RequestBody == nil {
			next(ctx)
			return
		}
		r, w := humago.Unwrap(ctx)
		_ = ctx.SetReadDeadline(time.Now().Add(bodyTime)) // behind API Gateway the body is here already
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
		if err != nil {
			status, detail := bodyProblem(err)
			s.refuse(api, ctx, status, detail)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(ctx)
	}
}

func bodyProblem(err error) (status int, detail string) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge, "a body has at most 256 KiB"
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return http.StatusRequestTimeout, "the body did not arrive in time; send the request again"
	}
	return http.StatusBadRequest, "the body is not as long as announced, or its chunks are broken; send the request again"
}
