package push_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
)

// sockets is a server of sockets over rows in memory.
type sockets struct {
	*testing.T
	store *backuptest.MemoryStore
	hub   *push.Hub
	url   string

	mu   sync.Mutex
	jobs int
}

func newSockets(t *testing.T) *sockets {
	s := &sockets{T: t, store: backuptest.NewMemoryStore()}
	status := step.Status{Jobs: s.store, Files: s.store, Now: func() time.Time { return epoch }}
	s.hub = push.NewHub(status.Read)
	server := httptest.NewServer(push.Socket{Hub: s.hub, Status: status, Take: s.take, Now: func() time.Time { return epoch }, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	s.url = "ws" + strings.TrimPrefix(server.URL, "http")
	t.Cleanup(server.Close)
	t.Cleanup(s.hub.Close)
	return s
}

func (s *sockets) take(ctx context.Context, ticket string) (backup.Ticket, error) {
	return s.store.TakeTicket(ctx, ticket, epoch)
}

func (s *sockets) ticket(secret, userID string) {
	s.Helper()
	if err := s.store.PutTicket(s.Context(), secret, backup.Ticket{UserID: userID, ExpiresAt: epoch.Add(time.Minute)}); err != nil {
		s.Fatal(err)
	}
}

// job stores a pending job of a site of its own.
func (s *sockets) job(userID string) backup.Job {
	s.Helper()
	s.jobs++
	site := backup.Site{UserID: userID, SiteID: fmt.Sprintf("site-%d", s.jobs), Providers: []backup.Provider{{Name: "files"}}}.WithDefaults()
	job := backup.NewJob(fmt.Sprintf("01JD%022d", s.jobs), site, backup.Manual, epoch.AddDate(0, 0, 60), epoch, backup.DefaultPolicy())
	job, err := s.store.CreateJob(s.Context(), job, backup.Idempotency{})
	if err != nil {
		s.Fatal(err)
	}
	return job
}

func (s *sockets) swap(job backup.Job, change func(*backup.Job)) {
	s.Helper()
	next := job
	change(&next)
	if err := s.store.SwapJob(s.Context(), next); err != nil {
		s.Fatal(err)
	}
	s.hub.Notify(backup.Change{JobID: job.JobID, Job: &backup.JobChange{Old: job, New: next}})
}

// dial connects as the user of a fresh ticket.
func (s *sockets) dial(userID string) *websocket.Conn {
	s.Helper()
	s.mu.Lock()
	s.jobs++
	secret := fmt.Sprintf("ticket-%d", s.jobs)
	s.mu.Unlock()
	s.ticket(secret, userID)
	conn, _, err := websocket.Dial(s.Context(), s.url+"?ticket="+secret, nil)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func (s *sockets) send(conn *websocket.Conn, action, jobID string) {
	s.Helper()
	if err := wsjson.Write(s.Context(), conn, push.Request{Action: action, JobID: jobID}); err != nil {
		s.Fatal(err)
	}
}

// answer is any message of the server.
type answer struct {
	Type   string        `json:"type"`
	JobID  string        `json:"jobId"`
	Seq    int64         `json:"seq"`
	Status backup.Status `json:"status"`
	Kind   backup.Kind   `json:"kind"`
}

func (s *sockets) receive(conn *websocket.Conn) (a answer) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second) // only a broken server takes that long
	defer cancel()
	if err := wsjson.Read(ctx, conn, &a); err != nil {
		s.Fatal(err)
	}
	return a
}

// A subscriber gets the present state and then every change, until it unsubscribes.
func TestSocket(t *testing.T) {
	s := newSockets(t)
	job := s.job("ada")
	conn := s.dial("ada")
	s.send(conn, "subscribe", job.JobID)
	if a := s.receive(conn); a.Type != "backup" || a.JobID != job.JobID || a.Seq != 1 || a.Status != backup.Pending {
		t.Errorf("at first %+v", a)
	}
	s.swap(job, func(j *backup.Job) { j.Status = backup.Running })
	if a := s.receive(conn); a.Seq != 2 || a.Status != backup.Running {
		t.Errorf("then %+v", a)
	}
	s.send(conn, "unsubscribe", job.JobID)
	s.send(conn, "dance", "") // its answer comes after the server has read what was sent before
	if a := s.receive(conn); a.Type != "error" || a.Kind != backup.InvalidRequest {
		t.Errorf("an unknown action: %+v", a)
	}
	job.Rev, job.Status = 2, backup.Running
	s.swap(job, func(j *backup.Job) { j.Status = backup.Done })
	s.send(conn, "dance", "")
	if a := s.receive(conn); a.Type != "error" {
		t.Errorf("after unsubscribing: %+v", a)
	}
}

// Only an unused ticket that has not expired opens a socket.
func TestSocketTicket(t *testing.T) {
	s := newSockets(t)
	s.ticket("good", "ada")
	if err := s.store.PutTicket(t.Context(), "old", backup.Ticket{UserID: "ada", ExpiresAt: epoch}); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), s.url+"?ticket=good", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	for name, query := range map[string]string{"missing": "", "empty": "?ticket=", "used": "?ticket=good", "made up": "?ticket=bad", "expired": "?ticket=old"} {
		_, res, err := websocket.Dial(t.Context(), s.url+query, nil)
		if err == nil || res == nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s ticket: %v", name, err)
		}
	}
}

