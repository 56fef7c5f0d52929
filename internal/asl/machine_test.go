package asl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sitevault/sitevault/internal/asl"
)

// handlers is the registry of a test.
type handlers = map[string]asl.Handler

// echo returns its input.
func echo(_ context.Context, input json.RawMessage) (json.RawMessage, error) { return input, nil }

// returning always answers with the same result.
func returning(result string) asl.Handler {
	return func(context.Context, json.RawMessage) (json.RawMessage, error) { return json.RawMessage(result), nil }
}

// failing always fails with the named error.
func failing(name string) asl.Handler {
	return func(context.Context, json.RawMessage) (json.RawMessage, error) {
		return nil, fmt.Errorf("step: %w", &asl.Error{Name: name, Cause: "because"})
	}
}

// failures fails with one name after the other, then returns its input; it counts its calls.
type failures struct {
	mu    sync.Mutex
	names []string
	calls int
}

func (f *failures) handle(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls <= len(f.names) {
		return nil, &asl.Error{Name: f.names[f.calls-1]}
	}
	return input, nil
}

func load(t testing.TB, file string, h handlers) *asl.Machine {
	t.Helper()
	m, err := asl.Load([]byte(file), h)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// states wraps the members of States into a file that starts at A.
func states(members string) string { return `{"StartAt": "A", "States": {` + members + `}}` }

// observed collects a history as "type", "type name" or "type name#iteration" lines.
type observed struct {
	lines  []string
	events []asl.Event
}

func (o *observed) observe(e asl.Event) {
	line := e.Type
	if e.State != "" && !strings.HasPrefix(e.Type, "Lambda") {
		line += " " + e.State
	}
	if strings.HasPrefix(e.Type, "MapIteration") {
		line += fmt.Sprintf("#%d", e.Iteration)
	}
	o.lines = append(o.lines, line)
	o.events = append(o.events, e)
}

func (o *observed) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(o.lines, want) {
		t.Errorf("history:\n%s\nwant:\n%s", strings.Join(o.lines, "\n"), strings.Join(want, "\n"))
	}
}

func (o *observed) count(eventType string) int {
	n := 0
	for _, e := range o.events {
		if e.Type == eventType {
			n++
		}
	}
	return n
}

// run executes the file once without waiting for anything, checking what must hold of every execution's history.
func run(t *testing.T, file, input string, h handlers) (asl.Result, *observed) {
	t.Helper()
	o, clock := &observed{}, newClock()
	result := load(t, file, h).Run(t.Context(), asl.Execution{Name: "e", Input: json.RawMessage(input)},
		asl.Options{Observe: o.observe, Now: clock.now, Sleep: clock.sleep})
	if result.HistoryEvents != len(o.events) {
		t.Errorf("%d events counted, %d observed", result.HistoryEvents, len(o.events))
	}
	for i, e := range o.events {
		if e.ID != i+1 {
			t.Errorf("event %d has id %d", i, e.ID)
		}
	}
	return result, o
}

func wantOutput(t *testing.T, result asl.Result, output string) {
	t.Helper()
	if result.Status != asl.Succeeded || string(result.Output) != output {
		t.Errorf("got %s %s %s: %s, want %s", result.Status, result.Output, result.Error, result.Cause, output)
	}
}

func wantError(t *testing.T, result asl.Result, status asl.Status, name, cause string) {
	t.Helper()
	if result.Status != status || result.Error != name || !strings.Contains(result.Cause, cause) {
		t.Errorf("got %s %s %q, want %s %s ...%s", result.Status, result.Error, result.Cause, status, name, cause)
	}
	if result.Output != nil {
		t.Errorf("a failed execution has output %s", result.Output)
	}
}

