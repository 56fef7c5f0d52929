package storagecheck

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"slices"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/step"
)

const (
	firstBytes = backup.MinPartSizeBytes // the least that a part before the last may have
	lastBytes  = 1_000
	token      = "sitevault-check"

	// maxClockSkew is what S3 takes between the time of a request's signature and its own.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)
	maxClockSkew = 15 * time.Minute
)

// trialStep is one step and the sentence of its refusal: "the storage <fault>: <advice>".
type trialStep struct {
	name   string
	try    func(r *run, ctx context.Context) (note string, err error)
	fault  string
	advice string
}

const another = "use a storage that does, such as those in docs/storage.md"

var trialSteps = []trialStep{
	{"clock", (*run).clock, "and this machine do not have the same time", "set both clocks, by NTP for example"},
	{"bucket", (*run).bucket, "does not let us use the bucket", "check the name and the region of the bucket, and what the keys may do"},
	{"leftovers", (*run).remove, "does not list or remove objects and uploads", "use keys that may list the bucket, its versions and its uploads, or another storage"},
	{"begin an upload", (*run).begin, "begins no multipart upload with the CRC64NVME of the whole object", another},
	{"upload parts with their checksum behind them", (*run).upload, "does not understand parts with their CRC64NVME in a trailer", another},
	{"refuse a part that was damaged on its way", (*run).uploadWrong, "does not check the CRC64NVME of a part, so that nothing there can be proven", another},
	{"list uploads", (*run).listUploads, "does not list open uploads, so that those of failed backups would stay", another},
	{"list parts", (*run).listParts, "does not show the size and the CRC64NVME of the parts that it holds", another},
	{"refuse a wrong whole", (*run).completeWrong, "does not check the CRC64NVME of the whole object, so that nothing there can be proven", another},
	{"complete the upload", (*run).complete, "does not put the parts of an upload together", another},
	{"show the object", (*run).head, "does not show the size, the metadata and the CRC64NVME of an object, so that nothing there can be proven", another},
	{"read a range", (*run).read, "does not read ranges of an object", another},
	{"store a small file in one request", (*run).single, "does not take an object with its CRC64NVME in a trailer", another},
	{"replace nothing", (*run).replace, "does not put objects on condition", another},
	{"list versions", (*run).listVersions, "does not list versions", "use keys that may list the versions of the bucket"},
}

// removal is the last step, whatever became of the others.
var removal = trialStep{
	"delete", (*run).removeAll, "does not remove what it is told to remove",
	"use keys that may abort uploads and delete objects and versions, and a bucket that locks nothing, or another storage",
}

// clock compares the storage's clock with ours. That the bucket cannot be used is for the next step to tell.
func (r *run) clock(ctx context.Context) (string, error) {
	var theirs time.Time
	theirs, r.bucketErr = r.Storage.Clock(ctx)
	if theirs.IsZero() {
		return "", nil
	}
	ours := r.Now()
	if skew := theirs.Sub(ours).Round(time.Second); skew.Abs() > maxClockSkew {
		return "", backup.E(backup.StorageRefused, "here it is %s, there %s, which is %s apart; at most %s are allowed",
			ours.UTC().Format(time.RFC3339), theirs.UTC().Format(time.RFC3339), skew.Abs(), maxClockSkew)
	}
	return "", nil
}

func (r *run) bucket(context.Context) (string, error) { return "", r.bucketErr }

func (r *run) begin(ctx context.Context) (note string, err error) {
	if _, err := r.Storage.CreateUpload(ctx, r.aborted, token); err != nil { // stays open, to be found and aborted
		return "", err
	}
	r.uploadID, err = r.Storage.CreateUpload(ctx, r.key, token)
	return "", err
}

func (r *run) upload(ctx context.Context) (string, error) {
	for _, size := range []int64{firstBytes, lastBytes} {
		var offset int64
		for _, p := range r.parts {
			offset += p.SizeBytes
		}
		body := newBody(offset, size)
		number := len(r.parts) + 1
		etag, err := r.Storage.UploadPart(ctx, step.PartUpload{Key: r.key, UploadID: r.uploadID, Number: number, SizeBytes: size, Body: body})
		if err != nil {
			return "", err
		}
		r.parts = append(r.parts, backup.Part{Number: number, ETag: etag, SizeBytes: size, CRC64NVME: body.CRC64NVME()})
	}
	return "", nil
}

func (r *run) uploadWrong(ctx context.Context) (string, error) {
	body := newBody(firstBytes, lastBytes)
	body.damage = 1
	_, err := r.Storage.UploadPart(ctx, step.PartUpload{Key: r.key, UploadID: r.uploadID, Number: 3, SizeBytes: lastBytes, Body: body})
	return "", refused(err, "a part with another CRC64NVME was taken")
}

// refused is nil if the storage has refused what was wrong.
func refused(err error, taken string) error {
	if err == nil {
		return backup.E(backup.StorageRefused, "%s", taken)
	}
	if backup.Is(err, backup.StorageUnavailable) {
		return err
	}
	return nil
}

func (r *run) listUploads(ctx context.Context) (string, error) {
	listed, err := r.Storage.ListsUpload(ctx, r.prefix, r.aborted)
	if err != nil || listed {
		r.report.ListsByPrefix = err == nil
		return "", err
	}
	listed, err = r.Storage.ListsUpload(ctx, r.aborted, r.aborted)
	if err == nil && !listed {
		err = backup.E(backup.StorageRefused, "an upload just begun is not in the list")
	}
	return "uploads are listed by their whole key only", err
}

