package statemachine_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/statemachine"
)

// A backup whose user has no range left is asked for again, with pauses of at most a minute, and gets done once the other
// one has ended.
func TestBackupWaitsForRoom(t *testing.T) {
	f := newFlow(t)
	f.store = backuptest.NewMemoryStoreWithin(backup.Quotas{Ranges: 1})
	site := backup.Site{UserID: "ada", SiteID: "shop"}.WithDefaults()
	other := backup.NewJob("01E2A000000000000000000000", site, backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy())
	other.Status = backup.Running
	other, err := f.store.CreateJob(t.Context(), other, backup.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	f.create("files")
	machine, err := asl.Load(statemachine.Backup, f.handlers())
	if err != nil {
		t.Fatal(err)
	}
	waits := 0
	result := machine.Run(t.Context(), asl.Execution{Name: jobID + "-1", Input: fmt.Appendf(nil, `{"jobId":%q,"attempt":1}`, jobID)}, asl.Options{
		Sleep: func(_ context.Context, d time.Duration) {
			if waits++; d > time.Minute {
				t.Errorf("a pause of %v", d)
			}
			if waits < 20 {
				return
			}
			other.Status = backup.Done
			if err := f.store.SwapJob(t.Context(), other); err != nil {
				t.Error(err)
			}
		},
	})
	if result.Status != asl.Succeeded || waits != 20 {
		t.Errorf("%s %s %s after %d pauses", result.Status, result.Error, result.Cause, waits)
	}
}
