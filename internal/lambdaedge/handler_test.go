package lambdaedge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

// invoke calls a step as Lambda's runtime does and returns the document that it makes of an error.
func invoke(t *testing.T, handle func(context.Context, in) (out, error)) (result []byte, failure string) {
	t.Helper()
	result, err := lambda.NewHandler(lambdaedge.Function(handle)).Invoke(t.Context(), []byte(`{"jobId":"job"}`))
	if err == nil {
		return result, ""
	}
	named, ok := err.(messages.InvokeResponse_Error) // what the runtime looks for, too: errors that wrap one lose their name
	if !ok {
		t.Fatalf("the runtime would name %T", err)
	}
	document, err := json.Marshal(named)
	if err != nil {
		t.Fatal(err)
	}
	return nil, string(document)
}

// Every kind of error reaches Step Functions under its own name, with the same cause as in process.
func TestEveryKindKeepsItsName(t *testing.T) {
	for _, kind := range backup.Kinds() {
		err := fmt.Errorf("part 7: %w", backup.E(kind, `the "other" side <said> no`))
		_, failure := invoke(t, func(context.Context, in) (out, error) { return out{}, err })
		var document struct{ ErrorType, ErrorMessage string }
		if e := json.Unmarshal([]byte(failure), &document); e != nil || document.ErrorType != string(kind) || document.ErrorMessage != err.Error() {
			t.Errorf("%s: %s, %v", kind, failure, e)
		}
		if inProcess := lambdaedge.NewFailure(err); inProcess.Cause != failure || inProcess.Name != document.ErrorType {
			t.Errorf("%s: in process %s, on Lambda %s", kind, inProcess.Cause, failure)
		}
	}
}

// A panic and an input that is none have the name of a crash, which is tried again; the process goes on.
func TestCrashesAreInternal(t *testing.T) {
	for name, call := range map[string]func() string{
		"panic": func() string {
			_, failure := invoke(t, func(context.Context, in) (out, error) { panic("index out of range") })
			return failure
		},
		"input": func() string {
			_, err := lambdaedge.Function(func(context.Context, in) (out, error) { return out{}, nil }).Invoke(t.Context(), []byte(`[]`))
			document, _ := json.Marshal(err)
			return string(document)
		},
		"bare error": func() string {
			_, err := lambdaedge.Handler(func(context.Context, []byte) ([]byte, error) { return nil, errors.New("bare") }).Invoke(t.Context(), nil)
			document, _ := json.Marshal(err)
			return string(document)
		},
	} {
		var document struct{ ErrorType string }
		if failure := call(); json.Unmarshal([]byte(failure), &document) != nil || document.ErrorType != "Internal" {
			t.Errorf("%s: %s", name, failure)
		}
	}
}

// A result goes out as it is.
func TestHandlerResult(t *testing.T) {
	result, failure := invoke(t, func(_ context.Context, i in) (out, error) { return out{Parts: len(i.JobID)}, nil })
	if string(result) != `{"parts":3}` || failure != "" {
		t.Errorf("%s %s", result, failure)
	}
}

// A step's time ends before Lambda kills the function: a twentieth before, but at least a second and at most forty.
func TestDeadlineMargin(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{
		15 * time.Minute: 15*time.Minute - 40*time.Second, 5 * time.Minute: 285 * time.Second, 10 * time.Second: 9 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			defer cancel()
			_, err := lambdaedge.Function(func(ctx context.Context, _ in) (out, error) {
				if deadline, _ := ctx.Deadline(); time.Until(deadline) != want {
					t.Errorf("of %s a step has %s", given, time.Until(deadline))
				}
				return out{}, nil
			}).Invoke(ctx, []byte(`{}`))
			if err != nil {
				t.Error(err)
			}
		})
	}
	_, _ = lambdaedge.Function(func(ctx context.Context, _ in) (out, error) {
		if _, ok := ctx.Deadline(); ok {
			t.Error("a deadline from nowhere")
		}
		return out{}, nil
	}).Invoke(t.Context(), []byte(`{}`))
}
