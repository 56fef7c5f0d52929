package s3store_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/s3store"
)

// away is a storage that answers 503 to requests that it is away for, and 404 or 200 to all others.
type away struct {
	from    atomic.Value // func(*http.Request) bool
	refused atomic.Int32
	served  atomic.Int32
}

func (a *away) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if a.from.Load().(func(*http.Request) bool)(r) {
		a.refused.Add(1)
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	a.served.Add(1)
	switch {
	case r.URL.Query().Get("uploadId") == "none":
		refuse(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", `"etag"`)
	default:
		_, _ = io.WriteString(w, "<ListPartsResult/>")
	}
}

func storeOnAway(t *testing.T, from func(*http.Request) bool) (*away, *s3store.Store) {
	a := &away{}
	a.from.Store(from)
	return a, storeOn(t, a.ServeHTTP)
}

func everything(*http.Request) bool { return true }
func nothing(*http.Request) bool    { return false }
func puts(r *http.Request) bool     { return r.Method == http.MethodPut }
func listParts(s *s3store.Store) error {
	_, err := s.UploadedParts(context.Background(), "a/b.zip", "upload", 1, 1)
	return err
}

func sendPart(s *s3store.Store) error {
	_, err := s.UploadPart(context.Background(), partOf(strings.NewReader("content"), 7))
	return err
}

// untilAnswered repeats the call until it succeeds.
func untilAnswered(t *testing.T, call func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never answered: %v", err)
		}
	}
}

// A storage that is away is hardly asked, neither by the SDK; the error says so, and that trying again helps. Once it is back
// all goes on.
func TestStorageAwayIsHardlyAsked(t *testing.T) {
	a, store := storeOnAway(t, everything)
	var err error
	for range 100 {
		err = listParts(store)
		if !backup.Is(err, backup.StorageUnavailable) {
			t.Fatalf("%v", err)
		}
	}
	if n := a.refused.Load(); n < 3 || n > 12 {
		t.Errorf("asked %d times", n)
	}
	if !strings.Contains(err.Error(), "no answer when last asked at") || !store.Doubtful() {
		t.Errorf("%v, doubtful %t", err, store.Doubtful())
	}
	a.from.Store(nothing)
	untilAnswered(t, func() error { return listParts(store) })
	if store.Doubtful() {
		t.Error("still doubtful")
	}
}

// A storage that reads but takes no parts is asked whether it takes them, before anything is fetched for it, by a request
// that changes nothing.
func TestStorageThatTakesNothing(t *testing.T) {
	a, store := storeOnAway(t, puts)
	if err := sendPart(store); !backup.Is(err, backup.StorageUnavailable) || !store.Doubtful() {
		t.Fatalf("%v, doubtful %t", err, store.Doubtful())
	}
	for range 100 {
		if err := listParts(store); !backup.Is(err, backup.StorageUnavailable) {
			t.Fatalf("%v", err)
		}
	}
	if n := a.refused.Load(); n < 3 || n > 12 || a.served.Load() != 0 {
		t.Errorf("refused %d, served %d", n, a.served.Load())
	}
	a.from.Store(nothing)
	untilAnswered(t, func() error { return listParts(store) })
	if err := sendPart(store); err != nil || store.Doubtful() {
		t.Errorf("%v, doubtful %t", err, store.Doubtful())
	}
}

// What ends for a reason of our own says nothing of the storage, nor does a refusal.
func TestOwnFailuresAreNotTheStorages(t *testing.T) {
	_, store := storeOnAway(t, nothing)
	ended, end := context.WithCancel(t.Context())
	end()
	broken := backup.E(backup.ProviderUnavailable, "the provider has gone")
	for range 20 {
		if _, err := store.UploadPart(t.Context(), partOf(io.MultiReader(strings.NewReader("con"), iotest.ErrReader(broken)), 7)); !errors.Is(err, broken) {
			t.Fatalf("%v", err)
		}
		if _, err := store.UploadedParts(ended, "a/b.zip", "upload", 1, 1); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
	if store.Doubtful() {
		t.Error("the storage is doubtful")
	}
	if err := sendPart(store); err != nil {
		t.Error(err)
	}
}
