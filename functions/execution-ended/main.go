// Command execution-ended ends jobs whose executions timed out, were aborted or failed on the way.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/stepfunctions"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	cleaner := s.Cleaner(s.Store(), s.Storage(ctx), nil)
	s.Start(lambdaedge.Function(stepfunctions.Ended{Cleaner: cleaner, Log: s.Log}.Handle))
}
