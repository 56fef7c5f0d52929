package events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/events"
)

var epoch = time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)

func openBus(t *testing.T) (*awstest.Server, events.Bus) {
	t.Helper()
	server := awstest.New(t)
	return server, events.Bus{Client: eventbridge.NewFromConfig(server.Config()), Name: "bus"}
}

func numbered(n int) []events.Event {
	all := make([]events.Event, n)
	for i := range all {
		all[i] = events.Event{Name: backup.BackupJobCreated, EventID: fmt.Sprint(i), Time: epoch, JobID: "job", UserID: "ada", SiteID: "blog", Attempt: 1, Status: "pending"}
	}
	return all
}

func ids(t *testing.T, server *awstest.Server) (all []string) {
	t.Helper()
	for _, e := range server.Events() {
		var detail events.Event
		if err := json.Unmarshal([]byte(e.Detail), &detail); err != nil {
			t.Fatal(err)
		}
		all = append(all, detail.EventID)
	}
	return all
}

// Events go out in their order, ten in a call, as rules match them.
func TestPublish(t *testing.T) {
	server, bus := openBus(t)
	published, err := bus.Publish(t.Context(), numbered(25))
	if err != nil || published != 25 || server.Calls("PutEvents") != 3 {
		t.Errorf("%d published in %d calls, %v", published, server.Calls("PutEvents"), err)
	}
	for i, id := range ids(t, server) {
		if id != fmt.Sprint(i) {
			t.Errorf("place %d: event %s", i, id)
		}
	}
	got := server.Events()[0]
	want := `{"eventId":"0","time":"2026-03-01T02:30:00Z","jobId":"job","userId":"ada","siteId":"blog","attempt":1,"status":"pending"}`
	if got.EventBusName != "bus" || got.Source != "sitevault" || got.DetailType != "BackupJobCreated" || got.Detail != want || got.Time != float64(epoch.Unix()) {
		t.Errorf("%+v", got)
	}
	if n, err := bus.Publish(t.Context(), nil); n != 0 || err != nil || server.Calls("PutEvents") != 3 {
		t.Errorf("no events: %d, %v", n, err)
	}
}

// What a call leaves out is sent again alone, whole calls that fail are tried again: every event arrives, in spite of
// lost answers some twice.
func TestPublishAgain(t *testing.T) {
	server, bus := openBus(t)
	server.Fail("PutEvents", awstest.Throttled, awstest.Fault{Left: 3}, awstest.Fault{Left: 1}, awstest.Fault{Lost: true})
	published, err := bus.Publish(t.Context(), numbered(10))
	if err != nil || published != 10 || server.Fired() != 4 {
		t.Errorf("%d published, %d faults, %v", published, server.Fired(), err)
	}
	seen := map[string]int{}
	for _, id := range ids(t, server) {
		seen[id]++
	}
	if len(seen) != 10 || seen["9"] != 2 || seen["0"] != 1 {
		t.Errorf("arrived: %v", seen)
	}
}

// What does not get through is told: so many events from the first on are there for sure.
func TestPublishFails(t *testing.T) {
	server, bus := openBus(t)
	server.Fail("PutEvents", awstest.Fault{Left: 1}, awstest.Fault{Left: 1}, awstest.Fault{Left: 1}, awstest.Fault{Left: 1})
	published, err := bus.Publish(t.Context(), numbered(25))
	if !backup.Is(err, backup.StoreUnavailable) || published != 9 || server.Calls("PutEvents") != 4 {
		t.Errorf("%d published in %d calls, %v", published, server.Calls("PutEvents"), err)
	}
	server.Fail("PutEvents", awstest.Fault{Status: 400, Code: "AccessDeniedException"})
	if published, err := bus.Publish(t.Context(), numbered(5)); !backup.Is(err, backup.StoreUnavailable) || published != 0 {
		t.Errorf("%d published, %v", published, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if published, err := bus.Publish(ctx, numbered(5)); !errors.Is(err, context.Canceled) || published != 0 {
		t.Errorf("after the end: %d published, %v", published, err)
	}
}

// Whoever follows an event gets its job, and an event without one is refused.
func TestFollower(t *testing.T) {
	var followed []string
	f := events.Follower{Follow: func(_ context.Context, jobID string) error {
		followed = append(followed, jobID)
		return nil
	}}
	var in events.Delivered
	event := `{"version":"0","detail-type":"BackupJobDeleting","source":"sitevault","detail":{"eventId":"x","jobId":"` + jobID + `","status":"deleting"}}`
	if err := json.Unmarshal([]byte(event), &in); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Handle(t.Context(), in); err != nil || fmt.Sprint(followed) != "["+jobID+"]" {
		t.Errorf("%v, %v", followed, err)
	}
	if _, err := f.Handle(t.Context(), events.Delivered{}); !backup.Is(err, backup.InvalidRequest) {
		t.Errorf("no job: %v", err)
	}
}
