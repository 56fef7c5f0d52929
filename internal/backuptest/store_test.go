package backuptest_test

import (
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// The model itself keeps every rule that it is used to check.
func TestMemoryStoreConforms(t *testing.T) {
	backuptest.StoreConformance(t, func(_ *testing.T, q backup.Quotas) step.Store { return backuptest.NewMemoryStoreWithin(q) })
}
