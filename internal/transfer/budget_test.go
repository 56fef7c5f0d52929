package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/transfer"
)

// held counts the bytes that were read from an export and not yet taken by the storage.
type held struct{ now, most atomic.Int64 }

func (h *held) add(n int) {
	for now := h.now.Add(int64(n)); ; {
		most := h.most.Load()
		if now <= most || h.most.CompareAndSwap(most, now) {
			return
		}
	}
}

// source yields left bytes and counts them; then, with one, an error of its own.
type source struct {
	held *held
	left int
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		if s.err != nil {
			return 0, s.err
		}
		return 0, io.EOF
	}
	n := min(len(p), s.left)
	s.left -= n
	s.held.add(n)
	return n, nil
}

func (h *held) ranges(count, sizeBytes int) (ranges []transfer.Range) {
	for i := range count {
		ranges = append(ranges, transfer.Range{Number: i + 1, Open: open(&source{held: h, left: sizeBytes})})
	}
	return ranges
}

func (h *held) store(_ context.Context, _ int, body *transfer.Body) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		h.add(-n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errBroken = errors.New("broken")

// However many transfers there are, of however many users, and however they end: together they never hold more than the
// budget, all of them come to their end, and all of the budget comes back.
func TestBudgetIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := transfer.NewBudget(transfer.LeastBudgetBytes, rapid.Int64Range(0, transfer.LeastBudgetBytes/2).Draw(t, "reserve"))
		var h held
		var work sync.WaitGroup
		var moved, ended atomic.Int64
		transfers := rapid.IntRange(10, 40).Draw(t, "transfers")
		for i := range transfers {
			ranges := h.ranges(rapid.IntRange(1, 3).Draw(t, "ranges"), rapid.IntRange(0, 4<<20).Draw(t, "size"))
			fate := rapid.SampledFrom([]string{"whole", "whole", "cancelled", "source", "storage"}).Draw(t, "fate")
			after := rapid.IntRange(0, 1<<20).Draw(t, "after")
			work.Go(func() {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				store := h.store
				switch fate {
				case "source":
					ranges[len(ranges)-1].Open = open(&source{held: &h, left: after, err: errBroken})
				case "cancelled", "storage":
					store = func(_ context.Context, _ int, body *transfer.Body) error {
						n, _ := io.CopyN(io.Discard, body, int64(after))
						h.add(-int(n))
						if fate == "cancelled" {
							cancel()
							_, err := body.Read(make([]byte, 1))
							return cmp.Or(err, context.Canceled)
						}
						return errBroken
					}
				}
				err := budget.Run(ctx, fmt.Sprint("user-", i%3), ranges, store)
				if (err == nil) != (fate == "whole") {
					t.Errorf("%s: %v", fate, err)
				}
				if err == nil {
					moved.Add(1)
				}
				ended.Add(1)
			})
		}
		work.Wait()
		if ended.Load() != int64(transfers) || !budget.Whole() {
			t.Fatalf("%d of %d ended, %d of them well; all memory is back: %t", ended.Load(), transfers, moved.Load(), budget.Whole())
		}
		if most := budget.SpareBytes(); most > transfer.LeastBudgetBytes {
			t.Fatalf("%d bytes were taken of a budget of %d", most, transfer.LeastBudgetBytes)
		}
	})
}