// A socket ends with the token that its ticket was got with, and says so; one without a token goes on.
func TestSocketEndsWithItsToken(t *testing.T) {
	s := newSockets(t)
	lasting := s.dial("ada")
	ticket := backup.Ticket{UserID: "ada", ExpiresAt: epoch.Add(time.Minute), TokenExpiresAt: epoch.Add(50 * time.Millisecond)}
	if err := s.store.PutTicket(t.Context(), "short", ticket); err != nil {
		t.Fatal(err)
	}
	conn, _, err := websocket.Dial(t.Context(), s.url+"?ticket=short", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // only a broken server takes that long
	defer cancel()
	_, _, err = conn.Read(ctx)
	if closed, ok := errors.AsType[websocket.CloseError](err); !ok || closed.Code != push.StatusUnauthorized || !strings.Contains(closed.Reason, "expired") {
		t.Errorf("ended with %v", err)
	}
	s.send(lasting, "dance", "")
	if a := s.receive(lasting); a.Kind != backup.InvalidRequest {
		t.Errorf("a socket without a token: %+v", a)
	}
}

// A page of another origin gets no socket, even with a ticket.
func TestSocketOrigin(t *testing.T) {
	s := newSockets(t)
	for origin, ok := range map[string]bool{"https://example.org": false, "null": false, "http" + strings.TrimPrefix(s.url, "ws"): true} {
		s.ticket(origin, "ada")
		conn, res, err := websocket.Dial(t.Context(), s.url+"?ticket="+origin, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if err == nil {
			_ = conn.CloseNow()
		}
		if ok != (err == nil) || (!ok && res.StatusCode != http.StatusForbidden) {
			t.Errorf("origin %s: %v", origin, err)
		}
	}
}

// A foreign backup is refused exactly as an absent one, and nothing of it is ever told.
func TestSocketForeignJob(t *testing.T) {
	s := newSockets(t)
	job := s.job("ada")
	conn := s.dial("eve")
	for _, id := range []string{job.JobID, "01JD0000000000000000009999", "", "../" + job.JobID} {
		s.send(conn, "subscribe", id)
		if a := s.receive(conn); a.Type != "error" || a.Kind != backup.NotFound || a.JobID != id {
			t.Errorf("subscribing to %q: %+v", id, a)
		}
	}
	s.swap(job, func(j *backup.Job) { j.Status = backup.Running })
	s.send(conn, "dance", "")
	if a := s.receive(conn); a.Type != "error" || a.Kind != backup.InvalidRequest {
		t.Errorf("told of a foreign backup: %+v", a)
	}
}

// One socket watches a bounded number of backups; subscribing twice counts once, and unsubscribing makes room.
func TestSocketBoundsSubscriptions(t *testing.T) {
	const most = 100
	s := newSockets(t)
	conn := s.dial("ada")
	var ids []string
	for range most {
		ids = append(ids, s.job("ada").JobID)
	}
	for _, id := range append(ids, ids...) {
		s.send(conn, "subscribe", id)
	}
	for range most {
		if a := s.receive(conn); a.Type != "backup" {
			t.Fatalf("%+v", a)
		}
	}
	oneMore := s.job("ada").JobID
	s.send(conn, "subscribe", oneMore)
	if a := s.receive(conn); a.Type != "error" || a.Kind != backup.InvalidRequest {
		t.Fatalf("one too many: %+v", a)
	}
	s.send(conn, "unsubscribe", ids[0])
	s.send(conn, "subscribe", oneMore)
	if a := s.receive(conn); a.Type != "backup" || a.JobID != oneMore {
		t.Errorf("after unsubscribing: %+v", a)
	}
}

// What is no request ends the socket; it does not reach anything.
func TestSocketRefusesJunk(t *testing.T) {
	s := newSockets(t)
	for name, junk := range map[string]string{"no JSON": "hello", "too long": `{"action":"` + strings.Repeat("x", 5_000) + `"}`} {
		conn := s.dial("ada")
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(junk)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, _, err := conn.Read(ctx)
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// pipes connects clients and a server in memory, without any buffer: what is not read blocks whoever writes it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

// A client that does not read is disconnected as soon as its queue is full; others go on hearing everything.
func TestSocketDropsSlowClient(t *testing.T) {
	const jobs = 100
	synctest.Test(t, func(t *testing.T) {
		s := &sockets{T: t, store: backuptest.NewMemoryStore(), url: "ws://pipe"}
		status := step.Status{Jobs: s.store, Files: s.store, Now: func() time.Time { return epoch }}
		s.hub = push.NewHub(status.Read)
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: push.Socket{Hub: s.hub, Status: status, Take: s.take, Log: slog.Default()}}
		go func() { _ = server.Serve(p) }()
		client := &http.Client{Transport: &http.Transport{DialContext: p.dial}}
		connect := func(secret string) *websocket.Conn {
			s.ticket(secret, "ada")
			conn, _, err := websocket.Dial(t.Context(), s.url+"?ticket="+secret, &websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		slow, quick := connect("slow"), connect("quick")
		heard := map[string]int{}
		var reading sync.WaitGroup
		reading.Go(func() {
			for {
				var a answer
				if wsjson.Read(context.Background(), quick, &a) != nil {
					return
				}
				heard[a.JobID]++
			}
		})
		var all []backup.Job
		for range jobs {
			all = append(all, s.job("ada"))
		}
		for _, job := range all {
			s.send(slow, "subscribe", job.JobID)
			s.send(quick, "subscribe", job.JobID)
		}
		synctest.Wait()
		for _, next := range []backup.Status{backup.Running, backup.Failed, backup.Deleting} {
			for i, job := range all {
				s.swap(job, func(j *backup.Job) { j.Status, j.Failure = next, backup.NewFailure(backup.Internal, "", "", epoch) })
				all[i].Status, all[i].Rev = next, job.Rev+1
			}
			synctest.Wait()
		}
		messages := 0
		for {
			var a answer
			if err := wsjson.Read(t.Context(), slow, &a); err != nil {
				break
			}
			messages++
		}
		if messages > 10 {
			t.Errorf("the slow client was sent %d messages more", messages)
		}
		s.hub.Close()
		_ = quick.CloseNow()
		_ = server.Close()
		client.CloseIdleConnections()
		reading.Wait()
		for _, job := range all {
			if heard[job.JobID] < 4 {
				t.Errorf("the other heard %d times of %s", heard[job.JobID], job.JobID)
			}
		}
	})
}
