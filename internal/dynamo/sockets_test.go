package dynamo_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	minidyn "github.com/truora/minidyn/server"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/dynamo"
)

const jobA, jobB = "01JDAAAAAAAAAAAAAAAAAAAAAA", "01JDBBBBBBBBBBBBBBBBBBBBBB"

func socketOf(id, userID string) backup.Socket {
	return backup.Socket{SocketID: id, UserID: userID, ExpiresAt: epoch.Add(2 * time.Hour), ClosesAt: epoch.Add(2 * time.Hour)}
}

func open(t *testing.T, store *dynamo.Store, id string) backup.Socket {
	t.Helper()
	socket := socketOf(id, "ada")
	if err := store.OpenSocket(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	return socket
}

func wantWatchers(t *testing.T, store *dynamo.Store, jobID string, want ...string) {
	t.Helper()
	got, _, err := store.Watchers(t.Context(), jobID)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("job %s is watched by %q, %v; want %q", jobID, got, err, want)
	}
}

// A socket watches jobs, up to its limit, until it stops or is closed; others go on.
func TestWatching(t *testing.T) {
	onBoth(t, func(t *testing.T, client *dynamodb.Client) {
		store := newStore(t, client)
		one, two := open(t, store, "L0SM9cOFvHcCIhw="), open(t, store, "b")
		for range 2 {
			for _, jobID := range []string{jobA, jobB} {
				if err := store.Watch(t.Context(), one, jobID, 2); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := store.Watch(t.Context(), two, jobA, 2); err != nil {
			t.Fatal(err)
		}
		wantWatchers(t, store, jobA, one.SocketID, two.SocketID)
		if err := store.Watch(t.Context(), one, "01JDCCCCCCCCCCCCCCCCCCCCCC", 2); !backup.Is(err, backup.InvalidRequest) {
			t.Errorf("a third job: %v", err)
		}
		for range 2 {
			if err := store.Unwatch(t.Context(), one.SocketID, jobA); err != nil {
				t.Fatal(err)
			}
		}
		wantWatchers(t, store, jobA, two.SocketID)
		if err := store.Watch(t.Context(), one, jobA, 2); err != nil {
			t.Errorf("there is room again: %v", err)
		}
		for range 2 {
			if err := store.CloseSocket(t.Context(), one.SocketID); err != nil {
				t.Fatal(err)
			}
		}
		wantWatchers(t, store, jobA, two.SocketID)
		wantWatchers(t, store, jobB)
		if _, err := store.GetSocket(t.Context(), one.SocketID); !backup.Is(err, backup.NotFound) {
			t.Errorf("a closed socket: %v", err)
		}
		if err := store.Watch(t.Context(), one, jobB, 2); err == nil {
			t.Error("a closed socket watches")
		}
		wantWatchers(t, store, jobB)
		if err := store.Unwatch(t.Context(), one.SocketID, jobB); err != nil {
			t.Error(err)
		}
	})
}

// A socket with as many watches as it may have leaves nothing behind, although that is more than one request can remove.
func TestCloseSocketWithManyWatches(t *testing.T) {
	store, rows := rowsOf(t)
	socket := open(t, store, "a")
	for i := range 40 {
		if err := store.Watch(t.Context(), socket, fmt.Sprintf("01%024d", i), 40); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(rows()); got != 81 {
		t.Fatalf("%d rows", got)
	}
	if err := store.CloseSocket(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := rows(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// What DynamoDB leaves undone of a removal is asked for again, a bounded number of times.
func TestCloseSocketAsksAgain(t *testing.T) {
	for _, tc := range []struct{ times, calls int }{{1, 3}, {12, 12}} {
		faults := &faulty{to: inProcess{minidyn.NewServer()}}
		store := newStore(t, newClient("http://minidyn", faults))
		socket := open(t, store, "a")
		if err := store.Watch(t.Context(), socket, jobA, 1); err != nil {
			t.Fatal(err)
		}
		faults.plan("BatchWriteItem", times(tc.times, unprocessed)...)
		err := store.CloseSocket(t.Context(), "a")
		if faults.fired != tc.times || faults.calls != tc.calls || (err != nil) != (tc.times == 12) {
			t.Errorf("left out %d times: %d calls, %v", tc.times, faults.calls, err)
		}
		if err != nil && !backup.Is(err, backup.StoreUnavailable) {
			t.Errorf("%v", err)
		}
	}
}

// A socket's time counts although DynamoDB has not removed its row yet.
func TestSocketExpires(t *testing.T) {
	client := newClient("http://minidyn", inProcess{minidyn.NewServer()})
	now := epoch
	_, table := newTable(t, client)
	store := dynamo.New(client, table, func() time.Time { return now }, func() float64 { return 0 })
	socket := open(t, store, "a")
	if got, err := store.GetSocket(t.Context(), "a"); err != nil || got != socket {
		t.Errorf("%+v, %v", got, err)
	}
	now = socket.ExpiresAt
	if _, err := store.GetSocket(t.Context(), "a"); !backup.Is(err, backup.NotFound) {
		t.Errorf("after its time: %v", err)
	}
}

// Pushes of one job form one chain, whoever makes them: each knows the one before, none goes back, and with a pace none
// follows too soon.
func TestClaimPush(t *testing.T) {
	onBoth(t, func(t *testing.T, client *dynamodb.Client) {
		store := newStore(t, client)
		for _, tc := range []struct {
			name    string
			seq     int64
			after   time.Duration // since epoch
			pace    time.Duration
			allowed bool
			prev    int64
		}{
			{"the first", 5, 0, time.Second, true, 0},
			{"the same again", 5, 2 * time.Second, time.Second, false, 0},
			{"an older one", 4, 2 * time.Second, time.Second, false, 0},
			{"too soon", 6, 999 * time.Millisecond, time.Second, false, 0},
			{"in time", 7, time.Second, time.Second, true, 5},
			{"urgent", 8, time.Second, 0, true, 7},
			{"urgent, its reply lost", 8, time.Second, 0, true, 8},
			{"urgent but older", 7, time.Second, 0, false, 0},
			{"the next", 9, 2 * time.Second, time.Second, true, 8},
		} {
			prev, ok, err := store.ClaimPush(t.Context(), jobA, tc.seq, epoch.Add(tc.after), tc.pace)
			if err != nil || ok != tc.allowed || prev != tc.prev {
				t.Errorf("%s: prev %d, allowed %t, %v", tc.name, prev, ok, err)
			}
		}
	})
}
