package asl

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Types of states.
const (
	kindTask    = "Task"
	kindMap     = "Map"
	kindChoice  = "Choice"
	kindPass    = "Pass"
	kindWait    = "Wait"
	kindSucceed = "Succeed"
	kindFail    = "Fail"
)

// Types of history events, as GetExecutionHistory lists them. Those of states are the state's type followed by one of
// the last three. https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html.
const (
	EventExecutionStarted   = "ExecutionStarted"
	EventExecutionSucceeded = "ExecutionSucceeded"
	EventExecutionFailed    = "ExecutionFailed"
	EventExecutionTimedOut  = "ExecutionTimedOut"
	EventExecutionAborted   = "ExecutionAborted"

	EventLambdaScheduled = "LambdaFunctionScheduled"
	EventLambdaStarted   = "LambdaFunctionStarted"
	EventLambdaSucceeded = "LambdaFunctionSucceeded"
	EventLambdaFailed    = "LambdaFunctionFailed"
	EventLambdaTimedOut  = "LambdaFunctionTimedOut"

	EventMapStarted            = "MapStateStarted"
	EventMapSucceeded          = "MapStateSucceeded"
	EventMapFailed             = "MapStateFailed"
	EventMapIterationStarted   = "MapIterationStarted"
	EventMapIterationSucceeded = "MapIterationSucceeded"
	EventMapIterationFailed    = "MapIterationFailed"
	EventMapIterationAborted   = "MapIterationAborted"

	eventStateEntered = "StateEntered"
	eventStateExited  = "StateExited"
	eventStateAborted = "StateAborted"
)

// Event is one entry of an execution's history.
type Event struct {
	ID        int // from 1, without gaps
	Time      time.Time
	Type      string
	State     string          // empty for the execution's own events
	Iteration int             // index of the item, for MapIteration events
	Payload   json.RawMessage // input or output where the type has one; not to be changed
	Error     string          // for events of failure
	Cause     string
}

// history counts an execution's events and hands them to the observer; it keeps none.
type history struct {
	mu      sync.Mutex
	limit   int
	events  int
	largest int // payload bytes
	now     func() time.Time
	observe func(Event)
}

// admit counts the event; it reports false where only the terminal event still has room.
func (h *history) admit(ctx context.Context, event Event) (open, room bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return false, true
	}
	if h.events >= h.limit-1 && event.Type != EventExecutionSucceeded {
		return true, false
	}
	h.add(event)
	return true, true
}

// conclude adds the event that ends the execution, whatever the state of its context.
func (h *history) conclude(event Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(event)
}

func (h *history) add(event Event) {
	h.events++
	if h.observe == nil {
		return
	}
	event.ID, event.Time = h.events, h.now()
	h.observe(event)
}

func (h *history) measure(sizeBytes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.largest = max(h.largest, sizeBytes)
}

func (h *history) totals() (events, largest int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events, h.largest
}

func historyFull(limit int) *Error {
	return &Error{Name: ErrorRuntime, Cause: fmt.Sprintf("the history reached its limit of %d events", limit)}
}
