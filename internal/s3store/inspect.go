package s3store

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Clock is what the storage's clock showed when it was asked about the bucket; zero where it did not say. The error is
// that of CheckBucket: a clock that is wrong is a reason to refuse.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	out, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.bucket})
	if err != nil {
		var refused *awshttp.ResponseError
		if errors.As(err, &refused) && refused.Response != nil {
			return dateOf(refused.Response.Header), fail(err, "look at bucket %s", s.bucket)
		}
		return time.Time{}, fail(err, "look at bucket %s", s.bucket)
	}
	if answer, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		return dateOf(answer.Header), nil
	}
	return time.Time{}, nil
}

func dateOf(h http.Header) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

// ListsUpload tells whether the open uploads under a prefix show one of the given key.
func (s *Store) ListsUpload(ctx context.Context, prefix, key string) (bool, error) {
	out, err := s.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: &prefix})
	if err != nil {
		return false, fail(err, "list uploads under %s", prefix)
	}
	for _, u := range out.Uploads {
		if aws.ToString(u.Key) == key {
			return true, nil
		}
	}
	return false, nil
}

// ListsVersions tells whether the storage lists versions, of which a bucket without versions has one of each object.
func (s *Store) ListsVersions(ctx context.Context, key string) (bool, error) {
	out, err := s.client.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &key})
	if unsupported(err) {
		return false, nil
	}
	if err != nil {
		return false, fail(err, "list versions of %s", key)
	}
	return len(out.Versions) > 0, nil
}
