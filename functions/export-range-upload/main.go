// Command export-range-upload is the state ExportRangeUpload: it moves one batch of parts from a provider into the storage.
package main

import (
	"context"

	"github.com/sitevault/sitevault/internal/cloud"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/transfer"
)

func main() {
	ctx := context.Background()
	s := cloud.Open(ctx)
	store := s.Store()
	s.Start(lambdaedge.Patient(lambdaedge.Function(step.ExportRangeUpload{
		Jobs: store, Files: store, Errors: store, Exports: s.Exports(), Uploads: s.Uploads(s.Storage(ctx)),
		Memory: transfer.NewBudget(transfer.DefaultBudgetBytes, 0), Now: s.Now,
	}.Handle)))
}