// The history of each type of state has the events, in the order, that Step Functions records.
func TestHistory(t *testing.T) {
	taskA := `"A": {"Type": "Task", "Resource": "${F}", `
	for name, tc := range map[string]struct {
		file string
		f    asl.Handler
		want []string
	}{
		"task": {states(taskA + `"End": true}`), echo, []string{
			"TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionSucceeded",
			"TaskStateExited A", "ExecutionSucceeded"}},
		"task fails": {states(taskA + `"End": true}`), failing("X"), []string{
			"TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionFailed",
			"ExecutionFailed"}},
		"task is retried": {
			states(taskA + `"End": true, "Retry": [{"ErrorEquals": ["X"]}]}`), (&failures{names: []string{"X"}}).handle,
			[]string{
				"TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionFailed",
				"LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionSucceeded", "TaskStateExited A",
				"ExecutionSucceeded"}},
		"task is caught": {
			states(taskA + `"End": true, "Catch": [{"ErrorEquals": ["X"], "Next": "B"}]}, "B": {"Type": "Pass", "End": true}`),
			failing("X"), []string{
				"TaskStateEntered A", "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionFailed",
				"TaskStateExited A", "PassStateEntered B", "PassStateExited B", "ExecutionSucceeded"}},
		"choice, wait, succeed": {
			states(`"A": {"Type": "Choice", "Choices": [{"Variable": "$.n", "IsPresent": true, "Next": "B"}], "Default": "C"},
				"B": {"Type": "Succeed"}, "C": {"Type": "Wait", "Seconds": 0, "Next": "B"}`), echo, []string{
				"ChoiceStateEntered A", "ChoiceStateExited A", "WaitStateEntered C", "WaitStateExited C",
				"SucceedStateEntered B", "SucceedStateExited B", "ExecutionSucceeded"}},
		"fail": {states(`"A": {"Type": "Fail"}`), echo, []string{"FailStateEntered A", "ExecutionFailed"}},
		"path selects nothing": {states(taskA + `"InputPath": "$.none", "End": true}`), echo, []string{
			"TaskStateEntered A", "ExecutionFailed"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := run(t, tc.file, `{}`, handlers{"F": tc.f})
			o.want(t, append([]string{"ExecutionStarted"}, tc.want...)...)
		})
	}
}