func (r *run) listParts(ctx context.Context) (string, error) {
	held, err := r.Storage.UploadedParts(ctx, r.key, r.uploadID, 1, len(r.parts))
	if err == nil && !slices.EqualFunc(held, r.parts, sameBytes) {
		err = backup.E(backup.StorageRefused, "%v are listed, sent were %v", held, r.parts)
	}
	return "", err
}

func sameBytes(a, b backup.Part) bool {
	return a.Number == b.Number && a.SizeBytes == b.SizeBytes && a.CRC64NVME == b.CRC64NVME
}

func (r *run) completion() step.Completion {
	return step.Completion{Key: r.key, UploadID: r.uploadID, SizeBytes: firstBytes + lastBytes, CRC64NVME: checksum.Whole(r.parts), Parts: r.parts}
}

func (r *run) completeWrong(ctx context.Context) (string, error) {
	wrong := r.completion()
	wrong.CRC64NVME ^= 1
	return "", refused(r.Storage.CompleteUpload(ctx, wrong), "an upload was completed under another CRC64NVME")
}

func (r *run) complete(ctx context.Context) (string, error) {
	return "", r.Storage.CompleteUpload(ctx, r.completion())
}

func (r *run) head(ctx context.Context) (string, error) {
	got, err := r.Storage.Head(ctx, r.key)
	want := step.Object{SizeBytes: firstBytes + lastBytes, CRC64NVME: checksum.Whole(r.parts), Checked: true, Token: token}
	if err == nil && got != want {
		err = backup.E(backup.StorageRefused, "shown is %+v, stored was %+v", got, want)
	}
	return "", err
}

// read reads across the seam of the parts.
func (r *run) read(ctx context.Context) (string, error) {
	const length = 64
	body, err := r.Storage.ReadRange(ctx, r.key, firstBytes-length/2, length)
	if err != nil {
		return "", err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}
	want, err := io.ReadAll(newBody(firstBytes-length/2, length))
	if err == nil && !bytes.Equal(got, want) {
		err = backup.E(backup.StorageRefused, "%d bytes came, not those that were stored", len(got))
	}
	return "", err
}

// put stores an object as the single upload of a small file, made of the pattern from offset on.
func (r *run) put(ctx context.Context, key string, offset int64) (crc uint64, err error) {
	body := newBody(offset, lastBytes)
	_, err = r.Storage.UploadPart(ctx, step.PartUpload{
		Key: key, UploadID: backup.SingleUploadID(token), Number: 1, SizeBytes: lastBytes, Body: body,
	})
	return body.CRC64NVME(), err
}

func (r *run) single(ctx context.Context) (string, error) {
	crc, err := r.put(ctx, r.small, 0)
	if err != nil {
		return "", err
	}
	got, err := r.Storage.Head(ctx, r.small)
	want := step.Object{SizeBytes: lastBytes, CRC64NVME: crc, Checked: true, Token: token}
	if err == nil && got != want {
		err = backup.E(backup.StorageRefused, "shown is %+v, stored was %+v", got, want)
	}
	return "", err
}

// replace puts other bytes over the object.
func (r *run) replace(ctx context.Context) (string, error) {
	if _, err := r.put(ctx, r.key, 1); err != nil {
		return "", refused(err, "")
	}
	r.report.Replaces = true
	return "objects are replaced although it is asked not to; small files become multipart uploads", nil
}

func (r *run) listVersions(ctx context.Context) (string, error) {
	listed, err := r.Storage.ListsVersions(ctx, r.key)
	if err == nil && !listed {
		return "versions are not listed; what is deleted is found in the list of objects", nil
	}
	return "", err
}

func (r *run) remove(ctx context.Context) (string, error) {
	if _, err := r.Storage.AbortUploads(ctx, r.prefix, r.keys(), nil); err != nil {
		return "", err
	}
	_, err := r.Storage.DeleteObjects(ctx, r.prefix, nil)
	return "", err
}

// removeAll is remove, and looks whether it is true. One of the two that fails does not keep the other from its work.
func (r *run) removeAll(ctx context.Context) (string, error) {
	_, aborted := r.Storage.AbortUploads(ctx, r.prefix, r.keys(), nil)
	if _, err := r.Storage.DeleteObjects(ctx, r.prefix, nil); err != nil || aborted != nil {
		return "", errors.Join(aborted, err)
	}
	_, err := r.Storage.Head(ctx, r.key)
	switch {
	case backup.Is(err, backup.NotFound):
		return "", nil
	case err == nil:
		err = backup.E(backup.StorageRefused, "the object is still there")
	}
	return "", err
}

// body is a run of a fixed pattern, made while it is read.
type body struct {
	offset, left int64
	hash         hash.Hash64
	damage       uint64 // of the checksum
}

func newBody(offset, length int64) *body {
	return &body{offset: offset, left: length, hash: crc64nvme.New()}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.left)]
	for i := range p {
		at := b.offset + int64(i)
		p[i] = byte(at) ^ byte(at>>8)*31 ^ byte(at>>16)*7
	}
	b.offset, b.left = b.offset+int64(len(p)), b.left-int64(len(p))
	_, err := b.hash.Write(p)
	return len(p), err
}

// CRC64NVME implements step.PartBody.
func (b *body) CRC64NVME() uint64 { return b.hash.Sum64() ^ b.damage }
