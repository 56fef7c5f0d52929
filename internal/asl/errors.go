package asl

import (
	"errors"
	"fmt"
	"time"
)

// Error names of the language that this package itself reports or treats specially.
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html.
const (
	ErrorTimeout           = "States.Timeout"
	ErrorRuntime           = "States.Runtime"
	ErrorDataLimitExceeded = "States.DataLimitExceeded"
	ErrorResultPath        = "States.ResultPathMatchFailure"

	// ErrorUnhandled names a handler's failure that carries no name of its own, as Lambda calls an unhandled one.
	ErrorUnhandled = "Unhandled"

	// ErrorInvalidInput is the one error without an execution behind it: the input is not JSON, so nothing started.
	ErrorInvalidInput = "InvalidExecutionInput"

	wildcardAll        = "States.ALL"
	wildcardTaskFailed = "States.TaskFailed"
	reservedPrefix     = "States."
)

// reservedErrors are the names beginning with "States." that ErrorEquals may list.
var reservedErrors = map[string]bool{
	wildcardAll: true, wildcardTaskFailed: true, ErrorTimeout: true, ErrorRuntime: true, ErrorDataLimitExceeded: true,
	ErrorResultPath: true, "States.HeartbeatTimeout": true, "States.Permissions": true,
	"States.ParameterPathFailure": true, "States.NoChoiceMatched": true, "States.BranchFailed": true,
	"States.IntrinsicFailure": true, "States.ExceedToleratedFailureThreshold": true, "States.ItemReaderFailed": true,
	"States.ResultWriterFailed": true,
}

// Error is a failure with a name that ErrorEquals can match. A handler returns or wraps one; Cause is free text.
// In the error output that Catch passes on, the two are the strings "Error" and "Cause".
type Error struct {
	Name       string
	Cause      string
	RetryAfter time.Duration // a Retry waits at least so long
}

func (e *Error) Error() string {
	if e.Cause == "" {
		return e.Name
	}
	return e.Name + ": " + e.Cause
}

// nameError gives a handler's error the name by which the state machine knows it.
func nameError(err error) *Error {
	var named *Error
	if errors.As(err, &named) && named.Name != "" {
		return named
	}
	return &Error{Name: ErrorUnhandled, Cause: err.Error()}
}

func runtimeError(state, format string, args ...any) *Error {
	return &Error{Name: ErrorRuntime, Cause: fmt.Sprintf("state %q: ", state) + fmt.Sprintf(format, args...)}
}

func tooLarge(state, what string, sizeBytes int) *Error {
	return &Error{
		Name:  ErrorDataLimitExceeded,
		Cause: fmt.Sprintf("state %q: %s of %d bytes exceeds the limit of %d bytes", state, what, sizeBytes, MaxPayloadBytes),
	}
}

// matches applies ErrorEquals. Terminal errors escape the wildcards, and States.Runtime escapes even its own name.
func matches(errorEquals []string, err *Error) bool {
	if err.Name == ErrorRuntime {
		return false
	}
	for _, name := range errorEquals {
		switch {
		case name == err.Name:
			return true
		case err.Name == ErrorDataLimitExceeded:
		case name == wildcardAll, name == wildcardTaskFailed && err.Name != ErrorTimeout:
			return true
		}
	}
	return false
}
