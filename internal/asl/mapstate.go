package asl

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
)

// mapState is the work of a Map state in inline mode.
type mapState struct {
	flow            *flow
	itemsPath       *path
	selector        *template
	concurrency     int // 0: as many as allowed
	concurrencyPath *path
}

func (m *mapState) attempt(ctx context.Context, v *visit) (json.RawMessage, *halt) {
	items, err := m.items(v)
	if err != nil {
		return nil, v.run.fatal(err)
	}
	workers, err := m.workers(v)
	if err != nil {
		return nil, v.run.fatal(err)
	}
	if h := v.run.record(ctx, Event{Type: EventMapStarted, State: v.state.name}); h != nil {
		return nil, h
	}
	b := &batch{m: m, visit: v, items: items, results: make([]json.RawMessage, len(items))}
	if h := b.all(ctx, min(workers, len(items))); h != nil {
		return nil, h
	}
	result := joinArray(b.results)
	if err := v.run.within(v, "result", result); err != nil {
		return nil, &halt{cause: err}
	}
	return result, v.run.record(ctx, Event{Type: EventMapSucceeded, State: v.state.name})
}

func (m *mapState) items(v *visit) ([]json.RawMessage, *Error) {
	list, found := m.itemsPath.find(v.effective, v)
	if found != selectedValue || !isArray(list) {
		return nil, runtimeError(v.state.name, "ItemsPath selects no array")
	}
	var items []json.RawMessage
	for item := range elements(list) {
		items = append(items, item)
	}
	return items, nil
}

// workers is how many iterations run at once.
func (m *mapState) workers(v *visit) (int, *Error) {
	n := m.concurrency
	if m.concurrencyPath != nil {
		var err *Error
		if n, err = v.whole("MaxConcurrencyPath", m.concurrencyPath, 0); err != nil {
			return 0, err
		}
	}
	if n == 0 || n > MaxMapConcurrency {
		n = MaxMapConcurrency
	}
	return n, nil
}

// batch is one attempt at all items of a Map.
type batch struct {
	m     *mapState
	visit *visit
	items []json.RawMessage

	mu      sync.Mutex
	next    int               // index of the first item that nobody took
	results []json.RawMessage // by item
	failure *Error            // of the first iteration that failed
	stopped []stoppedIteration
}

// stoppedIteration was under way when its Map or the execution ended.
type stoppedIteration struct {
	index int
	open  []Event
}

// all runs the items by the given number of workers. The first failure stops the other iterations.
func (b *batch) all(ctx context.Context, workers int) *halt {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	b.work(inner, stop, workers)
	if h := b.abandon(ctx); h != nil {
		return h
	}
	if b.failure != nil {
		return &halt{cause: b.failure}
	}
	return nil
}

// abandon records the iterations that were stopped, or hands their events on if the Map itself was stopped.
func (b *batch) abandon(ctx context.Context) *halt {
	slices.SortFunc(b.stopped, func(x, y stoppedIteration) int { return x.index - y.index })
	var open []Event
	for _, s := range b.stopped {
		open = append(append(open, b.event(EventMapIterationAborted, s.index)), s.open...)
	}
	for _, event := range open {
		if h := b.visit.run.record(ctx, event); h != nil {
			return &halt{open: open}
		}
	}
	if ctx.Err() != nil {
		return &halt{open: open}
	}
	return nil
}

func (b *batch) event(kind string, index int) Event {
	return Event{Type: kind, State: b.visit.state.name, Iteration: index}
}

// work returns when every worker has ended. The last one to end stands for the branch that waits for them.
func (b *batch) work(ctx context.Context, stop context.CancelFunc, workers int) {
	if workers == 0 {
		return
	}
	branches := b.visit.run.options.Branches
	branches(workers - 1)
	var atWork atomic.Int64
	atWork.Store(int64(workers))
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			b.takeAll(ctx, stop)
			if atWork.Add(-1) > 0 {
				branches(-1)
			}
		})
	}
	group.Wait()
}

// takeAll takes items in their order until none is left or the batch has ended.
func (b *batch) takeAll(ctx context.Context, stop context.CancelFunc) {
	for {
		index, ok := b.take(ctx)
		if !ok {
			return
		}
		result, h := b.iterate(ctx, index)
		b.finish(ctx, stop, index, result, h)
	}
}

// take records the start under the lock, so that iterations start in the order of their items.
func (b *batch) take(ctx context.Context) (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	index := b.next
	if index == len(b.items) || b.visit.run.record(ctx, b.event(EventMapIterationStarted, index)) != nil {
		return 0, false
	}
	b.next++
	return index, true
}

func (b *batch) iterate(ctx context.Context, index int) (json.RawMessage, *halt) {
	item := &mapItem{index: index, value: b.items[index]}
	scope := *b.visit
	scope.item = item
	input, err := b.m.input(&scope)
	if err != nil {
		return nil, b.visit.run.fatal(err)
	}
	if err := b.visit.run.within(b.visit, "item", input); err != nil {
		return nil, &halt{cause: err}
	}
	return b.visit.run.flow(ctx, b.m.flow, input, item)
}

// input is the item, or what ItemSelector makes of the Map's effective input with the item in the context object.
func (m *mapState) input(scope *visit) (json.RawMessage, *Error) {
	if m.selector == nil {
		return scope.item.value, nil
	}
	return m.selector.render(scope.effective, scope)
}

// finish settles one iteration. Of several that fail at once the first to get here is the Map's failure, and the rest
// count as stopped.
func (b *batch) finish(ctx context.Context, stop context.CancelFunc, index int, result json.RawMessage, h *halt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	event := b.event(EventMapIterationSucceeded, index)
	if h != nil && h.cause != nil {
		event = b.event(EventMapIterationFailed, index)
		event.Error, event.Cause = h.cause.Name, h.cause.Cause
	}
	switch {
	case h != nil && h.cause == nil:
		b.stopped = append(b.stopped, stoppedIteration{index, h.open})
	case b.visit.run.record(ctx, event) != nil:
		b.stopped = append(b.stopped, stoppedIteration{index: index})
	case h == nil:
		b.results[index] = result
	default:
		b.failure = h.cause
		for _, open := range h.open {
			b.visit.run.record(ctx, open)
		}
		stop()
	}
}
