package e2e_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/push"
)

// The socket tells how a backup gets on: numbers grow, each message follows the one before, the last one says done.
func TestLiveProgress(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	export := e2e.NewExport(t, 1, 4)
	third := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(3))))
	s.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	socket := dial(t, s, ticket(t, s))
	subscribe(t, socket, jobID)
	var last push.Message
	statuses := map[backup.Status]bool{}
	next := func() push.Message {
		t.Helper()
		var m push.Message
		receive(t, socket, &m)
		if m.Type != "backup" || m.JobID != jobID || m.Prev != last.Seq || (m.Seq <= last.Seq && m.Status != last.Status) || m.Seq < last.Seq {
			t.Fatalf("message %+v follows %+v", m, last)
		}
		if m.Progress.Parts < last.Progress.Parts || m.Progress.Bytes < last.Progress.Bytes {
			t.Fatalf("progress goes back: %+v follows %+v", m, last)
		}
		last, statuses[m.Status] = m, true
		return m
	}
	third.Reached(t)
	for next().Progress.Parts < 2 {
	}
	if last.Status != backup.Running || last.Progress.TotalParts != 4 || len(last.Files) != 1 || last.Files[0].Progress.Bytes != 2*e2e.PartBytes {
		t.Errorf("with two parts recorded: %+v", last)
	}
	third.Release()
	for next().Status != backup.Done {
	}
	if !statuses[backup.Running] || last.Progress.Parts != 4 || last.Progress.Bytes != export.Content.Size() || last.Seq != s.Get(jobID).Seq {
		t.Errorf("the last message is %+v, statuses were %v", last, statuses)
	}
}

// While a try is being repeated the API and the socket say why; afterwards nothing of it is left.
func TestLastErrorIsTold(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	export := e2e.NewExport(t, 1, 2)
	export.Misbehave(backuptest.FirstRequests(2, backuptest.AnswerStatus(500)))
	s.PutSite("shop", e2e.Exports{"files": export})
	jobID := s.Create("shop")
	socket := dial(t, s, ticket(t, s))
	subscribe(t, socket, jobID)
	var m push.Message
	for len(m.Files) == 0 || m.Files[0].LastError == nil {
		receive(t, socket, &m)
	}
	told := s.Get(jobID).Files[0].LastError
	if m.Files[0].LastError.Kind != backup.ProviderUnavailable || told == nil || !told.Retryable || !strings.Contains(told.Detail, "answered 500") {
		t.Errorf("pushed %+v, read %+v", m.Files[0].LastError, told)
	}
	s.Await(jobID, backup.Done)
	if f := s.Get(jobID).Files[0]; f.LastError != nil || f.Error != nil {
		t.Errorf("done with %+v, %+v", f.LastError, f.Error)
	}
}

// A ticket opens one socket; without one, and for foreign or unknown backups, nothing is told.
func TestSocketRefusals(t *testing.T) {
	t.Parallel()
	s, _ := e2e.Run(t)
	used := ticket(t, s)
	socket := dial(t, s, used)
	for _, bad := range []string{"", "unknown", used, used + "'--"} {
		_, resp, err := websocket.Dial(t.Context(), socketURL(s, bad), nil)
		if err == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("ticket %q: %v", bad, err)
		}
	}
	for _, jobID := range []string{"01JD3Z8Q7V5X2M4N6P8R0S1T2V", "", "../../etc/passwd", strings.Repeat("x", 3000)} {
		subscribe(t, socket, jobID)
		var refusal push.Refusal
		if receive(t, socket, &refusal); refusal.Type != "error" || refusal.Kind != backup.NotFound || refusal.JobID != jobID {
			t.Errorf("subscribing to %.50q: %+v", jobID, refusal)
		}
	}
	_, resp, err := websocket.Dial(t.Context(), socketURL(s, ticket(t, s)), &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	if err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a socket of another origin's page: %v", err)
	}
}

func ticket(t *testing.T, s *e2e.Service) string {
	t.Helper()
	return e2e.Into[api.Ticket](s.Client, http.StatusCreated, http.MethodPost, "/ticket", nil).Ticket
}

func socketURL(s *e2e.Service, ticket string) string {
	return "ws" + strings.TrimPrefix(s.URL, "http") + "/ws?ticket=" + strings.ReplaceAll(ticket, "'", "%27")
}

func dial(t *testing.T, s *e2e.Service, ticket string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), socketURL(s, ticket), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn
}

func subscribe(t *testing.T, socket *websocket.Conn, jobID string) {
	t.Helper()
	if err := wsjson.Write(t.Context(), socket, push.Request{Action: "subscribe", JobID: jobID}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, socket *websocket.Conn, v any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := wsjson.Read(ctx, socket, v); err != nil {
		t.Fatal(err)
	}
}
