package lambdaedge

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
)

// Handler is a function as Lambda's runtime calls it, JSON in and JSON out. It implements lambda.Handler.
type Handler func(ctx context.Context, payload []byte) ([]byte, error)

// Invoke implements lambda.Handler. The runtime would name an error by its Go type; a *Failure goes out under its own
// name instead, which becomes the errorType and so what Retry and Catch of the state machine match.
func (h Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	ctx, cancel := Early(ctx)
	defer cancel()
	result, err := h(ctx, payload)
	if err == nil {
		return result, nil
	}
	failure, ok := errors.AsType[*Failure](err)
	if !ok {
		failure = NewFailure(err)
	}
	return nil, messages.InvokeResponse_Error{Type: failure.Name, Message: failure.Error()}
}

// Function is Task as Lambda's runtime calls it.
func Function[In, Out any](handle func(context.Context, In) (Out, error)) Handler {
	call := Task(handle)
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		result, err := call(ctx, json.RawMessage(payload))
		return result, err
	}
}

// maxMargin covers a call to the storage that is waited for after its sender has given up (internal/s3store/lasting.go).
const (
	minMargin = time.Second
	maxMargin = 40 * time.Second
)

// Early is a handler's context: it ends a twentieth of the time before the platform ends the call, so that what is under way
// can be ended in order and the reason reaches the caller. A function that is killed has no reason.
func Early(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	margin := min(max(time.Until(deadline)/20, minMargin), maxMargin)
	return context.WithDeadline(ctx, deadline.Add(-margin))
}
