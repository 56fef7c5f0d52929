// Command start-job is the state StartJob: it takes the job from pending to running and says what there is to do.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	s := cloud.Open(context.Background())
	s.Start(lambdaedge.Function(step.StartJob{Jobs: s.Store(), Policy: s.Policy(), Now: s.Now}.Handle))
}
