package s3store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

const (
	tokenKey = "sitevault-token" // of the object's metadata

	pageSize     = 1_000 // the most that S3 lists at once
	maxPartPages = 2 * backup.MaxParts / pageSize
)

// CreateUpload implements step.Uploader.
func (s *Store) CreateUpload(ctx context.Context, key, token string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fail(err, "create upload of %s", key)
	}
	ctx, done := lasting(ctx, never)
	defer done()
	out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket:            &s.bucket,
		Key:               &key,
		ContentType:       aws.String("application/zip"),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		ChecksumType:      types.ChecksumTypeFullObject,
		Metadata:          map[string]string{tokenKey: token},
	})
	if err != nil {
		return "", fail(err, "create upload of %s", key)
	}
	if aws.ToString(out.UploadId) == "" {
		return "", backup.E(backup.StorageUnavailable, "create upload of %s: the answer names no upload", key)
	}
	return *out.UploadId, nil
}

// UploadPart implements step.Uploader. It is sent once: the body is a stream. An error of the body's own comes back
// with its kind. The one part of a single upload is put as the object.
func (s *Store) UploadPart(ctx context.Context, p step.PartUpload) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fail(err, "upload part %d of %s", p.Number, p.Key)
	}
	body := newChunkedBody(p)
	answer, err := s.send(ctx, p, body)
	sent, bodyErr := body.stop()
	if bodyErr != nil {
		return "", fmt.Errorf("upload part %d of %s: %w", p.Number, p.Key, bodyErr) // not the storage's failure
	}
	if err == nil {
		err = answer.check(sent)
	}
	if err == nil {
		return answer.etag, nil
	}
	unanswered := sent.begun && !answered(err)
	err = fail(err, "upload part %d of %s", p.Number, p.Key)
	if errors.As(err, new(notSent)) {
		return "", err
	}
	etag, err := s.settle(ctx, p, sent, unanswered, err)
	if !backup.Is(err, backup.StorageUnavailable) {
		s.sides.Answered(writes) // it was the answer only that did not come
	}
	return etag, err
}

// settle finds out what became of a part that failed.
func (s *Store) settle(ctx context.Context, p step.PartUpload, sent sent, unanswered bool, failed error) (etag string, err error) {
	switch token, single := backup.SingleUploadToken(p.UploadID); {
	case single && slices.Contains([]backup.Kind{backup.Conflict, backup.UploadConflict, backup.StorageUnavailable}, backup.KindOf(failed)):
		return s.stored(ctx, p, token, failed)
	case !single && unanswered:
		return s.received(ctx, p, sent, failed)
	}
	return "", failed
}

func (s *Store) send(ctx context.Context, p step.PartUpload, body *chunkedBody) (acknowledgement, error) {
	ctx, done := lasting(ctx, body.abandon)
	defer done()
	if _, single := backup.SingleUploadToken(p.UploadID); single {
		return s.sendObject(ctx, p, body)
	}
	return s.sendPart(ctx, p, body)
}

// askTimeout bounds the question what became of a part.
const askTimeout = 10 * time.Second

// received settles a part that broke without an answer, by a request without a body: the part may be there, and only the
// answer got lost; or the storage now says why it does not take it.
func (s *Store) received(ctx context.Context, p step.PartUpload, sent sent, broken error) (etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	parts, err := s.listParts(ctx, p.Key, p.UploadID, p.Number, p.Number, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return "", truer(broken, err)
	}
	if len(parts) == 1 && sent.whole && parts[0].SizeBytes == p.SizeBytes && parts[0].CRC64NVME == sent.crc {
		return parts[0].ETag, nil
	}
	return "", broken
}

// truer is what the storage says when it is asked after a request that broke without an answer, unless that explains
// nothing: the storage does not answer now either, or not this question.
func truer(broken, asked error) error {
	switch backup.KindOf(asked) {
	case backup.UploadLost, backup.StorageFull:
		return asked
	case backup.StorageRefused:
		if code := codeOf(asked); code != "NotImplemented" && code != "MethodNotAllowed" {
			return asked
		}
	}
	return broken
}

// acknowledgement is what the storage says of a part that it has received.
type acknowledgement struct{ etag, crc string }

func (s *Store) sendPart(ctx context.Context, p step.PartUpload, body *chunkedBody) (acknowledgement, error) {
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket:        &s.bucket,
		Key:           &p.Key,
		UploadId:      &p.UploadID,
		PartNumber:    aws.Int32(int32(p.Number)),
		ContentLength: aws.Int64(chunkedBytes(p.SizeBytes)),
		Body:          body,
	}, streaming(p.SizeBytes))
	if err != nil {
		return acknowledgement{}, err
	}
	return acknowledgement{aws.ToString(out.ETag), aws.ToString(out.ChecksumCRC64NVME)}, nil
}

