package transfer

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/fair"
)

const (
	// chunkBytes is what one read asks for: large enough that system calls do not count, small enough to stay in cache.
	chunkBytes = 256 << 10
	// leastChunks are what a range is sure of before it is opened: one is filled while the other is being stored.
	leastChunks = 2

	// DefaultBudgetBytes feeds fifty ranges that read as far ahead as they can, or five times as many that cannot.
	DefaultBudgetBytes = 128 << 20
	// LeastBudgetBytes lets a few ranges move at a time.
	LeastBudgetBytes = 4 << 20

	// trimEvery is how long memory that nobody uses is kept at least; after twice the time it is gone.
	trimEvery = 2 * time.Second
)

type chunk [chunkBytes]byte

// Budget bounds the memory of all transfers of a process, however many there are. Users share it fairly.
type Budget struct {
	room *fair.Room // in chunks

	mu     sync.Mutex
	spare  []*chunk
	fewest int // spare chunks since the last trim
	trims  bool
}

// NewBudget makes a Budget of so many bytes, at least LeastBudgetBytes. The reserve is the part of it that only users get who
// hold no memory.
func NewBudget(sizeBytes, reserveBytes int64) *Budget {
	return &Budget{room: fair.NewRoom(int(max(sizeBytes, LeastBudgetBytes)/chunkBytes), int(reserveBytes/chunkBytes))}
}

// chunk is for who holds room for it. It is no sync.Pool, which every garbage collection empties: the same few chunks serve a
// transfer of any length.
func (b *Budget) chunk() *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.spare) - 1
	b.fewest = max(min(b.fewest, n), 0)
	if n < 0 {
		return new(chunk)
	}
	c := b.spare[n]
	b.spare[n], b.spare = nil, b.spare[:n]
	return c
}

func (b *Budget) keep(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = append(b.spare, c)
	if !b.trims {
		b.trims = true
		time.AfterFunc(trimEvery, b.trim)
	}
}

// trim lets go of the chunks that nobody has used since the last time, and hands their memory to the system at once.
func (b *Budget) trim() {
	b.mu.Lock()
	unused, kept := b.fewest, len(b.spare)-b.fewest
	clear(b.spare[kept:])
	b.spare, b.fewest = b.spare[:kept], kept
	if b.trims = kept > 0; b.trims {
		time.AfterFunc(trimEvery, b.trim)
	}
	b.mu.Unlock()
	if unused > 0 {
		debug.FreeOSMemory()
	}
}

// lease is the memory of one range. It has what it is sure of from its beginning to its end, so that it can always go on,
// and more as long as nobody waits for it.
type lease struct {
	budget   *Budget
	claim    *fair.Claim
	returned chan struct{} // has an item when a chunk came back

	mu    sync.Mutex
	size  int // of the claim
	used  int
	ended bool
}

// lease waits until there is room.
func (b *Budget) lease(ctx context.Context, user string, line fair.Line) (*lease, error) {
	claim := b.room.Claim(user, leastChunks, line)
	if err := claim.Wait(ctx); err != nil {
		claim.Drop()
		return nil, err
	}
	return &lease{budget: b, claim: claim, returned: make(chan struct{}, 1), size: leastChunks}, nil
}

// take waits until a chunk of its own has come back, unless there is room for one more.
func (l *lease) take(ctx context.Context) (*chunk, error) {
	for !l.admits() {
		select {
		case <-l.returned:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return l.budget.chunk(), nil
}

func (l *lease) admits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used == l.size && l.claim.Grow() {
		l.size++
	}
	if l.used == l.size {
		return false
	}
	l.used++
	return true
}

func (l *lease) free(c *chunk) {
	l.budget.keep(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	if l.ended || l.size > leastChunks {
		l.shrink(1)
	}
	select {
	case l.returned <- struct{}{}:
	default:
	}
}

// end gives back what is not in use; the rest follows with the chunks.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.shrink(l.size - l.used)
}

func (l *lease) shrink(by int) {
	l.size -= by
	l.claim.Shrink(by)
}
