// Package fair shares limited room between users: who holds least is served first. So one user's thousand claims delay
// another's single one by no more than the first of them takes to be dropped.
package fair

import (
	"context"
	"math"
	"slices"
	"sync"
)

// Line is one of the two in which the claims of a user wait. The lines take turns, so that neither starves the other.
type Line int

const (
	New   Line = iota
	Again      // for claims that go on with what was begun
	lines
)

// Room is what is shared, in units of any kind.
type Room struct {
	reserve int // of the room, for users who hold nothing
	mu      sync.Mutex
	free    int
	waiting int   // claims
	turns   int64 // counts what happened, as a clock would
	users   map[string]*user
}

// user holds room or waits for some.
type user struct {
	held  int
	since int64 // turn at which it was last served or given up, or began to wait
	lines [lines][]*Claim
	next  Line // to be served, if a claim waits in it
}

// NewRoom makes room of the given size. The reserve is the part of it that is granted only to users who hold nothing: with
// one, no user can keep all others waiting for as long as claims last.
func NewRoom(size, reserve int) *Room {
	return &Room{free: size, reserve: reserve, users: map[string]*user{}}
}

// Claim asks for room of the given size and waits in line until it is granted. It must be dropped.
func (r *Room) Claim(name string, size int, line Line) *Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Claim{room: r, name: name, line: line, size: size, granted: make(chan struct{})}
	u := r.users[name]
	if u == nil {
		u = &user{}
		r.users[name] = u
	}
	if u.waiting() == 0 {
		u.since = r.turn()
	}
	u.lines[line] = append(u.lines[line], c)
	r.waiting++
	r.grant()
	return c
}

func (r *Room) turn() int64 {
	r.turns++
	return r.turns
}

// grant serves claims as long as there is room for the one whose turn it is. It never serves a smaller one in between,
// which might go on for ever.
func (r *Room) grant() {
	for r.waiting > 0 {
		u := r.least()
		line := u.line()
		c := u.lines[line][0]
		if c.size > r.freeFor(u) {
			return
		}
		u.lines[line] = u.lines[line][1:]
		u.next = (line + 1) % lines
		r.waiting--
		r.move(u, c.size)
		c.held = true
		close(c.granted)
	}
}

// least is the user who holds least of those that wait; of several the one that has gone without for longest.
func (r *Room) least() (least *user) {
	held, since := math.MaxInt, int64(0)
	for _, u := range r.users {
		if u.waiting() > 0 && (u.held < held || (u.held == held && u.since < since)) {
			least, held, since = u, u.held, u.since
		}
	}
	return least
}

func (r *Room) freeFor(u *user) int {
	if u.held > 0 {
		return r.free - r.reserve
	}
	return r.free
}

func (r *Room) move(u *user, size int) {
	r.free -= size
	u.held += size
	u.since = r.turn()
}

func (u *user) waiting() int { return len(u.lines[New]) + len(u.lines[Again]) }

// line is the one to be served next.
func (u *user) line() Line {
	if len(u.lines[u.next]) > 0 {
		return u.next
	}
	return (u.next + 1) % lines
}

// Claim is room that is held or waited for.
type Claim struct {
	room    *Room
	name    string
	line    Line
	size    int
	held    bool
	granted chan struct{} // closed once the room is held
}

// Wait returns once the room is held, or with the cause of the end of ctx.
func (c *Claim) Wait(ctx context.Context) error {
	select {
	case <-c.granted:
		return nil
	default:
	}
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Grow takes one unit more, also of the reserve, unless there is none or a claim waits for it.
func (c *Claim) Grow() bool {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if !c.held || r.waiting > 0 || r.free == 0 {
		return false
	}
	c.size++
	r.move(r.users[c.name], 1)
	return true
}

// Shrink gives back so many units of a claim that is held.
func (c *Claim) Shrink(by int) {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	c.size -= by
	r.giveBack(c.name, by)
}

// Drop gives all of the room back, or leaves the line. Dropping again changes nothing.
func (c *Claim) Drop() {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.users[c.name]
	switch {
	case c.size == 0:
		return
	case c.held:
		r.giveBack(c.name, c.size)
	default:
		u.lines[c.line] = slices.DeleteFunc(u.lines[c.line], func(other *Claim) bool { return other == c })
		r.waiting--
		r.forget(c.name)
		r.grant()
	}
	c.size = 0
}

func (r *Room) giveBack(name string, size int) {
	r.move(r.users[name], -size)
	r.forget(name)
	r.grant()
}

// forget lets go of users who neither hold nor wait.
func (r *Room) forget(name string) {
	if u := r.users[name]; u.held == 0 && u.waiting() == 0 {
		delete(r.users, name)
	}
}
