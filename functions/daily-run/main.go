// Command daily-run starts the daily backup of a site. The site's schedule invokes it.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/schedule"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store, executions := s.Store(), s.Executions()
	backups := s.Backups(store, executions, s.Cleaner(store, s.Storage(ctx), executions))
	s.Start(lambdaedge.Function(schedule.DailyRuns{Start: backups.RunDaily}.Handle))
}