// While the storage takes nothing, a hundred transfers read no more than the budget; when it takes again all end whole.
func TestStuckStorageFillsTheBudgetAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := transfer.NewBudget(transfer.LeastBudgetBytes, 0)
		var h held
		var work sync.WaitGroup
		release := make(chan struct{})
		for i := range 100 {
			work.Go(func() {
				err := budget.Run(t.Context(), fmt.Sprint("user-", i%3), h.ranges(2, 3<<20), func(ctx context.Context, n int, body *transfer.Body) error {
					<-release
					return h.store(ctx, n, body)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if now := h.now.Load(); now != transfer.LeastBudgetBytes {
			t.Errorf("%d bytes are held of a budget of %d", now, transfer.LeastBudgetBytes)
		}
		close(release)
		work.Wait()
		if !budget.Whole() {
			t.Error("not all memory came back")
		}
	})
}

// A transfer that waits for memory ends when it is cancelled, before it has asked anybody for a byte; and one user's waiting
// transfers let the first of another user pass.
func TestWaitingForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := transfer.NewBudget(transfer.LeastBudgetBytes, 0)
		var h held
		var work sync.WaitGroup
		var mu sync.Mutex
		var order []string
		begin := func(user string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, user)
		}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		run := func(user string) {
			work.Go(func() {
				err := budget.Run(ctx, user, h.ranges(1, 1<<20), func(ctx context.Context, n int, body *transfer.Body) error {
					begin(user)
					<-release
					return h.store(ctx, n, body)
				})
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 20 {
			run("many")
		}
		before := len(order)
		run("one")
		if len(order) != before || before >= 20 {
			t.Fatalf("%d of 20 have begun, another's first too", before)
		}
		release <- struct{}{}
		synctest.Wait()
		if !slices.Contains(order[before:], "one") || len(order) > 15 {
			t.Errorf("after one had ended there began %v of %v", order[before:], order)
		}
		begun := len(order)
		cancel()
		close(release)
		work.Wait()
		if len(order) != begun || !budget.Whole() {
			t.Errorf("%d began after the end", len(order)-begun)
		}
	})
}

// Memory that nobody uses is given back within ten seconds; what is in use all the time is not.
func TestIdleMemoryIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := transfer.NewBudget(transfer.LeastBudgetBytes, 0)
		var h held
		if err := budget.Run(t.Context(), "user", h.ranges(1, 8<<20), h.store); err != nil {
			t.Fatal(err)
		}
		kept := budget.SpareBytes()
		for range 100 {
			if err := budget.Run(t.Context(), "user", h.ranges(1, 10), h.store); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if few := budget.SpareBytes(); kept == 0 || few == 0 || few > 2*256<<10 {
			t.Errorf("%d bytes were kept, %d while little was in use", kept, few)
		}
		time.Sleep(9 * time.Second)
		if left := budget.SpareBytes(); left != 0 {
			t.Errorf("%d bytes are kept by nobody", left)
		}
	})
}

// BenchmarkBudget moves ranges of many transfers side by side.
func BenchmarkBudget(b *testing.B) {
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	budget := newBudget()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 32<<10)
		for pb.Next() {
			ranges := []transfer.Range{{Number: 1, Open: open(bytes.NewReader(data))}}
			err := budget.Run(context.Background(), "user", ranges, func(_ context.Context, _ int, body *transfer.Body) error {
				_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{body}, buf)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Ranges that take long to open keep no memory from others, and have it again once they are open.
func TestHangingOpenKeepsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := transfer.NewBudget(transfer.LeastBudgetBytes, 0)
		var h held
		var work sync.WaitGroup
		release := make(chan struct{})
		const many = transfer.LeastBudgetBytes >> 18 // as many chunks
		for _, broken := range []error{nil, errBroken} {
			for _, r := range h.ranges(many, 1<<20) {
				inner := r.Open
				r.Open = func(ctx context.Context) (io.ReadCloser, error) {
					<-release
					if broken != nil {
						return nil, broken
					}
					return inner(ctx)
				}
				work.Go(func() {
					if err := budget.Run(t.Context(), "ada", []transfer.Range{r}, h.store); !errors.Is(err, broken) {
						t.Errorf("opened late: %v", err)
					}
				})
			}
		}
		began := time.Now()
		if err := budget.Run(t.Context(), "ada", h.ranges(1, 1<<20), h.store); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited > 20*time.Second {
			t.Errorf("a range that opens at once waited %s", waited)
		}
		close(release)
		work.Wait()
		if !budget.Whole() || h.most.Load() > transfer.LeastBudgetBytes {
			t.Errorf("the budget is whole: %v, most that was held: %d", budget.Whole(), h.most.Load())
		}
	})
}
