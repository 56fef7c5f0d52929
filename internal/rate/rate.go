// Package rate bounds how often each user may ask within one process.
package rate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sitevault/sitevault/internal/backup"
)

// burst is how many seconds' worth of requests may come at once.
const burst = 2

// maxIdle is how many users are remembered before those who have not asked for long are forgotten.
const maxIdle = 10_000

// Limiter has a bucket of tokens for each user.
type Limiter struct {
	perSecond int64
	now       func() time.Time

	mu    sync.Mutex
	users map[string]*rate.Limiter
}

// New admits so many requests a second, twice as many at once; 0: all.
func New(perSecond int64, now func() time.Time) *Limiter {
	return &Limiter{perSecond: perSecond, now: now, users: map[string]*rate.Limiter{}}
}

// Admit takes a token; TooManyRequests says when there will be one.
func (l *Limiter) Admit(_ context.Context, userID string) error {
	if l.perSecond == 0 {
		return nil
	}
	now := l.now()
	taken := l.of(userID, now).ReserveN(now, 1)
	wait := taken.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	taken.CancelAt(now)
	return backup.TooMany(l.perSecond, wait)
}

func (l *Limiter) of(userID string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket := l.users[userID]
	if bucket == nil {
		l.forget(now)
		bucket = rate.NewLimiter(rate.Limit(l.perSecond), int(burst*l.perSecond))
		l.users[userID] = bucket
	}
	return bucket
}

// forget drops full buckets, which are as good as new ones.
func (l *Limiter) forget(now time.Time) {
	if len(l.users) < maxIdle {
		return
	}
	for userID, bucket := range l.users {
		if bucket.TokensAt(now) >= float64(burst*l.perSecond) {
			delete(l.users, userID)
		}
	}
}
