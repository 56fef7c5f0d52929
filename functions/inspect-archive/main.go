// Command inspect-archive is the state InspectArchive: it reads the directory of the stored zip.
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
	store := s.Store()
	s.Start(lambdaedge.Function(step.InspectArchive{Files: store, Errors: store, Objects: s.Storage(ctx), Now: s.Now}.Handle))
}
