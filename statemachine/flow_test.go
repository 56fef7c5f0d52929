package statemachine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
	"github.com/sitevault/sitevault/internal/transfer"
	"github.com/sitevault/sitevault/statemachine"
)

// epoch lies in the past of every real clock, so that a task's real deadline is far away from it.
var epoch = time.Date(2020, 3, 1, 2, 30, 0, 0, time.UTC)

const jobID = "01E2A000000000000000000001"

// flow is a backup with the real steps, on fakes, with ids and times that are the same in every run.
type flow struct {
	*testing.T
	store   *backuptest.MemoryStore
	storage *backuptest.Storage
	exports *exports
	random  int
}

func newFlow(t *testing.T) *flow {
	return &flow{T: t, store: backuptest.NewMemoryStore(), storage: backuptest.NewStorage(), exports: &exports{content: backuptest.ZipOf(1, 40_000)}}
}

func now() time.Time { return epoch }

func (f *flow) newRandom() string { f.random++; return fmt.Sprintf("RANDOM%d", f.random) }

// create stores the job that an execution is started for.
func (f *flow) create(providers ...string) {
	f.Helper()
	site := backup.Site{UserID: "ada", SiteID: "blog", Limits: backup.Limits{Parallelism: 1}}
	for _, name := range providers {
		site.Providers = append(site.Providers, backup.Provider{Name: name, URL: "https://example.org/" + name})
	}
	job := backup.NewJob(jobID, site.WithDefaults(), backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy())
	if _, err := f.store.CreateJob(f.Context(), job, backup.Idempotency{}); err != nil {
		f.Fatal(err)
	}
}

// handlers are the real steps under the names of their states.
func (f *flow) handlers() map[string]asl.Handler {
	cleaner := step.Cleaner{Jobs: f.store, Files: f.store, Storage: f.storage, Policy: backup.DefaultPolicy(), Now: now}
	return map[string]asl.Handler{
		"StartJob":          task(step.StartJob{Jobs: f.store, Policy: backup.DefaultPolicy(), Now: now}.Handle),
		"OpenUpload":        task(step.OpenUpload{Jobs: f.store, Files: f.store, Errors: f.store, Exports: f.exports, Uploads: f.storage, Now: now, NewRandom: f.newRandom}.Handle),
		"ExportRangeUpload": task(step.ExportRangeUpload{Jobs: f.store, Files: f.store, Errors: f.store, Exports: f.exports, Uploads: f.storage, Memory: transfer.NewBudget(transfer.DefaultBudgetBytes, 0), Now: now}.Handle),
		"CompleteMultipart": task(step.CompleteMultipart{Files: f.store, Errors: f.store, Uploads: f.storage, Objects: f.storage, Now: now}.Handle),
		"InspectArchive":    task(step.InspectArchive{Files: f.store, Errors: f.store, Objects: f.storage, Now: now}.Handle),
		"FailFile":          task(step.FailFile{Files: f.store, Now: now}.Handle),
		"FinishJob": task(step.FinishJob{
			Jobs: f.store, Files: f.store, Objects: f.storage, Cleaner: cleaner, Policy: backup.DefaultPolicy(), Now: now,
			Log: slog.New(slog.NewTextHandler(f.Output(), nil)),
		}.Handle),
	}
}

func task[In, Out any](handle func(context.Context, In) (Out, error)) asl.Handler {
	call := lambdaedge.Task(handle)
	return func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
		out, err := call(ctx, input)
		if failure, ok := errors.AsType[*lambdaedge.Failure](err); ok {
			return nil, &asl.Error{Name: failure.Name, Cause: failure.Cause}
		}
		return out, err
	}
}

// run executes the file for the first attempt, without its waits.
func run(t *testing.T, handlers map[string]asl.Handler) asl.Result {
	t.Helper()
	machine, err := asl.Load(statemachine.Backup, handlers)
	if err != nil {
		t.Fatal(err)
	}
	input := fmt.Appendf(nil, `{"jobId":%q,"attempt":1}`, jobID)
	return machine.Run(t.Context(), asl.Execution{Name: jobID + "-1", Input: input}, asl.Options{Sleep: func(context.Context, time.Duration) {}})
}

// exports is one export that every provider serves, until answers says otherwise.
type exports struct {
	content *backuptest.Zip
	onPin   []error // of the next calls; nil is the honest answer
}

// Pin implements step.Exporter.
func (x *exports) Pin(context.Context, step.Export) (backup.Pin, error) {
	if len(x.onPin) > 0 {
		err := x.onPin[0]
		if x.onPin = x.onPin[1:]; err != nil {
			return backup.Pin{}, err
		}
	}
	return backup.Pin{ETag: `"v1"`, SizeBytes: x.content.Size()}, nil
}

// Range implements step.Exporter.
func (x *exports) Range(_ context.Context, _ step.Export, _ backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(x.content, offset, lengthBytes)), nil
}
