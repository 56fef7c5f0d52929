// Command open-upload is the state OpenUpload: it pins a provider's export and plans the batches still to move.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store := s.Store()
	s.Start(lambdaedge.Function(step.OpenUpload{
		Jobs: store, Files: store, Errors: store, Exports: s.Exports(), Uploads: s.Storage(ctx), Now: s.Now, NewRandom: s.NewRandom,
		SingleBytes: backup.BasePartSizeBytes,
	}.Handle))
}
