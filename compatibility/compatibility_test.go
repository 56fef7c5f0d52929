package compatibility

import (
	"fmt"
	"testing"

	"github.com/sitevault/sitevault/internal/backuptest"
)

// Every server obeys the rules of a storage through our adapter.
func TestConformance(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			s, n := start(t), 0
			backuptest.StorageConformance(t, func(t *testing.T) backuptest.AnyStorage {
				n++
				return s.open(t, fmt.Sprintf("vault-%d", n))
			})
		})
	}
}
