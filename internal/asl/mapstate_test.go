package asl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
)

// mapOver is a file whose Map A runs task I on every item; fields are the Map's further ones.
func mapOver(fields string) string {
	return states(`"A": {"Type": "Map", ` + fields + ` "End": true, "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"},
		"StartAt": "I", "States": {"I": {"Type": "Task", "Resource": "${F}", "End": true}}}}, "B": {"Type": "Succeed"}`)
}

// mapAlone is mapOver without a second state.
func mapAlone(fields string) string {
	return strings.Replace(mapOver(fields), `, "B": {"Type": "Succeed"}`, "", 1)
}

// numbers is the JSON array of 0 to n-1.
func numbers(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// Items come from ItemsPath, their shape from ItemSelector; results stand in item order whatever ended first.
func TestMapData(t *testing.T) {
	for name, tc := range map[string]struct{ fields, input, output string }{
		"input is the array": {``, `[1,"two",[3],{"four":4}]`, `[1,"two",[3],{"four":4}]`},
		"empty":              {``, `[]`, `[]`},
		"ItemsPath":          {`"InputPath": "$.o", "ItemsPath": "$.list",`, `{"o": {"list": [1, 2]}}`, `[1,2]`},
		"context ItemsPath":  {`"ItemsPath": "$$.Execution.Input.l",`, `{"l": [1]}`, `[1]`},
		"ItemSelector": {`"ItemsPath": "$.l", "ItemSelector": {"i.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value.x", "s.$": "$.s",
			"in.$": "$$.State.Name"},`, `{"l": [{"x": 7}], "s": "shared"}`, `[{"i":0,"v":7,"s":"shared","in":"A"}]`},
		"ResultPath and ResultSelector": {`"ItemsPath": "$.l", "ResultSelector": {"all.$": "$", "first.$": "$[0]"}, "ResultPath": "$.r",`,
			`{"l": [5, 6]}`, `{"l":[5,6],"r":{"all":[5,6],"first":5}}`},
		"ResultPath null": {`"ItemsPath": "$.l", "ResultPath": null,`, `{"l": [5]}`, `{"l":[5]}`},
		"concurrency 0":   {`"ItemsPath": "$.l", "MaxConcurrencyPath": "$.c",`, `{"l": [5], "c": 0}`, `[5]`},
	} {
		t.Run(name, func(t *testing.T) {
			result, _ := run(t, mapAlone(tc.fields), tc.input, handlers{"F": echo})
			wantOutput(t, result, tc.output)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		slowFirst := func(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
			n := 0
			err := json.Unmarshal(input, &n)
			time.Sleep(time.Duration(10-n) * time.Second)
			return input, err
		}
		result := load(t, mapAlone(""), handlers{"F": slowFirst}).
			Run(t.Context(), asl.Execution{Input: json.RawMessage(numbers(10))}, asl.Options{})
		wantOutput(t, result, numbers(10))
	})
}

// At most MaxConcurrency iterations run at once, and never more than an inline Map may have; all of them are used.
func TestMapConcurrency(t *testing.T) {
	for fields, want := range map[string]int64{
		`"MaxConcurrency": 1,`:   1,
		`"MaxConcurrency": 3,`:   3,
		`"MaxConcurrency": 0,`:   asl.MaxMapConcurrency,
		``:                       asl.MaxMapConcurrency,
		`"MaxConcurrency": 400,`: asl.MaxMapConcurrency,
		`"ItemsPath": "$$.Execution.Input.l", "MaxConcurrencyPath": "$.c",`: 5,
	} {
		synctest.Test(t, func(t *testing.T) {
			var now, most atomic.Int64
			f := func(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				now.Add(-1)
				return input, nil
			}
			input := numbers(100)
			if strings.Contains(fields, "$.c") {
				input = `{"c": 5, "l": ` + input + `}`
			}
			start := time.Now()
			result := load(t, mapAlone(fields), handlers{"F": f}).
				Run(t.Context(), asl.Execution{Input: json.RawMessage(input)}, asl.Options{})
			wantOutput(t, result, numbers(100))
			if rounds := (99 + want) / want; most.Load() != want || time.Since(start) != time.Duration(rounds)*time.Second {
				t.Errorf("%s: %d at once in %v, want %d", fields, most.Load(), time.Since(start), want)
			}
		})
	}
}

// The first failure ends the other iterations, starts no more, and is the Map's error; the history closes what was open.
func TestMapFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, cancelled atomic.Int64
		f := func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
			calls.Add(1)
			if string(input) == "1" {
				time.Sleep(time.Second)
				return nil, &asl.Error{Name: "One", Cause: "failed"}
			}
			<-ctx.Done()
			cancelled.Add(1)
			return nil, ctx.Err()
		}
		o := &observed{}
		result := load(t, mapAlone(`"MaxConcurrency": 3,`), handlers{"F": f}).
			Run(t.Context(), asl.Execution{Input: json.RawMessage(numbers(50))}, asl.Options{Observe: o.observe})
		wantError(t, result, asl.Failed, "One", "failed")
		if calls.Load() != 3 || cancelled.Load() != 2 {
			t.Errorf("%d calls, %d cancelled", calls.Load(), cancelled.Load())
		}
		want := []string{
			"LambdaFunctionFailed", "MapIterationFailed A#1", "TaskStateAborted I", "MapIterationAborted A#0", "TaskStateAborted I",
			"MapIterationAborted A#2", "TaskStateAborted I", "MapStateFailed A", "ExecutionFailed",
		}
		o.lines = o.lines[len(o.lines)-len(want):]
		o.want(t, want...)
	})
}

