package backuptest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

// CreateUpload implements step.Uploader.
func (s *Storage) CreateUpload(ctx context.Context, key, token string) (uploadID string, err error) {
	err = s.do(ctx, "CreateUpload", func() error {
		s.serial++
		uploadID = fmt.Sprintf("upload-%d", s.serial)
		s.uploads[uploadID] = &storageUpload{key: key, token: token, parts: map[int]storagePart{}}
		return nil
	})
	if err != nil {
		return "", err
	}
	return uploadID, nil
}

// UploadPart implements step.Uploader. The part becomes visible when all of it has arrived; the last to arrive stands.
func (s *Storage) UploadPart(ctx context.Context, p step.PartUpload) (etag string, err error) {
	token, single := backup.SingleUploadToken(p.UploadID)
	var content []byte
	var bodyErr error
	if single || s.knows(p.Key, p.UploadID) { // a part of an unknown upload is refused before it is read
		content, bodyErr = receive(ctx, p)
	}
	err = s.do(ctx, "UploadPart", func() error {
		u, err := s.upload(p.Key, p.UploadID)
		if err != nil && !single {
			return err
		}
		if bodyErr != nil {
			return bodyErr
		}
		if p.Number < 1 || p.Number > backup.MaxParts || p.SizeBytes > backup.MaxPartSizeBytes {
			return backup.E(backup.StorageRefused, "part %d of %d bytes", p.Number, p.SizeBytes)
		}
		crc := crc64nvme.Checksum(content)
		if crc != p.Body.CRC64NVME() {
			return backup.E(backup.ChecksumMismatch, "part %d does not have the checksum that came with it", p.Number)
		}
		if err := s.room(len(content)); err != nil {
			return err
		}
		if single {
			etag, err = s.putSingle(p.Key, token, content)
			return err
		}
		s.serial++
		etag = fmt.Sprintf(`"part-%d"`, s.serial) // as under KMS, where equal bytes have different ETags
		u.parts[p.Number] = storagePart{backup.Part{Number: p.Number, ETag: etag, SizeBytes: p.SizeBytes, CRC64NVME: crc}, content}
		return nil
	})
	if err != nil {
		return "", err
	}
	return etag, nil
}

// putSingle puts the object of a single upload, unless it is there already.
func (s *Storage) putSingle(key, token string, content []byte) (etag string, err error) {
	v, exists := s.current(key)
	if exists && (v.token != token || !bytes.Equal(v.content, content)) {
		return "", backup.E(backup.ChecksumMismatch, "there is another object %s already", key)
	}
	if !exists {
		s.objects[key] = append(s.objects[key], storageVersion{content: content, token: token})
	}
	return singleETag(token), nil
}

// singlePart is the object of a single upload as its part; none if the object is not there or is another one.
func (s *Storage) singlePart(key, token string) []backup.Part {
	v, exists := s.current(key)
	if !exists || v.token != token {
		return nil
	}
	return []backup.Part{{Number: 1, ETag: singleETag(token), SizeBytes: int64(len(v.content)), CRC64NVME: crc64nvme.Checksum(v.content)}}
}

func singleETag(token string) string { return fmt.Sprintf(`"object-%s"`, token) }

// receive reads a part's body, which must be as long as announced.
func receive(ctx context.Context, p step.PartUpload) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(p.Body, p.SizeBytes+1))
	if err == nil && int64(len(content)) != p.SizeBytes {
		err = backup.E(backup.Internal, "part %d: %d bytes were announced, others came", p.Number, p.SizeBytes)
	}
	return content, err
}

func (s *Storage) upload(key, uploadID string) (*storageUpload, error) {
	u := s.uploads[uploadID]
	if u == nil || u.key != key {
		return nil, backup.E(backup.UploadLost, "no upload %s of %s", uploadID, key)
	}
	return u, nil
}

func (s *Storage) knows(key, uploadID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.upload(key, uploadID)
	return err == nil
}

