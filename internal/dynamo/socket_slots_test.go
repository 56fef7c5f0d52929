package dynamo_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

// boundedSockets are functions of one deployment, whose users may have so many sockets open.
func boundedSockets(t *testing.T, client *dynamodb.Client, now func() time.Time, quotas ...int64) (functions []*dynamo.Store) {
	t.Helper()
	_, table := newTable(t, client)
	for _, quota := range quotas {
		store := dynamo.New(client, table, now, func() float64 { return 0 })
		functions = append(functions, store.WithQuotas(backup.Quotas{Sockets: quota}))
	}
	return functions
}

// Whoever opens them, and however many at the same time, a user has no more sockets open than his quota; others are not
// touched by it, and each one that is closed makes room for one.
func TestSocketsHaveAQuota(t *testing.T) {
	onBoth(t, func(t *testing.T, client *dynamodb.Client) {
		functions := boundedSockets(t, client, func() time.Time { return epoch }, 10, 10)
		var admitted, refused sync.Map
		var count atomic.Int64
		var work sync.WaitGroup
		for i := range 40 {
			work.Go(func() {
				id := fmt.Sprintf("socket-%d=", i)
				err := functions[i%2].OpenSocket(t.Context(), socketOf(id, "ada"))
				switch {
				case err == nil:
					count.Add(1)
					admitted.Store(id, true)
				case backup.Is(err, backup.QuotaExceeded) && strings.Contains(err.Error(), "10 sockets open, of at most 10"):
					refused.Store(id, true)
				default:
					t.Error(err)
				}
			})
		}
		work.Wait()
		if count.Load() != 10 {
			t.Fatalf("%d admitted", count.Load())
		}
		refused.Range(func(id, _ any) bool {
			if _, err := functions[0].GetSocket(t.Context(), id.(string)); !backup.Is(err, backup.NotFound) {
				t.Errorf("%s was refused and is there: %v", id, err)
			}
			return true
		})
		if err := functions[0].OpenSocket(t.Context(), socketOf("other", "bob")); err != nil {
			t.Errorf("another user: %v", err)
		}
		admitted.Range(func(id, _ any) bool {
			for range 2 {
				if err := functions[0].CloseSocket(t.Context(), id.(string)); err != nil {
					t.Error(err)
				}
			}
			if err := functions[1].OpenSocket(t.Context(), socketOf("after "+id.(string), "ada")); err != nil {
				t.Errorf("there is room again: %v", err)
			}
			if err := functions[1].OpenSocket(t.Context(), socketOf("beyond "+id.(string), "ada")); !backup.Is(err, backup.QuotaExceeded) {
				t.Errorf("one more than closed: %v", err)
			}
			return true
		})
	})
}

// Sockets whose end nobody has told of count until API Gateway has closed them, also when their tokens have expired before.
// A late word of the end takes nothing from the socket that has their slot by then.
func TestSlotsOfLostSocketsComeBack(t *testing.T) {
	now := epoch
	client := newClient("http://minidyn", inProcess{minidyn.NewServer()})
	store := boundedSockets(t, client, func() time.Time { return now }, 1)[0]
	lost := socketOf("lost", "ada")
	lost.ExpiresAt = epoch.Add(time.Minute)
	if err := store.OpenSocket(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	later := func(id string) error {
		socket := socketOf(id, "ada")
		socket.ExpiresAt, socket.ClosesAt = now.Add(2*time.Hour), now.Add(2*time.Hour)
		return store.OpenSocket(t.Context(), socket)
	}
	now = lost.ClosesAt.Add(-time.Millisecond)
	if err := later("early"); !backup.Is(err, backup.QuotaExceeded) {
		t.Errorf("while the lost one may be open: %v", err)
	}
	now = lost.ClosesAt
	if err := later("next"); err != nil {
		t.Errorf("when the lost one is closed: %v", err)
	}
	if err := store.CloseSocket(t.Context(), "lost"); err != nil {
		t.Error(err)
	}
	if err := later("third"); !backup.Is(err, backup.QuotaExceeded) {
		t.Errorf("beside the next one: %v", err)
	}
}

// A lowered quota counts the sockets that are open already; one that is switched off counts none.
func TestSocketQuotaChanges(t *testing.T) {
	client := newClient("http://minidyn", inProcess{minidyn.NewServer()})
	functions := boundedSockets(t, client, func() time.Time { return epoch }, 5, 2, 0)
	for i := range 4 {
		if err := functions[0].OpenSocket(t.Context(), socketOf(fmt.Sprint(i), "ada")); err != nil {
			t.Fatal(err)
		}
	}
	for closed := range 3 {
		if err := functions[1].OpenSocket(t.Context(), socketOf("more", "ada")); !backup.Is(err, backup.QuotaExceeded) {
			t.Errorf("beside %d: %v", 4-closed, err)
		}
		if err := functions[1].CloseSocket(t.Context(), fmt.Sprint(closed)); err != nil {
			t.Fatal(err)
		}
	}
	if err := functions[1].OpenSocket(t.Context(), socketOf("more", "ada")); err != nil {
		t.Error(err)
	}
	for i := range 20 {
		if err := functions[2].OpenSocket(t.Context(), socketOf(fmt.Sprint("free", i), "ada")); err != nil {
			t.Error(err)
		}
	}
}

// A socket whose slot could not be given back is not forgotten: another word of its end
// gives it back.
func TestSlotsWithFaults(t *testing.T) {
	faults := &faulty{to: inProcess{minidyn.NewServer()}}
	store := boundedSockets(t, newClient("http://minidyn", faults), func() time.Time { return epoch }, 1)[0]
	if err := store.OpenSocket(t.Context(), socketOf("a", "ada")); err != nil {
		t.Fatal(err)
	}
	faults.plan("DeleteItem", times(12, refused("ProvisionedThroughputExceededException"))...)
	if err := store.CloseSocket(t.Context(), "a"); faults.fired != 12 || !backup.Is(err, backup.StoreUnavailable) {
		t.Errorf("%d faults, %v", faults.fired, err)
	}
	if err := store.OpenSocket(t.Context(), socketOf("b", "ada")); !backup.Is(err, backup.QuotaExceeded) {
		t.Errorf("the slot was not given back: %v", err)
	}
	if err := store.CloseSocket(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := store.OpenSocket(t.Context(), socketOf("b", "ada")); err != nil {
		t.Error(err)
	}
}
