package asl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
)

func retried(retry string) string {
	return states(`"A": {"Type": "Task", "Resource": "${F}", "End": true, "Retry": [` + retry + `]}`)
}

// The wait before each retry grows by BackoffRate from IntervalSeconds up to MaxDelaySeconds, and MaxAttempts bounds it.
func TestRetryDelays(t *testing.T) {
	for name, tc := range map[string]struct {
		retrier string
		seconds []float64
	}{
		"defaults":      {``, []float64{1, 2, 4}},
		"no attempts":   {`, "MaxAttempts": 0`, nil},
		"constant":      {`, "IntervalSeconds": 5, "BackoffRate": 1.0, "MaxAttempts": 2`, []float64{5, 5}},
		"capped":        {`, "IntervalSeconds": 3, "MaxDelaySeconds": 10, "MaxAttempts": 4`, []float64{3, 6, 10, 10}},
		"fraction":      {`, "BackoffRate": 1.5, "MaxAttempts": 3`, []float64{1, 1.5, 2.25}},
		"no jitter":     {`, "JitterStrategy": "NONE", "MaxAttempts": 2`, []float64{1, 2}},
		"full jitter":   {`, "JitterStrategy": "FULL", "MaxDelaySeconds": 3, "MaxAttempts": 3`, []float64{0.25, 0.5, 0.75}},
		"huge exponent": {`, "BackoffRate": 1e300, "MaxAttempts": 3`, []float64{1, 99_999_999, 99_999_999}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failures{names: slices.Repeat([]string{"X"}, 9)}
			m := load(t, retried(`{"ErrorEquals": ["X"]`+tc.retrier+`}`), handlers{"F": f.handle})
			clock := newClock()
			result := m.Run(t.Context(), asl.Execution{}, asl.Options{
				Now: clock.now, Sleep: clock.sleep, Rand: func() float64 { return 0.25 },
			})
			wantError(t, result, asl.Failed, "X", "")
			var want []time.Duration
			for _, s := range tc.seconds {
				want = append(want, time.Duration(s*float64(time.Second)))
			}
			if !slices.Equal(clock.sleeps, want) || f.calls != len(want)+1 {
				t.Errorf("%d calls, waits %v, want %v", f.calls, clock.sleeps, want)
			}
		})
	}
}

// With the real clock, as a bubble fakes it, retries wait for the same times, and FULL jitter stays below them.
func TestRetryWaitsInRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failures{names: []string{"X", "X"}}
		start := time.Now()
		result := load(t, retried(`{"ErrorEquals": ["X"]}`), handlers{"F": f.handle}).Run(t.Context(), asl.Execution{}, asl.Options{})
		wantOutput(t, result, `{}`)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %v, want 3s", waited)
		}
		f, start = &failures{names: []string{"X", "X"}}, time.Now()
		result = load(t, retried(`{"ErrorEquals": ["X"], "JitterStrategy": "FULL"}`), handlers{"F": f.handle}).
			Run(t.Context(), asl.Execution{}, asl.Options{})
		wantOutput(t, result, `{}`)
		if waited := time.Since(start); waited >= 3*time.Second {
			t.Errorf("waited %v with jitter, want less than 3s", waited)
		}
	})
}

// An error that asks for a longer pause than its Retry has gets it; a shorter one changes nothing.
func TestRetryAfter(t *testing.T) {
	asked := []time.Duration{10 * time.Second, time.Second, 0}
	m := load(t, retried(`{"ErrorEquals": ["X"]}`), handlers{"F": func(context.Context, json.RawMessage) (json.RawMessage, error) {
		if len(asked) == 0 {
			return nil, nil
		}
		after := asked[0]
		asked = asked[1:]
		return nil, &asl.Error{Name: "X", RetryAfter: after}
	}})
	clock := newClock()
	result := m.Run(t.Context(), asl.Execution{}, asl.Options{Now: clock.now, Sleep: clock.sleep})
	if want := []time.Duration{10 * time.Second, 2 * time.Second, 4 * time.Second}; result.Status != asl.Succeeded || !slices.Equal(clock.sleeps, want) {
		t.Errorf("%s after waits %v, want %v", result.Status, clock.sleeps, want)
	}
}

// Each retrier counts its own attempts; the first that names an error alone decides; RetryCount counts them all.
func TestRetriersCountApart(t *testing.T) {
	const two = `{"ErrorEquals": ["X", "Y"], "MaxAttempts": 2}, {"ErrorEquals": ["Z"], "IntervalSeconds": 5}`
	for name, tc := range map[string]struct {
		retry    string
		failures []string
		calls    int
		status   asl.Status
	}{
		"each in its own budget":        {two, []string{"X", "Z", "Y", "Z", "Z"}, 6, asl.Succeeded},
		"the first is used up":          {two, []string{"X", "Y", "Z", "X"}, 4, asl.Failed},
		"a later one does not stand in": {`{"ErrorEquals": ["X"], "MaxAttempts": 1}, {"ErrorEquals": ["States.ALL"]}`, []string{"X", "X"}, 2, asl.Failed},
		"an unnamed error":              {two, []string{"Q"}, 1, asl.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failures{names: tc.failures}
			result, o := run(t, retried(tc.retry), `{}`, handlers{"F": f.handle})
			if f.calls != tc.calls || result.Status != tc.status {
				t.Errorf("%d calls, %s, want %d, %s", f.calls, result.Status, tc.calls, tc.status)
			}
			if n := o.count(asl.EventLambdaScheduled); n != tc.calls {
				t.Errorf("%d scheduled events for %d calls", n, tc.calls)
			}
		})
	}
}

