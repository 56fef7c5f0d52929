// Command complete-multipart is the state CompleteMultipart: it proves the parts, puts the object together and proves it.
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
	s.Start(lambdaedge.Function(step.CompleteMultipart{Files: store, Errors: store, Uploads: storage, Objects: storage, Now: s.Now}.Handle))
}
