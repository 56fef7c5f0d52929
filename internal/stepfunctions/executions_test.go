package stepfunctions_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/sitevault/sitevault/internal/awstest"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/stepfunctions"
)

const (
	machineARN = "arn:aws:states:eu-central-1:123456789012:stateMachine:backup"
	jobID      = "01JD0000000000000000000000"
	name       = jobID + "-2"
)

var job = backup.Job{JobID: jobID, Attempt: 2}

func open(t *testing.T) (*awstest.Server, *stepfunctions.Executions) {
	t.Helper()
	server := awstest.New(t)
	executions, err := stepfunctions.New(sfn.NewFromConfig(server.Config()), machineARN)
	if err != nil {
		t.Fatal(err)
	}
	return server, executions
}

// An attempt has one execution, however often it is started, also when it has ended or answers get lost.
func TestStart(t *testing.T) {
	server, executions := open(t)
	server.Fail("StartExecution", awstest.Throttled, awstest.Fault{Lost: true})
	for _, status := range []string{"RUNNING", "RUNNING", "FAILED"} {
		if err := executions.Start(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		got := server.Executions()[name]
		if got.Machine != machineARN || got.Input != `{"jobId":"`+jobID+`","attempt":2}` {
			t.Errorf("started %+v", got)
		}
		server.End(name, status)
	}
	if len(server.Executions()) != 1 || server.Fired() != 2 {
		t.Errorf("%d executions, %d faults", len(server.Executions()), server.Fired())
	}
}

// Stopping an execution that is running, has ended or never was is success.
func TestStop(t *testing.T) {
	server, executions := open(t)
	if err := executions.Stop(t.Context(), jobID, 2); err != nil {
		t.Errorf("an unknown one: %v", err)
	}
	if err := executions.Start(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	server.Fail("StopExecution", awstest.Throttled, awstest.Fault{Lost: true})
	for range 2 {
		if err := executions.Stop(t.Context(), jobID, 2); err != nil {
			t.Error(err)
		}
	}
	if got := server.Executions()[name]; got.Status != "ABORTED" || server.Fired() != 2 {
		t.Errorf("%+v, %d faults", got, server.Fired())
	}
}

// What Step Functions refuses for good is a failure of a known kind; the end of the caller's context is none.
func TestFailures(t *testing.T) {
	server, executions := open(t)
	for operation, call := range map[string]func(context.Context, backup.Job) error{
		"StartExecution": executions.Start,
		"StopExecution":  func(ctx context.Context, job backup.Job) error { return executions.Stop(ctx, job.JobID, job.Attempt) },
	} {
		server.Fail(operation, awstest.Fault{Status: 400, Code: "AccessDeniedException"})
		if err := call(t.Context(), job); !backup.Is(err, backup.StoreUnavailable) {
			t.Errorf("%s: %v", operation, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx, job); !errors.Is(err, context.Canceled) || backup.Is(err, backup.StoreUnavailable) {
			t.Errorf("%s after the end: %v", operation, err)
		}
	}
	if server.Fired() != 2 {
		t.Errorf("%d faults", server.Fired())
	}
}

// Only the ARN of a state machine is taken for one.
func TestMachineARN(t *testing.T) {
	for _, arn := range []string{"", "backup", "arn:aws:states:eu-central-1:1:execution:backup:x", "arn:aws:states:eu-central-1:1:stateMachine:", "x:stateMachine:y"} {
		if _, err := stepfunctions.New(nil, arn); err == nil {
			t.Errorf("%q is taken", arn)
		}
	}
}