// ErrorEquals matches names exactly; wildcards have their documented gaps.
func TestErrorEquals(t *testing.T) {
	large := `"` + strings.Repeat("x", asl.MaxPayloadBytes) + `"`
	for _, tc := range []struct {
		errorEquals string
		f           asl.Handler
		caught      bool
	}{
		{"X", failing("X"), true},
		{"x", failing("X"), false},
		{"States.ALL", failing("X"), true},
		{"States.TaskFailed", failing("X"), true},
		{"States.ALL", failing(asl.ErrorTimeout), true},
		{"States.Timeout", failing(asl.ErrorTimeout), true},
		{"States.TaskFailed", failing(asl.ErrorTimeout), false},
		{"States.ALL", returning(large), false},
		{"States.TaskFailed", returning(large), false},
		{"States.DataLimitExceeded", returning(large), true},
		{"States.Runtime", failing(asl.ErrorRuntime), false},
		{"States.ALL", failing(asl.ErrorRuntime), false},
		{"Unhandled", returning(`{`), true},
	} {
		file := states(fmt.Sprintf(`"A": {"Type": "Task", "Resource": "${F}", "End": true,
			"Catch": [{"ErrorEquals": [%q], "Next": "B"}]}, "B": {"Type": "Succeed"}`, tc.errorEquals))
		result, _ := run(t, file, `{}`, handlers{"F": tc.f})
		if caught := result.Status == asl.Succeeded; caught != tc.caught {
			t.Errorf("%s: %s %s %.80s, want caught %v", tc.errorEquals, result.Status, result.Error, result.Cause, tc.caught)
		}
	}
}

