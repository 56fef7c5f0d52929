package asl

import (
	"context"
	"encoding/json"
	"math"
	"time"
)

// recovery is what Task and Map do around their work: shape its result, try again, give up to another state.
type recovery struct {
	selector   *template
	resultPath resultPath
	retry      []retrier
	catch      []catcher
}

// attempt does a state's work once. Its result is complete JSON within the payload limit.
type attempt interface {
	attempt(ctx context.Context, v *visit) (json.RawMessage, *halt)
}

// retrier repeats work that failed with one of its errors; delays are in seconds.
type retrier struct {
	errorEquals []string
	interval    float64
	maxDelay    float64
	backoffRate float64
	attempts    int
	fullJitter  bool
}

// catcher leads on to another state when work failed with one of its errors for good.
type catcher struct {
	errorEquals []string
	next        *state
	resultPath  resultPath
}

// delay is the wait before retry n, counted from 0.
func (t retrier) delay(n int, random func() float64) time.Duration {
	delay := min(t.interval*math.Pow(t.backoffRate, float64(n)), t.maxDelay)
	if t.fullJitter {
		delay *= random()
	}
	return seconds(delay)
}

// guarded is a Task or a Map.
type guarded struct {
	recovery
	attempt attempt
}

func (g *guarded) step(ctx context.Context, v *visit) (json.RawMessage, *state, *halt) {
	result, h := g.persist(ctx, v)
	if h == nil {
		return v.output(result, v.state.next)
	}
	if h.cause == nil {
		return nil, nil, h
	}
	if v.state.kind == kindMap {
		failed := Event{Type: EventMapFailed, State: v.state.name, Error: h.cause.Name, Cause: h.cause.Cause}
		if refused := v.run.record(ctx, failed); refused != nil {
			return nil, nil, refused
		}
	}
	return g.rescue(v, h.cause)
}

// persist tries until success, or until no retrier has an attempt left. Each retrier counts on its own.
func (g *guarded) persist(ctx context.Context, v *visit) (json.RawMessage, *halt) {
	used := make([]int, len(g.retry))
	for {
		result, h := g.once(ctx, v)
		if h == nil || h.cause == nil {
			return result, h
		}
		i := g.retrierOf(h.cause)
		if i < 0 || used[i] >= g.retry[i].attempts {
			return nil, h
		}
		v.run.options.Sleep(ctx, max(g.retry[i].delay(used[i], v.run.options.Rand), h.cause.RetryAfter))
		if ctx.Err() != nil {
			return nil, &halt{}
		}
		used[i]++
		v.retries++
	}
}

// retrierOf is the first retrier that names the error; a later one never stands in for one that is used up.
func (g *guarded) retrierOf(err *Error) int {
	for i, t := range g.retry {
		if matches(t.errorEquals, err) {
			return i
		}
	}
	return -1
}

// once makes one attempt and shapes its result into the state's output before OutputPath.
func (g *guarded) once(ctx context.Context, v *visit) (json.RawMessage, *halt) {
	result, h := g.attempt.attempt(ctx, v)
	if h != nil {
		return nil, h
	}
	selected, err := g.selector.render(result, v)
	if err != nil {
		return nil, v.run.fatal(err)
	}
	merged, ok := g.resultPath.apply(v.input, selected)
	if !ok {
		return nil, &halt{cause: resultPathError(v)}
	}
	if err := v.run.within(v, "output", merged); err != nil {
		return nil, &halt{cause: err}
	}
	return merged, nil
}

// rescue finds the catcher for a failure. What it passes on is not subject to OutputPath.
func (g *guarded) rescue(v *visit, failure *Error) (json.RawMessage, *state, *halt) {
	for _, c := range g.catch {
		if !matches(c.errorEquals, failure) {
			continue
		}
		output, ok := c.resultPath.apply(v.input, errorOutput(failure))
		if !ok {
			return nil, nil, &halt{cause: resultPathError(v)}
		}
		return output, c.next, nil
	}
	return nil, nil, &halt{cause: failure}
}

// errorOutput is what Catch merges into the input.
func errorOutput(err *Error) json.RawMessage {
	return splice([]byte(`{"Error":`), quote(err.Name), []byte(`,"Cause":`), quote(err.Cause), []byte(`}`))
}
