package asl

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"
)

// Status of an execution that has ended, as DescribeExecution names it.
type Status string

const (
	Succeeded Status = "SUCCEEDED"
	Failed    Status = "FAILED"
	TimedOut  Status = "TIMED_OUT"
	Aborted   Status = "ABORTED"
)

// Execution describes one run. Only Input decides what happens; the rest is what the context object shows.
type Execution struct {
	ID          string // $$.Execution.Id; empty means Name
	Name        string
	MachineName string          // $$.StateMachine.Name
	Input       json.RawMessage // empty means {}
	StartTime   time.Time       // zero means now; the machine's TimeoutSeconds counts from here
}

// Options are the outside world of a run. The zero value is the real one.
//
// Branches hears by how much the number of branches at work changes, so that with Sleep, in which a branch is not at work,
// it can be told whether all of a run is waiting. A run begins with one branch; iterations of a Map stand in for the branch
// that waits for them. It must not block.
type Options struct {
	Now              func() time.Time                           // nil: time.Now
	Sleep            func(ctx context.Context, d time.Duration) // nil: a timer; must return when ctx ends
	Branches         func(change int)                           // see below; nil: nobody listens
	Rand             func() float64                             // in [0, 1), safe for concurrent use; nil: math/rand/v2
	MaxHistoryEvents int                                        // 0 or too large: the constant MaxHistoryEvents
	Observe          func(Event)                                // called in order, one call at a time; must not block
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Branches == nil {
		o.Branches = func(int) {}
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.MaxHistoryEvents <= 0 || o.MaxHistoryEvents > MaxHistoryEvents {
		o.MaxHistoryEvents = MaxHistoryEvents
	}
	return o
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Result is how an execution ended. Output is set for SUCCEEDED, Error and Cause otherwise (ABORTED has only a Cause).
type Result struct {
	Status              Status
	Output              json.RawMessage
	Error               string
	Cause               string
	HistoryEvents       int
	LargestPayloadBytes int
}

// errMachineTimeout is the cause of a context that the machine's TimeoutSeconds ended.
var errMachineTimeout = errors.New("the execution exceeded the machine's TimeoutSeconds")

// fatal is the cause of a context that a terminal error ended; nothing in the machine can catch it.
type fatal struct{ cause *Error }

func (f fatal) Error() string { return f.cause.Error() }

// run is one execution under way.
type run struct {
	execution Execution
	options   Options
	history   *history
	cancel    context.CancelCauseFunc // ends the whole execution
}

// Run executes the machine once and returns when it has ended and every handler has returned. Ending ctx aborts it.
func (m *Machine) Run(ctx context.Context, execution Execution, options Options) Result {
	r := &run{execution: execution, options: options.withDefaults()}
	r.history = &history{limit: r.options.MaxHistoryEvents, now: r.options.Now, observe: r.options.Observe}
	input, err := r.begin()
	if err != nil {
		return Result{Status: Failed, Error: err.Name, Cause: err.Cause}
	}
	ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	if m.timeout > 0 {
		var stop context.CancelFunc
		left := r.execution.StartTime.Add(m.timeout).Sub(r.options.Now())
		ctx, stop = context.WithTimeoutCause(ctx, left, errMachineTimeout)
		defer stop()
	}
	output, halted := r.all(ctx, m.flow, input)
	return r.result(ctx, output, halted)
}

// begin completes the execution's description and checks its input.
func (r *run) begin() (json.RawMessage, *Error) {
	e := &r.execution
	if e.StartTime.IsZero() {
		e.StartTime = r.options.Now()
	}
	if e.ID == "" {
		e.ID = e.Name
	}
	if len(e.Input) == 0 {
		e.Input = emptyObject
	}
	input, err := compact(e.Input)
	if err != nil {
		return nil, &Error{Name: ErrorInvalidInput, Cause: err.Error()}
	}
	e.Input = input
	if len(input) > MaxPayloadBytes {
		return nil, tooLarge("", "execution input", len(input))
	}
	r.history.measure(len(input))
	return input, nil
}

func (r *run) all(ctx context.Context, f *flow, input json.RawMessage) (json.RawMessage, *halt) {
	if h := r.record(ctx, Event{Type: EventExecutionStarted, Payload: input}); h != nil {
		return nil, h
	}
	output, h := r.flow(ctx, f, input, nil)
	if h != nil {
		return nil, h
	}
	return output, r.record(ctx, Event{Type: EventExecutionSucceeded, Payload: output})
}

// result turns the end of the flow into the end of the execution and its last event.
func (r *run) result(ctx context.Context, output json.RawMessage, h *halt) Result {
	result := Result{Status: Succeeded, Output: output}
	if h != nil {
		var event string
		result, event = ending(ctx, h.cause)
		r.history.conclude(Event{Type: event, Error: result.Error, Cause: result.Cause})
	}
	result.HistoryEvents, result.LargestPayloadBytes = r.history.totals()
	return result
}

// ending names the way in which an execution failed: by failure, or by whatever ended its context first.
func ending(ctx context.Context, failure *Error) (Result, string) {
	if failure == nil {
		cause := context.Cause(ctx)
		var terminal fatal
		switch {
		case errors.As(cause, &terminal):
			failure = terminal.cause
		case errors.Is(cause, errMachineTimeout):
			return Result{Status: TimedOut, Error: ErrorTimeout, Cause: cause.Error()}, EventExecutionTimedOut
		default:
			return Result{Status: Aborted, Cause: cause.Error()}, EventExecutionAborted
		}
	}
	return Result{Status: Failed, Error: failure.Name, Cause: failure.Cause}, EventExecutionFailed
}

// record appends to the history. It refuses once ctx has ended, so that nothing follows an abort, and ends the
// execution when the history is full.
func (r *run) record(ctx context.Context, event Event) *halt {
	open, room := r.history.admit(ctx, event)
	switch {
	case !open:
		return &halt{}
	case !room:
		return r.fatal(historyFull(r.options.MaxHistoryEvents))
	}
	return nil
}

// fatal ends the execution with an error that no Retry or Catch sees.
func (r *run) fatal(err *Error) *halt {
	r.cancel(fatal{cause: err})
	return &halt{}
}

// within checks a payload against the limit.
func (r *run) within(v *visit, what string, payload json.RawMessage) *Error {
	if len(payload) > MaxPayloadBytes {
		return tooLarge(v.state.name, what, len(payload))
	}
	r.history.measure(len(payload))
	return nil
}
