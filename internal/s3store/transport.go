package s3store

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sitevault/sitevault/internal/breaker"
)

const (
	dialTimeout      = 10 * time.Second
	tlsTimeout       = 10 * time.Second
	keepAlive        = 30 * time.Second
	idleTimeout      = 60 * time.Second
	idleConnsPerHost = 64

	// continueTimeout bounds the wait for 100 Continue; the part is sent then.
	continueTimeout = time.Second
	// stallTimeout bounds one write: a server that takes nothing for so long is gone.
	stallTimeout = time.Minute
	// answerTimeout bounds how long a connection that takes no more stays open for its answer, which is here already.
	answerTimeout = 10 * time.Second
	// headerTimeout bounds the wait for an answer once the request is sent.
	headerTimeout = time.Minute
	// completeTimeout is headerTimeout of CompleteMultipartUpload. S3 answers at once and keeps the connection busy
	// with white space; other servers copy the whole object first.
	completeTimeout = 14 * time.Minute
)

// clients makes the client of ordinary calls and the one of CompleteMultipartUpload.
func clients(sides *breaker.Set[class]) (quick, patient *http.Client) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: continueTimeout,
		IdleConnTimeout:       idleTimeout,
		MaxIdleConns:          idleConnsPerHost,
		MaxIdleConnsPerHost:   idleConnsPerHost,
		DisableCompression:    true,
		// HTTP/2 stays off, as S3 does not speak it: Protocols is nil and DialContext is set.
	}
	slow := t.Clone()
	slow.ResponseHeaderTimeout = completeTimeout
	return &http.Client{Transport: roundTripper{t, sides}, CheckRedirect: noRedirect},
		&http.Client{Transport: roundTripper{slow, sides}, CheckRedirect: noRedirect}
}

// maxErrorBytes is more than any server says in an error.
const maxErrorBytes = 64 << 10

// roundTripper sends nothing to a storage that is known to be away. It reads an error to its end before it returns: the SDK
// ends the request's body as soon as it has the header of the answer, whereupon net/http closes a connection that is still
// sending, and the rest of an early answer would be lost.
type roundTripper struct {
	http.RoundTripper
	sides *breaker.Set[class]
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	asked, err := ask(t.sides, r.Method)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(r.Context())                         // a copy
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1 // the SDK names none, and then net/http does not wait for 100 Continue
	body := watch(r)
	answer, err := whole(t.RoundTripper.RoundTrip(r))
	learn(asked, body, answer, err)
	return answer, err
}

// whole is an answer with the whole of an error.
func whole(answer *http.Response, err error) (*http.Response, error) {
	if err != nil || answer.StatusCode < http.StatusMultipleChoices {
		return answer, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorBytes))
	if err != nil {
		return nil, err
	}
	read := *answer
	read.Body = io.NopCloser(bytes.NewReader(body))
	return &read, nil
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
	return newConn(c), nil
}

// conn gives up a write that makes no progress, and keeps a failed write from closing the connection before what the
// other side has sent is read. net/http copies bodies in pieces of 32 KiB whatever its buffer's size; larger ones were
// measured and change nothing.
type conn struct {
	net.Conn
	closed chan struct{}
	close  func()
}

func newConn(c net.Conn) *conn {
	closed := make(chan struct{})
	return &conn{Conn: c, closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err != nil && !isTimeout(err) {
		c.awaitAnswer()
	}
	return n, err
}

// awaitAnswer holds back the error of a write. A server that answers before it has read the request, and closes, resets
// the connection; its answer is still in our receive buffer. net/http would close the connection at the news of the
// failed write and lose the answer, but closes it as well once it has read the answer, or found that there is none.
func (c *conn) awaitAnswer() {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case <-c.closed:
	case <-timer.C:
	}
}

func (c *conn) Close() error {
	c.close()
	return c.Conn.Close()
}
