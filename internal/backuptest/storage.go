package backuptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var (
	_ step.Uploader = (*Storage)(nil)
	_ step.Objects  = (*Storage)(nil)
	_ step.Sweeping = (*Storage)(nil)
)

// Storage is a versioned bucket in memory with the rules of S3. Set its fields before the first call.
type Storage struct {
	// MinPartBytes is the least that every part but the last must have; S3's own minimum unless changed.
	MinPartBytes int64
	// CapacityBytes is how much the bucket takes, parts and versions together; 0: anything.
	CapacityBytes int64
	// LinkURL is the address at which ServeHTTP is reached, for links that shall work.
	LinkURL string
	// WholeKeys lists uploads only to those who name their whole key, as MinIO does.
	WholeKeys bool
	// Now is the clock of links that expire.
	Now func() time.Time
	// Intercept, if set, is called before and after every call; an error ends the call with it. After means that the
	// call has had its effect already, so that only its answer is lost. It may call the storage.
	Intercept func(StorageCall) error

	mu      sync.Mutex
	calls   map[string]int
	serial  int
	uploads map[string]*storageUpload // by upload id
	objects map[string][]storageVersion
	links   map[string]storageLink // by the secret in their URL
}

// StorageCall is one moment of one call.
type StorageCall struct {
	Op    string // the method's name
	N     int    // which call of that method it is, from 1
	After bool   // it has had its effect, and had succeeded
}

type storageUpload struct {
	key, token string
	parts      map[int]storagePart
}

type storagePart struct {
	backup.Part
	content []byte
}

// storageVersion is one version of a key; a delete marker has no content and is no object.
type storageVersion struct {
	content []byte
	token   string
	marker  bool
}

// NewStorage makes an empty bucket.
func NewStorage() *Storage {
	return &Storage{
		MinPartBytes: backup.MinPartSizeBytes, LinkURL: "https://storage.invalid", Now: time.Now,
		calls: map[string]int{}, uploads: map[string]*storageUpload{},
		objects: map[string][]storageVersion{}, links: map[string]storageLink{},
	}
}

// do runs one call: its effect under the lock, Intercept outside it.
func (s *Storage) do(ctx context.Context, op string, effect func() error) error {
	s.mu.Lock()
	s.calls[op]++
	call := StorageCall{Op: op, N: s.calls[op]}
	s.mu.Unlock()
	if err := s.intercept(ctx, call); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	s.mu.Lock()
	err := effect()
	s.mu.Unlock()
	if err == nil {
		call.After = true
		err = s.intercept(ctx, call)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (s *Storage) intercept(ctx context.Context, call StorageCall) error {
	if err := ctx.Err(); err != nil {
		return backup.E(backup.StorageUnavailable, "%w", err)
	}
	if s.Intercept == nil {
		return nil
	}
	return s.Intercept(call)
}

// Calls is how often a method has been called.
func (s *Storage) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// Left counts what is still paid for under a prefix: open uploads, and versions that are no delete markers.
func (s *Storage) Left(prefix string) (uploads, versions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.uploads {
		if strings.HasPrefix(u.key, prefix) {
			uploads++
		}
	}
	for key, all := range s.objects {
		for _, v := range all {
			if strings.HasPrefix(key, prefix) && !v.marker {
				versions++
			}
		}
	}
	return uploads, versions
}

// room fails when the bucket has none for so many bytes.
func (s *Storage) room(bytes int) error {
	used := int64(bytes)
	for _, u := range s.uploads {
		for _, p := range u.parts {
			used += p.SizeBytes
		}
	}
	for _, versions := range s.objects {
		for _, v := range versions {
			used += int64(len(v.content))
		}
	}
	if s.CapacityBytes > 0 && used > s.CapacityBytes {
		return backup.E(backup.StorageFull, "%d bytes would be %d more than the bucket takes", used, used-s.CapacityBytes)
	}
	return nil
}

// Content is what the object under key holds; false when there is none.
func (s *Storage) Content(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, found := s.current(key)
	return slices.Clone(v.content), found
}

// Overwrite replaces an object's content behind everybody's back, its token stays.
func (s *Storage) Overwrite(key string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, _ := s.current(key)
	s.objects[key] = append(s.objects[key], storageVersion{content: slices.Clone(content), token: v.token})
}

// Mark puts a delete marker on top of a key, as a deletion without a version does.
func (s *Storage) Mark(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = append(s.objects[key], storageVersion{marker: true})
}

func (s *Storage) current(key string) (storageVersion, bool) {
	all := s.objects[key]
	if len(all) == 0 || all[len(all)-1].marker {
		return storageVersion{}, false
	}
	return all[len(all)-1], true
}

// Head implements step.Objects.
func (s *Storage) Head(ctx context.Context, key string) (object step.Object, err error) {
	err = s.do(ctx, "Head", func() error {
		v, found := s.current(key)
		if !found {
			return backup.E(backup.NotFound, "no object %s", key)
		}
		object = step.Object{SizeBytes: int64(len(v.content)), CRC64NVME: crc64nvme.Checksum(v.content), Checked: true, Token: v.token}
		return nil
	})
	if err != nil {
		return step.Object{}, err
	}
	return object, nil
}

// ReadRange implements step.Objects.
func (s *Storage) ReadRange(ctx context.Context, key string, offset, lengthBytes int64) (body io.ReadCloser, err error) {
	err = s.do(ctx, "ReadRange", func() error {
		v, found := s.current(key)
		if !found {
			return backup.E(backup.NotFound, "no object %s", key)
		}
		if offset < 0 || lengthBytes < 0 || offset+lengthBytes > int64(len(v.content)) {
			return backup.E(backup.StorageRefused, "%d bytes at %d of %s, which has %d", lengthBytes, offset, key, len(v.content))
		}
		body = io.NopCloser(bytes.NewReader(v.content[offset : offset+lengthBytes]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Put implements step.Objects.
func (s *Storage) Put(ctx context.Context, key, _ string, body []byte) error {
	return s.do(ctx, "Put", func() error {
		if err := s.room(len(body)); err != nil {
			return err
		}
		s.objects[key] = append(s.objects[key], storageVersion{content: slices.Clone(body)})
		return nil
	})
}