// check makes sure that the answer is about the whole part and about its very bytes.
func (a acknowledgement) check(sent sent) error {
	if !sent.whole {
		return backup.E(backup.StorageUnavailable, "the storage answered before it had read the part")
	}
	if a.etag == "" {
		return backup.E(backup.StorageUnavailable, "the answer has no ETag")
	}
	if a.crc != "" && a.crc != checksum.Encode(sent.crc) {
		return backup.E(backup.ChecksumMismatch, "the storage has CRC64NVME %s, sent was %s", a.crc, checksum.Encode(sent.crc))
	}
	return nil
}

// UploadedParts implements step.Uploader. Only the range is asked for, so that a small one is one small request.
func (s *Store) UploadedParts(ctx context.Context, key, uploadID string, first, last int) ([]backup.Part, error) {
	if err := s.takesParts(ctx, key); err != nil {
		return nil, err
	}
	if token, single := backup.SingleUploadToken(uploadID); single {
		return s.singlePart(ctx, key, token)
	}
	return s.listParts(ctx, key, uploadID, first, last)
}

func (s *Store) listParts(ctx context.Context, key, uploadID string, first, last int, options ...func(*s3.Options)) ([]backup.Part, error) {
	in := &s3.ListPartsInput{Bucket: &s.bucket, Key: &key, UploadId: &uploadID, MaxParts: aws.Int32(int32(min(last-first+1, pageSize)))}
	if first > 1 {
		in.PartNumberMarker = aws.String(strconv.Itoa(first - 1))
	}
	var parts []backup.Part
	for range maxPartPages {
		out, err := s.client.ListParts(ctx, in, options...)
		if err != nil {
			return nil, fail(err, "list parts of %s", key)
		}
		for _, listed := range out.Parts {
			if int(aws.ToInt32(listed.PartNumber)) > last {
				return parts, nil
			}
			part, err := partOf(listed)
			if err != nil {
				return nil, fail(err, "list parts of %s", key)
			}
			parts = append(parts, part)
		}
		if !aws.ToBool(out.IsTruncated) || len(parts) > last-first {
			return parts, nil
		}
		in.PartNumberMarker = out.NextPartNumberMarker
	}
	return nil, backup.E(backup.StorageUnavailable, "list parts of %s: no end after %d pages", key, maxPartPages)
}

func partOf(p types.Part) (backup.Part, error) {
	number := int(aws.ToInt32(p.PartNumber))
	crc, err := checksum.Decode(aws.ToString(p.ChecksumCRC64NVME))
	if err != nil {
		return backup.Part{}, backup.E(backup.UploadLost, "part %d is listed without its checksum, as one that is being removed: %w", number, err)
	}
	return backup.Part{Number: number, ETag: aws.ToString(p.ETag), SizeBytes: aws.ToInt64(p.Size), CRC64NVME: crc}, nil
}

// CompleteUpload implements step.Uploader. When an object stands under the key already the error is a Conflict:
// whether that object is this upload's is for Head to tell.
func (s *Store) CompleteUpload(ctx context.Context, c step.Completion) error {
	if _, single := backup.SingleUploadToken(c.UploadID); single {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fail(err, "complete upload of %s", c.Key)
	}
	ctx, done := lasting(ctx, never)
	defer done()
	_, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket:            &s.bucket,
		Key:               &c.Key,
		UploadId:          &c.UploadID,
		MultipartUpload:   &types.CompletedMultipartUpload{Parts: completedParts(c.Parts)},
		ChecksumCRC64NVME: aws.String(checksum.Encode(c.CRC64NVME)),
		ChecksumType:      types.ChecksumTypeFullObject,
		MpuObjectSize:     &c.SizeBytes,
		IfNoneMatch:       aws.String("*"),
	}, func(o *s3.Options) { o.HTTPClient = s.patient })
	if err == nil {
		return nil
	}
	if codeOf(err) == "InvalidRequest" {
		// The request is well-formed, so this is how S3 says that the parts do not sum up to the size.
		err = backup.E(backup.ChecksumMismatch, "%w", err)
	}
	return fail(conflicting(err), "complete upload of %s", c.Key)
}

func completedParts(parts []backup.Part) []types.CompletedPart {
	completed := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		completed[i] = types.CompletedPart{
			PartNumber:        aws.Int32(int32(p.Number)),
			ETag:              aws.String(p.ETag),
			ChecksumCRC64NVME: aws.String(checksum.Encode(p.CRC64NVME)),
		}
	}
	return completed
}

// AbortUpload implements step.Uploader.
func (s *Store) AbortUpload(ctx context.Context, key, uploadID string) error {
	if _, single := backup.SingleUploadToken(uploadID); single {
		_, err := s.DeleteObjects(ctx, key, nil)
		return err
	}
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &s.bucket, Key: &key, UploadId: &uploadID,
	})
	if err == nil || kindOf(err) == backup.UploadLost {
		return nil
	}
	return fail(err, "abort upload of %s", key)
}
