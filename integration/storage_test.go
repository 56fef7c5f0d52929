package integration_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// storage is a versitygw process behind a gate. The gate notes who asks for what, can hold a request, and signs each one
// anew: the server does not know the keys of the functions' roles.
type storage struct {
	endpoint string // of the gate
	bucket   string
	direct   *s3.Client // not through the gate
	key      aws.Credentials

	mu   sync.Mutex
	uses map[use]bool
	held *held
}

// use is one way in which somebody has used S3.
type use struct {
	accessKey string
	action    string // as policies call it
	key       string // of the object; "": the bucket itself
}

// held is a request that waits at the gate.
type held struct {
	kind     string
	prefix   string // of the object's key
	reached  chan struct{}
	released chan struct{}
	release  func() // also when the test ends
}

func startStorage(t *testing.T, dir string) *storage {
	t.Helper()
	server, err := versitygw.Start(t.Context(), versitygw.Config{Binary: e2e.VersityGW(t), Dir: dir, Versioning: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	target, err := url.Parse(server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	key := server.Credentials()
	s := &storage{uses: map[use]bool{}, key: aws.Credentials{AccessKeyID: key.AccessKey, SecretAccessKey: key.SecretKey}}
	s.direct = s3.New(s3.Options{
		BaseEndpoint: aws.String(server.Endpoint()), Region: region, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKey, key.SecretKey, ""),
	})
	proxy := &httputil.ReverseProxy{
		Transport: s, FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			bounded(r.Out)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(t, r)
		if !s.pass(r) {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		gate.CloseClientConnections()
		gate.Close()
	})
	s.endpoint = gate.URL
	return s
}

// createBucket makes the bucket that the Data stack has made in the emulator, with versions as it asks for them.
func (s *storage) createBucket(t *testing.T, bucket string) {
	t.Helper()
	s.bucket = bucket
	_, err := s.direct.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket})
	if err == nil {
		_, err = s.direct.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
			Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

var credential = regexp.MustCompile(`Credential=([^/,]+)/`)

// note records who asks for what. A request that is not signed is one that S3 would refuse.
func (s *storage) note(t *testing.T, r *http.Request) {
	signed, _, _ := strings.Cut(r.URL.Query().Get("X-Amz-Credential"), "/")
	if found := credential.FindStringSubmatch(r.Header.Get("Authorization")); found != nil {
		signed = found[1]
	}
	if signed == "" {
		t.Errorf("an unsigned request to the storage: %s %s", r.Method, r.URL.Path)
		return
	}
	_, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if e2e.Kind(r) == e2e.DeleteObjects {
		object = "any" // the body names them
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, action := range actionsOf(r) {
		s.uses[use{signed, action, object}] = true
	}
}

func (s *storage) used() []use {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.uses))
}

// actionsOf are the rights that the request needs at S3.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html (read 2026-11)
func actionsOf(r *http.Request) []string {
	switch kind := e2e.Kind(r); {
	case kind == e2e.ListUploads:
		return []string{"s3:ListBucketMultipartUploads"}
	case kind == e2e.ListVersions:
		return []string{"s3:ListBucketVersions"}
	case kind == e2e.ListParts:
		return []string{"s3:ListMultipartUploadParts"}
	case kind == e2e.AbortUpload:
		return []string{"s3:AbortMultipartUpload"}
	case kind == e2e.DeleteObjects:
		return []string{"s3:DeleteObject", "s3:DeleteObjectVersion"}
	case r.Method == http.MethodGet && r.URL.Query().Has("list-type"):
		return nil // asked of servers other than Amazon's, such as the one here
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return []string{"s3:GetObject"}
	case r.Method == http.MethodDelete && r.URL.Query().Has("versionId"):
		return []string{"s3:DeleteObjectVersion"}
	case r.Method == http.MethodDelete:
		return []string{"s3:DeleteObject"}
	default: // the start, a part and the completion of an upload as well
		return []string{"s3:PutObject"}
	}
}

// hold keeps the next request of the kind to an object of the prefix from the server.
func (s *storage) hold(t *testing.T, kind, prefix string) *held {
	h := &held{kind: kind, prefix: prefix, reached: make(chan struct{}), released: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.released) })
	t.Cleanup(h.release)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = h
	return h
}

// pass waits where the request is held, and tells whether it goes on.
func (s *storage) pass(r *http.Request) bool {
	s.mu.Lock()
	h := s.held
	if h == nil || !strings.HasPrefix(e2e.Kind(r), h.kind) || !strings.Contains(r.URL.Path, h.prefix) {
		s.mu.Unlock()
		return true
	}
	s.held = nil
	s.mu.Unlock()
	close(h.reached)
	select {
	case <-h.released:
		return true
	case <-r.Context().Done():
		return false
	}
}

// await waits until the request is held.
func (h *held) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.reached:
	case <-time.After(jobTime):
		t.Fatalf("no %s of %s came", h.kind, h.prefix)
	}
}

// RoundTrip implements http.RoundTripper: it signs the request with the server's only key.
func (s *storage) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	query := r.URL.Query()
	for name := range query {
		if strings.HasPrefix(name, "X-Amz-") {
			query.Del(name) // a presigned link's signature
		}
	}
	r.URL.RawQuery, r.Host = query.Encode(), r.URL.Host
	for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} {
		r.Header.Del(name)
	}
	if r.Header.Get("X-Amz-Content-Sha256") == "" {
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(r.Context(), s.key, r, r.Header.Get("X-Amz-Content-Sha256"), "s3", region, time.Now()); err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(r)
}

// contents are the keys of all versions and of all unfinished uploads below the prefix.
func (s *storage) contents(t *testing.T, prefix string) (versions, uploads []string) {
	t.Helper()
	stored, err := s.direct.ListObjectVersions(t.Context(), &s3.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := s.direct.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range stored.Versions {
		versions = append(versions, *v.Key)
	}
	for _, m := range stored.DeleteMarkers {
		versions = append(versions, "marker of "+*m.Key)
	}
	for _, u := range begun.Uploads {
		uploads = append(uploads, *u.Key)
	}
	slices.Sort(versions)
	return versions, uploads
}

// object reads an object, not through the gate; nil if there is none.
func (s *storage) object(t *testing.T, key string) []byte {
	t.Helper()
	out, err := s.direct.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if _, ok := errors.AsType[*types.NoSuchKey](err); ok {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
