// Package push tells clients how a backup is getting on. Messages are small, carry a number that grows with every
// change of the job, and are coalesced; losing one never fails anything, since a client that sees a gap reads again.
package push

import (
	"context"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Interval is the least time between two messages about the same job, unless its status changes.
const Interval = time.Second

// Message is one push. A client that has seen less than Prev has missed something and reads the backup again; a client
// that has seen Seq or more drops the message.
type Message struct {
	Type     string        `json:"type"` // "backup"
	JobID    string        `json:"jobId"`
	Seq      int64         `json:"seq"`
	Prev     int64         `json:"prev"`
	Status   backup.Status `json:"status"`
	Attempt  int           `json:"attempt"`
	Progress step.Progress `json:"progress"`
	Files    []FileMessage `json:"files"`
	Error    *ErrorMessage `json:"error,omitempty"`

	LastError *ErrorMessage `json:"lastError,omitempty"` // why the attempt before failed, or the cleanup does
	NextTryAt *time.Time    `json:"nextTryAt,omitempty"` // when the next attempt begins by itself
	Waiting   *step.Waiting `json:"waiting,omitempty"`   // what a pending backup waits for
}

// FileMessage is one file's part of a Message.
type FileMessage struct {
	Name      string            `json:"name"`
	Status    backup.FileStatus `json:"status"`
	Progress  step.Progress     `json:"progress"`
	LastError *ErrorMessage     `json:"lastError,omitempty"` // why the export did not answer the last try, which is being repeated
}

// ErrorMessage says why something failed.
type ErrorMessage struct {
	Kind    backup.Kind `json:"kind"`
	Message string      `json:"message"`
}

// NewMessage is the message for a view, following one with the number prev.
func NewMessage(v step.View, prev int64) Message {
	m := Message{
		Type: "backup", JobID: v.Job.JobID, Seq: v.Seq(), Prev: prev,
		Status: v.Job.StatusAt(v.At), Attempt: v.Job.Attempt, Progress: v.Progress(), Files: make([]FileMessage, len(v.Files)),
	}
	for i, f := range v.Files {
		m.Files[i] = FileMessage{
			Name: f.Name, Status: f.ShownStatus(), Progress: step.FileProgress(f), LastError: errorMessage(v.LastError(f)),
		}
	}
	m.Error, m.LastError = errorMessage(v.Failure()), errorMessage(v.Job.LastErrorAt(v.At))
	if next := v.Job.NextTry(v.At); !next.IsZero() {
		m.NextTryAt = &next
	}
	m.Waiting = step.WaitingOf(v.Job, v.At)
	return m
}

func errorMessage(f *backup.Failure) *ErrorMessage {
	if f == nil {
		return nil
	}
	return &ErrorMessage{Kind: f.Kind, Message: f.Kind.Sentence()}
}

// Hub fans the changes of jobs out to whoever watches them in this process. Jobs that nobody watches cost nothing.
type Hub struct {
	ctx  context.Context // of the hub's goroutines, ended by Close
	stop func()
	read func(ctx context.Context, jobID string) (step.View, error)

	mu      sync.Mutex
	topics  map[string]*topic
	sockets map[string]int // sockets of each user
	work    sync.WaitGroup
}

// NewHub reads the state to push by read, such as step.Status.Read.
func NewHub(read func(ctx context.Context, jobID string) (step.View, error)) *Hub {
	ctx, stop := context.WithCancel(context.Background())
	return &Hub{ctx: ctx, stop: stop, read: read, topics: map[string]*topic{}, sockets: map[string]int{}}
}

// Close ends all subscriptions.
func (h *Hub) Close() {
	h.stop()
	h.work.Wait()
}

// enter counts a socket of the user until leave is called.
func (h *Hub) enter(userID string, q backup.Quotas) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := q.CheckSockets(h.sockets[userID]); err != nil {
		return nil, err
	}
	h.sockets[userID]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.sockets[userID]--; h.sockets[userID] == 0 {
			delete(h.sockets, userID)
		}
	}, nil
}

// topic is one job that somebody watches.
type topic struct {
	watchers map[chan<- Message]func() // the value drops a watcher that does not keep up
	changed  chan struct{}             // holds one: something is to be told
	urgent   chan struct{}             // holds one: ... at once
	end      func()
}

// Notify takes note of a committed change. It never blocks.
func (h *Hub) Notify(c backup.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[c.JobID]
	if t == nil {
		return
	}
	set(t.changed)
	if c.Job != nil && (c.Job.Old.Status != c.Job.New.Status || c.Job.Old.Attempt != c.Job.New.Attempt) {
		set(t.urgent)
	}
}

func set(flag chan struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}

// Watch sends the job's present state and then every change to out, until cancel is called. When out is full its
// messages end and drop is called, once or more.
func (h *Hub) Watch(jobID string, out chan<- Message, drop func()) (cancel func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[jobID]
	if t == nil {
		t = h.open(jobID)
	}
	t.watchers[out] = drop
	set(t.changed)
	set(t.urgent)
	return func() { h.leave(jobID, t, out) }
}

func (h *Hub) open(jobID string) *topic {
	ctx, end := context.WithCancel(h.ctx)
	t := &topic{watchers: map[chan<- Message]func(){}, changed: make(chan struct{}, 1), urgent: make(chan struct{}, 1), end: end}
	h.topics[jobID] = t
	h.work.Go(func() { h.serve(ctx, jobID, t) })
	return t
}

func (h *Hub) leave(jobID string, t *topic, out chan<- Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(t.watchers, out)
	if len(t.watchers) == 0 && h.topics[jobID] == t {
		delete(h.topics, jobID)
		t.end()
	}
}

func (h *Hub) serve(ctx context.Context, jobID string, t *topic) {
	for prev := int64(0); ; {
		select {
		case <-t.changed:
		case <-ctx.Done():
			return
		}
		if v, err := h.read(ctx, jobID); err == nil {
			m := NewMessage(v, prev)
			h.deliver(t, m)
			prev = m.Seq
			if at := v.Job.TellsRoomAt(); at.After(v.At) {
				time.AfterFunc(at.Sub(v.At), func() { set(t.changed) })
			}
		} else if !backup.Is(err, backup.NotFound) {
			set(t.changed) // read again, it may have been the job's last change
		}
		select {
		case <-t.urgent:
		case <-time.After(Interval):
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) deliver(t *topic, m Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for out, drop := range t.watchers {
		select {
		case out <- m:
		default:
			delete(t.watchers, out)
			drop()
		}
	}
}
