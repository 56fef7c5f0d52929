package s3store

import (
	"context"
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	tlsTimeout       = 10 * time.Second
	keepAlive        = 30 * time.Second
	idleTimeout      = 60 * time.Second
	idleConnsPerHost = 64

	// stallTimeout bounds one write: a server that takes nothing for so long is gone.
	stallTimeout = time.Minute
	// headerTimeout bounds the wait for an answer once the request is sent.
	headerTimeout = time.Minute
	// completeTimeout is headerTimeout of CompleteMultipartUpload. S3 answers at once and keeps the connection busy
	// with white space; other servers copy the whole object first.
	completeTimeout = 14 * time.Minute
)

// clients makes the client of ordinary calls and the one of CompleteMultipartUpload.
func clients() (quick, patient *http.Client) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: headerTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          idleConnsPerHost,
		MaxIdleConnsPerHost:   idleConnsPerHost,
		DisableCompression:    true,
		// HTTP/2 stays off, as S3 does not speak it: Protocols is nil and DialContext is set.
	}
	slow := t.Clone()
	slow.ResponseHeaderTimeout = completeTimeout
	return &http.Client{Transport: t, CheckRedirect: noRedirect}, &http.Client{Transport: slow, CheckRedirect: noRedirect}
}

// noRedirect leaves redirects (a bucket of another region) to the SDK, which reports them as errors: the signature
// would not fit the other address.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// conn gives up a write that makes no progress. net/http copies bodies in pieces of 32 KiB whatever its buffer's size;
// larger ones were measured and change nothing.
type conn struct{ net.Conn }

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
