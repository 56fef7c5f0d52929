package lambdaedge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
	"github.com/sitevault/sitevault/internal/step"
)

type in struct {
	JobID string `json:"jobId"`
}

type out struct {
	Parts int `json:"parts"`
}

// JSON goes in and comes out.
func TestTask(t *testing.T) {
	call := lambdaedge.Task(func(_ context.Context, i in) (out, error) {
		if i.JobID != "job" {
			t.Errorf("given %+v", i)
		}
		return out{Parts: 7}, nil
	})
	got, err := call(t.Context(), json.RawMessage(`{"jobId":"job","more":1}`))
	if err != nil || string(got) != `{"parts":7}` {
		t.Errorf("%s, %v", got, err)
	}
}

// A step's error keeps its chain and gets the name that Retry and Catch match; its cause is what Lambda makes of a
// function's error, and what FailFile reads again.
func TestTaskFailure(t *testing.T) {
	for _, tc := range []struct {
		err  error
		name string
	}{
		{backup.E(backup.UploadLost, `no "upload"`), "UploadLost"},
		{fmt.Errorf("part 7: %w", backup.E(backup.ProviderTimeout, "no answer")), "ProviderTimeout"},
		{errors.Join(backup.E(backup.Conflict, "moved on"), backup.E(backup.StorageUnavailable, "abort")), "Conflict"},
		{errors.New("index out of range"), "Internal"},
		{context.DeadlineExceeded, "Internal"},
	} {
		call := lambdaedge.Task(func(context.Context, in) (out, error) { return out{}, tc.err })
		got, err := call(t.Context(), json.RawMessage(`{}`))
		failure, ok := errors.AsType[*lambdaedge.Failure](err)
		if !ok || got != nil || failure.Name != tc.name || !errors.Is(err, tc.err) || err.Error() != tc.err.Error() {
			t.Errorf("%v: %s, %#v", tc.err, got, err)
			continue
		}
		if !json.Valid([]byte(failure.Cause)) {
			t.Errorf("%v: cause %s", tc.err, failure.Cause)
		}
		caught := step.Caught{Error: failure.Name, Cause: failure.Cause}
		if want := tc.err.Error(); tc.name != "Internal" && (caught.Detail() != want || caught.Kind() != backup.Kind(tc.name)) {
			t.Errorf("%v: read again as %s %q", tc.err, caught.Kind(), caught.Detail())
		}
	}
}

// What is no JSON, or not the step's, fails by name too and never reaches the step.
func TestTaskInput(t *testing.T) {
	call := lambdaedge.Task(func(context.Context, in) (out, error) {
		t.Error("the step was called")
		return out{}, nil
	})
	for _, input := range []string{``, `{`, `[]`, `{"jobId":1}`, `"text"`} {
		_, err := call(t.Context(), json.RawMessage(input))
		if failure, ok := errors.AsType[*lambdaedge.Failure](err); !ok || failure.Name != "Internal" {
			t.Errorf("%q: %#v", input, err)
		}
	}
}

// A result that is no JSON fails by name.
func TestTaskOutput(t *testing.T) {
	call := lambdaedge.Task(func(context.Context, in) (func(), error) { return func() {}, nil })
	_, err := call(t.Context(), json.RawMessage(`{}`))
	if failure, ok := errors.AsType[*lambdaedge.Failure](err); !ok || failure.Name != "Internal" {
		t.Errorf("%#v", err)
	}
}
