package httpserver

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// lingerTime and lingerIdle bound how long a connection is read on after its last answer.
	lingerTime = 10 * time.Second
	lingerIdle = 2 * time.Second

	maxRefusing = 64 // connections that are told at the same time; further ones are closed without a word
	readBytes   = 4 << 10
	retryAfter  = "5" // seconds
)

// conn gives its place back when it is closed.
type conn struct {
	*net.TCPConn
	closing  sync.Once
	released func()
}

// Close returns at once and reads on for a while: closing a connection with unread bytes resets it, and a client that is
// still sending would lose the answer (RFC 9112, section 9.6).
func (c *conn) Close() error {
	err := net.ErrClosed
	c.closing.Do(func() {
		err = nil
		_ = c.CloseWrite() // or the client has gone
		go func() {
			defer c.released()
			linger(c.TCPConn)
		}()
	})
	return err
}

// linger closes a connection when the other side has, stays silent, or goes on too long.
func linger(c *net.TCPConn) {
	defer c.Close()
	end := time.Now().Add(lingerTime)
	buffer := make([]byte, readBytes)
	for time.Now().Before(end) {
		if err := c.SetReadDeadline(time.Now().Add(lingerIdle)); err != nil {
			return
		}
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

// refuse tells a client why it is not served; none waits for it.
func (l *Listener) refuse(c *net.TCPConn, over string) {
	l.logged.Do(func() { l.log.Warn("connection refused", "address", c.RemoteAddr().String(), "reason", over) })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusing >= maxRefusing {
		c.Close()
		return
	}
	l.refusing++
	go func() {
		tell(c, over)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refusing--
	}()
}

// tell waits for the request, since some clients take an answer that comes before it for a broken connection.
func tell(c *net.TCPConn, over string) {
	defer linger(c)
	if err := c.SetDeadline(time.Now().Add(lingerIdle)); err != nil {
		return
	}
	if _, err := c.Read(make([]byte, readBytes)); err != nil {
		return
	}
	body := overloaded(over)
	answer := http.Response{
		StatusCode: http.StatusServiceUnavailable, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header: http.Header{"Content-Type": {problemType}, "Retry-After": {retryAfter}},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	if answer.Write(c) == nil {
		_ = c.CloseWrite() // or the client has gone
	}
}
