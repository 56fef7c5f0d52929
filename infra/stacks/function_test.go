package stacks_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/infra/stacks"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/statemachine"
)

// everything is a configuration with every function that there can be.
func everything(t *testing.T) stacks.Config {
	t.Helper()
	c, err := stacks.ReadConfig(context(map[string]any{"issuer": "https://issuer.example", "audience": "sitevault"}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each function says why it costs what it costs, and stays within what Lambda and API Gateway allow.
func TestFunctions(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range stacks.Functions(everything(t)) {
		if seen[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		seen[f.Name] = true
		if f.Why == "" || f.MemoryMiB < 128 || f.Timeout < time.Second || f.Timeout > backup.MaxLambdaLife {
			t.Errorf("%+v", f)
		}
		if (f.Name == "create" || f.Name == "status" || strings.HasPrefix(f.Name, "socket-")) && f.Timeout > backup.MaxAPIAnswer {
			t.Errorf("%s goes on after API Gateway has given up", f.Name)
		}
		if variables := slices.Sorted(slices.Values(f.Reads)); len(slices.Compact(variables)) != len(f.Reads) {
			t.Errorf("%s reads a variable twice: %v", f.Name, f.Reads)
		}
	}
}

// task is a Task state of the state machine.
type task struct {
	Resource       string
	TimeoutSeconds int
}

// tasks finds the Task states at any depth.
func tasks(t *testing.T, raw json.RawMessage, found map[string]task) {
	t.Helper()
	var machine struct {
		States map[string]struct {
			Type          string
			ItemProcessor json.RawMessage
			task
		}
	}
	if err := json.Unmarshal(raw, &machine); err != nil {
		t.Fatal(err)
	}
	for name, state := range machine.States {
		if state.Type == "Task" {
			found[name] = state.task
		}
		if state.ItemProcessor != nil {
			tasks(t, state.ItemProcessor, found)
		}
	}
}

// Every Task state has its function and every function of a state its Task, which waits until the function has ended:
// a task given up earlier would be tried again beside the first.
func TestStatesHaveFunctions(t *testing.T) {
	states := map[string]task{}
	tasks(t, statemachine.Backup, states)
	functions := map[string]stacks.Function{}
	for _, f := range stacks.Functions(everything(t)) {
		if f.State != "" {
			functions[f.State] = f
		}
	}
	if want, got := slices.Sorted(maps.Keys(states)), slices.Sorted(maps.Keys(functions)); len(want) < 7 || !slices.Equal(want, got) {
		t.Fatalf("states %v, functions of states %v", want, got)
	}
	for name, state := range states {
		if state.Resource != "${"+name+"}" {
			t.Errorf("%s calls %s", name, state.Resource)
		}
		if f := functions[name]; f.Timeout > time.Duration(state.TimeoutSeconds)*time.Second {
			t.Errorf("%s runs for %s, its state waits %d s", f.Name, f.Timeout, state.TimeoutSeconds)
		}
	}
}

// No backup runs longer than six hours.
func TestMachineEndsAfterSixHours(t *testing.T) {
	var machine struct{ TimeoutSeconds int }
	if err := json.Unmarshal(statemachine.Backup, &machine); err != nil || machine.TimeoutSeconds != 21600 {
		t.Errorf("%d, %v", machine.TimeoutSeconds, err)
	}
}

// What reaches furthest is in few hands. This list is the intent, the table of grants has to follow it.
func TestWhoMayDoWhat(t *testing.T) {
	hands := map[string][]string{
		"states:StartExecution":         {"create", "daily-run", "sweep"},
		"states:StopExecution":          {"clean", "create", "daily-run", "sweep"},
		"secretsmanager:GetSecretValue": {"export-range-upload", "open-upload"},
		"execute-api:ManageConnections": {"socket-message", "stream"},
		"events:PutEvents":              {"stream"},
		"iam:PassRole":                  {"create"},
		"scheduler:CreateSchedule":      {"create"},
		"s3:DeleteObjectVersion":        {"clean", "create", "daily-run", "execution-ended", "finish-job", "open-upload", "stream", "sweep"},
		"s3:PutObject":                  {"complete-multipart", "export-range-upload", "finish-job", "open-upload"},
		"s3:GetObject":                  {"complete-multipart", "export-range-upload", "inspect-archive", "open-upload", "status"},
	}
	for _, f := range stacks.Functions(everything(t)) {
		for _, g := range f.Grants {
			for _, action := range g.Actions {
				if who, listed := hands[action]; listed && !slices.Contains(who, f.Name) {
					t.Errorf("%s may %s", f.Name, action)
				}
				if f.Name == "status" && g.On != stacks.RequestCounts && !slices.Contains(readOnly, action) {
					t.Errorf("status only reads, but may %s", action)
				}
			}
		}
	}
}

// readOnly is what status may do beside counting the requests of its user.
var readOnly = []string{"dynamodb:GetItem", "dynamodb:Query", "dynamodb:BatchGetItem", "s3:GetObject", "s3:ListBucket", "kms:Decrypt"}

// An action is one action, and a pattern of resources has a reason.
func TestGrantsAreExact(t *testing.T) {
	for _, f := range stacks.Functions(everything(t)) {
		for _, g := range f.Grants {
			if strings.Contains(strings.Join(g.Actions, " "), "*") || len(g.Actions) == 0 {
				t.Errorf("%s: %v on %s", f.Name, g.Actions, g.On)
			}
		}
	}
	for resource, w := range stacks.Wildcards {
		if w.Reason == "" {
			t.Errorf("%s is named by a pattern without a reason", resource)
		}
	}
}
