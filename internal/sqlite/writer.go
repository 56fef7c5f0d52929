package sqlite

import (
	"context"
	"sync"

	"github.com/sitevault/sitevault/internal/backup"
)

// maxGroup bounds how many writes share a commit, and with it how long the first of them waits.
const maxGroup = 256

var errClosed = backup.E(backup.StoreUnavailable, "the store is closed")

// tx is what one write sees: the rows as all earlier writes left them.
type tx struct {
	*statements
	quotas  backup.Quotas
	changes []backup.Change
}

func (t *tx) changed(c backup.Change) { t.changes = append(t.changes, c) }

// write is one caller's write on its way through the writer. Its ctx is the writer's, not the caller's: the end of one
// caller must not interrupt the transaction that others share.
type write struct {
	apply  func(ctx context.Context, t *tx) error
	result chan error
}

// writer is the one goroutine that writes. While a commit waits for the disk the next writes gather, and share the
// next commit; each runs in a savepoint of its own, so that one that fails leaves no trace in the others.
type writer struct {
	statements *statements
	quotas     backup.Quotas
	onChange   func(backup.Change)
	queue      chan write // unbuffered: callers are the queue
	ended      chan struct{}

	closing sync.RWMutex // held for reading by each caller until its result is there
	closed  bool
}

func startWriter(s *statements, o Options) *writer {
	onChange := o.OnChange
	if onChange == nil {
		onChange = func(backup.Change) {}
	}
	w := &writer{statements: s, quotas: o.Quotas, onChange: onChange, queue: make(chan write), ended: make(chan struct{})}
	go w.run()
	return w
}

// write runs apply in a transaction and returns once it is on disk. Until its turn comes, the end of ctx withdraws it.
func (w *writer) write(ctx context.Context, apply func(ctx context.Context, t *tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.closing.RLock()
	defer w.closing.RUnlock()
	if w.closed {
		return errClosed
	}
	one := write{apply, make(chan error, 1)}
	select {
	case w.queue <- one:
		return <-one.result
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop waits for the callers under way and ends the goroutine; false if it was stopped before.
func (w *writer) stop() bool {
	w.closing.Lock()
	defer w.closing.Unlock()
	if w.closed {
		return false
	}
	w.closed = true
	close(w.queue)
	<-w.ended
	return true
}

func (w *writer) run() {
	defer close(w.ended)
	for first := range w.queue {
		w.commit(w.gather(first))
	}
}

func (w *writer) gather(first write) []write {
	group := []write{first}
	for len(group) < maxGroup {
		select {
		case next, open := <-w.queue:
			if !open {
				return group
			}
			group = append(group, next)
		default:
			return group
		}
	}
	return group
}

// commit answers each write of the group: with its own result, or all with the failure of the transaction.
func (w *writer) commit(group []write) {
	results := make([]error, len(group))
	changes, err := w.transact(group, results)
	for _, c := range changes {
		w.onChange(c)
	}
	for i, one := range group {
		if err != nil {
			results[i] = err
		}
		one.result <- results[i]
	}
}

func (w *writer) transact(group []write, results []error) (changes []backup.Change, err error) {
	ctx := context.Background()
	if _, err := w.statements.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	for i, one := range group {
		made, err := w.attempt(ctx, one, &results[i])
		if err != nil {
			return nil, w.rollback(ctx, err)
		}
		changes = append(changes, made...)
	}
	if _, err := w.statements.exec(ctx, "COMMIT"); err != nil {
		return nil, w.rollback(ctx, err)
	}
	return changes, nil
}

// attempt runs one write in its savepoint. It fails itself only if the whole transaction is lost.
func (w *writer) attempt(ctx context.Context, one write, result *error) ([]backup.Change, error) {
	if _, err := w.statements.exec(ctx, "SAVEPOINT one"); err != nil {
		return nil, err
	}
	t := &tx{statements: w.statements, quotas: w.quotas}
	if *result = one.apply(ctx, t); *result != nil {
		t.changes = nil
		if _, err := w.statements.exec(ctx, "ROLLBACK TO one"); err != nil {
			return nil, *result
		}
	}
	_, err := w.statements.exec(ctx, "RELEASE one")
	return t.changes, err
}

// rollback ends the transaction after cause. SQLite may have ended it by itself, which is as good.
func (w *writer) rollback(ctx context.Context, cause error) error {
	_, _ = w.statements.exec(ctx, "ROLLBACK")
	return cause
}
