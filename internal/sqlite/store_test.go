package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/sqlite"
	"github.com/sitevault/sitevault/internal/step"
)

func TestConformance(t *testing.T) {
	backuptest.StoreConformance(t, func(t *testing.T) step.Store {
		return open(t, filepath.Join(t.TempDir(), "backups.db"), sqlite.Options{})
	})
}

func open(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	store, err := sqlite.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}
