package httpserver

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// closeUnread sends an answer at once and then closes the connection when the handler has not read the whole body: net/http
// would first wait for the rest of it, from a client that may never send it. It does the same after a chunked body, since
// net/http does not tell one that came with a Content-Length as well (RFC 9112, section 6.3: close after responding).
func closeUnread(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body := &countedBody{ReadCloser: r.Body}
		r = r.WithContext(r.Context())
		r.Body = body
		answer := &answer{ResponseWriter: w, body: body}
		next.ServeHTTP(answer, r)
		answer.begin()
	})
}

// countedBody knows whether it was read to its end.
type countedBody struct {
	io.ReadCloser
	ended bool
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// answer decides about the connection when its header is written.
type answer struct {
	http.ResponseWriter
	body  *countedBody
	begun bool
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(p)
}

func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	if a.body.ended {
		return
	}
	a.Header().Set("Connection", "close")
	// net/http tries the rest of the body once more after the answer. A writer without deadlines has no connection.
	_ = http.NewResponseController(a.ResponseWriter).SetReadDeadline(time.Now().Add(lingerIdle))
}
