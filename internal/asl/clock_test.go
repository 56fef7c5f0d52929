package asl_test

import (
	"context"
	"sync"
	"time"
)

// clock stands still but for the sleeps that go through it, which it lists.
type clock struct {
	mu     sync.Mutex
	at     time.Time
	sleeps []time.Duration
}

func newClock() *clock { return &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) sleep(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	c.sleeps = append(c.sleeps, d)
}
