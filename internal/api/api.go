package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Prefix stands before every route.
const Prefix = "/v1"

// Identify tells who sends a request. Its error is a *backup.Error; Unauthenticated asks the client to sign in.
type Identify func(r *http.Request) (backup.Caller, error)

// Config is what the API needs.
type Config struct {
	Backups  step.Backups
	Sites    step.Sites
	Status   step.Status
	Objects  step.Objects
	Tickets  step.TicketStore
	Identify Identify
	// Admit refuses requests beyond a user's quota; nil: none.
	Admit  func(ctx context.Context, userID string) error
	Secret func() string // an unguessable string for tickets
	// SocketURL is where the live socket is; "": at /ws beside this handler.
	SocketURL string
	Now       func() time.Time
	Version   string
	Log       *slog.Logger
}

// server carries the handlers of the routes.
type server struct{ Config }

// New builds the handler for Prefix and everything below it.
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	register(mux, server{c})
	mux.Handle("/", notFound(mux))
	return conditional(mux)
}

// OpenAPI is the OpenAPI 3.1 document of the API as JSON.
func OpenAPI(version string) ([]byte, error) {
	return register(http.NewServeMux(), server{Config{Version: version}}).OpenAPI().MarshalJSON()
}

// The framework knows these settings for the whole process only.
func init() {
	huma.NewError = newProblem
	huma.DefaultArrayNullable = false // no answer holds null for a list
}

func register(mux *http.ServeMux, s server) huma.API {
	config := huma.DefaultConfig("Sitevault", s.Version)
	config.Info.Description = "Backups of websites: sites are registered, backups are created, watched, downloaded and deleted."
	config.OpenAPIPath = Prefix + "/openapi"
	config.DocsPath = ""
	config.SchemasPath = ""
	config.CreateHooks = nil // no $schema member in answers
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"signedIn": {Type: "http", Scheme: "bearer", Description: "A token of the service's OIDC issuer; none on a machine of one's own without an issuer"},
	}
	config.Security = []map[string][]string{{"signedIn": {}}}
	api := humago.New(mux, config)
	s.registerSites(api)
	s.registerBackups(api)
	s.registerTickets(api)
	return api
}

type callerKey struct{}

// identified lets a request through with its caller in its context.
func (s server) identified(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(ctx)
		caller, err := s.Identify(r)
		if err != nil {
			s.refuseCaller(api, ctx, err)
			return
		}
		if s.Admit != nil {
			if err := s.Admit(ctx.Context(), caller.UserID); err != nil {
				s.refuseCaller(api, ctx, err)
				return
			}
		}
		next(huma.WithValue(ctx, callerKey{}, caller))
	}
}

// refuseCaller asks for a sign-in, or for patience while nobody can be signed in or too much is asked for.
func (s server) refuseCaller(api huma.API, ctx huma.Context, err error) {
	p := problemOf(ctx.Context(), s.Log, err)
	for name, values := range p.headers {
		ctx.SetHeader(name, values[0])
	}
	if p.Status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="sitevault"`)
	}
	s.refuse(api, ctx, p.Status, p.Detail, err)
}

// refuse ends a request before its handler.
func (s server) refuse(api huma.API, ctx huma.Context, status int, detail string, errs ...error) {
	if err := huma.WriteErr(api, ctx, status, detail, errs...); err != nil {
		s.Log.WarnContext(ctx.Context(), "write answer", "error", err)
	}
}

func callerOf(ctx context.Context) backup.Caller {
	caller, _ := ctx.Value(callerKey{}).(backup.Caller)
	return caller
}

func userOf(ctx context.Context) string { return callerOf(ctx).UserID }

// route registers one operation: who may call it, which problems it can answer with, and its handler.
func route[In, Out any](s server, api huma.API, op huma.Operation, handle func(context.Context, *In) (*Out, error)) {
	op.Path = Prefix + op.Path
	op.Middlewares = huma.Middlewares{s.identified(api), s.filledHeaders(api), s.onlyJSON(api), s.readBody(api)}
	op.MaxBodyBytes = maxBodyBytes + 1 // readBody has refused what is larger
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable)
	if op.Method == http.MethodGet {
		op.Responses = map[string]*huma.Response{"304": {Description: "Nothing has changed since the ETag in If-None-Match"}}
	}
	huma.Register(api, op, func(ctx context.Context, in *In) (*Out, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, s.Log, err)
		}
		return out, nil
	})
}

// retryAfterSeconds is what a client is told to wait before it looks at a backup again.
func retryAfterSeconds(status backup.Status) int {
	if status == backup.Pending {
		return 1
	}
	return 2
}
