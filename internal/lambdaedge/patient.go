package lambdaedge

import (
	"context"
	"errors"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

// maxRetryAfter bounds what is waited for, whatever the other side asks for.
const maxRetryAfter = 30 * time.Second

// RetryAfter is the pause that a failure asks for before it is tried again; 0: none.
func RetryAfter(err error) time.Duration {
	e, _ := errors.AsType[*backup.Error](err)
	if e == nil {
		return 0
	}
	return min(e.RetryAfter, maxRetryAfter)
}

// Patient sleeps on what a failure asks for before it goes out: the Retry of Step Functions could not know of it.
func Patient(h Handler) Handler {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		result, err := h(ctx, payload)
		select {
		case <-time.After(RetryAfter(err)):
		case <-ctx.Done():
		}
		return result, err
	}
}
