package stepfunctions

import (
	"context"
	"log/slog"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// StatusChange is the event "Step Functions Execution Status Change" of EventBridge:
// https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html (read 2026-11).
type StatusChange struct {
	Detail struct {
		Name   string `json:"name"`
		Status string `json:"status"` // RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED
		Error  string `json:"error"`  // may be absent, as may be
		Cause  string `json:"cause"`
	} `json:"detail"`
}

// Ended ends jobs whose executions ended by themselves: timed out, aborted or failed on the way.
type Ended struct {
	Cleaner step.Cleaner
	Log     *slog.Logger
}

// EndedOut is empty.
type EndedOut struct{}

// Handle is the function execution-ended. An execution that has told its end itself, in FinishJob, has nothing to add.
func (e Ended) Handle(ctx context.Context, in StatusChange) (EndedOut, error) {
	jobID, attempt, err := backup.ParseExecutionName(in.Detail.Name)
	if err != nil {
		e.Log.WarnContext(ctx, "an execution that is no job's has ended", "error", err)
		return EndedOut{}, nil
	}
	caught := step.Caught{Error: in.Detail.Error, Cause: in.Detail.Cause}
	kind, detail := caught.Kind(), caught.Detail()
	switch in.Detail.Status {
	case "TIMED_OUT":
		kind, detail = backup.TimedOut, "the execution ran out of its time, of which it may have waited for room"
	case "ABORTED":
		kind, detail = backup.Internal, "the execution was aborted"
	case "FAILED":
		if in.Detail.Error == "" {
			detail = "the execution failed"
		}
	default:
		return EndedOut{}, nil
	}
	err = e.Cleaner.EndExecution(ctx, jobID, attempt, kind, detail)
	if backup.Is(err, backup.NotFound) {
		err = nil // purged since
	}
	return EndedOut{}, err
}
