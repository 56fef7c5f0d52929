package provider

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// DialWith replaces the guarded dialing.
func (c *Client) DialWith(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.transport.DialContext, c.plain.DialContext = dial, dial
}

// Trust replaces the system's certificate authorities.
func (c *Client) Trust(roots *x509.CertPool) { c.transport.TLSClientConfig.RootCAs = roots }

// HasProxy is asked of the transport itself: net/http reads the proxy variables once per process, so that a test
// cannot set them.
func (c *Client) HasProxy() bool { return c.transport.Proxy != nil }

func ParseContentRange(s string) (first, last, total int64, ok bool) {
	r, ok := parseContentRange(s)
	return r.first, r.last, r.total, ok
}

func ParseRetryAfter(s string, now time.Time) (time.Duration, bool) { return parseRetryAfter(s, now) }

func StrongETag(values ...string) (string, bool) {
	return strongETag(http.Header{"Etag": values})
}

func (g *Guard) ExceptionsOnly() *Guard { return g.exceptionsOnly() }
