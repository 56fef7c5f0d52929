package breaker

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fails sends requests that fail, as long as they may be sent, and counts them.
func fails(b *Set[string], key string, times int) (sent int) {
	for range times {
		if r, err := b.Ask(key); err == nil {
			sent++
			r.Failed(0)
		}
	}
	return sent
}

func wantSent(t *testing.T, b *Set[string], key string, times, want int) {
	t.Helper()
	if sent := fails(b, key, times); sent != want {
		t.Errorf("%d of %d requests sent, want %d", sent, times, want)
	}
}

// A side that is away is asked once after each pause, which grow to half a minute, and an answer ends that.
func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		wantSent(t, &b, "storage", 100, fewFailures)
		began := time.Now()
		var seen []time.Duration
		for time.Since(began) < 2*time.Minute {
			if sent := fails(&b, "storage", 10); sent == 1 {
				seen = append(seen, time.Since(began))
			} else if sent > 1 {
				t.Fatalf("%d requests at a time", sent)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for i, want := range []time.Duration{1, 3, 7, 15, 31, 61, 91} {
			if i >= len(seen) || seen[i] != want*time.Second {
				t.Fatalf("asked after %v, number %d should come after %d s", seen, i, want)
			}
		}
		wantSent(t, &b, "another", 2, 2)

		time.Sleep(maxPause)
		probe, err := b.Ask("storage")
		if err != nil || !b.Doubtful("storage") {
			t.Fatalf("after the pause: %v, doubtful %t", err, b.Doubtful("storage"))
		}
		probe.Answered()
		if b.Doubtful("storage") {
			t.Error("doubtful after an answer")
		}
		wantSent(t, &b, "storage", 2, 2)
	})
}

// The error says when the side was asked and when it will be.
func TestAwayTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		fails(&b, "storage", fewFailures)
		_, err := b.Ask("storage")
		away, ok := errors.AsType[*Away](err)
		if !ok || !away.Asked.Equal(time.Now()) || away.Next.Sub(away.Asked) != firstPause || !strings.Contains(err.Error(), "00:00:01") {
			t.Errorf("%v", err)
		}
	})
}

// A side that has just answered something is not away after few failures, but after many.
func TestAnswersCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		r, _ := b.Ask("storage")
		r.Answered()
		wantSent(t, &b, "storage", 100, manyFailures)

		var c Set[string]
		r, _ = c.Ask("storage")
		r.Answered()
		wantSent(t, &c, "storage", fewFailures, fewFailures)
		time.Sleep(quiet)
		wantSent(t, &c, "storage", 100, 1)
	})
}

// What was sent before the pause began does not make it longer when it fails late. A probe of which nothing is learned
// takes its pause. An answer counts whenever it comes.
func TestLateEndings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		early := make([]*Request, 20)
		for i := range early {
			early[i], _ = b.Ask("storage")
		}
		fails(&b, "storage", fewFailures)
		for _, r := range early[1:] {
			r.Failed(0)
		}
		time.Sleep(firstPause)
		if _, err := b.Ask("storage"); err != nil {
			t.Fatalf("the pause got longer: %v", err)
		}
		wantSent(t, &b, "storage", 5, 0) // until the pause after the silent probe is over
		early[0].Answered()
		wantSent(t, &b, "storage", 2, 2)
	})
}

// The pause that a side asks for is kept.
func TestAskedPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		for range fewFailures {
			r, _ := b.Ask("export")
			r.Failed(time.Minute)
		}
		time.Sleep(time.Minute - time.Millisecond)
		wantSent(t, &b, "export", 5, 0)
		time.Sleep(time.Millisecond)
		wantSent(t, &b, "export", 5, 1)
	})
}

// A side that fails three requests in ten is used as if there were no breaker.
func TestFlakySideIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[string]
		random := rand.New(rand.NewPCG(1, 2))
		kept := 0
		const requests = 10_000
		for range requests {
			time.Sleep(100 * time.Millisecond)
			r, err := b.Ask("flaky")
			switch {
			case err != nil:
				kept++
			case random.IntN(10) < 3:
				r.Failed(0)
			default:
				r.Answered()
			}
		}
		if kept != 0 {
			t.Errorf("%d of %d requests were not sent", kept, requests)
		}
	})
}

// Sides that nobody asks any more are forgotten.
func TestForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Set[int]
		for i := range 1000 {
			if r, err := b.Ask(i); err == nil {
				r.Failed(0)
			}
		}
		time.Sleep(keepFor)
		_, _ = b.Ask(-1)
		if len(b.sides) != 1 {
			t.Errorf("%d sides are remembered", len(b.sides))
		}
	})
}
