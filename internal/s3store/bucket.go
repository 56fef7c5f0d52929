package s3store

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// EnsureBucket creates the bucket unless it is there, for a server of our own: on AWS buckets belong to the
// infrastructure. With versioned it also turns versioning on, where the server has it; versioning tells whether it is on.
func (s *Store) EnsureBucket(ctx context.Context, versioned bool) (versioning bool, err error) {
	_, err = s.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &s.bucket})
	if code := codeOf(err); err != nil && code != "BucketAlreadyOwnedByYou" && code != "BucketAlreadyExists" {
		return false, fail(err, "create bucket %s", s.bucket)
	}
	if !versioned {
		return false, nil
	}
	_, err = s.client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket:                  &s.bucket,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	switch codeOf(err) {
	case "NotImplemented", "VersioningNotConfigured":
		return false, nil
	}
	if err != nil {
		return false, fail(err, "version bucket %s", s.bucket)
	}
	return true, nil
}

// CheckBucket fails if the bucket is not there (NotFound), if these keys may not use it (StorageRefused) or if nobody
// answers (StorageUnavailable).
func (s *Store) CheckBucket(ctx context.Context) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if err != nil {
		return fail(err, "look at bucket %s", s.bucket)
	}
	return nil
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}
