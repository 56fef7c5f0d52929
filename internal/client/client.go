package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sitevault/sitevault/internal/api"
)

const (
	requestTimeout = 35 * time.Second // above backup.MaxAPIAnswer, within which a service on AWS answers or is cut off
	maxAnswerBytes = 16 << 20         // a page of 500 tasks has some 300 KiB
	maxTries       = 4                // of one request
	firstPause     = 200 * time.Millisecond
	maxPause       = 10 * time.Second // also of a longer Retry-After
)

// Config says which service to talk to, and as whom.
type Config struct {
	Server    string // base URL, such as http://127.0.0.1:8420
	Token     string // bearer token; "": none, for a service with one local user
	UserAgent string
	Transport http.RoundTripper                          // nil: http.DefaultTransport
	Sleep     func(context.Context, time.Duration) error // nil: the real clock
	NewKey    func() string                              // makes Idempotency-Keys; nil: random ones
}

// Client is safe for concurrent use.
type Client struct {
	config Config
	base   *url.URL
	http   *http.Client // for the API
	data   *http.Client // for downloads and the socket: no timeout as a whole
}

// New checks the configuration; it does not connect.
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.Server)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("server %q is not a URL such as http://127.0.0.1:8420", c.Server)
	}
	if base.User != nil {
		return nil, errors.New("the server's URL carries credentials; they go into $SITEVAULT_TOKEN or a token file")
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	if c.NewKey == nil {
		c.NewKey = rand.Text
	}
	base.Path = strings.TrimSuffix(strings.TrimSuffix(base.Path, "/"), api.Prefix)
	return &Client{
		config: c, base: base,
		http: &http.Client{Transport: c.Transport, Timeout: requestTimeout},
		data: &http.Client{Transport: c.Transport},
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// request is one call of the API.
type request struct {
	method string
	path   string // below api.Prefix, escaped
	query  url.Values
	header http.Header
	body   any // sent as JSON unless nil
	// repeatable requests do no harm when they arrive twice, so they are tried again when the answer is lost.
	repeatable bool
}

// call sends r and decodes the answer into out, unless that is nil. It returns the answer's header.
func (c *Client) call(ctx context.Context, r request, out any) (http.Header, error) {
	var payload []byte
	if r.body != nil {
		var err error
		if payload, err = json.Marshal(r.body); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
	}
	pause := firstPause
	for try := 1; ; try++ {
		header, err := c.once(ctx, r, payload, out)
		if err == nil || ctx.Err() != nil || !r.repeatable || try == maxTries || !worthRepeating(err) {
			return header, err
		}
		if err := c.config.Sleep(ctx, max(pause, min(retryAfter(header), maxPause))); err != nil {
			return header, err
		}
		pause *= 2
	}
}

func worthRepeating(err error) bool {
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		return !unreachable.permanent()
	}
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Problem.Status == http.StatusServiceUnavailable
}

func (c *Client) once(ctx context.Context, r request, payload []byte, out any) (http.Header, error) {
	req, err := c.newRequest(ctx, r, payload)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return res.Header, c.refusal(res, body)
	}
	if out == nil {
		return res.Header, nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return res.Header, fmt.Errorf("%s gave an answer that is not Sitevault's (%w); check the server's address", c.base.Redacted(), err)
	}
	return res.Header, nil
}

func (c *Client) newRequest(ctx context.Context, r request, payload []byte) (*http.Request, error) {
	target := c.base.String() + api.Prefix + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	c.identify(req)
	if c.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	return req, nil
}

func (c *Client) identify(req *http.Request) {
	if c.config.UserAgent != "" {
		req.Header.Set("User-Agent", c.config.UserAgent)
	}
}

// unreachable keeps the end of ctx apart from trouble on the way.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &UnreachableError{Server: c.base.Redacted(), Err: err}
}

func (c *Client) refusal(res *http.Response, body []byte) error {
	e := &Error{}
	if err := json.Unmarshal(body, &e.Problem); err != nil || e.Problem.Kind == "" {
		e.Problem = api.Problem{Title: fmt.Sprintf("%s answered %s, which is not an answer of Sitevault.", c.base.Redacted(), res.Status)}
	}
	e.Problem.Status = res.StatusCode
	return e
}

// retryAfter reads the header in seconds; the form with a date is not one that the service sends.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Error is an answer of the service that says no.
type Error struct{ Problem api.Problem }

// Error says what happened, and what exactly.
func (e *Error) Error() string {
	text := e.Problem.Title
	if e.Problem.Detail != "" {
		text = strings.TrimPrefix(strings.TrimSuffix(text, ".")+": "+e.Problem.Detail, ": ")
	}
	for _, wrong := range e.Problem.Errors {
		text += "; " + strings.TrimSpace(wrong.Location+" "+wrong.Message)
	}
	return text
}

// UnreachableError means that no answer came back.
type UnreachableError struct {
	Server string
	Err    error
}

func (e *UnreachableError) Error() string {
	err := e.Err
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, which may be a presigned link
	}
	return fmt.Sprintf("cannot reach %s: %v", e.Server, err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// permanent tells what will not be better in a second.
func (e *UnreachableError) permanent() bool {
	dns, ok := errors.AsType[*net.DNSError](e.Err)
	return ok && dns.IsNotFound
}
