package statemachine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/asl"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/statemachine"
)

// machine is what the tests read of the file.
type machine struct {
	TimeoutSeconds int
	States         map[string]state
}

type state struct {
	Type          string
	Resource      string
	Next          string
	Retry, Catch  []rule
	ItemProcessor *machine
}

type rule struct {
	ErrorEquals []string
	Next        string
}

// states are all states of the file, those inside of Maps included.
func states(t *testing.T) map[string]state {
	t.Helper()
	var m machine
	if err := json.Unmarshal(statemachine.Backup, &m); err != nil {
		t.Fatal(err)
	}
	all := map[string]state{}
	var add func(m machine)
	add = func(m machine) {
		for name, s := range m.States {
			all[name] = s
			if s.ItemProcessor != nil {
				add(*s.ItemProcessor)
			}
		}
	}
	add(m)
	return all
}

var tasks = []string{"CompleteMultipart", "ExportRangeUpload", "FailFile", "FinishJob", "InspectArchive", "OpenUpload", "StartJob"}

func stubs() map[string]asl.Handler {
	handlers := map[string]asl.Handler{}
	for _, name := range tasks {
		handlers[name] = func(context.Context, json.RawMessage) (json.RawMessage, error) { return nil, nil }
	}
	return handlers
}

// The file loads, and its tasks are the steps, each under the name of its state.
func TestFileLoads(t *testing.T) {
	if _, err := asl.Load(statemachine.Backup, stubs()); err != nil {
		t.Fatal(err)
	}
	var found []string
	for name, s := range states(t) {
		if s.Type == "Task" {
			found = append(found, name)
			if s.Resource != "${"+name+"}" {
				t.Errorf("%s calls %s", name, s.Resource)
			}
		}
	}
	if slices.Sort(found); !slices.Equal(found, tasks) {
		t.Errorf("tasks %v, want %v", found, tasks)
	}
	var m machine
	if err := json.Unmarshal(statemachine.Backup, &m); err != nil || time.Duration(m.TimeoutSeconds)*time.Second != backup.DefaultJobTimeout {
		t.Errorf("the machine gives up after %d s, the job after %s: %v", m.TimeoutSeconds, backup.DefaultJobTimeout, err)
	}
}

// platform are the names that AWS itself gives to failures of a function.
// https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html
var platform = []string{
	"States.ALL", "States.Timeout", "Lambda.AWSLambdaException", "Lambda.ClientExecutionTimeoutException", "Lambda.SdkClientException",
	"Lambda.ServiceException", "Lambda.TooManyRequestsException", "Lambda.Unknown", "Runtime.ExitError", "Sandbox.Timedout",
}

// A name that nobody gives would match nothing, and nobody would notice.
func TestErrorNamesAreKnown(t *testing.T) {
	used := map[string]bool{}
	for name, s := range states(t) {
		for _, r := range slices.Concat(s.Retry, s.Catch) {
			for _, e := range r.ErrorEquals {
				used[e] = true
				if !backup.Kind(e).Known() && !slices.Contains(platform, e) {
					t.Errorf("%s matches %s, which nothing is called", name, e)
				}
			}
		}
	}
	for _, e := range platform {
		if !used[e] {
			t.Errorf("%s is matched nowhere", e)
		}
	}
}

// reaction is what the file does about an error of a task: how many kinds of retry know it, and where it is caught.
func reaction(all map[string]state, task, err string) (retried bool, caughtBy string) {
	s := all[task]
	matches := func(r rule) bool { return slices.Contains(r.ErrorEquals, err) }
	retried = slices.ContainsFunc(s.Retry, matches)
	catchers := s.Catch
	switch task { // an error that its own state does not catch fails the Map around it
	case "ExportRangeUpload":
		catchers = all["UploadParts"].Catch
	case "FailFile":
		catchers = all["UploadFiles"].Catch
	}
	for _, r := range catchers {
		if matches(r) || slices.Contains(r.ErrorEquals, "States.ALL") {
			return retried, r.Next
		}
	}
	return retried, ""
}

// Every kind of error that a step can return leads somewhere on purpose.
func TestEveryErrorLeadsSomewhere(t *testing.T) {
	store := []backup.Kind{backup.StoreUnavailable, backup.Conflict, backup.Internal}
	storage := append([]backup.Kind{backup.StorageUnavailable}, store...)
	transient := []backup.Kind{backup.ProviderUnavailable, backup.ProviderPreparing, backup.ProviderTimeout}
	anew := []backup.Kind{backup.ProviderChanged, backup.UploadLost, backup.ChecksumMismatch, backup.UploadConflict}
	for task, want := range map[string]struct {
		retried []backup.Kind
		anew    []backup.Kind // caught by OpenUpload, once retrying is over
		rest    string        // where all others are caught; "": they fail the execution, which ends the job
	}{
		"StartJob":          {append([]backup.Kind{backup.NoRoom}, store...), nil, "FinishJob"},
		"OpenUpload":        {append(transient, storage...), nil, "FailFile"},
		"ExportRangeUpload": {append(append(transient, backup.ProviderShortBody, backup.BatchUnfinished, backup.ChecksumMismatch, backup.UploadConflict), storage...), anew, "FailFile"},
		"CompleteMultipart": {append([]backup.Kind{backup.UploadConflict}, storage...), anew, "FailFile"},
		"InspectArchive":    {storage, nil, "FailFile"},
		"FailFile":          {store, nil, "FinishJob"},
		"FinishJob":         {storage, nil, ""},
	} {
		all := states(t)
		for _, kind := range backup.Kinds() {
			wantNext := want.rest
			if slices.Contains(want.anew, kind) {
				wantNext = "OpenUpload"
			}
			retried, next := reaction(all, task, string(kind))
			if retried != slices.Contains(want.retried, kind) || next != wantNext {
				t.Errorf("%s of %s: retried %t, then %q, want then %q", kind, task, retried, next, wantNext)
			}
			if retried && !kind.Retryable() {
				t.Errorf("%s of %s is retried, although trying again cannot help", kind, task)
			}
		}
		for _, name := range platform[1:] {
			if retried, _ := reaction(all, task, name); !retried {
				t.Errorf("%s of %s is not retried", name, task)
			}
		}
	}
}

