package s3store

import (
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/sitevault/sitevault/internal/backup"
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
		return acknowledgement{}, conflicting(err)
	}
	return acknowledgement{aws.ToString(out.ETag), aws.ToString(out.ChecksumCRC64NVME)}, nil
}

// stored settles a single upload that failed: an object of its key may be there already, put by a call whose answer or
// record got lost. It is the upload's own if token, size and checksum are those of the part. A server that refuses to
// replace an object may also just cut the connection, so that every failure of the storage is settled this way.
func (s *Store) stored(ctx context.Context, p step.PartUpload, token string, failed error) (etag string, err error) {
	object, etag, err := s.head(ctx, p.Key)
	if err != nil {
		return "", truer(failed, err)
	}
	if _, err := io.Copy(io.Discard, p.Body); err != nil {
		return "", fail(err, "read part %d of %s", p.Number, p.Key)
	}
	if !object.Checked {
		return "", missingChecksum(p.Key)
	}
	if want := (step.Object{SizeBytes: p.SizeBytes, CRC64NVME: p.Body.CRC64NVME(), Checked: true, Token: token}); object != want {
		return "", backup.E(backup.ChecksumMismatch, "object %s is there already, and it is another one", p.Key)
	}
	return etag, nil
}

func missingChecksum(key string) error {
	return backup.E(backup.ChecksumMissing, "object %s: the storage reports no CRC64NVME of the whole", key)
}

// singlePart is the object of a single upload as its part; none if the object is not there or is another one.
func (s *Store) singlePart(ctx context.Context, key, token string) ([]backup.Part, error) {
	object, etag, err := s.head(ctx, key)
	if backup.Is(err, backup.NotFound) || (err == nil && object.Token != token) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !object.Checked {
		return nil, missingChecksum(key)
	}
	return []backup.Part{{Number: 1, ETag: etag, SizeBytes: object.SizeBytes, CRC64NVME: object.CRC64NVME}}, nil
}
