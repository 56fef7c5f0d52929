package provider

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// stream is a body that does not wait longer than idle for its next byte, and that keeps its pace. One timer per body
// looks at the Read under way instead of being set anew by every Read, which costs two atomic stores. Only waiting
// counts: a caller may pause as long as it likes.
type stream struct {
	body    io.ReadCloser
	idle    time.Duration
	pace    pace
	cancel  context.CancelFunc // of the request
	opened  time.Time
	timer   *time.Timer
	since   atomic.Int64 // when the Read under way began: nanoseconds after opened, plus 1; 0: none is
	stalled atomic.Bool
	closed  atomic.Bool
}

func newStream(body io.ReadCloser, t Timeouts, cancel context.CancelFunc) *stream {
	s := &stream{
		body: body, idle: t.BodyIdle, cancel: cancel, opened: time.Now(),
		pace: pace{leastRate: t.BodyLeastRate, window: t.BodyRateWindow},
	}
	s.timer = time.AfterFunc(time.Hour, s.look) // look uses s.timer: it must not run before the field is set
	s.timer.Reset(s.idle)
	return s
}

// errSlow ends a body that does not keep its pace.
var errSlow = errors.New("the body is slower than the least rate")

func (s *stream) Read(p []byte) (int, error) {
	began := time.Since(s.opened)
	s.since.Store(int64(began) + 1)
	n, err := s.body.Read(p)
	s.since.Store(0)
	if err == nil && !s.pace.keeps(n, time.Since(s.opened)-began) {
		err = errSlow
	}
	return n, err
}

// pace measures a body in windows of waiting time. Only the goroutine that reads uses it.
type pace struct {
	leastRate int64 // bytes a second
	window    time.Duration

	waited time.Duration // within the window
	got    int64
}

// keeps adds n bytes that were waited for, and is false if a window has ended that brought too few. A window ends with a
// Read, so that it may be longer by one wait.
func (p *pace) keeps(n int, waited time.Duration) bool {
	p.got += int64(n)
	p.waited += waited
	if p.waited < p.window {
		return true
	}
	if float64(p.got) < float64(p.leastRate)*p.window.Seconds() {
		return false
	}
	p.got, p.waited = 0, 0
	return true
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
