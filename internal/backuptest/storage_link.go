package backuptest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
)

type storageLink struct {
	key, fileName string
	expires       time.Time
}

// PresignGet implements step.Objects. As with S3, a link can be made for what is not there.
func (s *Storage) PresignGet(ctx context.Context, key, fileName string, ttl time.Duration) (link string, err error) {
	err = s.do(ctx, "PresignGet", func() error {
		if ttl <= 0 {
			return backup.E(backup.StorageRefused, "a link for %s", ttl)
		}
		s.serial++
		secret := fmt.Sprintf("signature-%d", s.serial)
		s.links[secret] = storageLink{key: key, fileName: fileName, expires: s.Now().Add(ttl)}
		link = s.LinkURL + "/" + key + "?" + url.Values{"signature": {secret}}.Encode()
		return nil
	})
	if err != nil {
		return "", err
	}
	return link, nil
}

// ServeHTTP answers the links that PresignGet made.
func (s *Storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	link, known := s.links[r.URL.Query().Get("signature")]
	object, exists := s.current(link.key)
	s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead,
		!known, r.URL.Path != "/"+link.key, s.Now().After(link.expires):
		http.Error(w, "AccessDenied", http.StatusForbidden)
	case !exists:
		http.Error(w, "NoSuchKey", http.StatusNotFound)
	default:
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", link.fileName))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object.content))
	}
}
