package s3store

import (
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

// sendObject puts the one part of a single upload as the object, never over an existing one.
func (s *Store) sendObject(ctx context.Context, p step.PartUpload, body *chunkedBody) (acknowledgement, error) {
	token, _ := backup.SingleUploadToken(p.UploadID)
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:        &s.bucket,
		Key:           &p.Key,
		ContentType:   aws.String("application/zip"),
		Metadata:      map[string]string{tokenKey: token},
		ContentLength: aws.Int64(chunkedBytes(p.SizeBytes)),
		IfNoneMatch:   aws.String("*"),
		Body:          body,
	}, streaming(p.SizeBytes))
	if err != nil {
		return acknowledgement{}, err
	}
	return acknowledgement{aws.ToString(out.ETag), aws.ToString(out.ChecksumCRC64NVME)}, nil
}

// stored settles a single upload that failed: an object of its key may be there already, put by a call whose answer or
// record got lost. It is the upload's own if token, size and checksum are those of the part. A server that refuses to
// replace an object may also just cut the connection, so that every failure of the storage is settled this way.
func (s *Store) stored(ctx context.Context, p step.PartUpload, token string, failed error) (etag string, err error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &p.Key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return "", failed
	}
	if _, err := io.Copy(io.Discard, p.Body); err != nil {
		return "", fail(err, "read part %d of %s", p.Number, p.Key)
	}
	want := checksum.Encode(p.Body.CRC64NVME())
	if out.Metadata[tokenKey] != token || aws.ToInt64(out.ContentLength) != p.SizeBytes || aws.ToString(out.ChecksumCRC64NVME) != want {
		return "", backup.E(backup.ChecksumMismatch, "object %s is there already, and it is another one", p.Key)
	}
	return aws.ToString(out.ETag), nil
}
