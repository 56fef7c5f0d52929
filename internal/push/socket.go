package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Request is what a client sends: {"action":"subscribe","jobId":"..."} or "unsubscribe".
type Request struct {
	Action string `json:"action"`
	JobID  string `json:"jobId"`
}

// Refusal answers a request that cannot be met.
type Refusal struct {
	Type    string      `json:"type"` // "error"
	JobID   string      `json:"jobId,omitempty"`
	Kind    backup.Kind `json:"kind"`
	Message string      `json:"message"`
}

const (
	maxRequestBytes  = 4 << 10
	maxSubscriptions = 100 // of one socket
	queuedMessages   = 2 * maxSubscriptions
	pingEvery        = 30 * time.Second
	writeTimeout     = 10 * time.Second
)

// Socket is the handler of /ws: it lets in whoever brings an unused ticket in the query.
type Socket struct {
	Hub    *Hub
	Status step.Status
	Quotas backup.Quotas
	Take   func(ctx context.Context, ticket string) (backup.Ticket, error)
	Now    func() time.Time
	Log    *slog.Logger
}

// ServeHTTP implements http.Handler.
func (s Socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ticket, err := s.Take(r.Context(), r.URL.Query().Get("ticket"))
	if err != nil {
		http.Error(w, "the ticket is missing, used or expired: get one by POST /v1/ticket", http.StatusUnauthorized)
		return
	}
	leave, err := s.Hub.enter(ticket.UserID, s.Quotas)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer leave()
	conn, err := websocket.Accept(w, r, nil) // refuses other origins and has answered already
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxRequestBytes)
	c := client{Socket: s, conn: conn, userID: ticket.UserID, out: make(chan Message, queuedMessages), refused: make(chan Refusal, 8)}
	ctx, cancel := s.whileValid(r.Context(), ticket)
	defer cancel()
	c.run(ctx)
}

// whileValid ends with the token that the ticket was got with.
func (s Socket) whileValid(ctx context.Context, t backup.Ticket) (context.Context, context.CancelFunc) {
	if t.TokenExpiresAt.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, t.TokenExpiresAt.Sub(s.Now()), errExpired)
}

// client is one connected socket.
type client struct {
	Socket
	conn    *websocket.Conn
	userID  string
	out     chan Message
	refused chan Refusal
	slow    context.CancelCauseFunc
}

// StatusUnauthorized closes a socket whose token has expired. It is of the range that RFC 6455 leaves to applications.
const StatusUnauthorized websocket.StatusCode = 4401

var (
	errSlow    = errors.New("too slow; connect again")
	errExpired = errors.New("the token has expired; get a ticket with a new one")
)

func (c *client) run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.slow = cancel
	go func() {
		defer cancel(nil)
		c.read(ctx)
	}()
	c.write(ctx)
}

// read serves requests until the client goes away.
func (c *client) read(ctx context.Context) {
	watched := map[string]func(){}
	defer func() {
		for _, cancel := range watched {
			cancel()
		}
	}()
	for {
		var r Request
		// Not ctx: the library closes the connection under a read whose context ends, before goodbye can say why.
		if err := wsjson.Read(context.WithoutCancel(ctx), c.conn, &r); err != nil {
			return
		}
		if err := c.serve(ctx, r, watched); err != nil {
			select {
			case c.refused <- Refusal{Type: "error", JobID: r.JobID, Kind: backup.KindOf(err), Message: err.Error()}:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (c *client) serve(ctx context.Context, r Request, watched map[string]func()) error {
	switch r.Action {
	case "unsubscribe":
		if cancel := watched[r.JobID]; cancel != nil {
			cancel()
			delete(watched, r.JobID)
		}
		return nil
	case "subscribe":
		return c.subscribe(ctx, r.JobID, watched)
	}
	return backup.E(backup.InvalidRequest, `action is "subscribe" or "unsubscribe", not %q`, r.Action)
}

func (c *client) subscribe(ctx context.Context, jobID string, watched map[string]func()) error {
	if watched[jobID] != nil {
		return nil
	}
	if len(watched) >= maxSubscriptions {
		return backup.E(backup.InvalidRequest, "one socket watches at most %d backups", maxSubscriptions)
	}
	if _, err := c.Status.Get(ctx, c.userID, jobID); err != nil {
		return err
	}
	watched[jobID] = c.Hub.Watch(jobID, c.out, func() { c.slow(errSlow) })
	return nil
}

// write sends messages until either side ends.
func (c *client) write(ctx context.Context) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		var err error
		select {
		case m := <-c.out:
			err = c.send(ctx, m)
		case r := <-c.refused:
			err = c.send(ctx, r)
		case <-ping.C:
			err = c.ping(ctx)
		case <-ctx.Done():
			c.goodbye(context.Cause(ctx))
			return
		}
		if err != nil {
			return
		}
	}
}

func (c *client) goodbye(cause error) {
	switch {
	case errors.Is(cause, errSlow):
		c.conn.Close(websocket.StatusTryAgainLater, cause.Error())
	case errors.Is(cause, errExpired):
		c.conn.Close(StatusUnauthorized, cause.Error())
	default:
		c.conn.Close(websocket.StatusGoingAway, "")
	}
}

func (c *client) send(ctx context.Context, v any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return wsjson.Write(ctx, c.conn, v)
}

func (c *client) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.conn.Ping(ctx)
}
