package asl

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// halt is why a flow did not reach its end: cause, or (nil) the end of its context.
type halt struct {
	cause *Error
	// open are the events that abort what was under way. They are recorded by the innermost Map that goes on; when
	// the whole execution ends, they are not.
	open []Event
}

// behavior is what a type of state does between its Entered and Exited events. It returns the state's output and the
// next state; nil ends the flow.
type behavior interface {
	step(ctx context.Context, v *visit) (json.RawMessage, *state, *halt)
}

// visit is one stay in a state.
type visit struct {
	run       *run
	state     *state
	input     json.RawMessage // as it came from the state before
	effective json.RawMessage // after InputPath
	item      *mapItem        // of the innermost Map around the state; nil outside
	entered   time.Time
	retries   int
}

// mapItem is what $$.Map.Item shows.
type mapItem struct {
	index int
	value json.RawMessage
}

// flow runs states from the first to the last. The history limit bounds the loop.
func (r *run) flow(ctx context.Context, f *flow, input json.RawMessage, item *mapItem) (json.RawMessage, *halt) {
	for s := f.start; s != nil; {
		v := &visit{run: r, state: s, input: input, item: item, entered: r.options.Now()}
		if h := r.record(ctx, Event{Type: s.entered, State: s.name, Payload: input}); h != nil {
			return nil, h
		}
		output, next, h := r.stay(ctx, v)
		if h != nil {
			return nil, h.leaving(s)
		}
		s, input = next, output
	}
	return input, nil
}

// stay does what lies between a state's Entered and Exited events, and records the latter.
func (r *run) stay(ctx context.Context, v *visit) (json.RawMessage, *state, *halt) {
	effective, found := v.state.inputPath.find(v.input, v)
	if found != selectedValue {
		return nil, nil, r.fatal(runtimeError(v.state.name, "InputPath %s selects nothing", v.state.inputPath.text))
	}
	v.effective = effective
	output, next, h := v.state.behavior.step(ctx, v)
	if h != nil {
		return nil, nil, h
	}
	if err := r.within(v, "output", output); err != nil {
		return nil, nil, &halt{cause: err}
	}
	return output, next, r.record(ctx, Event{Type: v.state.exited, State: v.state.name, Payload: output})
}

// leaving adds the event by which AWS closes a state that was entered and not left: tasks that failed or were
// interrupted, Maps and Waits that were interrupted.
func (h *halt) leaving(s *state) *halt {
	interrupted := h.cause == nil && (s.kind == kindMap || s.kind == kindWait)
	if s.kind != kindTask && !interrupted {
		return h
	}
	aborted := Event{Type: s.kind + eventStateAborted, State: s.name}
	return &halt{cause: h.cause, open: append([]Event{aborted}, h.open...)}
}

// output applies OutputPath to what becomes the state's output.
func (v *visit) output(value json.RawMessage, next *state) (json.RawMessage, *state, *halt) {
	selected, found := v.state.outputPath.find(value, v)
	if found != selectedValue {
		return nil, nil, v.run.fatal(runtimeError(v.state.name, "OutputPath %s selects nothing", v.state.outputPath.text))
	}
	return selected, next, nil
}

// contextValue renders one field of the context object.
func (v *visit) contextValue(field contextField) json.RawMessage {
	e := &v.run.execution
	switch field {
	case contextExecutionID:
		return quote(e.ID)
	case contextExecutionName:
		return quote(e.Name)
	case contextExecutionInput:
		return e.Input
	case contextExecutionStartTime:
		return quote(e.StartTime.UTC().Format(contextTimeFormat))
	case contextStateName:
		return quote(v.state.name)
	case contextStateEnteredTime:
		return quote(v.entered.UTC().Format(contextTimeFormat))
	case contextStateRetryCount:
		return strconv.AppendInt(nil, int64(v.retries), 10)
	case contextMachineName:
		return quote(e.MachineName)
	}
	return v.itemValue(field)
}

func (v *visit) itemValue(field contextField) json.RawMessage {
	switch {
	case v.item == nil:
		return nullValue
	case field == contextMapItemIndex:
		return strconv.AppendInt(nil, int64(v.item.index), 10)
	}
	return v.item.value
}
