package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Handler runs one task: effective input in, result out, both JSON. An empty result is null. It must not change the
// input, must heed ctx, and may be called any number of times at once. To fail with a name that Retry and Catch can
// match, return or wrap an [Error]; any other error, and a panic, is named [ErrorUnhandled]. When the state's
// TimeoutSeconds pass, ctx ends and the failure is [ErrorTimeout] whatever the handler returns.
type Handler func(ctx context.Context, input json.RawMessage) (json.RawMessage, error)

// errTaskTimeout is the cause of a context that a state's TimeoutSeconds ended.
var errTaskTimeout = errors.New("the task exceeded its TimeoutSeconds")

// task is the work of a Task state.
type task struct {
	handler     Handler
	parameters  *template
	timeout     time.Duration // 0: none
	timeoutPath *path
}

func (t *task) attempt(ctx context.Context, v *visit) (json.RawMessage, *halt) {
	timeout, err := t.limit(v)
	if err != nil {
		return nil, v.run.fatal(err)
	}
	input, err := t.parameters.render(v.effective, v)
	if err != nil {
		return nil, v.run.fatal(err)
	}
	if err := v.run.within(v, "input", input); err != nil {
		return nil, &halt{cause: err}
	}
	for _, event := range []Event{{Type: EventLambdaScheduled, Payload: input}, {Type: EventLambdaStarted}} {
		event.State = v.state.name
		if h := v.run.record(ctx, event); h != nil {
			return nil, h
		}
	}
	result, err := t.call(ctx, v, timeout, input)
	return t.settle(ctx, v, result, err)
}

// settle records how the call ended; after the end of ctx that is of no interest any more.
func (t *task) settle(ctx context.Context, v *visit, result json.RawMessage, err *Error) (json.RawMessage, *halt) {
	event := Event{Type: EventLambdaSucceeded, State: v.state.name, Payload: result}
	if err != nil {
		event = Event{Type: EventLambdaFailed, State: v.state.name, Error: err.Name, Cause: err.Cause}
		if err.Name == ErrorTimeout {
			event.Type = EventLambdaTimedOut
		}
	}
	if h := v.run.record(ctx, event); h != nil {
		return nil, h
	}
	if err != nil {
		return nil, &halt{cause: err}
	}
	return result, nil
}

func (t *task) limit(v *visit) (time.Duration, *Error) {
	if t.timeoutPath == nil {
		return t.timeout, nil
	}
	n, err := v.whole("TimeoutSecondsPath", t.timeoutPath, 1)
	return time.Duration(n) * time.Second, err
}

// call runs the handler under the state's timeout and takes a copy of its result.
func (t *task) call(
	ctx context.Context, v *visit, timeout time.Duration, input json.RawMessage,
) (json.RawMessage, *Error) {
	if timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, errTaskTimeout)
		defer stop()
	}
	raw, err := t.guard(ctx, input)
	if errors.Is(context.Cause(ctx), errTaskTimeout) {
		return nil, &Error{Name: ErrorTimeout, Cause: fmt.Sprintf("state %q: %s", v.state.name, errTaskTimeout)}
	}
	if err != nil {
		return nil, nameError(err)
	}
	if len(raw) == 0 {
		return nullValue, nil
	}
	result, err := compact(raw)
	if err != nil {
		return nil, &Error{Name: ErrorUnhandled, Cause: "result is not JSON: " + err.Error()}
	}
	return result, v.run.within(v, "result", result)
}

// guard turns a panic of the handler into an error of the task.
func (t *task) guard(ctx context.Context, input json.RawMessage) (result json.RawMessage, err error) {
	defer func() {
		if value := recover(); value != nil {
			stack := debug.Stack()
			stack = stack[:min(len(stack), maxPanicStackBytes)]
			result, err = nil, &Error{Name: ErrorUnhandled, Cause: fmt.Sprintf("panic: %v\n%s", value, stack)}
		}
	}()
	return t.handler(ctx, input)
}
