package asl_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/asl"
)

// text is a JSON string of the given size in bytes, quotes included, made of two-byte characters.
func text(sizeBytes int) string {
	pad := strings.Repeat("x", sizeBytes%2)
	return `"` + pad + strings.Repeat("é", (sizeBytes-2)/2) + `"`
}

// Every payload may have exactly the limit in bytes of UTF-8 and not one more.
func TestPayloadLimit(t *testing.T) {
	half := text(asl.MaxPayloadBytes / 2)
	for name, tc := range map[string]struct {
		file, input, result, where string
	}{
		"execution input": {states(`"A": {"Type": "Succeed"}`), text(asl.MaxPayloadBytes + 1), ``, "execution input"},
		"task result": {states(`"A": {"Type": "Task", "Resource": "${F}", "ResultPath": null, "End": true}`), `{}`,
			text(asl.MaxPayloadBytes + 1), `state "A": result`},
		"task input": {states(`"A": {"Type": "Task", "Resource": "${F}", "Parameters": {"a.$": "$", "b.$": "$"}, "End": true}`),
			half, `1`, `state "A": input`},
		"task output": {states(`"A": {"Type": "Task", "Resource": "${F}", "ResultPath": "$.r", "End": true}`),
			`{"a":` + half + `}`, half, `state "A": output`},
		"pass output": {states(`"A": {"Type": "Pass", "Parameters": {"a.$": "$", "b.$": "$"}, "End": true}`), half, ``, `state "A": output`},
		"map result":  {mapAlone(""), `[1,2]`, half, `state "A": result`},
		"map item": {mapAlone(`"ItemSelector": {"a.$": "$", "b.$": "$"},`), `[` + half + `]`, `1`,
			`state "A": item`},
		"catch output": {states(`"A": {"Type": "Task", "Resource": "${F}", "ResultPath": "$.r", "End": true,
			"Catch": [{"ErrorEquals": ["States.DataLimitExceeded"], "ResultPath": "$.e", "Next": "B"}]}, "B": {"Type": "Succeed"}`),
			`{"a":` + text(asl.MaxPayloadBytes-6) + `}`, `1`, `state "A": output`},
	} {
		t.Run(name, func(t *testing.T) {
			result, _ := run(t, tc.file, tc.input, handlers{"F": returning(tc.result)})
			wantError(t, result, asl.Failed, asl.ErrorDataLimitExceeded, tc.where+" of ")
		})
	}
	full := text(asl.MaxPayloadBytes)
	result, _ := run(t, states(`"A": {"Type": "Task", "Resource": "${F}", "Next": "B"}, "B": {"Type": "Succeed"}`), full, handlers{"F": echo})
	wantOutput(t, result, full)
	if result.LargestPayloadBytes != asl.MaxPayloadBytes {
		t.Errorf("largest payload %d", result.LargestPayloadBytes)
	}
}

// The largest payload is measured without white space, wherever in the flow it was.
func TestLargestPayload(t *testing.T) {
	file := states(`"A": {"Type": "Task", "Resource": "${F}", "ResultPath": null, "End": true}`)
	result, _ := run(t, file, `{ }`, handlers{"F": returning(` [ 1, 2 ] `)})
	if result.LargestPayloadBytes != len(`[1,2]`) {
		t.Errorf("largest payload %d", result.LargestPayloadBytes)
	}
}

// A Map of 1,000 one-task iterations costs 7 events for each and 6 around them, as AWS counts.
func TestMapHistoryCount(t *testing.T) {
	result, _ := run(t, mapAlone(""), numbers(1000), handlers{"F": echo})
	wantOutput(t, result, numbers(1000))
	if want := 7*1000 + 6; result.HistoryEvents != want {
		t.Errorf("%d events, want %d", result.HistoryEvents, want)
	}
}

