// Command clean removes what cancelled and deleted jobs have stored, as soon as their events arrive.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/events"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	cleaner := s.Cleaner(s.Store(), s.Storage(ctx), s.Executions())
	s.Start(lambdaedge.Function(events.Follower{Follow: cleaner.Follow}.Handle))
}
