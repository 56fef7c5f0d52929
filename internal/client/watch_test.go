package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/push"
	"github.com/sitevault/sitevault/internal/step"
)

const job = "01JD3Z8Q7V5X2M4N6P8R0S1T2V"

// liveService is a service with one backup. Its rules are the real ones: a ticket opens one socket, and what the socket
// says is what the script says, one function for each connection.
type liveService struct {
	t       *testing.T
	mu      sync.Mutex
	state   api.BackupDetail
	tickets map[string]bool
	reads   int
	sockets int
	script  func(s *liveService, n int, send func(push.Message)) // ends with the connection
	noWS    int                                                  // status that refuses sockets; 0: none
	down    bool
	onRead  func(s *liveService, n int)
	read    chan int // the numbers of the reads that were answered
}

// awaitRead returns when the nth read was answered.
func (s *liveService) awaitRead(n int) {
	for got := range s.read {
		if got == n {
			return
		}
	}
}

func (s *liveService) set(seq int64, status backup.Status, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Seq, s.state.Status, s.state.Progress.Bytes = seq, status, bytes
}

func (s *liveService) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *liveService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/ticket":
		s.mu.Lock()
		s.tickets["one"] = true
		s.mu.Unlock()
		answer(w, 201, api.Ticket{Ticket: "one"})
	case "/v1/backup/" + job:
		s.status(w)
	case "/ws":
		s.socket(w, r)
	default:
		refuse(w, 404, backup.NotFound, r.URL.Path)
	}
}

func (s *liveService) status(w http.ResponseWriter) {
	s.mu.Lock()
	s.reads++
	n := s.reads
	s.mu.Unlock()
	if s.onRead != nil {
		s.onRead(s, n)
	}
	s.mu.Lock()
	state, down := s.state, s.down
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	if !client.Over(state.Status) {
		w.Header().Set("Retry-After", "7")
	}
	answer(w, 200, state)
	s.read <- n
}

