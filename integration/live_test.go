package integration_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/push"
)

// socketTime is the longest that a socket may stay silent during a backup of the small site.
const socketTime = 30 * time.Second

// liveProgress asks twice for one backup and hears of it on a socket until it is done.
func (s *story) liveProgress(t *testing.T) {
	key := http.Header{"Idempotency-Key": {"once"}}
	var first, second api.Backup
	s.alice.into(t, http.StatusAccepted, http.MethodPost, "/backup", key, api.CreateBackupBody{SiteID: siteID}, &first)
	conn := s.alice.open(t, s.alice.ticket(t))
	s.alice.into(t, http.StatusAccepted, http.MethodPost, "/backup", key, api.CreateBackupBody{SiteID: siteID}, &second)
	if first.JobID != second.JobID {
		t.Errorf("one key made the backups %s and %s", first.JobID, second.JobID)
	}
	other := s.alice.call(t, http.MethodPost, "/backup", key, api.CreateBackupBody{SiteID: siteID, KeepDays: 3})
	if p := other.problem(t, http.StatusUnprocessableEntity); p.Kind != backup.IdempotencyReuse {
		t.Errorf("another body under the same key: %+v", p)
	}

	subscribe(t, conn, first.JobID)
	last := receive[push.Message](t, conn) // the present state
	for !client.Over(last.Status) {
		next := receive[push.Message](t, conn)
		if next.Type != "backup" || next.JobID != first.JobID || next.Prev > next.Seq {
			t.Errorf("after %+v came %+v", last, next)
		}
		if next.Seq > last.Seq { // what was on its way when the present state was read is older
			last = next
		}
	}
	if last.Status != backup.Done || last.Progress.Parts == 0 || last.Progress.Parts != last.Progress.TotalParts {
		t.Errorf("the last message is %+v", last)
	}
}

// ticketsAreTheirOwners: a ticket opens one socket, and the socket shows its owner's backups only.
func (s *story) ticketsAreTheirOwners(t *testing.T) {
	ticket := s.bob.ticket(t)
	conn := s.bob.open(t, ticket)
	for what, used := range map[string]string{"used": ticket.Ticket, "made-up": "abc", "missing": ""} {
		if again, answer, err := websocket.Dial(t.Context(), ticket.SocketURL+"?ticket="+used, nil); err == nil {
			again.CloseNow()
			t.Errorf("a %s ticket opened a socket", what)
		} else if answer == nil || answer.StatusCode < http.StatusBadRequest {
			t.Errorf("a %s ticket: %v", what, err)
		}
	}
	for what, jobID := range map[string]string{"a foreign": s.job.JobID, "an absent": "01JD0000000000000000000001"} {
		subscribe(t, conn, jobID)
		if refusal := receive[push.Refusal](t, conn); refusal.Type != "error" || refusal.Kind != backup.NotFound || refusal.JobID != jobID {
			t.Errorf("subscribing to %s backup: %+v", what, refusal)
		}
	}
}

func (u *tenant) ticket(t *testing.T) (ticket api.Ticket) {
	t.Helper()
	u.into(t, http.StatusCreated, http.MethodPost, "/ticket", nil, nil, &ticket)
	return ticket
}

// open opens a socket that lives as long as the test.
func (u *tenant) open(t *testing.T, ticket api.Ticket) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), ticket.SocketURL+"?"+url.Values{"ticket": {ticket.Ticket}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func subscribe(t *testing.T, conn *websocket.Conn, jobID string) {
	t.Helper()
	if err := wsjson.Write(t.Context(), conn, push.Request{Action: "subscribe", JobID: jobID}); err != nil {
		t.Fatal(err)
	}
}

func receive[T any](t *testing.T, conn *websocket.Conn) (message T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), socketTime)
	defer cancel()
	_, content, err := conn.Read(ctx)
	if err != nil {
		t.Fatalf("no message: %v", err)
	}
	if err := json.Unmarshal(content, &message); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	return message
}
