// Package breaker keeps a process from asking a side that is known to be away: requests fail at once, and one after each
// growing pause is sent to see whether the side is back.
package breaker

import (
	"fmt"
	"sync"
	"time"
)

const (
	// A side counts as away after so many failures in a row, if it has answered nothing for quiet. One that fails every
	// third request has answered another within that time.
	fewFailures = 3
	quiet       = 2 * time.Second
	// manyFailures in a row are no accident however fast they came.
	manyFailures = 10

	firstPause = time.Second
	maxPause   = 30 * time.Second

	// keepFor is how long a side that nobody asks is remembered.
	keepFor = time.Hour
)

// Set is a breaker for each of several sides. The zero Set is ready, and safe for concurrent use.
type Set[K comparable] struct {
	mu        sync.Mutex
	sides     map[K]*side
	forgotten time.Time // when old sides were last forgotten
}

type side struct {
	failures int // in a row
	asked    time.Time
	answered time.Time     // zero: never
	pause    time.Duration // 0: everybody may ask
	next     time.Time     // else one may, from then on
}

func (s *side) away() bool { return s.pause > 0 }

func (s *side) answer(now time.Time) {
	s.failures, s.answered, s.pause, s.next = 0, now, 0, time.Time{}
}

// failing tells whether so many failures are no accident.
func (s *side) failing(now time.Time) bool {
	return s.failures >= manyFailures || (s.failures >= fewFailures && now.Sub(s.answered) >= quiet)
}

// Away is the error of a request that was not sent.
type Away struct{ Asked, Next time.Time }

func (a *Away) Error() string {
	return fmt.Sprintf("no answer when last asked at %s, asked again at %s",
		a.Asked.UTC().Format(time.TimeOnly), a.Next.UTC().Format(time.TimeOnly))
}

// Request is one that may be sent. Whoever sends it says what came of it, by Answered or Failed, unless that says nothing of
// the other side.
type Request struct {
	tell  func(ended func(s *side, now time.Time))
	probe bool
}

// Ask asks for leave to send a request to a side. The error is an *Away.
func (b *Set[K]) Ask(key K) (*Request, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	s := b.side(key, now)
	if now.Before(s.next) {
		return nil, &Away{Asked: s.asked, Next: s.next}
	}
	s.asked = now
	probe := s.away()
	if probe {
		s.next = now.Add(s.pause) // one that hangs keeps the next from being sent no longer than one that fails
	}
	return &Request{probe: probe, tell: func(ended func(*side, time.Time)) {
		b.mu.Lock()
		defer b.mu.Unlock()
		ended(s, time.Now())
	}}, nil
}

// Doubtful tells whether the side failed when it was last asked.
func (b *Set[K]) Doubtful(key K) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sides[key]
	return s != nil && s.failures > 0
}

// Answered is for a side that has shown otherwise that it does its work.
func (b *Set[K]) Answered(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.side(key, now).answer(now)
}

func (b *Set[K]) side(key K, now time.Time) *side {
	if now.Sub(b.forgotten) >= keepFor {
		b.forget(now)
	}
	s := b.sides[key]
	if s == nil {
		s = &side{}
		b.sides[key] = s
	}
	return s
}

func (b *Set[K]) forget(now time.Time) {
	if b.sides == nil {
		b.sides = map[K]*side{}
	}
	for key, s := range b.sides {
		if now.Sub(s.asked) >= keepFor {
			delete(b.sides, key)
		}
	}
	b.forgotten = now
}

// Answered is for a request that the side has dealt with, by a refusal or otherwise.
func (r *Request) Answered() {
	r.tell((*side).answer)
}

// Failed is for a request that got no proper answer; after is the pause that the side has asked for, if it has. What was
// sent before the side was known to be away says nothing new.
func (r *Request) Failed(after time.Duration) {
	r.tell(func(s *side, now time.Time) {
		s.failures++
		if (s.away() && r.probe) || (!s.away() && s.failing(now)) {
			s.pause = min(max(2*s.pause, firstPause), maxPause)
			s.next = now.Add(max(s.pause, after))
		}
	})
}
