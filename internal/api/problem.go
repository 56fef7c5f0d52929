package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sitevault/sitevault/internal/backup"
)

// Problem is the one shape of every error answer (RFC 9457).
type Problem struct {
	Type   string      `json:"type" doc:"urn:sitevault:problem:<kind>" example:"urn:sitevault:problem:NotFound"`
	Title  string      `json:"title" doc:"What happened, in plain words"`
	Status int         `json:"status"`
	Kind   backup.Kind `json:"kind" doc:"Machine name of the problem" example:"NotFound"`
	Detail string      `json:"detail,omitempty" doc:"What exactly, and what to do"`
	Errors []Invalid   `json:"errors,omitempty" doc:"Each thing that is wrong with the request"`

	headers http.Header
}

// Invalid is one thing that is wrong with a request.
type Invalid struct {
	Location string `json:"location,omitempty" example:"body.siteId"`
	Message  string `json:"message"`
}

func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) GetHeaders() http.Header   { return p.headers }
func (p *Problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

func problem(status int, kind backup.Kind, detail string) *Problem {
	return &Problem{Type: "urn:sitevault:problem:" + string(kind), Title: kind.Sentence(), Status: status, Kind: kind, Detail: detail}
}

var statuses = map[backup.Kind]int{
	backup.InvalidRequest:   http.StatusUnprocessableEntity,
	backup.NotFound:         http.StatusNotFound,
	backup.Unauthenticated:  http.StatusUnauthorized,
	backup.IdempotencyReuse: http.StatusUnprocessableEntity,
	backup.SiteBusy:         http.StatusConflict,
	backup.IllegalState:     http.StatusConflict,
	backup.NotRetryable:     http.StatusConflict,
	backup.Conflict:         http.StatusConflict,
	backup.StaleAttempt:     http.StatusConflict,

	backup.QuotaExceeded:   http.StatusConflict,
	backup.TooManyRequests: http.StatusTooManyRequests,

	backup.IssuerUnavailable:  http.StatusServiceUnavailable,
	backup.StoreUnavailable:   http.StatusServiceUnavailable,
	backup.StorageUnavailable: http.StatusServiceUnavailable,
}

// problemOf turns an error of a use case into an answer. What clients cannot act on is logged, not shown.
func problemOf(ctx context.Context, log *slog.Logger, err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	kind := backup.KindOf(err)
	status, known := statuses[kind]
	if !known {
		log.ErrorContext(ctx, "request failed", "error", err)
		return problem(http.StatusInternalServerError, backup.Internal, "")
	}
	p := problem(status, kind, innermost(err))
	if wait := retryAfter(err); wait > 0 {
		p.Status, p.headers = http.StatusTooManyRequests, http.Header{"Retry-After": {strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)}}
	}
	if status == http.StatusServiceUnavailable {
		log.ErrorContext(ctx, "request failed", "error", err)
		p.Detail = "try again in a moment"
		p.headers = http.Header{"Retry-After": {"2"}}
	}
	return p
}

// retryAfter is when a limit of time admits the request; 0 for all other errors.
func retryAfter(err error) time.Duration {
	e, ok := errors.AsType[*backup.Error](err)
	if !ok || (e.Kind != backup.QuotaExceeded && e.Kind != backup.TooManyRequests) {
		return 0
	}
	return e.RetryAfter
}

// innermost is what the error with the kind says itself: what was wrapped around it names our own steps.
func innermost(err error) string {
	if e, ok := errors.AsType[*backup.Error](err); ok {
		return e.Error()
	}
	return err.Error()
}

// newProblem is what the HTTP framework calls for its own refusals: broken JSON, unknown fields, wrong types. The
// refused values are not repeated.
func newProblem(status int, message string, errs ...error) huma.StatusError {
	if len(errs) == 1 {
		if e, ok := errors.AsType[*backup.Error](errs[0]); ok {
			return problem(status, e.Kind, message)
		}
	}
	kind := backup.InvalidRequest
	if status >= http.StatusInternalServerError {
		kind, message = backup.Internal, ""
	}
	p := problem(status, kind, message)
	for _, err := range errs {
		if d, ok := err.(huma.ErrorDetailer); ok {
			p.Errors = append(p.Errors, Invalid{Location: d.ErrorDetail().Location, Message: d.ErrorDetail().Message})
		}
	}
	return p
}

// notFound answers what no route matches: 405 with Allow when the path exists under another method, else 404.
func notFound(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowed := allowedMethods(mux, r)
		if len(allowed) == 0 {
			writeProblem(w, problem(http.StatusNotFound, backup.NotFound, "no such route; see "+Prefix+"/openapi.json"))
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeProblem(w, problem(http.StatusMethodNotAllowed, backup.InvalidRequest, "this route takes "+strings.Join(allowed, ", ")))
	})
}

func allowedMethods(mux *http.ServeMux, r *http.Request) []string {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if _, pattern := mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	slices.Sort(allowed)
	return allowed
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil {
		http.Error(w, http.StatusText(p.Status), p.Status)
		return
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	w.Write(body)
}
