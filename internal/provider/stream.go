package provider

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// stream is a body that does not wait longer than idle for its next byte. One timer per body looks at the Read under
// way instead of being set anew by every Read, which costs two atomic stores. Only waiting counts: a caller may pause
// as long as it likes.
type stream struct {
	body    io.ReadCloser
	idle    time.Duration
	cancel  context.CancelFunc // of the request
	opened  time.Time
	timer   *time.Timer
	since   atomic.Int64 // when the Read under way began: nanoseconds after opened, plus 1; 0: none is
	stalled atomic.Bool
	closed  atomic.Bool
}

func newStream(body io.ReadCloser, idle time.Duration, cancel context.CancelFunc) *stream {
	s := &stream{body: body, idle: idle, cancel: cancel, opened: time.Now()}
	s.timer = time.AfterFunc(time.Hour, s.look) // look uses s.timer: it must not run before the field is set
	s.timer.Reset(idle)
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	s.since.Store(int64(time.Since(s.opened)) + 1)
	n, err := s.body.Read(p)
	s.since.Store(0)
	return n, err
}

func (s *stream) look() {
	if s.closed.Load() {
		return
	}
	wait := s.idle
	if since := s.since.Load(); since > 0 {
		wait -= time.Since(s.opened) - time.Duration(since-1)
	}
	if wait <= 0 {
		s.stalled.Store(true)
		s.cancel()
		return
	}
	s.timer.Reset(wait)
}

// close cancels the request, which drops the connection unless the body was read to its end.
func (s *stream) close() {
	if s.closed.Swap(true) {
		return
	}
	s.timer.Stop()
	s.cancel()
	_ = s.body.Close() // the request is over: there is nobody to tell and nothing to do
}