// Several iterations may fail at the same moment; the Map fails once.
func TestMapFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(context.Context, json.RawMessage) (json.RawMessage, error) {
			time.Sleep(time.Second)
			return nil, &asl.Error{Name: "X"}
		}
		o := &observed{}
		result := load(t, mapAlone(``), handlers{"F": f}).
			Run(t.Context(), asl.Execution{Input: json.RawMessage(numbers(20))}, asl.Options{Observe: o.observe})
		wantError(t, result, asl.Failed, "X", "")
		if failed, aborted := o.count(asl.EventMapIterationFailed), o.count(asl.EventMapIterationAborted); failed != 1 || aborted != 19 {
			t.Errorf("%d iterations failed, %d aborted", failed, aborted)
		}
		last := -1
		for _, e := range o.events {
			if e.Type == asl.EventMapIterationAborted && e.Iteration <= last {
				t.Errorf("iteration %d is closed after %d", e.Iteration, last)
			} else if e.Type == asl.EventMapIterationAborted {
				last = e.Iteration
			}
		}
	})
}

// A Map's Retry runs all items again and its Catch goes on elsewhere; what its states catch themselves is no failure.
func TestMapRecovery(t *testing.T) {
	frame := []string{"ExecutionStarted", "MapStateEntered A"}
	iteration := []string{
		"MapStateStarted A", "MapIterationStarted A#0", "TaskStateEntered I", "LambdaFunctionScheduled", "LambdaFunctionStarted",
	}
	failed := append(iteration, "LambdaFunctionFailed", "MapIterationFailed A#0", "TaskStateAborted I")
	succeeded := append(iteration[:5:5], "LambdaFunctionSucceeded", "TaskStateExited I", "MapIterationSucceeded A#0", "MapStateSucceeded A")
	caught := append(failed[:8:8], "MapStateFailed A", "MapStateExited A", "SucceedStateEntered B", "SucceedStateExited B")
	for name, tc := range map[string]struct {
		file string
		want [][]string
	}{
		"retry": {mapAlone(`"Retry": [{"ErrorEquals": ["X"]}],`), [][]string{frame, failed, succeeded, {"MapStateExited A"}}},
		"catch": {mapOver(`"Catch": [{"ErrorEquals": ["X"], "Next": "B"}],`), [][]string{frame, caught}},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := run(t, tc.file, `[1]`, handlers{"F": (&failures{names: []string{"X"}}).handle})
			var want []string
			for _, part := range tc.want {
				want = append(want, part...)
			}
			o.want(t, append(want, "ExecutionSucceeded")...)
		})
	}
	inner := states(`"A": {"Type": "Map", "End": true, "ItemProcessor": {"StartAt": "I", "States": {
		"I": {"Type": "Task", "Resource": "${F}", "Next": "J", "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": null, "Next": "J"}]},
		"J": {"Type": "Pass", "Parameters": {"item.$": "$", "index.$": "$$.Map.Item.Index"}, "End": true}}}}`)
	result, _ := run(t, inner, `[7,8]`, handlers{"F": failing("X")})
	wantOutput(t, result, `[{"item":7,"index":0},{"item":8,"index":1}]`)
}