// Events carry what a printed history needs: state, payloads and the failure.
func TestEventContents(t *testing.T) {
	file := states(`"A": {"Type": "Task", "Resource": "${F}", "Parameters": {"n.$": "$.n"}, "ResultPath": "$.r", "Next": "B"},
		"B": {"Type": "Fail", "Error": "E", "Cause": "c"}`)
	_, o := run(t, file, `{"n": 1}`, handlers{"F": returning(`[ 2 ]`)})
	got := ""
	for _, e := range o.events {
		if e.Time.IsZero() {
			t.Errorf("event %d has no time", e.ID)
		}
		got += fmt.Sprintf("%s|%s|%s|%s|%s\n", e.Type, e.State, e.Payload, e.Error, e.Cause)
	}
	want := `ExecutionStarted||{"n":1}||
TaskStateEntered|A|{"n":1}||
LambdaFunctionScheduled|A|{"n":1}||
LambdaFunctionStarted|A|||
LambdaFunctionSucceeded|A|[2]||
TaskStateExited|A|{"n":1,"r":[2]}||
FailStateEntered|B|{"n":1,"r":[2]}||
ExecutionFailed|||E|c
`
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// Data flows through a state in the order InputPath, Parameters, task, ResultSelector, ResultPath, OutputPath.
func TestDataFlow(t *testing.T) {
	for name, tc := range map[string]struct{ fields, input, output string }{
		"nothing":                   {``, `{"a": 1}`, `{"a":1}`},
		"numbers keep their digits": {``, `{"a": 12345678901234567890.10}`, `{"a":12345678901234567890.10}`},
		"InputPath":                 {`"InputPath": "$.a"`, `{"a": {"b": 1}}`, `{"b":1}`},
		"InputPath null":            {`"InputPath": null`, `{"a": 1}`, `{}`},
		"InputPath bracket name":    {`"InputPath": "$['a b'].c"`, `{"a b": {"c": 1}}`, `1`},
		"InputPath index":           {`"InputPath": "$.a[1][0]"`, `{"a": [0, [7]]}`, `7`},
		"InputPath escaped key":     {`"InputPath": "$.ab"`, `{"\u0061b": 3}`, `3`},
		"OutputPath":                {`"OutputPath": "$.a"`, `{"a": 1}`, `1`},
		"OutputPath null":           {`"OutputPath": null`, `{"a": 1}`, `{}`},
		"Parameters": {
			`"Parameters": {"k": "v", "n.$": "$.a", "o": {"deep.$": "$"}, "l": [1, {"x.$": "$.a"}]}`, `{"a": 1}`,
			`{"k":"v","n":1,"o":{"deep":{"a":1}},"l":[1,{"x":1}]}`},
		"Parameters empty":                {`"Parameters": {}`, `{"a": 1}`, `{}`},
		"Parameters index past the end":   {`"Parameters": {"x.$": "$.a[9]"}`, `{"a": [1]}`, `{"x":null}`},
		"Parameters see InputPath":        {`"InputPath": "$.a", "Parameters": {"x.$": "$.b"}`, `{"a": {"b": 2}}`, `{"x":2}`},
		"ResultSelector":                  {`"ResultSelector": {"r.$": "$.a"}`, `{"a": 1, "b": 2}`, `{"r":1}`},
		"ResultPath null":                 {`"InputPath": "$.b", "ResultPath": null`, `{"a": 1, "b": 2}`, `{"a":1,"b":2}`},
		"ResultPath $":                    {`"InputPath": "$.b", "ResultPath": "$"`, `{"a": 1, "b": 2}`, `2`},
		"ResultPath joins the raw input":  {`"InputPath": "$.b", "ResultPath": "$.c"`, `{"b": 2}`, `{"b":2,"c":2}`},
		"ResultPath replaces":             {`"InputPath": "$.b", "ResultPath": "$.a"`, `{"a": 1, "b": 2}`, `{"a":2,"b":2}`},
		"ResultPath makes what is absent": {`"InputPath": "$.b", "ResultPath": "$.x.y"`, `{"b": 2}`, `{"b":2,"x":{"y":2}}`},
		"ResultPath goes deep":            {`"InputPath": "$.b", "ResultPath": "$.x.y"`, `{"x": {"z": 1}, "b": 2}`, `{"x":{"z":1,"y":2},"b":2}`},
		"ResultPath into an empty object": {`"InputPath": "$$.Execution.Name", "ResultPath": "$.x"`, `{}`, `{"x":"e"}`},
	} {
		t.Run(name, func(t *testing.T) {
			fields := tc.fields
			if fields != "" {
				fields += ","
			}
			file := states(`"A": {"Type": "Task", "Resource": "${F}", ` + fields + `"End": true}`)
			result, _ := run(t, file, tc.input, handlers{"F": echo})
			wantOutput(t, result, tc.output)
			if strings.Contains(fields, "ResultSelector") {
				return
			}
			result, _ = run(t, states(`"A": {"Type": "Pass", `+fields+`"End": true}`), tc.input, nil)
			wantOutput(t, result, tc.output)
		})
	}
}

// Without input an execution begins with the empty object; Pass can state its own result.
func TestPassResult(t *testing.T) {
	result, _ := run(t, states(`"A": {"Type": "Pass", "Result": {"x.$": "$.literal"}, "ResultPath": "$.r", "End": true}`), ``, nil)
	wantOutput(t, result, `{"r":{"x.$":"$.literal"}}`)
}

// What paths and values cannot give ends the execution with States.Runtime, past every Retry and Catch.
func TestRuntimeErrors(t *testing.T) {
	guard := `"Retry": [{"ErrorEquals": ["States.ALL"]}],
		"Catch": [{"ErrorEquals": ["States.Runtime"], "Next": "Z"}, {"ErrorEquals": ["States.ALL"], "Next": "Z"}], "End": true},
		"Z": {"Type": "Pass", "End": true}`
	taskA := `"A": {"Type": "Task", "Resource": "${F}", `
	processor := `"ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Pass", "End": true}}}, `
	for name, tc := range map[string]struct{ file, cause string }{
		"InputPath":      {taskA + `"InputPath": "$.none", ` + guard, "InputPath $.none selects nothing"},
		"OutputPath":     {taskA + `"OutputPath": "$.s.x", ` + guard, "OutputPath $.s.x selects nothing"},
		"Parameters":     {taskA + `"Parameters": {"p.$": "$.l.x"}, ` + guard, `path $.l.x of field "p.$" selects nothing`},
		"past the end":   {taskA + `"Parameters": {"p.$": "$.l[1].x"}, ` + guard, "path $.l[1].x of field"},
		"input index":    {taskA + `"InputPath": "$.l[1]", ` + guard, "InputPath $.l[1] selects nothing"},
		"ResultSelector": {taskA + `"ResultSelector": {"p.$": "$.none"}, ` + guard, `path $.none of field "p.$" selects nothing`},
		"timeout":        {taskA + `"TimeoutSecondsPath": "$.s", ` + guard, "TimeoutSecondsPath $.s selects no integer"},
		"timeout 0":      {taskA + `"TimeoutSecondsPath": "$.zero", ` + guard, "TimeoutSecondsPath $.zero selects no integer"},
		"items":          {`"A": {"Type": "Map", ` + processor + `"ItemsPath": "$.s", ` + guard, "ItemsPath selects no array"},
		"no items":       {`"A": {"Type": "Map", ` + processor + `"ItemsPath": "$.none", ` + guard, "ItemsPath selects no array"},
		"concurrency":    {`"A": {"Type": "Map", ` + processor + `"ItemsPath": "$.l", "MaxConcurrencyPath": "$.minus", ` + guard, "MaxConcurrencyPath $.minus"},
		"item selector": {`"A": {"Type": "Map", ` + processor + `"ItemsPath": "$.l", "ItemSelector": {"p.$": "$.none"}, ` + guard,
			`path $.none of field "p.$" selects nothing`},
		"inside a map": {`"A": {"Type": "Map", "ItemsPath": "$.l", "ItemProcessor": {"StartAt": "I", "States":
			{"I": {"Type": "Pass", "InputPath": "$.none", "End": true}}}, ` + guard, "InputPath $.none selects nothing"},
		"choice variable": {`"A": {"Type": "Choice", "Choices": [{"Variable": "$.none", "IsNull": true, "Next": "Z"}], "Default": "Z"},
			"Z": {"Type": "Succeed"}`, `path $.none of field "Variable" selects nothing`},
		"no choice": {`"A": {"Type": "Choice", "Choices": [{"Variable": "$.s", "IsNull": true, "Next": "Z"}]},
			"Z": {"Type": "Succeed"}`, "no rule matches and there is no Default"},
		"error path":     {`"A": {"Type": "Fail", "ErrorPath": "$.zero"}`, "ErrorPath $.zero selects no string"},
		"seconds":        {`"A": {"Type": "Wait", "SecondsPath": "$.minus", "End": true}`, "SecondsPath $.minus selects no integer"},
		"seconds broken": {`"A": {"Type": "Wait", "SecondsPath": "$.half", "End": true}`, "SecondsPath $.half selects no integer"},
		"timestamp":      {`"A": {"Type": "Wait", "TimestampPath": "$.s", "End": true}`, `"text" is not an RFC 3339 timestamp`},
	} {
		t.Run(name, func(t *testing.T) {
			input := `{"s": "text", "l": [1], "zero": 0, "minus": -1, "half": 1.5}`
			result, o := run(t, states(tc.file), input, handlers{"F": echo})
			wantError(t, result, asl.Failed, asl.ErrorRuntime, tc.cause)
			if !strings.HasPrefix(result.Cause, `state "`) {
				t.Errorf("cause %q names no state", result.Cause)
			}
			if last := o.lines[len(o.lines)-1]; last != asl.EventExecutionFailed || strings.Contains(strings.Join(o.lines, " "), "Z") {
				t.Errorf("history %q", o.lines)
			}
		})
	}
}

// The context object shows the execution, the state and the attempt.
func TestContextObject(t *testing.T) {
	flaky := &failures{names: []string{"X", "X"}}
	file := states(`"A": {"Type": "Task", "Resource": "${F}", "End": true,
		"Retry": [{"ErrorEquals": ["X"]}],
		"Parameters": {"id.$": "$$.Execution.Id", "name.$": "$$.Execution.Name", "start.$": "$$.Execution.StartTime",
			"in.$": "$$.Execution.Input.n[0]", "state.$": "$$.State.Name", "entered.$": "$$.State.EnteredTime",
			"retries.$": "$$.State.RetryCount", "machine.$": "$$.StateMachine.Name"}}`)
	m := load(t, file, handlers{"F": flaky.handle})
	clock := newClock()
	result := m.Run(t.Context(), asl.Execution{ID: "arn:e", Name: "e", MachineName: "m", Input: json.RawMessage(`{"n": ["<é>"]}`)},
		asl.Options{Now: clock.now, Sleep: clock.sleep})
	wantOutput(t, result, `{"id":"arn:e","name":"e","start":"2026-01-02T03:04:05.000Z","in":"<é>","state":"A",`+
		`"entered":"2026-01-02T03:04:05.000Z","retries":2,"machine":"m"}`)
}

// A handler's error reaches the machine under its own name if it has one; a panic does not end the process.
func TestHandlerErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		f           asl.Handler
		error, text string
	}{
		"wrapped name": {failing("Named"), "Named", "because"},
		"no name":      {func(context.Context, json.RawMessage) (json.RawMessage, error) { return nil, errors.New("plain") }, "Unhandled", "plain"},
		"own deadline": {func(context.Context, json.RawMessage) (json.RawMessage, error) { return nil, context.DeadlineExceeded }, "Unhandled", "deadline"},
		"panic":        {func(context.Context, json.RawMessage) (json.RawMessage, error) { panic("boom") }, "Unhandled", "panic: boom"},
		"not JSON":     {returning(`{"a":`), "Unhandled", "result is not JSON"},
		"two values":   {returning(`1 2`), "Unhandled", "result is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			result, _ := run(t, states(`"A": {"Type": "Task", "Resource": "${F}", "End": true}`), `{}`, handlers{"F": tc.f})
			wantError(t, result, asl.Failed, tc.error, tc.text)
		})
	}
	result, _ := run(t, states(`"A": {"Type": "Task", "Resource": "${F}", "End": true}`), `{}`, handlers{"F": returning(``)})
	wantOutput(t, result, `null`)
}

