package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// conditional gives every successful answer to a GET or HEAD a strong ETag and answers 304 to a client that has it (RFC 9110,
// section 13). Answers are small documents, so they are held back until they are complete.
func conditional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		held := &heldAnswer{ResponseWriter: w, headOnly: r.Method == http.MethodHead, status: http.StatusOK}
		next.ServeHTTP(held, r)
		held.send(r.Header.Get("If-None-Match"))
	})
}

type heldAnswer struct {
	http.ResponseWriter
	headOnly bool // answers a HEAD, whose body net/http would drop and API Gateway may not
	status   int
	body     bytes.Buffer
}

func (h *heldAnswer) WriteHeader(status int)      { h.status = status }
func (h *heldAnswer) Write(p []byte) (int, error) { return h.body.Write(p) }

func (h *heldAnswer) send(ifNoneMatch string) {
	header := h.Header()
	if h.status == http.StatusOK {
		if header.Get("ETag") == "" {
			header.Set("ETag", bodyTag(h.body.Bytes()))
		}
		header.Set("Cache-Control", "private, no-cache")
		if matches(ifNoneMatch, header.Get("ETag")) {
			header.Del("Content-Type")
			h.ResponseWriter.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.ResponseWriter.WriteHeader(h.status)
	if !h.headOnly {
		h.ResponseWriter.Write(h.body.Bytes())
	}
}

func bodyTag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// matches is the weak comparison that If-None-Match asks for.
func matches(ifNoneMatch, etag string) bool {
	for tag := range strings.SplitSeq(ifNoneMatch, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
