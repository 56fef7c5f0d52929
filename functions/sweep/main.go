// Command sweep tends the jobs that are due, every minute: the guarantee behind every event that can get lost.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store, executions := s.Store(), s.Executions()
	cleaner := s.Cleaner(store, s.Storage(ctx), executions)
	s.Start(lambdaedge.Function(cloud.Sweeper{
		Sweep:   step.Sweep{Jobs: store, Executions: executions, Cleaner: cleaner, Policy: cleaner.Policy, Now: s.Now},
		CatchUp: step.CatchUp{Waiting: store.Waiting, Backups: s.Backups(store, executions, cleaner)},
		Metrics: s.Metrics,
		Now:     s.Now,
		Log:     s.Log,
	}.Handle))
}
