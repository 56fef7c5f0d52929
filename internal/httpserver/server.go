// Package httpserver is how this program listens: how long a client may take over a request, what becomes of a body that
// nobody read, how many connections may be open, and which requests a listener without sign-in answers.
package httpserver

import (
	"log/slog"
	"net/http"
	"time"
)

const (
	headerTime = 10 * time.Second
	// requestTime bounds a whole request, header and body; net/http lifts it when the request has been read.
	requestTime = 30 * time.Second
	// answerTime is lifted by handlers whose answers stream.
	answerTime = time.Minute
	idleTime   = 2 * time.Minute

	maxHeaderBytes = 64 << 10
)

// New serves h under time limits. None of them ends a hijacked connection, such as a socket.
func New(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: closeUnread(h), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
	}
}
