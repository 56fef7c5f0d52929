package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// call is one request and the name that it has in errors.
type call struct {
	req    *http.Request
	name   string // "GET https://host/first/..."
	export step.Export
}

func (c *Client) newCall(ctx context.Context, method string, e step.Export) (call, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.URL, nil)
	if err != nil || req.URL.Host == "" || (req.URL.Scheme != "http" && req.URL.Scheme != "https") {
		return call{}, backup.E(backup.InvalidRequest, "the export's URL is not an absolute http or https URL")
	}
	cl := call{req: req, name: method + " " + backup.PublicURL(req.URL), export: e}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if e.BackupID != "" {
		req.Header.Set("Backup-Id", e.BackupID)
	}
	if e.SecretRef == "" {
		return cl, nil
	}
	value, err := c.authorization(ctx, e)
	if err != nil {
		return call{}, fmt.Errorf("%s: %w", cl.name, err)
	}
	req.Header.Set("Authorization", value)
	return cl, nil
}

func (c *Client) authorization(ctx context.Context, e step.Export) (string, error) {
	if c.secrets == nil {
		return "", backup.E(backup.SecretMissing, "secret %s: no secrets are stored here", e.SecretRef)
	}
	value, err := c.secrets.Authorization(ctx, e.UserID, e.SecretRef)
	if err != nil {
		return "", err
	}
	if !headerValue(value) {
		return "", backup.E(backup.SecretMissing, "secret %s is empty, has several lines or holds control characters", e.SecretRef)
	}
	return value, nil
}

// fail is an error of the given kind that starts with the call's name.
func (cl call) fail(kind backup.Kind, format string, args ...any) *backup.Error {
	return backup.E(kind, "%s: %w", cl.name, fmt.Errorf(format, args...))
}

// broken says why no answer, or no more of it, arrived. A cancelled ctx stays context.Canceled and gets no kind: it is
// the caller's doing. A passed deadline is a ProviderTimeout.
func (cl call) broken(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", cl.name, ctx.Err())
	}
	if ctx.Err() != nil {
		return cl.fail(backup.ProviderTimeout, "no complete answer in time: %w", ctx.Err())
	}
	if forbidden, ok := errors.AsType[*backup.Error](err); ok {
		return cl.fail(forbidden.Kind, "%w", forbidden)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return cl.fail(backup.ProviderTimeout, "%w", speakable(err))
	}
	if untrusted(err) {
		return cl.fail(backup.ProviderUnexpected, "%w", speakable(err))
	}
	if badLength(err) {
		return cl.fail(cl.misfit(), "Content-Length is not one number of bytes from 0 to %d", int64(math.MaxInt64))
	}
	return cl.fail(backup.ProviderUnavailable, "%w", speakable(err))
}

// misfit is the kind of an answer whose Content-Length is of no use.
func (cl call) misfit() backup.Kind {
	if cl.req.Method == http.MethodHead {
		return backup.ProviderUnsized
	}
	return backup.ProviderWrongRange
}

// badLength tells whether the transport refused the answer for its Content-Length. net/http has no type for that, but
// all of its texts name the header; TestBadContentLength notices when they do not any more.
func badLength(err error) bool { return strings.Contains(err.Error(), "Content-Length") }

// untrusted tells whether TLS cannot be spoken with the other side until somebody repairs its set-up.
func untrusted(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, notTLS := errors.AsType[tls.RecordHeaderError](err)
	return certificate || notTLS
}

// lookupFailure is in words of our own: those of the resolver's client hold addresses.
func lookupFailure(e *net.DNSError) string {
	switch {
	case e.IsNotFound:
		return "no such host"
	case e.IsTimeout:
		return "the resolver took too long"
	}
	return "the resolver did not answer properly"
}

var errNotHTTP = errors.New("the connection broke or what came over it was not HTTP")

// speakable keeps of a transport error what the operating system, the resolver or TLS said, without addresses: ours are
// nobody's business, and what the host's name leads to may lie in the operator's network. Errors of the HTTP parser
// quote the bytes they choked on, and those may repeat the Authorization header.
func speakable(err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return &net.DNSError{Err: lookupFailure(dns), Name: dns.Name}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		public := *op
		public.Source, public.Addr = nil, nil
		return &public
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return timeout
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	if notTLS, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return notTLS
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the connection was closed before the answer was complete")
	}
	return errNotHTTP
}