// UploadedParts implements step.Uploader.
func (s *Storage) UploadedParts(ctx context.Context, key, uploadID string, first, last int) (parts []backup.Part, err error) {
	err = s.do(ctx, "UploadedParts", func() error {
		if token, single := backup.SingleUploadToken(uploadID); single {
			parts = s.singlePart(key, token)
			return nil
		}
		u, err := s.upload(key, uploadID)
		if err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(u.parts)) {
			if first <= n && n <= last {
				parts = append(parts, u.parts[n].Part)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return parts, nil
}

// CompleteUpload implements step.Uploader. The upload is gone afterwards, so that repeating it fails with UploadLost.
func (s *Storage) CompleteUpload(ctx context.Context, c step.Completion) error {
	return s.do(ctx, "CompleteUpload", func() error {
		if _, single := backup.SingleUploadToken(c.UploadID); single {
			return nil
		}
		u, err := s.upload(c.Key, c.UploadID)
		if err != nil {
			return err
		}
		content, err := u.assemble(c, s.MinPartBytes)
		if err != nil {
			return err
		}
		if _, exists := s.current(c.Key); exists {
			return backup.E(backup.Conflict, "there is an object %s already", c.Key)
		}
		s.objects[c.Key] = append(s.objects[c.Key], storageVersion{content: content, token: u.token})
		delete(s.uploads, c.UploadID)
		return nil
	})
}

// assemble puts the named parts together, after checking everything that S3 checks.
func (u *storageUpload) assemble(c step.Completion, minPartBytes int64) ([]byte, error) {
	if len(c.Parts) == 0 {
		return nil, backup.E(backup.StorageRefused, "no parts are named")
	}
	if !slices.IsSortedFunc(c.Parts, func(a, b backup.Part) int { return a.Number - b.Number }) {
		return nil, backup.E(backup.ChecksumMismatch, "the parts are out of order")
	}
	var content bytes.Buffer
	for i, named := range c.Parts {
		held, exists := u.parts[named.Number]
		if !exists || held.ETag != named.ETag || held.CRC64NVME != named.CRC64NVME {
			return nil, backup.E(backup.ChecksumMismatch, "part %d is not the one named", named.Number)
		}
		if i < len(c.Parts)-1 && held.SizeBytes < minPartBytes {
			return nil, backup.E(backup.StorageRefused, "part %d has %d bytes, fewer than %d", named.Number, held.SizeBytes, minPartBytes)
		}
		content.Write(held.content)
	}
	if int64(content.Len()) != c.SizeBytes {
		return nil, backup.E(backup.ChecksumMismatch, "the parts have %d bytes, not %d", content.Len(), c.SizeBytes)
	}
	if checksum.Whole(c.Parts) != c.CRC64NVME {
		return nil, backup.E(backup.ChecksumMismatch, "the parts do not have the checksum given")
	}
	return content.Bytes(), nil
}

// AbortUpload implements step.Uploader.
func (s *Storage) AbortUpload(ctx context.Context, key, uploadID string) error {
	return s.do(ctx, "AbortUpload", func() error {
		if _, single := backup.SingleUploadToken(uploadID); single {
			delete(s.objects, key)
			return nil
		}
		_, err := s.upload(key, uploadID)
		if err == nil {
			delete(s.uploads, uploadID)
		}
		if backup.Is(err, backup.UploadLost) {
			return nil
		}
		return err
	})
}

// AbortUploads implements step.Sweeping.
func (s *Storage) AbortUploads(ctx context.Context, prefix string, keys []string, keep func(key string) bool) (removed int, err error) {
	err = s.do(ctx, "AbortUploads", func() error {
		for id, u := range s.uploads {
			listed := strings.HasPrefix(u.key, prefix) && (!s.WholeKeys || slices.Contains(keys, u.key))
			if listed && (keep == nil || !keep(u.key)) {
				delete(s.uploads, id)
				removed++
			}
		}
		return nil
	})
	return removed, err
}

// DeleteObjects implements step.Sweeping.
func (s *Storage) DeleteObjects(ctx context.Context, prefix string, keep func(key string) bool) (removed int, err error) {
	err = s.do(ctx, "DeleteObjects", func() error {
		for key, versions := range s.objects {
			if strings.HasPrefix(key, prefix) && (keep == nil || !keep(key)) {
				delete(s.objects, key)
				removed += len(versions)
			}
		}
		return nil
	})
	return removed, err
}
