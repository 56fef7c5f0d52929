package dynamo_test

import (
	"errors"
	"testing"
	"time"

	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// Whoever serves them, a user has no more requests admitted in ten seconds than his quota allows; the next ten seconds
// and other users are not touched by it.
func TestAdmit(t *testing.T) {
	client := newClient("http://minidyn", inProcess{minidyn.NewServer()})
	_, table := newTable(t, client)
	now := epoch.Add(3 * time.Second)
	functions := []*dynamo.Store{}
	for range 2 {
		store := dynamo.New(client, table, func() time.Time { return now }, func() float64 { return 0 })
		functions = append(functions, store.WithQuotas(backup.Quotas{Requests: 2}))
	}
	ask := func(userID string) (admitted int, last error) {
		for i := range 50 {
			if err := functions[i%2].Admit(t.Context(), userID); err == nil {
				admitted++
			} else {
				last = err
			}
		}
		return admitted, last
	}
	for range 2 {
		admitted, err := ask("ada")
		var refused *backup.Error
		if admitted != 20 || !errors.As(err, &refused) || refused.Kind != backup.TooManyRequests || refused.RetryAfter != 7*time.Second {
			t.Errorf("%d admitted, %v", admitted, err)
		}
		if err := functions[0].Admit(t.Context(), "bob"); err != nil {
			t.Errorf("another user: %v", err)
		}
		now = now.Add(10 * time.Second)
	}
}
