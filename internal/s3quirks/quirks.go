// Package s3quirks is a proxy in front of an S3 server that makes it behave like other servers, for tests.
package s3quirks

import (
	"bytes"
	"encoding/xml"
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

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Quirk is one way in which a server differs from Amazon's. Serve returns false, having done nothing, for requests that
// the quirk is not about.
type Quirk struct {
	Name  string
	Serve func(w http.ResponseWriter, r *http.Request, next http.Handler) bool
}

// Proxy applies quirks, the first one that is about a request.
type Proxy struct {
	URL string

	next   http.Handler
	quirks []Quirk

	mu        sync.Mutex
	fired     map[string]int
	seen      int
	onRequest func()
}

// Start stands in front of the S3 server at endpoint until the test ends.
func Start(tb testing.TB, endpoint string, quirks ...Quirk) *Proxy {
	tb.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{next: Forward(tb, target), quirks: quirks, fired: map[string]int{}}
	server := httptest.NewServer(p)
	tb.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// Forward passes requests on as they are: the Host header is part of what is signed.
func Forward(tb testing.TB, target *url.URL) http.Handler {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	tb.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			bounded(r.Out)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
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

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.arrives()
	for _, q := range p.quirks {
		if q.Serve(w, r, p.next) {
			p.count(q.Name)
			return
		}
	}
	p.next.ServeHTTP(w, r)
}

func (p *Proxy) arrives() {
	p.mu.Lock()
	p.seen++
	told := p.onRequest
	p.mu.Unlock()
	if told != nil {
		told()
	}
}

func (p *Proxy) count(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fired[name]++
}

// OnRequest calls told when a request arrives, before anything else happens to it; nil: nobody.
func (p *Proxy) OnRequest(told func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onRequest = told
}

// Fired is how often a quirk has shown.
func (p *Proxy) Fired(q Quirk) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired[q.Name]
}

// Seen is how many requests have come.
func (p *Proxy) Seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// Refuse makes an S3 error of the requests that match.
func Refuse(name string, status int, code string, match func(*http.Request) bool) Quirk {
	return Quirk{name, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !match(r) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, name)
		return true
	}}
}

// Is matches requests with a method whose query has a key; "" stands for any method and any query.
func Is(method, query string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && (query == "" || r.URL.Query().Has(query))
	}
}

// NoVersions refuses ListObjectVersions with the given error: 501 NotImplemented is Garage's and R2's.
func NoVersions(status int, code string) Quirk {
	return Refuse("no listing of versions", status, code, Is(http.MethodGet, "versions"))
}

// PlainVersions answers ListObjectVersions with the listing of objects, as servers do that ignore the query.
func PlainVersions() Quirk {
	return Quirk{"versions are listed as objects", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !Is(http.MethodGet, "versions")(r) {
			return false
		}
		answer := record(r, next)
		body := strings.NewReplacer("ListVersionsResult", "ListBucketResult", "<Version>", "<Contents>", "</Version>", "</Contents>").Replace(answer.Body.String())
		send(w, answer, []byte(body))
		return true
	}}
}

// BatchNeedsMD5 refuses DeleteObjects without Content-MD5, as many servers do.
func BatchNeedsMD5() Quirk {
	return Refuse("DeleteObjects wants Content-MD5", http.StatusBadRequest, "InvalidRequest", func(r *http.Request) bool {
		return Is(http.MethodPost, "delete")(r) && r.Header.Get("Content-MD5") == ""
	})
}

// BatchKeeps answers DeleteObjects with success and deletes nothing.
func BatchKeeps() Quirk {
	return Quirk{"DeleteObjects keeps the objects", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !Is(http.MethodPost, "delete")(r) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`)
		return true
	}}
}

// DeleteKeeps answers the deletion of one object with success and deletes nothing.
func DeleteKeeps() Quirk {
	return Quirk{"DeleteObject keeps the object", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodDelete || r.URL.Query().Has("uploadId") {
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	}}
}

// AbortKeeps answers AbortMultipartUpload with success and keeps the upload.
func AbortKeeps() Quirk {
	return Quirk{"AbortMultipartUpload keeps the upload", func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !Is(http.MethodDelete, "uploadId")(r) {
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	}}
}

// WholeKeys lists uploads only when the prefix is the whole key of theirs, as MinIO does.
func WholeKeys() Quirk {
	return Quirk{"uploads are listed by whole key", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !Is(http.MethodGet, "uploads")(r) {
			return false
		}
		answer := record(r, next)
		send(w, answer, onlyKey(answer.Body.Bytes(), r.URL.Query().Get("prefix")))
		return true
	}}
}

// onlyKey keeps the uploads of one key in a ListMultipartUploadsResult.
func onlyKey(body []byte, key string) []byte {
	var list struct {
		XMLName xml.Name
		Uploads []struct{ Key, UploadId string } `xml:"Upload"`
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		return body
	}
	kept := list.Uploads[:0]
	for _, u := range list.Uploads {
		if u.Key == key {
			kept = append(kept, u)
		}
	}
	list.Uploads = kept
	out, err := xml.Marshal(list)
	if err != nil {
		return body
	}
	return out
}

// SkewedClock moves the Date of every answer.
func SkewedClock(by time.Duration) Quirk {
	return Quirk{"the clock is wrong", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		answer := record(r, next)
		answer.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		send(w, answer, answer.Body.Bytes())
		return true
	}}
}

// WithoutHeader drops a header of the answers that are about an object, such as a checksum that the server does not know.
func WithoutHeader(header string) Quirk {
	return Quirk{"no " + header, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != http.MethodHead {
			return false
		}
		answer := record(r, next)
		answer.Header().Del(header)
		send(w, answer, nil)
		return true
	}}
}

// StoresFraming makes the server take an aws-chunked body for the content, as servers do that do not know the coding,
// and know nothing of checksums. Requests are signed anew.
func StoresFraming(key aws.Credentials, region string) Quirk {
	return Quirk{"the framing is stored", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		chunked := r.Header.Get("Content-Encoding") == "aws-chunked"
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Trailer") || name == "X-Amz-Decoded-Content-Length" {
				r.Header.Del(name)
			}
		}
		if chunked {
			r.Header.Del("Content-Encoding")
		}
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		sign(r, key, region)
		next.ServeHTTP(w, r)
		return true
	}}
}

// Replaces makes the server put objects over others although it is asked not to, as Garage does. Requests are signed anew.
func Replaces(key aws.Credentials, region string) Quirk {
	return Quirk{"objects are replaced", func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Header.Get("If-None-Match") == "" {
			return false
		}
		r.Header.Del("If-None-Match")
		sign(r, key, region)
		next.ServeHTTP(w, r)
		return true
	}}
}

// sign signs a request that was changed.
func sign(r *http.Request, key aws.Credentials, region string) {
	r.Header.Del("Authorization")
	signed := r.Clone(r.Context())
	signed.URL.Host = r.Host
	if err := v4.NewSigner().SignHTTP(r.Context(), key, signed, r.Header.Get("X-Amz-Content-Sha256"), "s3", region, time.Now()); err != nil {
		panic(err)
	}
	r.Header = signed.Header
}

// record lets next answer without sending it yet. The answers that are recorded are small.
func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	answer.Body = new(bytes.Buffer)
	next.ServeHTTP(answer, r)
	return answer
}

func send(w http.ResponseWriter, answer *httptest.ResponseRecorder, body []byte) {
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	if len(body) > 0 || w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body)
}
