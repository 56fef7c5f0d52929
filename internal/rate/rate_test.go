package rate_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/rate"
)

// A user may ask twice the rate at once and the rate from then on; others are not his concern.
func TestAdmit(t *testing.T) {
	now := time.Date(2026, 3, 1, 2, 30, 0, 0, time.UTC)
	l := rate.New(10, func() time.Time { return now })
	ask := func(userID string, times int) (admitted int, last error) {
		for range times {
			if err := l.Admit(t.Context(), userID); err == nil {
				admitted++
			} else {
				last = err
			}
		}
		return admitted, last
	}
	admitted, err := ask("ada", 100)
	var refused *backup.Error
	if admitted != 20 || !errors.As(err, &refused) || refused.Kind != backup.TooManyRequests || refused.RetryAfter <= 0 || refused.RetryAfter > time.Second {
		t.Errorf("%d admitted, %+v", admitted, err)
	}
	if admitted, _ := ask("bob", 5); admitted != 5 {
		t.Errorf("%d of another user admitted", admitted)
	}
	now = now.Add(time.Second)
	if admitted, _ := ask("ada", 100); admitted != 10 {
		t.Errorf("%d admitted a second later", admitted)
	}
	for i := range 20_000 {
		if admitted, _ := ask(fmt.Sprint(i), 1); admitted != 1 {
			t.Fatalf("user %d was refused", i)
		}
		now = now.Add(time.Second)
	}
}

// Without a rate everybody is admitted.
func TestNoRate(t *testing.T) {
	l := rate.New(0, time.Now)
	for range 1000 {
		if err := l.Admit(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
	}
}
