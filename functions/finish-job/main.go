// Command finish-job is the state FinishJob: it ends an attempt, done or failed.
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
	store, storage := s.Store(), s.Storage(ctx)
	cleaner := s.Cleaner(store, storage, nil)
	s.Start(lambdaedge.Function(step.FinishJob{
		Jobs: store, Files: store, Objects: storage, Cleaner: cleaner, Policy: cleaner.Policy, Now: s.Now, Log: s.Log,
	}.Handle))
}
