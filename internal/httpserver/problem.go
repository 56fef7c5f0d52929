package httpserver

import (
	"encoding/json"
	"net/http"

	"github.com/sitevault/sitevault/internal/backup"
)

const problemType = "application/problem+json"

// refuse answers in the shape of every problem of the API (RFC 9457).
func refuse(w http.ResponseWriter, status int, kind backup.Kind, detail string) {
	body, _ := json.Marshal(map[string]any{ // texts and a number always marshal
		"type": "urn:sitevault:problem:" + string(kind), "title": kind.Sentence(), "status": status, "kind": kind, "detail": detail,
	})
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	w.Write(body)
}

// overloaded is the problem of a connection that is not served: it comes before the API and has no kind of it.
func overloaded(detail string) []byte {
	const status = http.StatusServiceUnavailable
	body, _ := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	return body
}
