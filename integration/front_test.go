package integration_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
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
		ModifyResponse: f.review,
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

// review corrects an answer that AWS gives otherwise, and keeps refusals that name a lack of rights.
func (f *front) review(r *http.Response) error {
	if r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusBadRequest {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRefusalBytes))
	if err != nil {
		return err
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	if r.Request.Header.Get("X-Amz-Target") == "AWSStepFunctions.StopExecution" && bytes.Contains(body, []byte("Execution is not running")) {
		return alreadyStopped(r)
	}
	if bytes.Contains(body, []byte("AccessDenied")) || bytes.Contains(body, []byte("not authorized")) {
		f.deny(fmt.Sprintf("%s %s %s: %s", r.Request.Method, r.Request.URL.Path, r.Request.Header.Get("X-Amz-Target"), body))
	}
	return nil
}

// alreadyStopped makes it success to stop an execution that has ended, as it is for AWS:
// https://github.com/awslabs/visual-asset-management-system/issues/344 (read 2026-11).
func alreadyStopped(r *http.Response) error {
	body := fmt.Sprintf(`{"stopDate":%d}`, time.Now().Unix())
	r.StatusCode, r.Status = http.StatusOK, "200 OK"
	r.Header.Del("X-Amz-Crc32")
	r.Header.Del("X-Amzn-Errortype")
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.ContentLength = int64(len(body))
	if err := r.Body.Close(); err != nil {
		return err
	}
	r.Body = io.NopCloser(strings.NewReader(body))
	return nil
}

func (f *front) deny(refusal string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = append(f.denied, refusal)
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
