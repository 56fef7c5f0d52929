package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/breaker"
	"github.com/sitevault/sitevault/internal/step"
)

// Range opens lengthBytes from offset of the pinned version. One goroutine reads the body; Close may come from
// another and ends the Read under way.
func (c *Client) Range(ctx context.Context, e step.Export, pin backup.Pin, offset, lengthBytes int64) (io.ReadCloser, error) {
	if offset < 0 || lengthBytes <= 0 || lengthBytes > pin.SizeBytes-offset {
		return nil, backup.E(backup.Internal, "range of %d bytes from %d lies outside the export's %d bytes", lengthBytes, offset, pin.SizeBytes)
	}
	asked, err := c.ask(http.MethodGet, e)
	if err != nil {
		return nil, err
	}
	body, err := c.openRange(ctx, e, pin, contentRange{first: offset, last: offset + lengthBytes - 1, total: pin.SizeBytes})
	if err != nil {
		learn(asked, err)
		return nil, err
	}
	body.asked = asked
	return body, nil
}

func (c *Client) openRange(ctx context.Context, e step.Export, pin backup.Pin, want contentRange) (*rangeBody, error) {
	cl, err := c.newCall(ctx, http.MethodGet, e)
	if err != nil {
		return nil, err
	}
	cl.name += fmt.Sprintf(" bytes %d-%d", want.first, want.last)
	cl.req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", want.first, want.last))
	cl.req.Header.Set("If-Match", pin.ETag)
	a, err := c.do(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := c.judgeRange(a, pin, want); err != nil {
		a.discard()
		return nil, err
	}
	return &rangeBody{ctx: ctx, call: cl, stream: a.body, left: want.last - want.first + 1}, nil
}

// judgeRange accepts one answer only: 206 with the pinned ETag and exactly the wanted range in plain bytes.
func (c *Client) judgeRange(a *answer, pin backup.Pin, want contentRange) error {
	switch a.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		return a.call.fail(backup.ProviderNoRanges, "answered 200 to a range")
	case http.StatusRequestedRangeNotSatisfiable:
		return a.unsatisfiable(pin)
	default:
		return c.refusal(a)
	}
	etag, strong := strongETag(a.Header)
	got, ok := rangeOf(a.Header)
	length := want.last - want.first + 1
	switch {
	case encoded(a.Header):
		return a.call.fail(backup.ProviderEncoded, "the answer has a Content-Encoding")
	case multipart(a.Header):
		return a.call.fail(backup.ProviderWrongRange, "one range was asked for, several came")
	case !strong:
		return a.call.fail(backup.ProviderUnpinned, "the answer has no strong ETag")
	case etag != pin.ETag:
		return a.call.fail(backup.ProviderChanged, "the answer has another ETag than the pinned one")
	case !ok:
		return a.call.fail(backup.ProviderWrongRange, "the answer has not one Content-Range that names a range")
	case got != want:
		return a.call.fail(backup.ProviderWrongRange, "Content-Range is %q, want %q", got, want)
	case a.ContentLength >= 0 && a.ContentLength != length:
		return a.call.fail(backup.ProviderWrongRange, "Content-Length is %d, want %d", a.ContentLength, length)
	}
	return nil
}

// unsatisfiable is what 416 means: a server that tells another size holds another export than the pinned one and
// looked at the range before If-Match. Otherwise it refuses a range that lies inside the export.
func (a *answer) unsatisfiable(pin backup.Pin) error {
	got, ok := rangeOf(a.Header)
	if ok && got.total >= 0 && got.total != pin.SizeBytes {
		return a.call.fail(backup.ProviderChanged, "answered 416: the export has %d bytes, pinned were %d", got.total, pin.SizeBytes)
	}
	return a.call.fail(backup.ProviderWrongRange, "answered 416 to a range inside the export's %d bytes", pin.SizeBytes)
}

func multipart(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "multipart/")
}

// rangeBody yields exactly the range. It keeps the ctx of the Range call as the http.Response whose body it wraps does.
type rangeBody struct {
	ctx    context.Context
	call   call
	stream *stream
	asked  *breaker.Request
	left   int64 // bytes still to come
	err    error // sticky
}

// Read returns io.EOF together with the last bytes.
func (b *rangeBody) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.stream.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.left == 0 && err == nil {
		err = b.expectEnd()
	}
	if err != nil {
		b.err = b.verdict(err)
		b.stream.close()
		learn(b.asked, b.err)
	}
	return n, b.err
}

var errLong = errors.New("more bytes than asked for")

// expectEnd tells whether the body ends here. An answer with Content-Length told so together with its last bytes, so
// this waits only for the last chunk of a chunked one.
func (b *rangeBody) expectEnd() error {
	var extra [1]byte
	n, err := io.ReadFull(b.stream, extra[:])
	if n > 0 {
		return errLong
	}
	return err
}

func (b *rangeBody) verdict(err error) error {
	switch {
	case errors.Is(err, io.EOF) && b.left == 0:
		return io.EOF
	case errors.Is(err, errLong):
		return b.call.fail(backup.ProviderLongBody, "the body goes on after its last byte")
	case errors.Is(err, errSlow):
		p := b.stream.pace
		return b.call.fail(backup.ProviderTimeout, "%d bytes came within %s, the least is %d a second; %d bytes were missing",
			p.got, p.waited.Round(time.Second), p.leastRate, b.left)
	case b.stream.stalled.Load():
		return b.call.fail(backup.ProviderTimeout, "no byte came for %s, %d bytes were missing", b.stream.idle, b.left)
	case b.ctx.Err() != nil:
		return b.call.broken(b.ctx, err)
	case b.stream.closed.Load():
		return fmt.Errorf("%s: read after Close: %w", b.call.name, http.ErrBodyReadAfterClose)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return b.call.fail(backup.ProviderShortBody, "the body ended %d bytes early", b.left)
	}
	return b.call.broken(b.ctx, err)
}

// Close gives the connection back if the whole range was read and closes it otherwise: what an abandoned range would
// still send is rarely worth the waiting.
func (b *rangeBody) Close() error {
	b.stream.close()
	return nil
}
