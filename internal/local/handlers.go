package local

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/telemetry"
	"github.com/sitevault/sitevault/internal/transfer"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// handlers are the steps under the names of their states.
func (s *Service) handlers() map[string]asl.Handler {
	store, storage, log := s.store, s.storage, s.config.Log
	exports, uploads := s.measured()
	return map[string]asl.Handler{
		"StartJob": task(log, step.StartJob{Jobs: store, Policy: s.config.Policy, Now: s.now}.Handle),
		"OpenUpload": task(log, step.OpenUpload{
			Jobs: store, Files: store, Errors: store, Exports: exports, Uploads: storage, Now: s.now, NewRandom: rand.Text,
			SingleBytes: backup.BasePartSizeBytes, MaxParts: s.maxParts(), Doubtful: storage.Doubtful, Trusted: s.trusted(),
		}.Handle),
		"ExportRangeUpload": task(log, step.ExportRangeUpload{Jobs: store, Files: store, Errors: store, Exports: exports, Uploads: uploads, Memory: s.memory(), Now: s.now, Doubtful: storage.Doubtful}.Handle),
		"CompleteMultipart": task(log, step.CompleteMultipart{Files: store, Errors: store, Uploads: storage, Objects: storage, Now: s.now}.Handle),
		"InspectArchive":    task(log, step.InspectArchive{Files: store, Errors: store, Objects: storage, Now: s.now}.Handle),
		"FailFile":          task(log, step.FailFile{Files: store, Now: s.now}.Handle),
		"FinishJob": task(log, step.FinishJob{
			Jobs: store, Files: store, Objects: storage, Cleaner: s.cleaner, Policy: s.config.Policy, Now: s.now, Log: log,
		}.Handle),
	}
}

// trusted is nil for the S3 server that comes along.
func (s *Service) trusted() func(context.Context) (bool, error) {
	if s.trust == nil {
		return nil
	}
	return s.trust.Trusted
}

// maxParts is what the storage takes: our own S3 server fewer than S3.
func (s *Service) maxParts() int64 {
	if s.gateway == nil {
		return 0
	}
	return versitygw.MaxParts
}

// memory is that of all workers together.
func (s *Service) memory() *transfer.Budget {
	return transfer.NewBudget(s.config.MemoryBytes, s.config.reserve(s.config.MemoryBytes))
}

func task[In, Out any](log *slog.Logger, handle func(context.Context, In) (Out, error)) asl.Handler {
	call := lambdaedge.Task(handle)
	return func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
		ctx, cancel := lambdaedge.Early(ctx)
		defer cancel()
		began := time.Now()
		out, err := call(ctx, input)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			telemetry.LogFailure(ctx, log.With(telemetry.Facts(input)...), err, time.Since(began))
		}
		if failure, ok := errors.AsType[*lambdaedge.Failure](err); ok {
			return nil, &asl.Error{Name: failure.Name, Cause: failure.Cause, RetryAfter: lambdaedge.RetryAfter(err)}
		}
		return out, err
	}
}
