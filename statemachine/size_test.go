package statemachine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// largeJob plans as OpenUpload does and moves nothing. Every batch fails once before it is moved.
type largeJob struct {
	files, parts, parallelism int

	mu    sync.Mutex
	tries map[string]int
	moved map[string]int // parts of each file
}

func (l *largeJob) handlers() map[string]asl.Handler {
	nothing := task(func(context.Context, step.FileIn) (step.FileOut, error) { return step.FileOut{}, nil })
	handlers := map[string]asl.Handler{"CompleteMultipart": nothing, "InspectArchive": nothing, "FailFile": nothing}
	handlers["StartJob"] = task(func(_ context.Context, in step.StartJobIn) (map[string]any, error) {
		var names []string
		for i := range l.files {
			names = append(names, fmt.Sprintf("provider-with-a-name-of-32-char-%d", i))
		}
		return map[string]any{
			"jobId": in.JobID, "attempt": in.Attempt, "files": names,
			"fileConcurrency": min(l.files, l.parallelism), "parallelism": max(1, l.parallelism/l.files), "maxBatches": backup.MaxBatches / l.files,
		}, nil
	})
	handlers["OpenUpload"] = task(func(_ context.Context, in step.OpenUploadIn) (step.OpenUploadOut, error) {
		return step.OpenUploadOut{
			JobID: in.JobID, Attempt: in.Attempt, File: in.File, Parallelism: in.Parallelism, MaxBatches: in.MaxBatches, Next: step.NextUpload,
			UploadID: fmt.Sprintf("%0128d", 1), // as long as those of S3
			Batches:  backup.Batches(l.parts, in.Parallelism, in.MaxBatches),
		}, nil
	})
	handlers["ExportRangeUpload"] = task(l.move)
	handlers["FinishJob"] = task(func(context.Context, step.FinishJobIn) (step.FinishJobOut, error) {
		return step.FinishJobOut{Status: backup.Done}, nil
	})
	return handlers
}

func (l *largeJob) move(_ context.Context, in step.ExportRangeUploadIn) (step.ExportRangeUploadOut, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := fmt.Sprint(in.File, in.First)
	if l.tries[batch]++; l.tries[batch] == 1 {
		return step.ExportRangeUploadOut{}, backup.E(backup.StorageUnavailable, "503")
	}
	l.moved[in.File] += in.Last - in.First + 1
	return step.ExportRangeUploadOut{Parts: in.Last - in.First + 1}, nil
}

// The largest backups fit into one execution, even when every single batch fails once: its history stays below 25,000
// events and its payloads far below 256 KiB.
func TestLargeBackups(t *testing.T) {
	for _, tc := range []struct{ files, parts, parallelism, mostEvents int }{
		{1, backup.MaxParts, backup.DefaultParallelism, 20_000},
		{1, backup.MaxParts, backup.MaxParallelism, 20_000},
		{1, backup.MaxParts, 1, 20_000},
		{backup.MaxProviders, backup.MaxParts, backup.MaxParallelism, backup.MaxHistoryEvents - 1},
	} {
		l := &largeJob{files: tc.files, parts: tc.parts, parallelism: tc.parallelism, tries: map[string]int{}, moved: map[string]int{}}
		result := run(t, l.handlers())
		if result.Status != asl.Succeeded {
			t.Fatalf("%+v: %s %s %s", tc, result.Status, result.Error, result.Cause)
		}
		t.Logf("%d files of %d parts: %d batches, %d events, largest payload %d bytes", tc.files, tc.parts, len(l.tries), result.HistoryEvents, result.LargestPayloadBytes)
		if result.HistoryEvents > tc.mostEvents || result.LargestPayloadBytes > 64<<10 {
			t.Errorf("%+v: %d events, largest payload %d bytes", tc, result.HistoryEvents, result.LargestPayloadBytes)
		}
		for file, parts := range l.moved {
			if parts != tc.parts {
				t.Errorf("%+v: %d parts of %s moved", tc, parts, file)
			}
		}
		for batch, tries := range l.tries {
			if tries != 2 {
				t.Errorf("%+v: batch %s was tried %d times", tc, batch, tries)
			}
		}
		if len(l.moved) != tc.files {
			t.Errorf("%+v: %d files moved", tc, len(l.moved))
		}
	}
}
