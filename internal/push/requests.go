package push

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Sockets keeps the open sockets; dynamo.Store does.
type Sockets interface {
	// GetSocket fails with NotFound when the socket is not open, or its token has expired.
	GetSocket(ctx context.Context, socketID string) (backup.Socket, error)
	// Watch is refused with InvalidRequest when the socket watches limit jobs already. Watching again changes nothing.
	Watch(ctx context.Context, socket backup.Socket, jobID string, limit int) error
	Unwatch(ctx context.Context, socketID, jobID string) error
	CloseSocket(ctx context.Context, socketID string) error
}

// Requests serves what clients send through API Gateway, as Socket does on one machine.
type Requests struct {
	Sockets Sockets
	Status  step.Status
	Sender  Sender
	Log     *slog.Logger
}

// Serve answers one message of a socket. What cannot be met is refused by a message, not by an error.
func (s Requests) Serve(ctx context.Context, socketID string, body []byte) error {
	socket, err := s.Sockets.GetSocket(ctx, socketID)
	if backup.Is(err, backup.NotFound) {
		return expire(ctx, s.Sender, s.Sockets, socketID)
	}
	if err != nil {
		return err
	}
	var r Request
	if len(body) > maxRequestBytes || json.Unmarshal(body, &r) != nil {
		r = Request{}
		err = backup.E(backup.InvalidRequest, `send {"action":"subscribe","jobId":"..."} or "unsubscribe"`)
	}
	var answer any
	if err == nil {
		answer, err = s.serve(ctx, socket, r)
	}
	if err != nil {
		answer = s.refusal(ctx, r, err)
	}
	if answer == nil {
		return nil
	}
	err = s.Sender.Send(ctx, socketID, answer)
	if backup.Is(err, backup.NotFound) {
		return s.Sockets.CloseSocket(ctx, socketID)
	}
	return err
}

func (s Requests) serve(ctx context.Context, socket backup.Socket, r Request) (answer any, err error) {
	switch r.Action {
	case "unsubscribe":
		if !backup.ValidJobID(r.JobID) {
			return nil, nil // nobody can watch it
		}
		return nil, s.Sockets.Unwatch(ctx, socket.SocketID, r.JobID)
	case "subscribe":
		return s.subscribe(ctx, socket, r.JobID)
	}
	return nil, backup.E(backup.InvalidRequest, `action is "subscribe" or "unsubscribe", not %q`, r.Action)
}

// subscribe answers with the present state. It is read once the socket watches, so that no change falls in between.
func (s Requests) subscribe(ctx context.Context, socket backup.Socket, jobID string) (any, error) {
	if _, err := s.Status.Get(ctx, socket.UserID, jobID); err != nil {
		return nil, err
	}
	if err := s.Sockets.Watch(ctx, socket, jobID, maxSubscriptions); err != nil {
		return nil, err
	}
	view, err := s.Status.Get(ctx, socket.UserID, jobID)
	if err != nil {
		return nil, err
	}
	return NewMessage(view, 0), nil
}

// refusal shows what clients can act on and logs the rest.
func (s Requests) refusal(ctx context.Context, r Request, err error) Refusal {
	kind := backup.KindOf(err)
	answer := Refusal{Type: "error", JobID: r.JobID, Kind: kind, Message: kind.Sentence()}
	if e, ok := errors.AsType[*backup.Error](err); ok && (kind == backup.InvalidRequest || kind == backup.NotFound) {
		answer.Message = e.Error()
		return answer
	}
	s.Log.ErrorContext(ctx, "request of a socket", "jobId", r.JobID, "error", err)
	return answer
}
