package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/minio/crc64nvme"
	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/transfer"
)

func newBudget() *transfer.Budget { return transfer.NewBudget(transfer.DefaultBudgetBytes, 0) }

func open(r io.Reader) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }
}

func randomBytes(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Whatever the sizes, every range arrives whole, in order, with the checksum of its bytes.
func TestRunMovesEveryRangeWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(1, 1<<20), rapid.Just(256<<10)), 1, 5).Draw(t, "sizes")
		var ranges []transfer.Range
		var want [][]byte
		for i, n := range sizes {
			data := randomBytes(n)
			want = append(want, data)
			ranges = append(ranges, transfer.Range{Number: i + 1, Open: open(iotest.HalfReader(bytes.NewReader(data)))})
		}
		stored := 0
		err := newBudget().Run(context.Background(), "user", ranges, func(_ context.Context, number int, body *transfer.Body) error {
			got, err := io.ReadAll(body)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want[number-1]) || body.CRC64NVME() != crc64nvme.Checksum(got) {
				return fmt.Errorf("range %d differs", number)
			}
			stored++
			return nil
		})
		if err != nil || stored != len(sizes) {
			t.Fatalf("stored %d of %d: %v", stored, len(sizes), err)
		}
	})
}

// While a range is being stored the next one is already read, but never more than the chunks allow.
func TestRunReadsAheadWithinBounds(t *testing.T) {
	opened := make(chan struct{})
	endless := &countingReader{}
	ranges := []transfer.Range{
		{Number: 1, Open: open(bytes.NewReader([]byte("small")))},
		{Number: 2, Open: func(context.Context) (io.ReadCloser, error) {
			close(opened)
			return io.NopCloser(endless), nil
		}},
	}
	stop := errors.New("stop")
	err := newBudget().Run(context.Background(), "user", ranges, func(_ context.Context, number int, body *transfer.Body) error {
		if number == 1 {
			_, err := io.Copy(io.Discard, body)
			<-opened // would hang if range 2 waited for range 1 to be stored
			return err
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatalf("got %v, want the store's error", err)
	}
	if limit := int64(16 << 18); endless.n > limit {
		t.Errorf("read %d bytes ahead, want at most %d", endless.n, limit)
	}
}

type countingReader struct{ n int64 }

func (r *countingReader) Read(p []byte) (int, error) {
	r.n += int64(len(p))
	return len(p), nil
}

// A failing source or store ends the run with its own error and leaves no goroutine behind.
func TestRunKeepsTheErrorOfEitherSide(t *testing.T) {
	broken := errors.New("broken")
	read := func(_ context.Context, _ int, body *transfer.Body) error {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	cases := map[string]struct {
		open  func(context.Context) (io.ReadCloser, error)
		store transfer.Store
	}{
		"open":           {func(context.Context) (io.ReadCloser, error) { return nil, broken }, read},
		"first byte":     {open(iotest.ErrReader(broken)), read},
		"in mid-body":    {open(io.MultiReader(bytes.NewReader(make([]byte, 600<<10)), iotest.ErrReader(broken))), read},
		"cut connection": {open(io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(fmt.Errorf("%w: %w", broken, io.ErrUnexpectedEOF)))), read},
		"store": {open(&countingReader{}), func(_ context.Context, _ int, body *transfer.Body) error {
			io.CopyN(io.Discard, body, 1<<20)
			return broken
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := newBudget().Run(context.Background(), "user", []transfer.Range{{Number: 1, Open: c.open}}, c.store)
			if !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
			if stacks := stacks(); strings.Contains(stacks, "readAhead") {
				t.Errorf("it still reads ahead:\n%s", stacks)
			}
		})
	}
}

// stacks are those of all goroutines. Their number would not do: timers of budgets that are idle come and go.
func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// A store that claims success without having read everything is caught.
func TestRunRefusesAnUnreadRange(t *testing.T) {
	err := newBudget().Run(context.Background(), "user", []transfer.Range{{Number: 1, Open: open(bytes.NewReader(make([]byte, 10)))}},
		func(context.Context, int, *transfer.Body) error { return nil })
	if err == nil {
		t.Fatal("an unread range passed as stored")
	}
}

// A late reader of a body, such as an HTTP transport, gets an error and never bytes of the next range.
func TestBodyIsDeadAfterItsStore(t *testing.T) {
	var late *transfer.Body
	ranges := []transfer.Range{
		{Number: 1, Open: open(bytes.NewReader([]byte("one")))},
		{Number: 2, Open: open(bytes.NewReader([]byte("two")))},
	}
	err := newBudget().Run(context.Background(), "user", ranges, func(_ context.Context, number int, body *transfer.Body) error {
		if number == 1 {
			late = body
		} else if n, err := late.Read(make([]byte, 3)); n != 0 || err == nil {
			return fmt.Errorf("late read got %d bytes, %w", n, err)
		}
		_, err := io.Copy(io.Discard, body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Cancelling the run ends it although both sides are stuck.
func TestRunEndsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	stuck := func(ctx context.Context) (io.ReadCloser, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	err := newBudget().Run(ctx, "user", []transfer.Range{{Number: 1, Open: stuck}}, func(_ context.Context, _ int, body *transfer.Body) error {
		_, err := io.Copy(io.Discard, body)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
}

func BenchmarkRun(b *testing.B) {
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	budget := newBudget()
	buf := make([]byte, 32<<10)
	for b.Loop() {
		ranges := []transfer.Range{{Number: 1, Open: open(bytes.NewReader(data))}}
		err := budget.Run(context.Background(), "user", ranges, func(_ context.Context, _ int, body *transfer.Body) error {
			_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{body}, buf)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