// A history that would outgrow its limit ends the execution, and the failure is the event that reaches the limit.
func TestHistoryLimit(t *testing.T) {
	endless := states(`"A": {"Type": "Choice", "Choices": [{"Variable": "$.n", "IsNull": true, "Next": "B"}], "Default": "A"}, "B": {"Type": "Succeed"}`)
	for name, tc := range map[string]struct{ file, input string }{
		"loop":        {endless, `{"n":1}`},
		"map":         {mapOver(`"Retry": [{"ErrorEquals": ["States.ALL"]}], "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}],`), numbers(4000)},
		"nested maps": {states(`"A": {"Type": "Map", "End": true, "ItemProcessor": {"StartAt": "M", "States": {"M": {"Type": "Map", "End": true, "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Task", "Resource": "${F}", "End": true}}}}}}}`), `[` + strings.TrimSuffix(strings.Repeat(numbers(100)+",", 40), ",") + `]`},
	} {
		t.Run(name, func(t *testing.T) {
			result, o := run(t, tc.file, tc.input, handlers{"F": echo})
			wantError(t, result, asl.Failed, asl.ErrorRuntime, "25000 events")
			if result.HistoryEvents != asl.MaxHistoryEvents || o.lines[len(o.lines)-1] != asl.EventExecutionFailed {
				t.Errorf("%d events, the last %s", result.HistoryEvents, o.lines[len(o.lines)-1])
			}
		})
	}
}

// An execution may fill its history to the last event if that event is its success.
func TestHistoryLimitExact(t *testing.T) {
	m := load(t, states(`"A": {"Type": "Pass", "End": true}`), nil)
	for limit, want := range map[int]asl.Status{3: asl.Failed, 4: asl.Succeeded, 5: asl.Succeeded} {
		result := m.Run(t.Context(), asl.Execution{}, asl.Options{MaxHistoryEvents: limit})
		if result.Status != want || result.HistoryEvents != min(limit, 4) {
			t.Errorf("limit %d: %s after %d events, want %s", limit, result.Status, result.HistoryEvents, want)
		}
	}
}

// BenchmarkExecution runs a machine of 15 tasks, each adding its result to a payload of about 2 KB.
func BenchmarkExecution(b *testing.B) {
	const transitions = 15
	var members []string
	for i := range transitions {
		next := `"End": true`
		if i < transitions-1 {
			next = fmt.Sprintf(`"Next": "S%d"`, i+1)
		}
		members = append(members, fmt.Sprintf(`"S%d": {"Type": "Task", "Resource": "${F}", "Parameters": {"jobId.$": "$.jobId",
			"attempt.$": "$$.State.RetryCount"}, "ResultPath": "$.results.s%d", %s}`, i, i, next))
	}
	file := strings.Replace(states(strings.Join(members, ",")), `"A"`, `"S0"`, 1)
	m := load(b, file, handlers{"F": echo})
	input := json.RawMessage(`{"jobId":"01JD0000000000000000000000","note":` + text(2000) + `}`)
	b.ReportAllocs()
	for b.Loop() {
		if result := m.Run(b.Context(), asl.Execution{Name: "e", Input: input}, asl.Options{}); result.Status != asl.Succeeded {
			b.Fatal(result)
		}
	}
}

// BenchmarkMap runs 1,000 one-task iterations whose ItemSelector reads the Map's 64 KB input.
func BenchmarkMap(b *testing.B) {
	m := load(b, mapAlone(`"ItemsPath": "$.list", "ItemSelector": {"item.$": "$$.Map.Item.Value", "jobId.$": "$.jobId", "fileId.$": "$.fileId"},
		"MaxConcurrency": 8, "ResultPath": null,`), handlers{"F": echo})
	items := strings.TrimSuffix(strings.Repeat(`{"first":1,"last":10,"batchId":"01JD0000000000000000000000"},`, 1000), ",")
	input := json.RawMessage(`{"jobId":"j","list":[` + items + `],"fileId":"f"}`)
	b.ReportAllocs()
	for b.Loop() {
		if result := m.Run(b.Context(), asl.Execution{Name: "e", Input: input}, asl.Options{}); result.Status != asl.Succeeded {
			b.Fatal(result)
		}
	}
}
