package local

import (
	"context"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/fair"
)

// occupancy is an execution's claim to one of the places: it has one as long as a branch of it is at work. An execution
// whose branches all wait, for a provider or before a retry, keeps no place from those that can go on.
type occupancy struct {
	places    *fair.Room
	user      string
	execution context.Context // of the whole execution: a branch that was stopped still waits, for the branch that goes on after it

	mu     sync.Mutex
	atWork int // branches
	claim  *fair.Claim
}

// occupy claims the first place. A job that was begun before stands in line with those that come back from a wait.
func occupy(execution context.Context, places *fair.Room, job backup.Job) *occupancy {
	line := fair.New
	if job.Status == backup.Running || job.Attempt > 1 {
		line = fair.Again
	}
	o := &occupancy{places: places, user: job.UserID, execution: execution}
	o.enter(1, line)
	return o
}

// end gives the place back.
func (o *occupancy) end() { o.claim.Drop() }

// change is the Branches of an execution.
func (o *occupancy) change(by int) { o.enter(by, fair.Again) }

// sleep is the Sleep of an execution.
func (o *occupancy) sleep(ctx context.Context, d time.Duration) {
	o.change(-1)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	_ = o.enter(1, fair.Again).Wait(o.execution) // the branch looks at its context next
}

func (o *occupancy) enter(branches int, line fair.Line) *fair.Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.atWork
	o.atWork += branches
	switch {
	case o.atWork == 0:
		o.claim.Drop()
	case before == 0:
		o.claim = o.places.Claim(o.user, 1, line)
	}
	return o.claim
}