// A catcher's ResultPath puts the error output into the state's raw input; OutputPath does not touch it.
func TestCatchResultPath(t *testing.T) {
	const output = `{"Error":"X","Cause":"because"}`
	for name, tc := range map[string]struct{ catcher, want string }{
		"absent": {``, output},
		"whole":  {`, "ResultPath": "$"`, output},
		"inside": {`, "ResultPath": "$.e.first"`, `{"in":{"a":1},"e":{"first":` + output + `}}`},
		"null":   {`, "ResultPath": null`, `{"in":{"a":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			file := states(`"A": {"Type": "Task", "Resource": "${F}", "InputPath": "$.in", "OutputPath": "$.none", "End": true,
				"Catch": [{"ErrorEquals": ["Q"], "Next": "C"}, {"ErrorEquals": ["X"], "Next": "B"` + tc.catcher + `}]},
				"B": {"Type": "Succeed"}, "C": {"Type": "Fail", "Error": "wrong catcher"}`)
			result, _ := run(t, file, `{"in": {"a": 1}}`, handlers{"F": failing("X")})
			wantOutput(t, result, tc.want)
		})
	}
}

// A ResultPath that cannot be applied is an error that the state can catch.
func TestResultPathMatchFailure(t *testing.T) {
	file := states(`"A": {"Type": "Task", "Resource": "${F}", "ResultPath": "$.a.b", "End": true,
		"Catch": [{"ErrorEquals": ["States.ResultPathMatchFailure"], "Next": "B"}]}, "B": {"Type": "Succeed"}`)
	result, _ := run(t, file, `{"a": 1}`, handlers{"F": echo})
	if result.Status != asl.Succeeded || !strings.Contains(string(result.Output), asl.ErrorResultPath) {
		t.Errorf("got %s %s %s", result.Status, result.Output, result.Error)
	}
	result, _ = run(t, states(`"A": {"Type": "Pass", "ResultPath": "$.a", "End": true}`), `7`, nil)
	wantError(t, result, asl.Failed, asl.ErrorResultPath, `state "A"`)
}

// A task that outlives its TimeoutSeconds fails as States.Timeout whatever it returns, and its context ends in time.
func TestTaskTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		limit string
		takes time.Duration
		late  bool
	}{
		"in time":   {`"TimeoutSeconds": 5`, 4 * time.Second, false},
		"too long":  {`"TimeoutSeconds": 5`, 6 * time.Second, true},
		"from path": {`"TimeoutSecondsPath": "$.limit"`, 6 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				f := func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
					select {
					case <-time.After(tc.takes):
					case <-ctx.Done():
					}
					return input, nil
				}
				o := &observed{}
				m := load(t, states(`"A": {"Type": "Task", "Resource": "${F}", "End": true, `+tc.limit+`}`), handlers{"F": f})
				result := m.Run(t.Context(), asl.Execution{Input: json.RawMessage(`{"limit":5}`)}, asl.Options{Observe: o.observe})
				if !tc.late {
					wantOutput(t, result, `{"limit":5}`)
					return
				}
				wantError(t, result, asl.Failed, asl.ErrorTimeout, `state "A"`)
				o.want(t, "ExecutionStarted", "TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted",
					"LambdaFunctionTimedOut", "ExecutionFailed")
				if took := time.Since(start); took != 5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// The machine's TimeoutSeconds counts from the execution's start and cannot be caught.
func TestMachineTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		state string
		age   time.Duration
		want  []string
	}{
		"in a task": {`"Type": "Task", "Resource": "${F}", "Retry": [{"ErrorEquals": ["States.ALL"]}]`, 0, []string{
			"ExecutionStarted", "TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted", "ExecutionTimedOut"}},
		"in a wait":      {`"Type": "Wait", "Seconds": 25`, 0, []string{"ExecutionStarted", "WaitStateEntered A", "ExecutionTimedOut"}},
		"after a resume": {`"Type": "Wait", "Seconds": 25`, time.Second, []string{"ExecutionStarted", "WaitStateEntered A", "ExecutionTimedOut"}},
		"already over":   {`"Type": "Wait", "Seconds": 25`, time.Hour, []string{"ExecutionTimedOut"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, o := time.Now(), &observed{}
				f := func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				m := load(t, `{"StartAt": "A", "TimeoutSeconds": 3, "States": {"A": {"End": true, `+tc.state+`}}}`, handlers{"F": f})
				result := m.Run(t.Context(), asl.Execution{StartTime: start.Add(-tc.age)}, asl.Options{Observe: o.observe})
				wantError(t, result, asl.TimedOut, asl.ErrorTimeout, "TimeoutSeconds")
				o.want(t, tc.want...)
				if took := time.Since(start); took != max(0, 3*time.Second-tc.age) {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Ending the context aborts the execution wherever it is, and Run returns only after the handler has.
func TestAbort(t *testing.T) {
	for name, state := range map[string]string{
		"in a task":    `"Type": "Task", "Resource": "${F}", "Retry": [{"ErrorEquals": ["States.ALL"]}]`,
		"in a wait":    `"Type": "Wait", "Seconds": 100`,
		"in a backoff": `"Type": "Task", "Resource": "${X}", "Retry": [{"ErrorEquals": ["X"], "IntervalSeconds": 100}]`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				running := 0
				f := func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) {
					running++
					<-ctx.Done()
					time.Sleep(time.Second) // a handler that needs a moment to stop
					running--
					return nil, ctx.Err()
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(2*time.Second, func() { cancel(fmt.Errorf("stopped by hand")) })
				o := &observed{}
				m := load(t, states(`"A": {"End": true, `+state+`}`), handlers{"F": f, "X": failing("X")})
				result := m.Run(ctx, asl.Execution{}, asl.Options{Observe: o.observe})
				wantError(t, result, asl.Aborted, "", "stopped by hand")
				if last := o.lines[len(o.lines)-1]; last != asl.EventExecutionAborted || running != 0 {
					t.Errorf("history ends with %s, %d handlers running", last, running)
				}
			})
		})
	}
}

// A Wait ends after its seconds or at its time; a time gone by does not wait.
func TestWait(t *testing.T) {
	for fields, want := range map[string]time.Duration{
		`"Seconds": 7`:                               7 * time.Second,
		`"SecondsPath": "$.n"`:                       8 * time.Second,
		`"Timestamp": "2026-01-02T03:04:14Z"`:        9 * time.Second,
		`"Timestamp": "2026-01-02T04:04:15.5+01:00"`: 10500 * time.Millisecond,
		`"TimestampPath": "$.t"`:                     11 * time.Second,
	} {
		clock := newClock()
		m := load(t, states(`"A": {"Type": "Wait", "End": true, `+fields+`}`), nil)
		input := json.RawMessage(`{"n":8,"t":"2026-01-02T03:04:16Z"}`)
		result := m.Run(t.Context(), asl.Execution{Input: input}, asl.Options{Now: clock.now, Sleep: clock.sleep})
		wantOutput(t, result, string(input))
		if !slices.Equal(clock.sleeps, []time.Duration{want}) {
			t.Errorf("%s waits %v, want %v", fields, clock.sleeps, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m := load(t, states(`"A": {"Type": "Wait", "Timestamp": "1999-01-01T00:00:00Z", "End": true}`), nil)
		wantOutput(t, m.Run(t.Context(), asl.Execution{}, asl.Options{}), `{}`)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for a time gone by", waited)
		}
	})
}
