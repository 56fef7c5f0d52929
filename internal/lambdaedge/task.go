// Package lambdaedge is the edge between a step and the platform that calls it: JSON in, JSON out, and failures under
// the names that the state machine's Retry and Catch match.
package lambdaedge

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/sitevault/sitevault/internal/backup"
)

// Failure is how a step fails towards the platform. Name is the error kind; Cause is the JSON document that Lambda
// makes of a function's error.
type Failure struct {
	Name  string
	Cause string
	err   error
}

func (f *Failure) Error() string { return f.err.Error() }
func (f *Failure) Unwrap() error { return f.err }

// NewFailure names err by its kind.
func NewFailure(err error) *Failure {
	kind := backup.KindOf(err)
	cause, _ := json.Marshal(struct { // two strings always marshal
		Message string      `json:"errorMessage"`
		Type    backup.Kind `json:"errorType"`
	}{err.Error(), kind})
	return &Failure{Name: string(kind), Cause: string(cause), err: err}
}

// Task makes a step callable with JSON. Its errors are *Failure; a panic is one of kind Internal, so that it is tried
// again as any other crash.
func Task[In, Out any](handle func(context.Context, In) (Out, error)) func(context.Context, json.RawMessage) (json.RawMessage, error) {
	return func(ctx context.Context, input json.RawMessage) (result json.RawMessage, err error) {
		defer func() {
			if p := recover(); p != nil {
				result, err = nil, NewFailure(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		var in In
		if err := json.Unmarshal(input, &in); err != nil {
			return nil, NewFailure(fmt.Errorf("read %T: %w", in, err))
		}
		out, err := handle(ctx, in)
		if err != nil {
			return nil, NewFailure(err)
		}
		if result, err = json.Marshal(out); err != nil {
			return nil, NewFailure(fmt.Errorf("write %T: %w", out, err))
		}
		return result, nil
	}
}
