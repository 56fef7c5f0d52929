package local

import (
	"context"
	"io"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// defaultHangAfter is how long an export may be silent before its execution's place goes to another.
const defaultHangAfter = 500 * time.Millisecond

// occupancyKey is that of the execution's occupancy in the context of its steps.
type occupancyKey struct{}

// yielding gives the place of an execution to others while its export is silent. One that hangs would keep the place until the
// client gives it up, a minute each time.
//
// An execution whose export answers at last goes on at once, beyond the places if need be: neither the export nor the time
// limit of the step waits for a place. It counts again as soon as there is room for it.
type yielding struct {
	step.Exporter
	hangAfter time.Duration
}

func (y yielding) Pin(ctx context.Context, e step.Export) (backup.Pin, error) {
	defer y.wait(ctx)()
	return y.Exporter.Pin(ctx, e)
}

func (y yielding) Range(ctx context.Context, e step.Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	defer y.wait(ctx)()
	body, err := y.Exporter.Range(ctx, e, pin, offset, lengthBytes)
	if err != nil {
		return nil, err
	}
	return yieldingBody{body, ctx, y}, nil
}

type yieldingBody struct {
	io.ReadCloser
	ctx context.Context // of the range
	y   yielding
}

func (b yieldingBody) Read(p []byte) (int, error) {
	defer b.y.wait(b.ctx)()
	return b.ReadCloser.Read(p)
}

// wait begins a wait for the export; the execution is at work again when it is answered.
func (y yielding) wait(ctx context.Context) (answered func()) {
	o, ok := ctx.Value(occupancyKey{}).(*occupancy)
	if !ok {
		return func() {}
	}
	hangs := time.AfterFunc(y.hangAfter, func() { o.change(-1) })
	return func() {
		if !hangs.Stop() {
			o.change(1)
		}
	}
}
