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

// Sender sends one message to a socket; NotFound when the socket is gone.
type Sender interface {
	Send(ctx context.Context, socketID string, message any) error
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
	if _, gone := errors.AsType[*types.GoneException](err); gone {
		return backup.E(backup.NotFound, "the socket is gone")
	}
	if err != nil {
		return fmt.Errorf("message to a socket: %w", err)
	}
	return nil
}

// Watching keeps who watches what; dynamo.Store does.
type Watching interface {
	// Watchers lists the ids of the sockets that watch a job.
	Watchers(ctx context.Context, jobID string) ([]string, error)
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
	if watchers, err := p.Watching.Watchers(ctx, jobID); err != nil || len(watchers) == 0 {
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
	watchers, err := p.Watching.Watchers(ctx, jobID)
	if err != nil {
		return 0, err
	}
	return p.send(ctx, watchers, NewMessage(view, prev)), nil
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
