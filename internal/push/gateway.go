package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// On AWS the sockets belong to API Gateway and to no process of ours: rows say who watches what (Watching), each message
// is a call to API Gateway (Gateway), and whoever hears of a change pushes it (Pusher).

// Sender speaks to a socket; NotFound when the socket is gone.
type Sender interface {
	Send(ctx context.Context, socketID string, message any) error
	Disconnect(ctx context.Context, socketID string) error
}

// Gateway sends through the management API of an API Gateway stage.
type Gateway struct {
	Client *apigatewaymanagementapi.Client
}

var _ Sender = Gateway{}

// sendTimeout bounds one message, tries included.
const sendTimeout = 5 * time.Second

// Send implements Sender.
func (g Gateway) Send(ctx context.Context, socketID string, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("message to a socket: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	_, err = g.Client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &socketID, Data: body})
	return failure(err, "message to")
}

// Disconnect implements Sender.
func (g Gateway) Disconnect(ctx context.Context, socketID string) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	_, err := g.Client.DeleteConnection(ctx, &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &socketID})
	return failure(err, "disconnect")
}

func failure(err error, operation string) error {
	if _, gone := errors.AsType[*types.GoneException](err); gone {
		return backup.E(backup.NotFound, "the socket is gone")
	}
	if err != nil {
		return fmt.Errorf("%s a socket: %w", operation, err)
	}
	return nil
}

// Watching keeps who watches what; dynamo.Store does.
type Watching interface {
	// Watchers lists the ids of the sockets that watch a job, and apart those whose token has expired.
	Watchers(ctx context.Context, jobID string) (open, expired []string, err error)
	// ClaimPush takes the right to push the state with the number seq, and returns the number of the push before. With
	// a pace it is refused too soon after that one.
	ClaimPush(ctx context.Context, jobID string, seq int64, now time.Time, pace time.Duration) (prev int64, ok bool, err error)
	// CloseSocket forgets a socket and all that it watches.
	CloseSocket(ctx context.Context, socketID string) error
}

// Pusher pushes the state of jobs to the sockets that watch them.
type Pusher struct {
	Watching Watching
	Sender   Sender
	Now      func() time.Time
	Log      *slog.Logger
}

// maxSending is how many messages of one push are on their way at the same time.
const maxSending = 16

// Push tells the watchers of a job its state, which read returns, and returns how many messages could not be delivered
// to an open socket. Pushes that are not urgent keep the distance of Interval; the next one makes up for one left out.
// A job that nobody watches costs one query.
func (p Pusher) Push(ctx context.Context, jobID string, urgent bool, read func(ctx context.Context) (step.View, error)) (failed int, err error) {
	// Whoever begins to watch after this look reads the state by itself, and no older one than is pushed here.
	watchers, expired, err := p.Watching.Watchers(ctx, jobID)
	p.expire(ctx, expired)
	if err != nil || len(watchers) == 0 {
		return 0, err
	}
	view, err := read(ctx)
	if err != nil {
		return 0, err
	}
	pace := Interval
	if urgent {
		pace = 0
	}
	prev, ok, err := p.Watching.ClaimPush(ctx, jobID, view.Seq(), p.Now(), pace)
	if err != nil || !ok {
		return 0, err
	}
	// Whoever has come since the first look may have read an older state than this one.
	watchers, _, err = p.Watching.Watchers(ctx, jobID)
	if err != nil {
		return 0, err
	}
	return p.send(ctx, watchers, NewMessage(view, prev)), nil
}

// expire ends sockets. One that it cannot end is told nothing either, and the next push tries again.
func (p Pusher) expire(ctx context.Context, socketIDs []string) {
	var group errgroup.Group
	group.SetLimit(maxSending)
	for _, id := range socketIDs {
		group.Go(func() error {
			if err := expire(ctx, p.Sender, p.Watching, id); err != nil {
				p.Log.WarnContext(ctx, "end of a socket", "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no errors
}

// closer forgets sockets, as Watching and Sockets do.
type closer interface {
	CloseSocket(ctx context.Context, socketID string) error
}

// expire ends a socket whose token has expired: the client hears why, is disconnected and forgotten.
func expire(ctx context.Context, sender Sender, sockets closer, socketID string) error {
	err := sender.Send(ctx, socketID, Refusal{Type: "error", Kind: backup.Unauthenticated, Message: errExpired.Error()})
	if err == nil {
		err = sender.Disconnect(ctx, socketID)
	}
	if err != nil && !backup.Is(err, backup.NotFound) {
		return err
	}
	return sockets.CloseSocket(ctx, socketID)
}

func (p Pusher) send(ctx context.Context, socketIDs []string, m Message) int {
	var failed atomic.Int32
	var group errgroup.Group
	group.SetLimit(maxSending)
	for _, id := range socketIDs {
		group.Go(func() error {
			err := p.Sender.Send(ctx, id, m)
			if backup.Is(err, backup.NotFound) {
				err = p.Watching.CloseSocket(ctx, id)
			} else if err != nil {
				failed.Add(1)
			}
			if err != nil {
				p.Log.WarnContext(ctx, "push", "jobId", m.JobID, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no errors
	return int(failed.Load())
}