// The runner refuses what it does not know instead of overlooking it, and says where it stands.
func TestUnsupportedIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name, old, new string
		says           []string
	}{
		{"a field of a task", `"Resource": "${OpenUpload}",`, `"Resource": "${OpenUpload}", "HeartbeatSeconds": 5,`, []string{"OpenUpload", "HeartbeatSeconds"}},
		{"a field of a Map", `"ItemsPath": "$.batches",`, `"ItemsPath": "$.batches", "ToleratedFailureCount": 1,`, []string{"UploadParts", "ToleratedFailureCount"}},
		{"another mode of a Map", `"Mode": "INLINE"`, `"Mode": "DISTRIBUTED"`, []string{"UploadFiles", "Mode"}},
		{"an intrinsic function", `"file.$": "$$.Map.Item.Value"`, `"file.$": "States.Format('{}', $$.Map.Item.Value)"`, []string{"UploadFiles", "ItemSelector"}},
		{"another comparison", `"StringEquals": "done"`, `"StringLessThan": "done"`, []string{"JobOutcome", "StringLessThan"}},
		{"a transition to nowhere", `"Next": "FileNext"`, `"Next": "FileNxt"`, []string{"OpenUpload", "Next"}},
		{"an unknown handler", `"Resource": "${FailFile}"`, `"Resource": "${FailFiles}"`, []string{"FailFile", "Resource"}},
		{"a field of the machine", `"TimeoutSeconds": 21600,`, `"TimeoutSeconds": 21600, "Owner": "me",`, []string{"Owner"}},
	} {
		file := bytes.Replace(statemachine.Backup, []byte(tc.old), []byte(tc.new), 1)
		if bytes.Equal(file, statemachine.Backup) {
			t.Errorf("%s: the file has no %s", tc.name, tc.old)
			continue
		}
		_, err := asl.Load(file, stubs())
		if err == nil {
			t.Errorf("%s is accepted", tc.name)
			continue
		}
		for _, want := range tc.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not name %s", tc.name, err, want)
			}
		}
	}
}

// What every task reads from its input is there on every way that leads to it.
func TestEveryTaskGetsItsFile(t *testing.T) {
	f := newFlow(t)
	f.create("files", "database")
	handlers := f.handlers()
	called := map[string]int{}
	for name, handle := range maps.Clone(handlers) {
		handlers[name] = func(ctx context.Context, input json.RawMessage) (json.RawMessage, error) {
			called[name]++
			var in map[string]any
			if err := json.Unmarshal(input, &in); err != nil || in["jobId"] != jobID || in["attempt"] != 1.0 {
				t.Errorf("%s is given %s", name, input)
			}
			if name != "StartJob" && name != "FinishJob" && in["file"] != "files" && in["file"] != "database" {
				t.Errorf("%s is given no file: %s", name, input)
			}
			return handle(ctx, input)
		}
	}
	if result := run(t, handlers); result.Status != asl.Succeeded {
		t.Errorf("%s %s %s", result.Status, result.Error, result.Cause)
	}
	if called["OpenUpload"] != 2 || called["FinishJob"] != 1 {
		t.Errorf("called %v", called)
	}
}

const validatorTime = 90 * time.Second

// A validator of the language made by others accepts the file, and notices when it is broken.
func TestPublicValidator(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: the public validator of the language is left out of short runs")
	}
	npx, err := exec.LookPath("npx")
	if err != nil {
		t.Skip("SKIPPED: the public validator of the language needs npx, which is not installed")
	}
	validate := func(file []byte) (string, error) {
		path := filepath.Join(t.TempDir(), "backup.asl.json")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), validatorTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, npx, "--yes", "--prefer-offline", "asl-validator@4.0.0", "--json-path", path)
		cmd.Env = append(os.Environ(), "npm_config_fetch_retries=0", "npm_config_fetch_timeout=20000", "npm_config_update_notifier=false")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := validate(statemachine.Backup)
	if !strings.Contains(out, "State machine definition") {
		t.Skipf("SKIPPED: the public validator of the language cannot be fetched: %v %s", err, out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	broken := bytes.Replace(statemachine.Backup, []byte(`"Next": "FileNext"`), []byte(`"Next": "Nowhere"`), 1)
	if out, err := validate(broken); err == nil || !strings.Contains(out, "Nowhere") {
		t.Errorf("a broken file: %v: %s", err, out)
	}
}