func (s *liveService) socket(w http.ResponseWriter, r *http.Request) {
	if s.noWS != 0 {
		w.WriteHeader(s.noWS)
		return
	}
	s.mu.Lock()
	valid := s.tickets[r.URL.Query().Get("ticket")]
	s.tickets = map[string]bool{}
	s.sockets++
	n := s.sockets
	s.mu.Unlock()
	if !valid || r.Header.Get("Authorization") != "" {
		s.t.Errorf("socket with ticket valid=%v, Authorization %q", valid, r.Header.Get("Authorization"))
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	var request push.Request
	if err := wsjson.Read(r.Context(), conn, &request); err != nil || request != (push.Request{Action: "subscribe", JobID: job}) {
		s.t.Errorf("first message %+v, error %v", request, err)
		return
	}
	s.script(s, n, func(m push.Message) {
		m.Type, m.JobID = "backup", job
		wsjson.Write(r.Context(), conn, m)
	})
}

func serveLive(t *testing.T, s *liveService) (*client.Client, *clock) {
	s.t, s.tickets, s.read = t, map[string]bool{}, make(chan int, 1000)
	s.state = api.BackupDetail{Backup: api.Backup{JobID: job, Status: backup.Running}, Seq: 10, Files: []api.File{{Name: "files", Status: "open"}}}
	return connect(t, s)
}

// watch returns the sequence numbers and bytes that were shown.
func watch(t *testing.T, c *client.Client) (seqs, bytes []int64, last api.BackupDetail, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	last, err = c.Watch(ctx, job, func(d api.BackupDetail) {
		seqs, bytes = append(seqs, d.Seq), append(bytes, d.Progress.Bytes)
	})
	return seqs, bytes, last, err
}

func at(seq, prev, bytes int64) push.Message {
	return push.Message{
		Seq: seq, Prev: prev, Status: backup.Running, Progress: step.Progress{Bytes: bytes},
		Files: []push.FileMessage{{Name: "files", Status: backup.FileOpen, Progress: step.Progress{Bytes: bytes, TotalBytes: 99}}},
	}
}

func finished(seq int64) push.Message {
	return push.Message{Seq: seq, Prev: seq - 1, Status: backup.Done}
}

// Pushes in order are applied without a read; old ones are dropped; the end is read in full.
func TestWatchAppliesPushes(t *testing.T) {
	s := &liveService{script: func(s *liveService, _ int, send func(push.Message)) {
		s.awaitRead(2)
		send(at(9, 0, 1))   // older than the snapshot
		send(at(10, 9, 10)) // the snapshot itself
		send(at(11, 10, 20))
		send(at(11, 10, 20)) // twice
		send(at(13, 11, 30)) // two changes in one message: no gap
		s.set(14, backup.Done, 99)
		send(finished(14))
	}}
	c, _ := serveLive(t, s)
	seqs, bytes, last, err := watch(t, c)
	if err != nil || last.Status != backup.Done {
		t.Fatalf("ended with %v, %v", last.Status, err)
	}
	if !slices.Equal(seqs, []int64{10, 11, 13, 14}) || !slices.Equal(bytes, []int64{0, 20, 30, 99}) {
		t.Errorf("showed %v with bytes %v", seqs, bytes)
	}
	if n := s.readCount(); n != 3 { // at first, after subscribing, at the end
		t.Errorf("%d reads", n)
	}
}

// A message that follows one that never came makes the client read again.
func TestWatchReadsAgainOnAGap(t *testing.T) {
	s := &liveService{script: func(s *liveService, _ int, send func(push.Message)) {
		s.awaitRead(2)
		s.set(20, backup.Running, 55)
		send(at(15, 12, 40)) // 11 and 12 were lost
		s.awaitRead(3)
		send(at(18, 15, 50)) // older than what was read meanwhile
		s.set(21, backup.Done, 99)
		send(finished(21))
	}}
	c, _ := serveLive(t, s)
	seqs, bytes, _, err := watch(t, c)
	if err != nil || !slices.Equal(seqs, []int64{10, 20, 21}) || !slices.Equal(bytes, []int64{0, 55, 99}) {
		t.Errorf("showed %v with bytes %v, error %v", seqs, bytes, err)
	}
}

// A message that brings an error is read in full, once; one without it ends it.
func TestWatchReadsLastErrors(t *testing.T) {
	noted := func(m push.Message) push.Message {
		m.Files[0].LastError = &push.ErrorMessage{Kind: backup.ProviderUnavailable, Message: "not answered"}
		return m
	}
	s := &liveService{}
	s.script = func(s *liveService, _ int, send func(push.Message)) {
		s.awaitRead(2)
		s.mu.Lock()
		s.state.Seq, s.state.Files = 11, []api.File{{Name: "files", Status: "open", LastError: &api.Failure{Kind: backup.ProviderUnavailable, Detail: "no such host"}}}
		s.mu.Unlock()
		send(noted(at(11, 10, 1)))
		s.awaitRead(3)
		send(noted(at(12, 11, 2)))
		send(at(13, 12, 3))
		s.set(14, backup.Done, 99)
		send(finished(14))
	}
	c, _ := serveLive(t, s)
	var told []string
	_, err := c.Watch(t.Context(), job, func(d api.BackupDetail) {
		detail := ""
		if d.Files[0].LastError != nil {
			detail = d.Files[0].LastError.Detail
		}
		told = append(told, fmt.Sprint(d.Seq, " ", detail))
	})
	if want := []string{"10 ", "11 no such host", "12 no such host", "13 "}; err != nil || !slices.Equal(told[:min(4, len(told))], want) {
		t.Errorf("told %q, %v", told, err)
	}
	if n := s.readCount(); n != 4 {
		t.Errorf("%d reads", n)
	}
}

// So is one that hinders the end of the backup.
func TestWatchReadsTheBackupsLastError(t *testing.T) {
	s := &liveService{}
	s.script = func(s *liveService, _ int, send func(push.Message)) {
		s.awaitRead(2)
		s.mu.Lock()
		s.state.Seq, s.state.LastError = 11, &api.Failure{Kind: backup.StorageUnavailable, Detail: "PutObject"}
		s.mu.Unlock()
		noted := func(m push.Message) push.Message {
			m.LastError = &push.ErrorMessage{Kind: backup.StorageUnavailable, Message: "not answered"}
			return m
		}
		send(noted(at(11, 10, 1)))
		s.awaitRead(3)
		send(noted(at(12, 11, 1)))
		s.set(14, backup.Done, 99)
		send(finished(14))
	}
	c, _ := serveLive(t, s)
	told := ""
	_, err := c.Watch(t.Context(), job, func(d api.BackupDetail) {
		if d.LastError != nil {
			told = d.LastError.Detail
		}
	})
	if n := s.readCount(); err != nil || told != "PutObject" || n != 4 {
		t.Errorf("told %q after %d reads, %v", told, n, err)
	}
}

// A socket that ends is opened anew, with a new ticket.
func TestWatchReconnects(t *testing.T) {
	s := &liveService{script: func(s *liveService, n int, send func(push.Message)) {
		if n < 4 {
			send(at(10+int64(n), 9+int64(n), int64(n)))
			s.set(10+int64(n), backup.Running, int64(n))
			return
		}
		s.set(20, backup.Failed, 0)
		send(push.Message{Seq: 20, Prev: 13, Status: backup.Failed})
	}}
	c, _ := serveLive(t, s)
	_, _, last, err := watch(t, c)
	if err != nil || last.Status != backup.Failed || s.sockets != 4 {
		t.Errorf("ended with %v, %v after %d sockets", last.Status, err, s.sockets)
	}
}

// Without a socket the client asks as often as the service advises.
func TestWatchPolls(t *testing.T) {
	s := &liveService{noWS: http.StatusNotFound, onRead: func(s *liveService, n int) {
		s.set(10+int64(n), backup.Running, int64(n))
		if n == 4 {
			s.set(14, backup.Done, 99)
		}
	}}
	c, clock := serveLive(t, s)
	seqs, _, last, err := watch(t, c)
	if err != nil || last.Status != backup.Done || !slices.Equal(seqs, []int64{11, 12, 13, 14}) {
		t.Errorf("showed %v, ended with %v, %v", seqs, last.Status, err)
	}
	if want := 7 * time.Second; !slices.Equal(clock.pauses, []time.Duration{want, want, want}) {
		t.Errorf("pauses %v", clock.pauses)
	}
}

// A socket that fails again and again is given up in favour of polling.
func TestWatchGivesTheSocketUp(t *testing.T) {
	s := &liveService{noWS: http.StatusBadGateway, onRead: func(s *liveService, n int) {
		if n == 9 {
			s.set(11, backup.Done, 99)
		}
	}}
	c, clock := serveLive(t, s)
	if _, _, last, err := watch(t, c); err != nil || last.Status != backup.Done {
		t.Fatalf("ended with %v, %v", last.Status, err)
	}
	if n := len(clock.pauses); n != 8 || clock.pauses[n-1] != 7*time.Second || clock.pauses[0] >= time.Second {
		t.Errorf("pauses %v", clock.pauses)
	}
}

// A service that is away for a while ends no watch; one that stays away does.
func TestWatchBridgesAnOutage(t *testing.T) {
	for name, test := range map[string]struct {
		backAt int
		wantOK bool
	}{"short": {20, true}, "long": {1 << 30, false}} {
		t.Run(name, func(t *testing.T) {
			s := &liveService{noWS: http.StatusNotFound, onRead: func(s *liveService, n int) {
				s.mu.Lock()
				s.down = n > 2 && n < test.backAt
				s.mu.Unlock()
				if n >= test.backAt {
					s.set(11, backup.Done, 99)
				}
			}}
			c, _ := serveLive(t, s)
			_, _, last, err := watch(t, c)
			if n := s.readCount(); n < 10 {
				t.Errorf("the outage was never met: %d reads", n)
			}
			if _, away := errors.AsType[*client.UnreachableError](err); away == test.wantOK || (last.Status == backup.Done) != test.wantOK {
				t.Errorf("ended with %v, %v", last.Status, err)
			}
		})
	}
}

// A backup that is over is shown once, and one that is not there is an error at once.
func TestWatchNothing(t *testing.T) {
	s := &liveService{}
	c, clock := serveLive(t, s)
	s.set(30, backup.Done, 99)
	if seqs, _, _, err := watch(t, c); err != nil || !slices.Equal(seqs, []int64{30}) || s.sockets != 0 {
		t.Errorf("showed %v, error %v, %d sockets", seqs, err, s.sockets)
	}
	_, err := c.Watch(t.Context(), "01JD3Z8Q7V5X2M4N6P8R0S1T2W", func(api.BackupDetail) { t.Error("shown") })
	if refused, ok := errors.AsType[*client.Error](err); !ok || refused.Problem.Kind != backup.NotFound || len(clock.pauses) != 0 {
		t.Errorf("got %v", err)
	}
}

// The end of the context ends a watch on a silent socket.
func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s := &liveService{script: func(*liveService, int, func(push.Message)) {
		cancel()
		<-release
	}}
	s.t, s.tickets, s.read = t, map[string]bool{}, make(chan int, 1000)
	s.state = api.BackupDetail{Backup: api.Backup{JobID: job, Status: backup.Running}, Seq: 10}
	server := httptest.NewServer(s)
	t.Cleanup(server.CloseClientConnections)
	c, err := client.New(client.Config{Server: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Watch(ctx, job, func(api.BackupDetail) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
