// Package transfer moves byte ranges from where they are exported to where they are stored. One goroutine reads ahead
// into a few pooled chunks and checksums each byte once; the caller's goroutine stores them. So the next range is
// already on its way while the current one is being stored, and the memory held is the same for every size of range.
package transfer

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/minio/crc64nvme"
)

const (
	// chunkBytes is what one read asks for: large enough that system calls do not count, small enough to stay in cache.
	chunkBytes = 256 << 10
	// chunksAhead bounds what one Run holds: these chunks, and one more on each side.
	chunksAhead = 8
	// chunksKept is what the process keeps for the next Run. It is no sync.Pool, which every garbage collection empties:
	// the same few chunks serve a transfer of any length.
	chunksKept = 64
)

var spare = make(chan *chunk, chunksKept)

func newChunk() *chunk {
	select {
	case c := <-spare:
		return c
	default:
		return new(chunk)
	}
}

func (c *chunk) free() {
	select {
	case spare <- c:
	default:
	}
}

// chunk is a piece of a range; the last one of a range carries its checksum, a failed one its error.
type chunk struct {
	data [chunkBytes]byte
	n    int
	last bool
	crc  uint64
	err  error
}

// Range is one range to move. Open's reader ends with io.EOF after the range's last byte.
type Range struct {
	Number int
	Open   func(ctx context.Context) (io.ReadCloser, error)
}

// Store stores one range; it reads body to its end.
type Store func(ctx context.Context, number int, body *Body) error

// Run moves the ranges in order. It stops at the first error, from either side, and then no goroutine of it is left.
func Run(ctx context.Context, ranges []Range, store Store) error {
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()

	full := make(chan *chunk, chunksAhead)
	reading.Go(func() { readAhead(ctx, ranges, full) })
	for _, r := range ranges {
		body := &Body{ctx: ctx, full: full}
		if err := storeOne(ctx, cancel, r.Number, body, store); err != nil {
			return err
		}
	}
	return nil
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

func readAhead(ctx context.Context, ranges []Range, full chan<- *chunk) {
	for _, r := range ranges {
		if !readRange(ctx, r, full) {
			return
		}
	}
}

// readRange reports whether the range was handed over to its end.
func readRange(ctx context.Context, r Range, full chan<- *chunk) bool {
	in, err := r.Open(ctx)
	if err != nil {
		send(ctx, full, &chunk{err: err})
		return false
	}
	defer in.Close()
	for crc := uint64(0); ; {
		c := newChunk()
		c.fill(in)
		crc = crc64nvme.Update(crc, c.data[:c.n])
		c.crc = crc
		last, failed := c.last, c.err != nil
		if !send(ctx, full, c) || failed {
			return false
		}
		if last {
			return true
		}
	}
}

// fill reads until the chunk is full or the range ends. It is not io.ReadFull, whose io.ErrUnexpectedEOF could not be
// told from that of a connection cut in the middle of the range.
func (c *chunk) fill(in io.Reader) {
	c.n, c.last, c.err = 0, false, nil
	for c.n < len(c.data) {
		n, err := in.Read(c.data[c.n:])
		c.n += n
		if err == io.EOF {
			c.last = true
			return
		}
		if err != nil {
			c.err = err
			return
		}
	}
}

func send(ctx context.Context, full chan<- *chunk, c *chunk) bool {
	select {
	case full <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// Body is the content of one range for its Store.
type Body struct {
	ctx  context.Context // of this Run: a Body does not outlive it
	full <-chan *chunk

	mu     sync.Mutex
	chunk  *chunk
	offset int
	crc    uint64
	err    error // sticky: io.EOF after the last byte
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		if b.chunk == nil {
			b.next()
			continue
		}
		n := copy(p, b.chunk.data[b.offset:b.chunk.n])
		b.offset += n
		if b.offset == b.chunk.n {
			b.release()
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

// wait returns once the first chunk is here, or with the error that came instead of any byte.
func (b *Body) wait() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next()
	if b.chunk != nil && b.chunk.n == 0 && b.chunk.err != nil {
		b.release()
	}
	return b.err
}

func (b *Body) next() {
	select {
	case b.chunk = <-b.full:
		b.offset = 0
	case <-b.ctx.Done():
		b.err = context.Cause(b.ctx)
	}
}

// release gives the used chunk back and takes over what its end means.
func (b *Body) release() {
	c := b.chunk
	b.chunk, b.crc = nil, c.crc
	switch {
	case c.err != nil:
		b.err = c.err
	case c.last:
		b.err = io.EOF
	}
	c.free()
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
	if b.err == nil {
		b.err = errors.New("read after the range was stored")
	}
}
