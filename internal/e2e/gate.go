package e2e

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait for something that must happen.
const Patience = 60 * time.Second

const pollEvery = 10 * time.Millisecond

// Eventually returns once ok says so, and fails the test when it never does.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

// Gate stands before a server and applies rules to requests; what no rule matches passes.
type Gate struct {
	front string // its base URL
	next  http.Handler
	open  chan struct{} // closed with the test: nothing is held any more

	mu    sync.Mutex
	edit  func(*http.Request)
	rules []*Rule
	seen  map[string]int
}

// newGate stands before next until the test ends.
func newGate(tb testing.TB, next http.Handler) *Gate {
	g := &Gate{next: next, open: make(chan struct{}), seen: map[string]int{}}
	server := httptest.NewServer(g)
	tb.Cleanup(func() {
		close(g.open)
		server.CloseClientConnections()
		server.Close()
	})
	g.front = server.URL
	return g
}

// Rule is what happens to requests of one kind.
type Rule struct {
	match Match
	act   action
	gate  *Gate

	left     int // requests that it still applies to
	hits     int
	reached  chan struct{} // closed when a request is held
	released chan struct{}
	served   chan struct{} // closed when a delayed request was served
}

type action func(r *Rule, w http.ResponseWriter, req *http.Request)

func (g *Gate) rule(match Match, times int, act action) *Rule {
	r := &Rule{match: match, act: act, gate: g, left: times, reached: make(chan struct{}), released: make(chan struct{}), served: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = append(g.rules, r)
	return r
}

// HoldBefore keeps the next request of the kind from the server until Release. A client that goes away meanwhile takes
// its request along.
func (g *Gate) HoldBefore(match Match) *Rule {
	return g.rule(match, 1, func(r *Rule, w http.ResponseWriter, req *http.Request) {
		if r.hold(req) {
			g.next.ServeHTTP(w, req)
		}
	})
}

// Stall keeps all requests of the kind from the server until Release, and reads nothing of their bodies.
func (g *Gate) Stall(match Match) *Rule {
	return g.rule(match, math.MaxInt, func(r *Rule, w http.ResponseWriter, req *http.Request) {
		select {
		case <-r.released:
			g.next.ServeHTTP(w, req)
		case <-req.Context().Done():
		case <-g.open:
		}
	})
}

// Away cuts the connections of all requests of the kind until Release, as if nobody were there.
func (g *Gate) Away(match Match) *Rule {
	return g.rule(match, math.MaxInt, func(r *Rule, w http.ResponseWriter, req *http.Request) {
		select {
		case <-r.released:
			g.next.ServeHTTP(w, req)
		default:
			panic(http.ErrAbortHandler)
		}
	})
}

// HoldAfter lets the server serve the next request of the kind and keeps the answer back until Release.
func (g *Gate) HoldAfter(match Match) *Rule {
	return g.rule(match, 1, func(r *Rule, w http.ResponseWriter, req *http.Request) {
		answer := g.answer(req)
		if r.hold(req) {
			answer.send(w)
		}
	})
}

// Lose serves the next n requests of the kind and loses the answers.
func (g *Gate) Lose(match Match, n int) *Rule {
	return g.rule(match, n, func(_ *Rule, _ http.ResponseWriter, req *http.Request) {
		g.answer(req)
		panic(http.ErrAbortHandler)
	})
}

// Refuse answers the next n requests of the kind itself.
func (g *Gate) Refuse(match Match, n, status int, body string) *Rule {
	return g.rule(match, n, func(_ *Rule, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

// Delay cuts the connection of the next request of the kind and serves it only after Release, as a network does that
// delivers late what its sender has given up.
func (g *Gate) Delay(match Match) *Rule {
	return g.rule(match, 1, func(r *Rule, _ http.ResponseWriter, req *http.Request) {
		late := req.Clone(context.WithoutCancel(req.Context()))
		body, _ := io.ReadAll(req.Body)
		late.Body = io.NopCloser(bytes.NewReader(body))
		go func() {
			defer close(r.served)
			if r.hold(late) {
				g.answer(late)
			}
		}()
		panic(http.ErrAbortHandler)
	})
}

// Edit changes every request on its way in, before any rule looks at it.
func (g *Gate) Edit(edit func(*http.Request)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.edit = edit
}

// Seen counts the requests that came, whatever became of them, by Kind.
func (g *Gate) Seen(kind string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[kind]
}

// Asked counts all requests that came, whatever became of them.
func (g *Gate) Asked() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, times := range g.seen {
		n += times
	}
	return n
}

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r := g.take(req); r != nil {
		r.act(r, w, req)
		return
	}
	g.next.ServeHTTP(w, req)
}

func (g *Gate) take(req *http.Request) *Rule {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.edit != nil {
		g.edit(req)
	}
	g.seen[Kind(req)]++
	for _, r := range g.rules {
		if r.left > 0 && r.match(req) {
			r.left--
			r.hits++
			return r
		}
	}
	return nil
}

func (g *Gate) answer(req *http.Request) *heldAnswer {
	a := &heldAnswer{header: http.Header{}, status: http.StatusOK}
	g.next.ServeHTTP(a, req)
	return a
}

// Reached waits until a request is held.
func (r *Rule) Reached(tb testing.TB) {
	tb.Helper()
	select {
	case <-r.reached:
	case <-time.After(Patience):
		tb.Fatal("no request reached the gate")
	}
}

// Served waits until a delayed request was served.
func (r *Rule) Served(tb testing.TB) {
	tb.Helper()
	select {
	case <-r.served:
	case <-time.After(Patience):
		tb.Fatal("the delayed request was not served")
	}
}

// Release lets held requests go, those that are still to come included.
func (r *Rule) Release() { close(r.released) }

// Hits counts the requests that the rule applied to.
func (r *Rule) Hits() int {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	return r.hits
}

// hold tells whether the request goes on. A rule holds one request.
func (r *Rule) hold(req *http.Request) bool {
	close(r.reached)
	select {
	case <-r.released:
		return true
	case <-req.Context().Done():
	case <-r.gate.open:
	}
	return false
}

// heldAnswer is a small answer that waits to be sent.
type heldAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (a *heldAnswer) Header() http.Header    { return a.header }
func (a *heldAnswer) WriteHeader(status int) { a.status = status }
func (a *heldAnswer) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *heldAnswer) send(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}
