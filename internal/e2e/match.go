package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

// Match picks requests.
type Match func(*http.Request) bool

// Is picks requests by their Kind.
func Is(kind string) Match {
	return func(r *http.Request) bool { return Kind(r) == kind }
}

// Of narrows a match to one provider's object.
func (m Match) Of(file string) Match {
	return func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/"+file+"-a") && m(r) }
}

// Kinds of requests to the storage. UploadPart is followed by the part's number, as in "UploadPart 3".
const (
	CreateUpload   = "CreateMultipartUpload"
	CompleteUpload = "CompleteMultipartUpload"
	AbortUpload    = "AbortMultipartUpload"
	ListParts      = "ListParts"
	HeadObject     = "HEAD object"
	GetObject      = "GET object"
	PutObject      = "PUT object" // of a file of one part
	PutManifest    = "PUT manifest.json"
	DeleteObjects  = "DeleteObjects"
	ListVersions   = "ListObjectVersions"
	ListUploads    = "ListMultipartUploads"
)

// UploadPart is the kind of the upload of one part.
func UploadPart(number int) string { return fmt.Sprint("UploadPart ", number) }

// HEAD and Range are the kinds of requests to an export.
const HEAD = "HEAD export"

// Range is the kind of a request for bytes from offset.
func Range(offset int64) string { return fmt.Sprint("GET export from ", offset) }

// Kind names a request to an export or to the storage.
func Kind(r *http.Request) string {
	if r.URL.Path == exportPath {
		return exportKind(r)
	}
	q := r.URL.Query()
	switch {
	case q.Has("uploads") && r.Method == http.MethodPost:
		return CreateUpload
	case q.Has("uploads"):
		return ListUploads
	case q.Has("partNumber"):
		return "UploadPart " + q.Get("partNumber")
	case q.Has("uploadId"):
		return map[string]string{http.MethodPost: CompleteUpload, http.MethodDelete: AbortUpload, http.MethodGet: ListParts}[r.Method]
	case q.Has("delete"):
		return DeleteObjects
	case q.Has("versions"):
		return ListVersions
	case strings.HasSuffix(r.URL.Path, "/manifest.json") && r.Method == http.MethodPut:
		return PutManifest
	}
	return r.Method + " object"
}

func exportKind(r *http.Request) string {
	var first int64
	if r.Method == http.MethodHead {
		return HEAD
	}
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
	return Range(first)
}
