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

// stored settles a single upload that met an object of its own key: its own, put by a call whose answer or record got
// lost, if token, size and checksum are those of the part.
func (s *Store) stored(ctx context.Context, p step.PartUpload, token string) (etag string, err error) {
	if _, err := io.Copy(io.Discard, p.Body); err != nil {
		return "", fail(err, "read part %d of %s", p.Number, p.Key)
	}
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &p.Key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return "", fail(err, "head %s", p.Key)
	}
	want := checksum.Encode(p.Body.CRC64NVME())
	if out.Metadata[tokenKey] != token || aws.ToInt64(out.ContentLength) != p.SizeBytes || aws.ToString(out.ChecksumCRC64NVME) != want {
		return "", backup.E(backup.ChecksumMismatch, "object %s is there already, and it is another one", p.Key)
	}
	return aws.ToString(out.ETag), nil
}
