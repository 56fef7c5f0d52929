// Command stream reads the table's stream: events to the bus, pushes to sockets, metrics, a last look after purged jobs.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/events"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store := s.Store()
	s.Start(lambdaedge.Function(events.Consumer{
		Status:  s.Status(store),
		Bus:     s.Bus(),
		Good:    store,
		Cleaner: step.Cleaner{Storage: s.Storage(ctx)},
		Pusher:  push.Pusher{Watching: store, Sender: s.Gateway(), Now: s.Now, Log: s.Log},
		Metrics: s.Metrics,
		Log:     s.Log,
	}.Handle))
}
