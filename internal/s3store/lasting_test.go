package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/step"
)

// A part that the storage has received in full takes effect whatever its sender does: the call waits for the answer, so
// that nobody sweeps in between.
func TestUploadPartWaitsForTheEffect(t *testing.T) {
	received, answer := make(chan struct{}), make(chan struct{})
	store := openOn(t, func(w http.ResponseWriter, r *http.Request) {
		new(bytes.Buffer).ReadFrom(r.Body)
		close(received)
		<-answer
		w.Header().Set("ETag", `"etag"`)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := store.UploadPart(ctx, onePart(bytes.NewReader([]byte("content"))))
		done <- err
	}()
	<-received
	cancel()
	select {
	case err := <-done:
		t.Fatalf("returned %v before the storage had answered", err)
	default:
	}
	close(answer)
	if err := <-done; err != nil {
		t.Fatalf("got %v, want the storage's answer", err)
	}
}

// A part that is still being sent is given up at once: the storage cannot put it together any more.
func TestUploadPartGivesUpInMidBody(t *testing.T) {
	store := openOn(t, func(_ http.ResponseWriter, r *http.Request) {
		new(bytes.Buffer).ReadFrom(r.Body)
	})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := store.UploadPart(ctx, onePart(stuckReader{ctx, cancel}))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
}

// stuckReader is a provider that falls silent; the caller then gives up.
type stuckReader struct {
	ctx    context.Context
	cancel func()
}

func (s stuckReader) Read([]byte) (int, error) {
	s.cancel()
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func onePart(content interface{ Read([]byte) (int, error) }) step.PartUpload {
	return step.PartUpload{Key: "key", UploadID: "id", Number: 1, SizeBytes: 7, Body: backuptest.NewPartBody(content)}
}

func openOn(t *testing.T, handle http.HandlerFunc) *s3store.Store {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: "bucket", Endpoint: server.URL, Region: "us-east-1", AccessKey: "key", SecretKey: "secret", PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store
}
