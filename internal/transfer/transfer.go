// Package transfer moves byte ranges from where they are exported to where they are stored. One goroutine reads ahead
// into a few pooled chunks and checksums each byte once; the caller's goroutine stores them. So the next range is
// already on its way while the current one is being stored, and the memory held is the same for every size of range.
package transfer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/fair"
)

// chunksAhead bounds what one Run holds: these chunks, and one more on each side.
const chunksAhead = 8

// piece is a chunk of a range on its way; the last one of a range carries its checksum, a failed one its error.
type piece struct {
	chunk *chunk // nil with an error that came instead of a read
	lease *lease
	n     int
	last  bool
	crc   uint64
	err   error
}

func (p piece) free() {
	if p.chunk != nil {
		p.lease.free(p.chunk)
	}
}

// Range is one range to move. Open's reader ends with io.EOF after the range's last byte.
type Range struct {
	Number int
	Open   func(ctx context.Context) (io.ReadCloser, error)
}

// Store stores one range; it reads body to its end.
type Store func(ctx context.Context, number int, body *Body) error

// Run moves the ranges in order, in memory of the given user. It stops at the first error, from either side, and then no
// goroutine of it is left and all of its memory is given back.
func (b *Budget) Run(ctx context.Context, user string, ranges []Range, store Store) error {
	ctx, cancel := context.WithCancel(ctx)
	full := make(chan piece, chunksAhead)
	var reading sync.WaitGroup
	defer discard(full)
	defer reading.Wait()
	defer cancel()

	reading.Go(func() {
		defer close(full)
		b.readAhead(ctx, user, ranges, full)
	})
	for _, r := range ranges {
		body := &Body{ctx: ctx, full: full}
		if err := storeOne(ctx, cancel, r.Number, body, store); err != nil {
			return err
		}
	}
	return nil
}

func discard(full <-chan piece) {
	for p := range full {
		p.free()
	}
}

// storeOne asks for storage only once the range's first bytes are here. It never returns while a reader of body is
// active: an HTTP transport may go on reading a request body for a moment after it has given up on the request.
func storeOne(ctx context.Context, cancel func(), number int, body *Body, store Store) error {
	if err := body.wait(); err != nil {
		return err
	}
	err := store(ctx, number, body)
	if err == nil && !body.ended() {
		err = errors.New("the range was not read to its end")
	}
	if err != nil {
		cancel()
	}
	body.close()
	return err
}

func (b *Budget) readAhead(ctx context.Context, user string, ranges []Range, full chan<- piece) {
	for _, r := range ranges {
		if !b.readRange(ctx, user, r, full) {
			return
		}
	}
}

// readRange reports whether the range was handed over to its end.
func (b *Budget) readRange(ctx context.Context, user string, r Range, full chan<- piece) bool {
	l, in, err := b.open(ctx, user, r)
	if err != nil {
		send(ctx, full, piece{err: err})
		return false
	}
	defer l.end()
	defer in.Close()
	for crc := uint64(0); ; {
		p, err := l.read(ctx, in, crc)
		if err != nil || !send(ctx, full, p) || p.err != nil {
			return false
		}
		if p.last {
			return true
		}
		crc = p.crc
	}
}

// hangAfter is how long a range may take to open before its memory goes to others.
const hangAfter = 500 * time.Millisecond

// open opens a range when there is memory for it, and not before: a provider may not wait for long with a body that nobody
// reads. One that hangs for a minute must not keep the memory meanwhile.
func (b *Budget) open(ctx context.Context, user string, r Range) (*lease, io.ReadCloser, error) {
	l, err := b.lease(ctx, user, fair.New)
	if err != nil {
		return nil, nil, err
	}
	hangs := time.AfterFunc(hangAfter, l.end)
	in, err := r.Open(ctx)
	kept := hangs.Stop()
	switch {
	case err != nil && kept:
		l.end()
	case err == nil && !kept:
		if l, err = b.lease(ctx, user, fair.Again); err != nil {
			in.Close()
		}
	}
	return l, in, err
}

// read fills a chunk until it is full or the range ends; crc is of what came before. It is not io.ReadFull, whose
// io.ErrUnexpectedEOF could not be told from that of a connection cut in the middle of the range.
func (l *lease) read(ctx context.Context, in io.Reader, crc uint64) (p piece, err error) {
	c, err := l.take(ctx)
	if err != nil {
		return p, err
	}
	p = piece{chunk: c, lease: l}
	for p.n < len(c) && p.err == nil {
		var n int
		n, p.err = in.Read(c[p.n:])
		p.n += n
	}
	if p.err == io.EOF {
		p.last, p.err = true, nil
	}
	p.crc = crc64nvme.Update(crc, c[:p.n])
	return p, nil
}

func send(ctx context.Context, full chan<- piece, p piece) bool {
	select {
	case full <- p:
		return true
	case <-ctx.Done():
		p.free()
		return false
	}
}

// Body is the content of one range for its Store.
type Body struct {
	ctx  context.Context // of this Run: a Body does not outlive it
	full <-chan piece

	mu     sync.Mutex
	piece  piece
	holds  bool // a piece
	offset int
	crc    uint64
	err    error // sticky: io.EOF after the last byte
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		if !b.holds {
			b.next()
			continue
		}
		n := 0
		if b.piece.chunk != nil {
			n = copy(p, b.piece.chunk[b.offset:b.piece.n])
		}
		b.offset += n
		if b.offset == b.piece.n {
			b.release()
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// wait returns once the first piece is here, or with the error that came instead of any byte.
func (b *Body) wait() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next()
	if b.holds && b.piece.n == 0 && b.piece.err != nil {
		b.release()
	}
	return b.err
}

func (b *Body) next() {
	select {
	case b.piece, b.holds = <-b.full:
		b.offset = 0
		if !b.holds {
			b.err = cmp.Or(context.Cause(b.ctx), io.ErrUnexpectedEOF)
		}
	case <-b.ctx.Done():
		b.err = context.Cause(b.ctx)
	}
}

// release gives the used chunk back and takes over what its end means.
func (b *Body) release() {
	p := b.piece
	b.holds, b.crc = false, p.crc
	switch {
	case p.err != nil:
		b.err = p.err
	case p.last:
		b.err = io.EOF
	}
	p.free()
}

// CRC64NVME is the checksum of the whole range; it is valid once Read has returned io.EOF.
func (b *Body) CRC64NVME() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crc
}

func (b *Body) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.err, io.EOF)
}

func (b *Body) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holds {
		b.holds = false
		b.piece.free()
	}
	if b.err == nil {
		b.err = errors.New("read after the range was stored")
	}
}
