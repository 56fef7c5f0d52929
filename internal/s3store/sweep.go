package s3store

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// maxSweeps is how often a prefix is listed anew before the sweep gives up: something keeps writing there.
	maxSweeps = 10
	// maxPages bounds one listing, to ten million entries.
	maxPages = 10_000
)

var errEndless = backup.E(backup.StorageUnavailable, "the listing has no end after %d pages", maxPages)

// sweep lists and removes until a listing shows nothing more to remove.
func sweep(pass func() (removed int, err error)) (int, error) {
	total, last := 0, 0
	for range maxSweeps {
		removed, err := pass()
		total += removed
		if err != nil || removed == 0 {
			return total, err
		}
		last = removed
	}
	if total == maxSweeps*last { // as many each time: nothing is being removed
		return total, backup.E(backup.StorageRefused, "the storage says that it removes what it still lists: %d entries in %d listings", last, maxSweeps)
	}
	return total, backup.E(backup.StorageUnavailable, "still not empty after %d listings", maxSweeps)
}

// ListsByPrefix says that the storage, although not Amazon's, lists all uploads under a prefix, so that a sweep need not ask
// for those of each key. There are as many keys as a backup has had tries.
func (s *Store) ListsByPrefix() { s.byPrefix.Store(true) }

// AbortUploads implements step.Sweeping. Servers other than Amazon's are also asked for the uploads of each key, unless they are
// known to list them all: MinIO shows an upload to those only who name its whole key.
func (s *Store) AbortUploads(ctx context.Context, prefix string, keys []string, keep func(key string) bool) (int, error) {
	n, err := sweep(func() (int, error) { return s.abortListed(ctx, prefix, keep) })
	if err != nil {
		return n, fail(err, "abort uploads under %s", prefix)
	}
	if !s.foreign || s.byPrefix.Load() {
		return n, nil
	}
	for _, key := range keys {
		other := func(found string) bool { return found != key || (keep != nil && keep(key)) }
		more, err := sweep(func() (int, error) { return s.abortListed(ctx, key, other) })
		n += more
		if err != nil {
			return n, fail(err, "abort uploads of %s", key)
		}
	}
	return n, nil
}

func (s *Store) abortListed(ctx context.Context, prefix string, keep func(string) bool) (int, error) {
	removed := 0
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: &prefix, MaxUploads: aws.Int32(pageSize)}
	for range maxPages {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return removed, err
		}
		for _, u := range out.Uploads {
			if keep != nil && keep(aws.ToString(u.Key)) {
				continue
			}
			if err := s.AbortUpload(ctx, aws.ToString(u.Key), aws.ToString(u.UploadId)); err != nil {
				return removed, err
			}
			removed++
		}
		if !aws.ToBool(out.IsTruncated) {
			return removed, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
	return removed, errEndless
}
