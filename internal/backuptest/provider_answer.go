package backuptest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// AnswerStatus answers with a status and a small page.
func AnswerStatus(status int) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Status, reply.Header = status, http.Header{}
		reply.page()
	}
}

// AnswerPreparing answers 503 with the given Retry-After: the snapshot is being made.
func AnswerPreparing(retryAfter string) Answer {
	return func(reply *ProviderReply, req ProviderRequest) {
		AnswerStatus(http.StatusServiceUnavailable)(reply, req)
		reply.Header.Set("Retry-After", retryAfter)
	}
}

// AnswerRedirect answers 302 to another place.
func AnswerRedirect(location string) Answer {
	return func(reply *ProviderReply, req ProviderRequest) {
		AnswerStatus(http.StatusFound)(reply, req)
		reply.Header.Set("Location", location)
	}
}

// AnswerPage answers 200 with an HTML page, as a site does that shows its errors to people.
func AnswerPage() Answer { return AnswerStatus(http.StatusOK) }

func (r *ProviderReply) page() {
	r.Header.Set("Content-Type", "text/html")
	r.Header.Set("Content-Length", strconv.Itoa(len(errorPage)))
	r.Send = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, errorPage) }
}

// AnswerHeader sets a header of the honest reply; an empty value removes it.
func AnswerHeader(name, value string) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Header.Set(name, value)
		if value == "" {
			reply.Header[name] = nil // also keeps net/http from filling it in
		}
	}
}

// AnswerSize lies about the size of the whole export, in Content-Length of HEAD and in Content-Range.
func AnswerSize(sizeBytes int64) Answer {
	return func(reply *ProviderReply, req ProviderRequest) {
		if req.Method == http.MethodHead {
			reply.Header.Set("Content-Length", strconv.FormatInt(sizeBytes, 10))
			return
		}
		reply.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", reply.Offset, reply.Offset+reply.LengthBytes-1, sizeBytes))
	}
}

// AnswerWhole ignores the range: 200 and everything.
func AnswerWhole() Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Status, reply.Offset, reply.LengthBytes = http.StatusOK, 0, reply.p.content.Size()
		reply.Header.Del("Content-Range")
		reply.Header.Set("Content-Length", strconv.FormatInt(reply.LengthBytes, 10))
	}
}

// AnswerShifted sends another range than the one asked for, and says so.
func AnswerShifted(byBytes int64) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Offset += byBytes
		size := reply.p.content.Size()
		reply.LengthBytes = min(reply.LengthBytes, size-reply.Offset)
		reply.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", reply.Offset, reply.Offset+reply.LengthBytes-1, size))
		reply.Header.Set("Content-Length", strconv.FormatInt(reply.LengthBytes, 10))
	}
}

// AnswerGzip says that the body is compressed.
func AnswerGzip() Answer { return AnswerHeader("Content-Encoding", "gzip") }

// AnswerShort ends the body after sendBytes and closes the connection, although more was announced.
func AnswerShort(sendBytes int64) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Send = reply.cut(sendBytes, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}
}

// AnswerShortChunked ends a chunked body properly after sendBytes: only the reader can notice.
func AnswerShortChunked(sendBytes int64) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Header.Del("Content-Length")
		reply.Send = reply.cut(sendBytes, func(http.ResponseWriter, *http.Request) {})
	}
}

// AnswerLong sends extraBytes after the range in a chunked body, which announces no length.
func AnswerLong(extraBytes int64) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Header.Del("Content-Length")
		reply.Send = reply.cut(reply.LengthBytes, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, extraBytes))
		})
	}
}

// AnswerEndless goes on after the range for as long as the client keeps the connection.
func AnswerEndless() Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Header.Del("Content-Length")
		reply.Send = reply.cut(reply.LengthBytes, func(w http.ResponseWriter, _ *http.Request) {
			junk := make([]byte, 64<<10)
			for {
				if _, err := w.Write(junk); err != nil {
					return
				}
			}
		})
	}
}

// AnswerStall sends the first bytes of the body, then nothing until release is closed, then the rest.
func AnswerStall(sendBytes int64, release <-chan struct{}) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		content, rest := reply.p.content, reply.LengthBytes-sendBytes
		reply.Send = reply.cut(sendBytes, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
				_ = writeRange(w, content, reply.Offset+sendBytes, rest)
			case <-r.Context().Done():
			case <-reply.p.stop:
			}
		})
	}
}

// AnswerReset resets the connection after the first bytes of the body.
func AnswerReset(sendBytes int64) Answer {
	return func(reply *ProviderReply, _ ProviderRequest) {
		reply.Send = reply.cut(sendBytes, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		})
	}
}

// cut sends the first bytes of the body, hands them to the network and goes on with then.
func (r *ProviderReply) cut(sendBytes int64, then http.HandlerFunc) func(http.ResponseWriter, *http.Request) {
	content := r.p.content
	return func(w http.ResponseWriter, req *http.Request) {
		if writeRange(w, content, r.Offset, sendBytes) != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		then(w, req)
	}
}
