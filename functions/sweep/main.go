// Command sweep tends the jobs that are due, every minute: the guarantee behind every event that can get lost.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store, executions := s.Store(), s.Executions()
	cleaner := s.Cleaner(store, s.Storage(ctx), executions)
	backups := s.Backups(store, executions, cleaner)
	s.Start(lambdaedge.Function(cloud.Sweeper{
		Sweep:   step.Sweep{Jobs: store, Executions: executions, Cleaner: cleaner, Policy: cleaner.Policy, Now: s.Now},
		CatchUp: step.CatchUp{Waiting: store.Waiting, Backups: backups, RunDaily: telemetry.DailyRuns(backups.RunDaily, s.Metrics)},
		Metrics: s.Metrics,
		Now:     s.Now,
		Log:     s.Log,
	}.Handle))
}