// Error and Cause of a Fail state are literal or come from its input.
func TestFail(t *testing.T) {
	for fields, want := range map[string]asl.Error{
		``:                                  {},
		`, "Error": "E", "Cause": "c"`:      {Name: "E", Cause: "c"},
		`, "ErrorPath": "$.e", "Cause": ""`: {Name: "from input"},
		`, "CausePath": "$$.State.Name"`:    {Cause: "A"},
	} {
		result, _ := run(t, states(`"A": {"Type": "Fail"`+fields+`}`), `{"e": "from input"}`, nil)
		if result.Status != asl.Failed || result.Error != want.Name || result.Cause != want.Cause {
			t.Errorf("Fail%s gives %q %q, want %q %q", fields, result.Error, result.Cause, want.Name, want.Cause)
		}
	}
}

// A handler cannot reach other payloads through the slice that it was given or that it returned.
func TestPayloadsAreApart(t *testing.T) {
	shared := json.RawMessage(`{"kept":1}`)
	h := handlers{
		"F": func(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
			_ = append(input, `,"overwritten":true`...)
			return shared, nil
		},
		"G": func(_ context.Context, input json.RawMessage) (json.RawMessage, error) {
			copy(shared, `{"lost":2}`)
			return input, nil
		},
	}
	file := states(`"A": {"Type": "Task", "Resource": "${F}", "InputPath": "$.a", "ResultPath": "$.f", "Next": "B"},
		"B": {"Type": "Task", "Resource": "${G}", "End": true}`)
	result, _ := run(t, file, `{"a": 1, "b": 2}`, h)
	wantOutput(t, result, `{"a":1,"b":2,"f":{"kept":1}}`)
}

// Input that is not JSON starts nothing.
func TestInvalidInput(t *testing.T) {
	result, o := run(t, states(`"A": {"Type": "Pass", "End": true}`), `{`, nil)
	wantError(t, result, asl.Failed, asl.ErrorInvalidInput, "unexpected end")
	o.want(t)
}
