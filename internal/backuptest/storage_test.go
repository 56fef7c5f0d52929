package backuptest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// The fake obeys the rules that it stands in for.
func TestStorageConforms(t *testing.T) {
	backuptest.StorageConformance(t, func(t *testing.T) backuptest.AnyStorage {
		s := backuptest.NewStorage()
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		s.LinkURL = server.URL
		return s
	})
}

// A fault before a call prevents its effect; one after it loses only the answer.
func TestStorageFaults(t *testing.T) {
	s := backuptest.NewStorage()
	var fired []backuptest.StorageCall
	fault := func(when backuptest.StorageCall) func(backuptest.StorageCall) error {
		return func(call backuptest.StorageCall) error {
			if call != when {
				return nil
			}
			fired = append(fired, call)
			return backup.E(backup.StorageUnavailable, "injected")
		}
	}
	s.Intercept = fault(backuptest.StorageCall{Op: "CreateUpload", N: 1})
	if _, err := s.CreateUpload(t.Context(), "a/b", "token"); !backup.Is(err, backup.StorageUnavailable) {
		t.Errorf("before: %v", err)
	}
	if uploads, _ := s.Left(""); uploads != 0 {
		t.Errorf("before: %d uploads", uploads)
	}
	s.Intercept = fault(backuptest.StorageCall{Op: "CreateUpload", N: 2, After: true})
	if id, err := s.CreateUpload(t.Context(), "a/b", "token"); !backup.Is(err, backup.StorageUnavailable) || id != "" {
		t.Errorf("after: %q, %v", id, err)
	}
	if uploads, _ := s.Left("a/"); uploads != 1 || len(fired) != 2 || s.Calls("CreateUpload") != 2 {
		t.Errorf("after: %d uploads, %d faults, %d calls", uploads, len(fired), s.Calls("CreateUpload"))
	}
}

// Delete markers and hidden versions go with the rest; a marker hides its object.
func TestStorageVersions(t *testing.T) {
	s := backuptest.NewStorage()
	if err := s.Put(t.Context(), "a/b", "text/plain", []byte("content")); err != nil {
		t.Fatal(err)
	}
	s.Mark("a/b")
	if _, err := s.Head(t.Context(), "a/b"); !backup.Is(err, backup.NotFound) {
		t.Errorf("under a delete marker: %v", err)
	}
	if _, versions := s.Left("a/"); versions != 1 {
		t.Errorf("%d versions are left", versions)
	}
	if n, err := s.DeleteObjects(t.Context(), "a/", nil); n != 2 || err != nil {
		t.Errorf("removed %d, %v, want the version and the marker", n, err)
	}
	if uploads, versions := s.Left(""); uploads+versions != 0 {
		t.Errorf("left: %d uploads, %d versions", uploads, versions)
	}
}

// A relaxed part size serves tests with small content.
func TestStorageRelaxedPartSize(t *testing.T) {
	s := backuptest.NewStorage()
	s.MinPartBytes = 1
	id, err := s.CreateUpload(t.Context(), "k", "token")
	if err != nil {
		t.Fatal(err)
	}
	var parts []backup.Part
	for i, content := range []string{"12345", "6789"} {
		body := backuptest.NewPartBody(strings.NewReader(content))
		size := int64(len(content))
		etag, err := s.UploadPart(t.Context(), step.PartUpload{Key: "k", UploadID: id, Number: i + 1, SizeBytes: size, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, backup.Part{Number: i + 1, ETag: etag, SizeBytes: size, CRC64NVME: body.CRC64NVME()})
	}
	const checkValue = 0xAE8B14860A799888 // of "123456789"
	if err := s.CompleteUpload(t.Context(), step.Completion{Key: "k", UploadID: id, SizeBytes: 9, CRC64NVME: checkValue, Parts: parts}); err != nil {
		t.Fatal(err)
	}
	if content, found := s.Content("k"); !found || string(content) != "123456789" {
		t.Errorf("content %q, %v", content, found)
	}
}

// A link stops working when its time has passed.
func TestStorageLinkExpires(t *testing.T) {
	s := backuptest.NewStorage()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s.Now = func() time.Time { return now }
	if err := s.Put(t.Context(), "k", "text/plain", []byte("content")); err != nil {
		t.Fatal(err)
	}
	link, err := s.PresignGet(t.Context(), "k", "k.txt", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int{time.Minute: http.StatusOK, time.Minute + 1: http.StatusForbidden} {
		s.Now = func() time.Time { return now.Add(after) }
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, link, nil))
		if w.Code != want {
			t.Errorf("after %s: %d, want %d", after, w.Code, want)
		}
	}
}

// A bucket that is full says so, and takes more once something is removed.
func TestStorageCapacity(t *testing.T) {
	s := backuptest.NewStorage()
	s.CapacityBytes = 10
	if err := s.Put(t.Context(), "a", "text/plain", []byte("1234567")); err != nil {
		t.Fatal(err)
	}
	part := func() error {
		body := backuptest.NewPartBody(strings.NewReader("1234"))
		_, err := s.UploadPart(t.Context(), step.PartUpload{Key: "b", UploadID: backup.SingleUploadID("t"), Number: 1, SizeBytes: 4, Body: body})
		return err
	}
	if err := s.Put(t.Context(), "b", "text/plain", []byte("1234")); !backup.Is(err, backup.StorageFull) {
		t.Errorf("put: %v", err)
	}
	if err := part(); !backup.Is(err, backup.StorageFull) {
		t.Errorf("part: %v", err)
	}
	if _, err := s.DeleteObjects(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if err := part(); err != nil {
		t.Errorf("with room: %v", err)
	}
}
