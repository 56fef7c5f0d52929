package s3store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

// Head implements step.Objects.
func (s *Store) Head(ctx context.Context, key string) (step.Object, error) {
	object, _, err := s.head(ctx, key)
	return object, err
}

func (s *Store) head(ctx context.Context, key string) (object step.Object, etag string, err error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &s.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return step.Object{}, "", fail(err, "head %s", key)
	}
	object = step.Object{SizeBytes: aws.ToInt64(out.ContentLength), Token: out.Metadata[tokenKey]}
	if out.ChecksumType != types.ChecksumTypeComposite && out.ChecksumCRC64NVME != nil {
		crc, err := checksum.Decode(*out.ChecksumCRC64NVME)
		if err != nil {
			return step.Object{}, "", fail(err, "head %s", key)
		}
		object.CRC64NVME, object.Checked = crc, true
	}
	return object, aws.ToString(out.ETag), nil
}

// ReadRange implements step.Objects.
func (s *Store) ReadRange(ctx context.Context, key string, offset, lengthBytes int64) (io.ReadCloser, error) {
	if lengthBytes <= 0 {
		return io.NopCloser(strings.NewReader("")), nil // HTTP has no empty range
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+lengthBytes-1)),
	})
	if err != nil {
		return nil, fail(err, "read %d bytes at %d of %s", lengthBytes, offset, key)
	}
	if got := aws.ToInt64(out.ContentLength); got != lengthBytes {
		out.Body.Close()
		return nil, backup.E(backup.StorageUnavailable, "read %d bytes at %d of %s: the storage sends %d", lengthBytes, offset, key, got)
	}
	return &rangeBody{ReadCloser: out.Body, key: key}, nil
}

// rangeBody gives the errors of a body their kind. That it does not end early is net/http's care: it checks bodies
// against their Content-Length.
type rangeBody struct {
	io.ReadCloser
	key string
}

func (b *rangeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fail(err, "read %s", b.key)
	}
	return n, err
}

// Put implements step.Objects. The storage refuses bytes that differ from those sent.
func (s *Store) Put(ctx context.Context, key, contentType string, body []byte) error {
	if err := ctx.Err(); err != nil {
		return fail(err, "put %s", key)
	}
	ctx, done := lasting(ctx, never)
	defer done()
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, ContentType: &contentType, Body: bytes.NewReader(body),
		ChecksumCRC64NVME: aws.String(checksum.Encode(crc64nvme.Checksum(body))),
	})
	if err != nil {
		return fail(err, "put %s", key)
	}
	return nil
}

// maxPresign is the longest that a presigned link may live.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html
const maxPresign = 7 * 24 * time.Hour

// PresignGet implements step.Objects; a ttl beyond what S3 allows is cut.
func (s *Store) PresignGet(ctx context.Context, key, fileName string, ttl time.Duration) (string, error) {
	req, err := s.presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: &key,
		ResponseContentDisposition: aws.String(`attachment; filename="` + safeName(fileName) + `"`),
	}, s3.WithPresignExpires(min(ttl, maxPresign)))
	if err != nil {
		return "", fail(err, "presign %s", key)
	}
	return req.URL, nil
}

const maxNameBytes = 150

// safeName keeps what every file system and header takes as it is, and replaces the rest.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.", r):
			return r
		}
		return '_'
	}, name)
	name = strings.TrimLeft(name, ".")
	if len(name) > maxNameBytes {
		name = name[len(name)-maxNameBytes:] // keeps the extension
	}
	if name == "" {
		return "download"
	}
	return name
}
