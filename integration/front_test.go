package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// front stands before the emulator as a load balancer that ends TLS does: policies that refuse what came without TLS
// then see that it came with it. It notes what the emulator refuses for want of rights.
type front struct {
	url string

	mu     sync.Mutex
	denied []string
}

// maxRefusalBytes is how much of a refusal is read.
const maxRefusalBytes = 64 << 10

func startFront(t *testing.T, emulator string) *front {
	t.Helper()
	target, err := url.Parse(emulator)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			bounded(r.Out)
			r.Out.Host = r.In.Host // which is signed
			r.Out.Header.Set("X-Forwarded-Proto", "https")
		},
		ModifyResponse: f.note,
		FlushInterval:  -1,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	f.url = server.URL
	return f
}

// note keeps refusals that name a lack of rights.
func (f *front) note(r *http.Response) error {
	if r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusBadRequest {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxRefusalBytes))
	if err != nil {
		return err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), r.Body), r.Body}
	if !strings.Contains(string(head), "AccessDenied") && !strings.Contains(string(head), "not authorized") {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = append(f.denied, fmt.Sprintf("%s %s %s: %s", r.Request.Method, r.Request.URL.Path, r.Request.Header.Get("X-Amz-Target"), head))
	return nil
}

func (f *front) denials() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.denied
}

// bounded lets the body end after its length. Otherwise the proxy looks once more for its end, and breaks off the
// request if the server has answered meanwhile, since an answer closes the body.
func bounded(r *http.Request) {
	if r.ContentLength > 0 {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r.Body, r.ContentLength), r.Body}
	}
}
