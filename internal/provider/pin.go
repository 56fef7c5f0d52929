package provider

import (
	"context"
	"net/http"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// Pin asks for the version and the size of the export by HEAD. A server that does not know HEAD is asked for the first
// byte instead.
func (c *Client) Pin(ctx context.Context, e step.Export) (backup.Pin, error) {
	asked, err := c.ask(http.MethodHead, e)
	if err != nil {
		return backup.Pin{}, err
	}
	pin, err := c.pinByHead(ctx, e)
	learn(asked, err)
	return pin, err
}

func (c *Client) pinByHead(ctx context.Context, e step.Export) (backup.Pin, error) {
	cl, err := c.newCall(ctx, http.MethodHead, e)
	if err != nil {
		return backup.Pin{}, err
	}
	// Some servers answer HEAD with a body. Its bytes must not be taken for the next answer on the same connection.
	cl.req.Close = true
	a, err := c.do(ctx, cl)
	if err != nil {
		return backup.Pin{}, err
	}
	defer a.discard()
	switch a.StatusCode {
	case http.StatusOK:
		return a.pin(a.ContentLength)
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return c.pinByFirstByte(ctx, e)
	}
	return backup.Pin{}, c.refusal(a)
}

func (c *Client) pinByFirstByte(ctx context.Context, e step.Export) (backup.Pin, error) {
	cl, err := c.newCall(ctx, http.MethodGet, e)
	if err != nil {
		return backup.Pin{}, err
	}
	cl.req.Header.Set("Range", "bytes=0-0")
	a, err := c.do(ctx, cl)
	if err != nil {
		return backup.Pin{}, err
	}
	defer a.discard()
	span, ok := rangeOf(a.Header)
	switch {
	case a.StatusCode == http.StatusOK:
		return backup.Pin{}, cl.fail(backup.ProviderNoRanges, "answered 200 to a range")
	case a.StatusCode == http.StatusRequestedRangeNotSatisfiable && ok && span.total == 0:
		return backup.Pin{}, cl.fail(backup.ExportEmpty, "the export has no bytes")
	case a.StatusCode != http.StatusPartialContent:
		return backup.Pin{}, c.refusal(a)
	case !ok || span.first != 0 || span.last != 0:
		return backup.Pin{}, cl.fail(backup.ProviderWrongRange, "asked for the first byte, got another Content-Range")
	}
	return a.pin(span.total)
}

// pin judges the answer that describes an export of sizeBytes; negative: the answer does not say.
func (a *answer) pin(sizeBytes int64) (backup.Pin, error) {
	etag, strong := strongETag(a.Header)
	switch {
	case encoded(a.Header):
		return backup.Pin{}, a.call.fail(backup.ProviderEncoded, "the answer has a Content-Encoding")
	case !strong:
		return backup.Pin{}, a.call.fail(backup.ProviderUnpinned, "the answer has no strong ETag of at most %d visible ASCII characters", maxETagBytes)
	case sizeBytes < 0:
		return backup.Pin{}, a.call.fail(backup.ProviderUnsized, "the answer does not tell the size")
	case sizeBytes == 0:
		return backup.Pin{}, a.call.fail(backup.ExportEmpty, "the export has no bytes")
	case !acceptsBytes(a.Header):
		return backup.Pin{}, a.call.fail(backup.ProviderNoRanges, "Accept-Ranges does not name bytes")
	}
	return backup.Pin{ETag: etag, SizeBytes: sizeBytes}, nil
}
