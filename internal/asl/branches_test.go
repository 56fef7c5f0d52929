package asl_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
)

// atWork counts the branches of a run that do not sleep.
type atWork struct{ n atomic.Int64 }

func (a *atWork) options() asl.Options {
	a.n.Store(1)
	return asl.Options{
		Branches: func(change int) { a.n.Add(int64(change)) },
		Sleep: func(ctx context.Context, d time.Duration) {
			a.n.Add(-1)
			defer a.n.Add(1)
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		},
	}
}

// The change in the number of branches, together with the sleeps, tells at each moment how many branches are at work:
// with Maps within Maps, empty ones, iterations that end, retry, wait and fail. A run ends with the one it began with.
func TestBranchesAtWork(t *testing.T) {
	const (
		item  = `{"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "W", "States": {`
		waits = `"W": {"Type": "Wait", "SecondsPath": "$", "Next": "F"}, "F": {"Type": "Task", "Resource": "${F}", "End": true,
			"Retry": [{"ErrorEquals": ["Again"], "IntervalSeconds": 100, "MaxAttempts": 1}]}}}`
		inner = `{"Type": "Map", "ItemProcessor": ` + item + waits + `, "End": true`
	)
	for name, tc := range map[string]struct {
		machine, input string
		idle           []time.Duration // moments at which nothing is at work
		busy           map[time.Duration]int64
	}{
		"one after the other": {`"A": ` + inner + `, "MaxConcurrency": 1}`, `[10, 10]`, []time.Duration{5 * time.Second, 16 * time.Second}, map[time.Duration]int64{11 * time.Second: 1}},
		"side by side":        {`"A": ` + inner + `}`, `[10, 11, 30]`, []time.Duration{5 * time.Second, 25 * time.Second}, map[time.Duration]int64{12 * time.Second: 2}},
		"empty":               {`"A": ` + inner + `}`, `[]`, nil, nil},
		"within each other": {`"A": {"Type": "Map", "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "B", "States": {"B": ` + inner + `}}}, "End": true}`,
			`[[10, 20], [], [30]]`, []time.Duration{5 * time.Second, 17 * time.Second, 27 * time.Second}, map[time.Duration]int64{31 * time.Second: 1}},
		"retried": {`"A": ` + inner + `}`, `[1, 40]`, []time.Duration{20 * time.Second, 50 * time.Second, 100 * time.Second}, map[time.Duration]int64{3 * time.Second: 1, 42 * time.Second: 1}},
		"one fails and stops the others": {`"A": ` + inner + `, "Catch": [{"ErrorEquals": ["Broken"], "Next": "C"}]}, "C": {"Type": "Wait", "Seconds": 9, "Next": "D"}, "D": {"Type": "Pass", "End": true}`,
			`[2, 2000, 3000]`, []time.Duration{time.Second, 8 * time.Second}, map[time.Duration]int64{3 * time.Second: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var count atWork
				var calls, calling atomic.Int64
				f := func(context.Context, json.RawMessage) (json.RawMessage, error) {
					calling.Add(1)
					defer calling.Add(-1)
					time.Sleep(5 * time.Second)
					switch n := calls.Add(1); {
					case name == "retried" && n <= 2:
						return nil, &asl.Error{Name: "Again"}
					case name == "one fails and stops the others":
						return nil, &asl.Error{Name: "Broken"}
					}
					return nil, nil
				}
				m := load(t, states(tc.machine), handlers{"F": f})
				begin := time.Now()
				look := func(after time.Duration, want int64) {
					time.AfterFunc(after, func() {
						if got := count.n.Load(); got != want || got != calling.Load() {
							t.Errorf("%d branches at work after %v while %d work, want %d", got, time.Since(begin), calling.Load(), want)
						}
					})
				}
				for _, after := range tc.idle {
					look(after, 0)
				}
				for after, want := range tc.busy {
					look(after, want)
				}
				result := m.Run(t.Context(), asl.Execution{Input: json.RawMessage(tc.input)}, count.options())
				if result.Status != asl.Succeeded {
					t.Fatal(result.Error, result.Cause)
				}
				if last := count.n.Load(); last != 1 {
					t.Errorf("ends with %d branches at work", last)
				}
				time.Sleep(time.Hour) // whatever looks too late fails
			})
		})
	}
}
