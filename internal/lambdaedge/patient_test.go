package lambdaedge_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/lambdaedge"
)

// What a failure asks for is slept on, within bounds and within the time of the call; whatever else happens goes out at once.
func TestPatient(t *testing.T) {
	failure := func(asked time.Duration) error {
		return &backup.Error{Kind: backup.ProviderUnavailable, RetryAfter: asked, Err: errors.New("503")}
	}
	for name, tc := range map[string]struct {
		err  error
		left time.Duration // of the call; 0: no end
		want time.Duration
	}{
		"success":        {nil, 0, 0},
		"another error":  {errors.New("broken"), 0, 0},
		"nothing asked":  {failure(0), 0, 0},
		"asked":          {failure(7 * time.Second), 0, 7 * time.Second},
		"asked too much": {failure(time.Hour), 0, 30 * time.Second},
		"out of time":    {failure(20 * time.Second), 11 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, began := t.Context(), time.Now()
				if tc.left > 0 {
					var cancel func()
					ctx, cancel = context.WithTimeout(ctx, tc.left)
					defer cancel()
				}
				h := lambdaedge.Patient(lambdaedge.Function(func(context.Context, in) (out, error) { return out{}, tc.err }))
				_, err := h.Invoke(ctx, []byte(`{}`))
				if (err != nil) != (tc.err != nil) {
					t.Errorf("got %v for %v", err, tc.err)
				}
				if took := time.Since(began); took != tc.want {
					t.Errorf("went out after %s, want %s", took, tc.want)
				}
			})
		})
	}
}
