package s3store

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

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
	total := 0
	for range maxSweeps {
		removed, err := pass()
		total += removed
		if err != nil || removed == 0 {
			return total, err
		}
	}
	return total, backup.E(backup.StorageUnavailable, "still not empty after %d listings", maxSweeps)
}

// AbortUploads implements step.Sweeping.
func (s *Store) AbortUploads(ctx context.Context, prefix string, keep func(key string) bool) (int, error) {
	n, err := sweep(func() (int, error) { return s.abortListed(ctx, prefix, keep) })
	if err != nil {
		return n, fail(err, "abort uploads under %s", prefix)
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

// DeleteObjects implements step.Sweeping. Listing versions also shows the objects of a bucket that keeps none.
func (s *Store) DeleteObjects(ctx context.Context, prefix string, keep func(key string) bool) (int, error) {
	n, err := sweep(func() (int, error) { return s.deleteListed(ctx, prefix, keep) })
	if err != nil {
		return n, fail(err, "delete objects under %s", prefix)
	}
	return n, nil
}

func (s *Store) deleteListed(ctx context.Context, prefix string, keep func(string) bool) (int, error) {
	removed := 0
	in := &s3.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &prefix, MaxKeys: aws.Int32(pageSize)}
	for range maxPages {
		out, err := s.client.ListObjectVersions(ctx, in)
		if err != nil {
			return removed, err
		}
		batch := removable(out, keep)
		if err := s.deleteBatch(ctx, batch); err != nil {
			return removed, err
		}
		removed += len(batch)
		if !aws.ToBool(out.IsTruncated) {
			return removed, nil
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	return removed, errEndless
}

// removable collects the versions and delete markers of one page, at most pageSize, that nobody keeps.
func removable(page *s3.ListObjectVersionsOutput, keep func(string) bool) []types.ObjectIdentifier {
	var ids []types.ObjectIdentifier
	add := func(key, version *string) {
		if keep == nil || !keep(aws.ToString(key)) {
			ids = append(ids, types.ObjectIdentifier{Key: key, VersionId: version})
		}
	}
	for _, v := range page.Versions {
		add(v.Key, v.VersionId)
	}
	for _, m := range page.DeleteMarkers {
		add(m.Key, m.VersionId)
	}
	return ids
}

// deleteBatch deletes at most pageSize versions; DeleteObjects takes 1,000.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
func (s *Store) deleteBatch(ctx context.Context, ids []types.ObjectIdentifier) error {
	if len(ids) == 0 {
		return nil
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return err
	}
	if len(out.Errors) > 0 {
		return deleteError(out.Errors)
	}
	return nil
}

func deleteError(failed []types.Error) error {
	first := failed[0]
	kind, known := codeKinds[aws.ToString(first.Code)]
	if !known {
		kind = backup.StorageRefused
	}
	return backup.E(kind, "%d objects stay, the first is %s: %s: %s",
		len(failed), aws.ToString(first.Key), aws.ToString(first.Code), aws.ToString(first.Message))
}
