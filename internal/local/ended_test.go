package local

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// awayStore does not take writes of jobs before it is back.
type awayStore struct {
	*backuptest.MemoryStore
	backAt  time.Time
	refused int
}

func (s *awayStore) SwapJob(ctx context.Context, next backup.Job) error {
	if time.Now().Before(s.backAt) {
		s.refused++
		return backup.E(backup.StoreUnavailable, "disk full")
	}
	return s.MemoryStore.SwapJob(ctx, next)
}

// An execution that ends while the store is away is told of when it is back: the job is tried again, and does not hold its
// site until its deadline.
func TestExecutionEndsWhileStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy, memory := backup.DefaultPolicy(), backuptest.NewMemoryStore()
		site := backup.Site{UserID: "ada", SiteID: "blog", Providers: []backup.Provider{{Name: "files"}}}.WithDefaults()
		job := backup.NewJob("01JD0000000000000000000001", site, backup.Manual, time.Now().AddDate(0, 0, 7), time.Now(), policy)
		if _, err := memory.CreateJob(t.Context(), job, backup.Idempotency{}); err != nil {
			t.Fatal(err)
		}
		store := &awayStore{MemoryStore: memory, backAt: time.Now().Add(30 * time.Minute)}
		s := &Service{
			config:  Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))},
			cleaner: step.Cleaner{Jobs: store, Files: store, Policy: policy, Now: time.Now},
		}
		s.executionEnded(t.Context(), job.JobID, 1, asl.Result{Status: asl.Failed, Error: string(backup.StoreUnavailable), Cause: "disk full"})
		got, err := store.GetJob(t.Context(), job.JobID)
		if err != nil || got.Status != backup.Pending || got.Attempt != 2 || got.LastError.Kind != backup.StoreUnavailable {
			t.Errorf("%+v, %v", got, err)
		}
		if late := time.Since(store.backAt); late < 0 || late > time.Minute || store.refused < 3 {
			t.Errorf("told %s after the store was back, refused %d times", late, store.refused)
		}
		stopped, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		store.backAt = time.Now().Add(time.Hour)
		s.executionEnded(stopped, job.JobID, 2, asl.Result{Status: asl.Failed, Error: string(backup.Internal)})
		if stopped.Err() == nil {
			t.Error("it did not wait until it was stopped")
		}
	})
}
