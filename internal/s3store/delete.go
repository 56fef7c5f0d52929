package s3store

import (
	"context"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sitevault/sitevault/internal/backup"
)

var errHiddenVersions = backup.E(backup.StorageRefused,
	"the bucket keeps versions of what is deleted and the storage does not list them: turn the versioning of the bucket off")

// DeleteObjects implements step.Sweeping. Listing versions also shows the objects of a bucket that keeps none.
func (s *Store) DeleteObjects(ctx context.Context, prefix string, keep func(key string) bool) (int, error) {
	d := deletion{Store: s, prefix: prefix, keep: keep, deleted: map[version]bool{}}
	_, err := sweep(func() (int, error) { return d.pass(ctx) })
	if err != nil {
		return len(d.deleted), fail(err, "delete objects under %s", prefix)
	}
	return len(d.deleted), nil
}

// deletion is one call of DeleteObjects: passes over what is left, until there is nothing.
type deletion struct {
	*Store
	prefix  string
	keep    func(key string) bool
	deleted map[version]bool
	singly  bool // an earlier pass has deleted in batches, and something is left
	asked   bool // whether the bucket keeps versions
}

type version struct{ key, id string }

// pass deletes what a listing of versions shows. Where a server other than Amazon's has no such listing, or it is
// empty, which it also is where the server takes it for another request, the listing of objects decides.
func (d *deletion) pass(ctx context.Context) (found int, err error) {
	found, err = d.each(ctx, d.versions(), d.deleteVersions)
	if d.foreign && (unsupported(err) || (err == nil && found == 0)) {
		found, err = d.each(ctx, d.objects(), d.deleteUnversioned)
	}
	d.singly = d.foreign
	return found, err
}

// lister returns the next page that is to be deleted, at most pageSize entries, and whether more pages follow.
type lister func(ctx context.Context) (ids []types.ObjectIdentifier, more bool, err error)

func (d *deletion) each(ctx context.Context, next lister, remove func(context.Context, []types.ObjectIdentifier) error) (found int, err error) {
	for range maxPages {
		ids, more, err := next(ctx)
		if err != nil {
			return found, err
		}
		if len(ids) > 0 {
			if err := remove(ctx, ids); err != nil {
				return found, err
			}
		}
		for _, id := range ids {
			d.deleted[version{aws.ToString(id.Key), aws.ToString(id.VersionId)}] = true
		}
		found += len(ids)
		if !more {
			return found, nil
		}
	}
	return found, errEndless
}

func (d *deletion) kept(key *string) bool { return d.keep != nil && d.keep(aws.ToString(key)) }

// versions lists versions and delete markers.
func (d *deletion) versions() lister {
	in := &s3.ListObjectVersionsInput{Bucket: &d.bucket, Prefix: &d.prefix, MaxKeys: aws.Int32(pageSize)}
	return func(ctx context.Context) (ids []types.ObjectIdentifier, more bool, err error) {
		out, err := d.client.ListObjectVersions(ctx, in)
		if err != nil {
			return nil, false, err
		}
		for _, v := range out.Versions {
			if !d.kept(v.Key) {
				ids = append(ids, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
			}
		}
		for _, m := range out.DeleteMarkers {
			if !d.kept(m.Key) {
				ids = append(ids, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
			}
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
		return ids, aws.ToBool(out.IsTruncated), nil
	}
}

// objects lists what is there now.
func (d *deletion) objects() lister {
	in := &s3.ListObjectsV2Input{Bucket: &d.bucket, Prefix: &d.prefix, MaxKeys: aws.Int32(pageSize)}
	return func(ctx context.Context) (ids []types.ObjectIdentifier, more bool, err error) {
		out, err := d.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, false, err
		}
		for _, o := range out.Contents {
			if !d.kept(o.Key) {
				ids = append(ids, types.ObjectIdentifier{Key: o.Key})
			}
		}
		in.ContinuationToken = out.NextContinuationToken
		return ids, aws.ToBool(out.IsTruncated), nil
	}
}

// deleteUnversioned fails where a deletion would leave a version that nothing lists.
func (d *deletion) deleteUnversioned(ctx context.Context, ids []types.ObjectIdentifier) error {
	if !d.asked {
		if err := d.refuseVersions(ctx); err != nil {
			return err
		}
		d.asked = true
	}
	return d.deleteVersions(ctx, ids)
}

// refuseVersions fails if the bucket keeps versions. Who cannot be asked, or may not be, is told apart by the answers to
// the deletions.
func (s *Store) refuseVersions(ctx context.Context) error {
	out, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.bucket})
	switch {
	case unsupported(err), statusOf(err) == http.StatusForbidden:
		return nil
	case err != nil:
		return err
	case out.Status != "":
		return errHiddenVersions
	}
	return nil
}

// deleteVersions deletes a page: in one request, or one by one where the storage refuses the request or has kept what
// it was to delete.
func (d *deletion) deleteVersions(ctx context.Context, ids []types.ObjectIdentifier) error {
	if !d.singly && !d.noBatches.Load() {
		err := d.deleteBatch(ctx, ids)
		if !d.foreign || !unsupported(err) {
			return err
		}
		d.noBatches.Store(true)
	}
	for _, id := range ids {
		out, err := d.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &d.bucket, Key: id.Key, VersionId: id.VersionId})
		if err != nil {
			return err
		}
		if id.VersionId == nil && aws.ToBool(out.DeleteMarker) {
			return errHiddenVersions
		}
	}
	return nil
}

// deleteBatch deletes at most pageSize versions; DeleteObjects takes 1,000.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
func (d *deletion) deleteBatch(ctx context.Context, ids []types.ObjectIdentifier) error {
	named := ids[0].VersionId != nil
	out, err := d.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &d.bucket, Delete: &types.Delete{Objects: ids, Quiet: &named},
	})
	if err != nil {
		return err
	}
	if len(out.Errors) > 0 {
		return deleteError(out.Errors)
	}
	for _, deleted := range out.Deleted {
		if !named && aws.ToBool(deleted.DeleteMarker) {
			return errHiddenVersions
		}
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

// unsupported tells whether the storage does not know a request, or not in the form that Amazon's has.
func unsupported(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusLengthRequired, http.StatusNotImplemented:
		kind, known := codeKinds[codeOf(err)]
		return !known || kind == backup.StorageRefused
	}
	return false
}

// statusOf is the status of the storage's answer, 0 without one.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
