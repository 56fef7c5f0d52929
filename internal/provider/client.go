package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/breaker"
	"github.com/sitevault/sitevault/internal/step"
)

// What the client waits for when Timeouts says nothing.
const (
	DefaultDialTimeout           = 10 * time.Second
	DefaultTLSHandshakeTimeout   = 10 * time.Second
	DefaultResponseHeaderTimeout = 60 * time.Second // a provider that needs longer answers 503 with Retry-After
	DefaultBodyIdleTimeout       = 30 * time.Second
	DefaultBodyRateWindow        = time.Minute
	DefaultBodyLeastRate         = 1 << 10 // bytes a second; 40 ranges that share a line of 1 Mbit/s get three times that
)

const (
	idleConnTimeout = 60 * time.Second
	// A site's ranges travel over one connection each; a few more let the next files of the same host reuse them.
	maxIdleConnsPerHost = backup.MaxParallelism + backup.MaxProviders
	maxIdleConns        = 4 * maxIdleConnsPerHost

	maxResponseHeaderBytes = 64 << 10

	// readBufferBytes is small on purpose: a Read larger than the buffer goes straight from the connection into the
	// caller's memory, so that only the start of an answer and its last few bytes are copied twice.
	readBufferBytes = 4 << 10

	// maxDrainBytes of an unwanted body are read so that its connection can be used again; a longer one costs more
	// than a new connection.
	maxDrainBytes = 16 << 10
	maxDrainTime  = time.Second
)

// Secrets looks up what a site's secretRef names.
type Secrets interface {
	// Authorization is the whole value of the header, scheme included; SecretMissing when there is none. It is asked
	// for every request, so an implementation behind a network keeps what it read for a short while.
	Authorization(ctx context.Context, userID, ref string) (string, error)
	// Forget lets go of what is kept of a secret: the next Authorization reads it anew.
	Forget(userID, ref string)
}

// Timeouts bound the phases of a request; zero means the default. How long a whole range may take is for the
// caller's context to say.
type Timeouts struct {
	Dial           time.Duration // name lookup and connect
	TLSHandshake   time.Duration
	ResponseHeader time.Duration // from the request sent to the header complete
	BodyIdle       time.Duration // one Read that waits for the next byte; the caller's own pauses do not count

	// A body that brings less than BodyLeastRate bytes a second over BodyRateWindow is given up. Time counts only while a
	// Read waits, so that the provider is not blamed for a caller that is slow itself.
	BodyRateWindow time.Duration
	BodyLeastRate  int64
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Dial:           cmp.Or(t.Dial, DefaultDialTimeout),
		TLSHandshake:   cmp.Or(t.TLSHandshake, DefaultTLSHandshakeTimeout),
		ResponseHeader: cmp.Or(t.ResponseHeader, DefaultResponseHeaderTimeout),
		BodyIdle:       cmp.Or(t.BodyIdle, DefaultBodyIdleTimeout),
		BodyRateWindow: cmp.Or(t.BodyRateWindow, DefaultBodyRateWindow),
		BodyLeastRate:  cmp.Or(t.BodyLeastRate, DefaultBodyLeastRate),
	}
}

// Config is what a Client is made of.
type Config struct {
	Guard     *Guard  // nil: public addresses only
	Secrets   Secrets // nil: every export that names a secret fails with SecretMissing
	Timeouts  Timeouts
	UserAgent string           // "": "Sitevault"
	Now       func() time.Time // measures a Retry-After that is a date; nil: time.Now
	Log       *slog.Logger     // hears which addresses the guard refuses, which errors leave out; nil: none
}

// Client talks to export APIs. It is safe for concurrent use and meant to live as long as the process, since it keeps
// connections.
type Client struct {
	transport *http.Transport
	plain     *http.Transport // for secrets that travel unencrypted
	secrets   Secrets
	userAgent string
	timeouts  Timeouts
	now       func() time.Time
	sides     breaker.Set[side]
}

var _ step.Exporter = (*Client)(nil)

// New makes a Client.
func New(cfg Config) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	guard, timeouts := cmp.Or(cfg.Guard, &Guard{}).logging(cfg.Log), cfg.Timeouts.withDefaults()
	return &Client{
		transport: newTransport(guard, timeouts),
		plain:     newTransport(guard.exceptionsOnly(), timeouts),
		secrets:   cfg.Secrets,
		userAgent: cmp.Or(cfg.UserAgent, "Sitevault"),
		timeouts:  timeouts,
		now:       cfg.Now,
	}
}

// newTransport has no Proxy: a proxy would look up and dial the host in our place, where no guard sees the address.
// It speaks HTTP/1.1 only: parallel ranges get a connection each anyway, and without HTTP/2's frames, flow-control
// windows and shared reading goroutine the bytes go from the socket into the caller's buffer.
func newTransport(guard *Guard, t Timeouts) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.Dial)
			defer cancel()
			return guard.DialContext(ctx, network, address)
		},
		Protocols:              protocols,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    t.TLSHandshake,
		ResponseHeaderTimeout:  t.ResponseHeader,
		IdleConnTimeout:        idleConnTimeout,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConnsPerHost,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		ReadBufferSize:         readBufferBytes,
		DisableCompression:     true,
	}
}

// Close gives the idle connections back. Requests under way are not touched.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}

// answer is the header of an answer and its guarded body.
type answer struct {
	*http.Response
	call call
	body *stream
}

// do sends the request, and once more if its secret was refused and has been replaced since it was read.
func (c *Client) do(ctx context.Context, cl call) (*answer, error) {
	a, err := c.send(ctx, cl)
	if err != nil || cl.export.SecretRef == "" || statusKind(a.StatusCode, false) != backup.ProviderRefused {
		return a, err
	}
	c.secrets.Forget(cl.export.UserID, cl.export.SecretRef)
	value, err := c.authorization(ctx, cl.export)
	if err != nil || value == cl.req.Header.Get("Authorization") {
		return a, nil // the refusal says more than an error
	}
	a.discard()
	cl.req = cl.req.Clone(ctx)
	cl.req.Header.Set("Authorization", value)
	return c.send(ctx, cl)
}

// send sends the request once. The transport is used without http.Client, which would follow redirects and put the
// whole URL into its errors.
func (c *Client) send(ctx context.Context, cl call) (*answer, error) {
	transport := c.transport
	if cl.req.URL.Scheme == "http" && cl.export.SecretRef != "" {
		transport = c.plain
	}
	reqCtx, cancel := context.WithCancel(ctx)
	resp, err := transport.RoundTrip(cl.req.WithContext(reqCtx)) //nolint:bodyclose // the answer's stream closes it
	if err != nil {
		cancel()
		return nil, cl.broken(ctx, err)
	}
	return &answer{Response: resp, call: cl, body: newStream(resp.Body, c.timeouts, cancel)}, nil
}

// discard gives up the body. The connection is used again if the rest is short.
func (a *answer) discard() {
	if a.ContentLength <= maxDrainBytes {
		defer time.AfterFunc(maxDrainTime, a.body.close).Stop()
		_, _ = io.CopyN(io.Discard, a.body, maxDrainBytes)
	}
	a.body.close()
}