// Maps nest: each shows its own item, results nest in order, and an outer failure closes inner Maps too.
func TestNestedMaps(t *testing.T) {
	file := states(`"A": {"Type": "Map", "MaxConcurrency": 2, "End": true, "ItemProcessor": {"StartAt": "M", "States": {
		"M": {"Type": "Map", "ItemsPath": "$$.Map.Item.Value", "MaxConcurrency": 1, "End": true,
			"ItemSelector": {"v.$": "$$.Map.Item.Value", "i.$": "$$.Map.Item.Index"},
			"ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Task", "Resource": "${F}", "End": true}}}}}}}`)
	result, _ := run(t, file, `[[1,2],[],[3]]`, handlers{"F": echo})
	wantOutput(t, result, `[[{"v":1,"i":0},{"v":2,"i":1}],[],[{"v":3,"i":0}]]`)

	synctest.Test(t, func(t *testing.T) {
		f := func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
			if strings.Contains(string(input), `"v":"bad"`) {
				time.Sleep(time.Second)
				return nil, &asl.Error{Name: "Bad"}
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		o := &observed{}
		result := load(t, file, handlers{"F": f}).
			Run(t.Context(), asl.Execution{Input: json.RawMessage(`[["bad"],["good"]]`)}, asl.Options{Observe: o.observe})
		wantError(t, result, asl.Failed, "Bad", "")
		want := []string{
			"LambdaFunctionFailed", "MapIterationFailed M#0", "TaskStateAborted I", "MapStateFailed M", "MapIterationFailed A#0",
			"MapIterationAborted A#1", "MapStateAborted M", "MapIterationAborted M#0", "TaskStateAborted I",
			"MapStateFailed A", "ExecutionFailed",
		}
		o.lines = o.lines[len(o.lines)-len(want):]
		o.want(t, want...)
	})
}

// Aborting or timing out an execution ends the handlers of all iterations; the history ends there, as on AWS.
func TestMapAborted(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout string
		status  asl.Status
		last    string
	}{
		"aborted":   {``, asl.Aborted, asl.EventExecutionAborted},
		"timed out": {`"TimeoutSeconds": 1, `, asl.TimedOut, asl.EventExecutionTimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var running atomic.Int64
				f := func(ctx context.Context, _ json.RawMessage) (json.RawMessage, error) {
					defer running.Add(-1)
					running.Add(1)
					<-ctx.Done()
					return nil, &asl.Error{Name: "X"}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				o := &observed{}
				file := strings.Replace(mapAlone(`"Retry": [{"ErrorEquals": ["States.ALL"]}],`), `{`, `{`+tc.timeout, 1)
				result := load(t, file, handlers{"F": f}).Run(ctx, asl.Execution{Input: json.RawMessage(numbers(9))}, asl.Options{Observe: o.observe})
				if result.Status != tc.status || running.Load() != 0 {
					t.Errorf("%s, %d handlers running", result.Status, running.Load())
				}
				if o.lines[len(o.lines)-1] != tc.last || o.count("TaskStateAborted")+o.count(asl.EventLambdaFailed) != 0 {
					t.Errorf("history %q", o.lines)
				}
			})
		})
	}
}
