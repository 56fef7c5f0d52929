package backuptest

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

// AnyStorage is what a storage adapter implements.
type AnyStorage interface {
	step.Uploader
	step.Objects
	step.Sweeping
}

// StorageConformance holds a storage against the contracts of step.Uploader, step.Objects and step.Sweeping. open
// returns an empty storage that lives as long as the test it is given; lacks are the rules that it is known not to obey.
func StorageConformance(t *testing.T, open func(t *testing.T) AnyStorage, lacks ...string) {
	for _, rule := range slices.Concat(storageUploadRules, storageSingleRules, storageObjectRules, storageSweepRules) {
		t.Run(rule.sentence, func(t *testing.T) {
			if slices.Contains(lacks, rule.sentence) {
				t.Skip("this server is known not to obey this rule")
			}
			rule.check(storageCase{T: t, AnyStorage: open(t)})
		})
	}
}

// SweepConformance is the part of StorageConformance that is about removing.
func SweepConformance(t *testing.T, open func(t *testing.T) AnyStorage) {
	for _, rule := range storageSweepRules {
		t.Run(rule.sentence, func(t *testing.T) {
			rule.check(storageCase{T: t, AnyStorage: open(t)})
		})
	}
}

// storageRule is one sentence of the contract and its proof.
type storageRule struct {
	sentence string
	check    func(c storageCase)
}

// storageCase is one storage under test. Its methods set things up and fail the test if that does not work.
type storageCase struct {
	*testing.T
	AnyStorage
}

const (
	storagePrefix = "ada/blog/job-1/"
	storageKey    = storagePrefix + "files-1.zip"
)

// PartBody is content as a step hands it to a storage.
type PartBody struct {
	io.Reader
	hash hash.Hash64
}

// NewPartBody makes a body of whatever r yields.
func NewPartBody(r io.Reader) *PartBody {
	h := crc64nvme.New()
	return &PartBody{Reader: io.TeeReader(r, h), hash: h}
}

// CRC64NVME implements step.PartBody.
func (b *PartBody) CRC64NVME() uint64 { return b.hash.Sum64() }

// wrongBody lies about its checksum.
type wrongBody struct{ *PartBody }

func (b wrongBody) CRC64NVME() uint64 { return b.PartBody.CRC64NVME() + 1 }

// pattern is content in which no two places within a part look alike.
func pattern(seed byte, length int64) []byte {
	content := make([]byte, length)
	for i := range content {
		content[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*7 ^ seed
	}
	return content
}

// firstPart is as short as a first part may be; lastPart is as short as a chunk of it may not be.
var (
	firstPart = pattern(1, backup.MinPartSizeBytes)
	lastPart  = pattern(2, 300_001)
)

func (c storageCase) create(key, token string) (uploadID string) {
	c.Helper()
	uploadID, err := c.CreateUpload(c.Context(), key, token)
	if err != nil {
		c.Fatal(err)
	}
	return uploadID
}

func (c storageCase) part(key, uploadID string, number int, content []byte) backup.Part {
	c.Helper()
	etag, err := c.UploadPart(c.Context(), storageUploadOf(key, uploadID, number, content))
	if err != nil {
		c.Fatal(err)
	}
	return backup.Part{Number: number, ETag: etag, SizeBytes: int64(len(content)), CRC64NVME: crc64nvme.Checksum(content)}
}

func storageUploadOf(key, uploadID string, number int, content []byte) step.PartUpload {
	return step.PartUpload{
		Key: key, UploadID: uploadID, Number: number, SizeBytes: int64(len(content)),
		Body: NewPartBody(bytes.NewReader(content)),
	}
}

// twoParts opens an upload of firstPart and lastPart and returns its completion.
func (c storageCase) twoParts(key, token string) step.Completion {
	c.Helper()
	id := c.create(key, token)
	whole := slices.Concat(firstPart, lastPart)
	return step.Completion{
		Key: key, UploadID: id, SizeBytes: int64(len(whole)), CRC64NVME: crc64nvme.Checksum(whole),
		Parts: []backup.Part{c.part(key, id, 1, firstPart), c.part(key, id, 2, lastPart)},
	}
}

// onePart opens an upload of one short part and returns its completion.
func (c storageCase) onePart(key, token, content string) step.Completion {
	c.Helper()
	id := c.create(key, token)
	return step.Completion{
		Key: key, UploadID: id, SizeBytes: int64(len(content)), CRC64NVME: crc64nvme.Checksum([]byte(content)),
		Parts: []backup.Part{c.part(key, id, 1, []byte(content))},
	}
}

func (c storageCase) complete(completion step.Completion) {
	c.Helper()
	if err := c.CompleteUpload(c.Context(), completion); err != nil {
		c.Fatal(err)
	}
}

func (c storageCase) put(key, content string) {
	c.Helper()
	if err := c.Put(c.Context(), key, "application/json", []byte(content)); err != nil {
		c.Fatal(err)
	}
}

func (c storageCase) want(kind backup.Kind, what string, err error) {
	c.Helper()
	if backup.KindOf(err) != kind {
		c.Errorf("%s: kind %q (%v), want %q", what, backup.KindOf(err), err, kind)
	}
}

// holds checks an object's every property.
func (c storageCase) holds(key, token string, content []byte) {
	c.Helper()
	want := step.Object{SizeBytes: int64(len(content)), CRC64NVME: crc64nvme.Checksum(content), Checked: true, Token: token}
	if got, err := c.Head(c.Context(), key); err != nil || got != want {
		c.Errorf("Head(%s) = %+v, %v, want %+v", key, got, err, want)
	}
	if got := c.read(key, 0, int64(len(content))); !bytes.Equal(got, content) {
		c.Errorf("%s holds %d other bytes", key, len(got))
	}
}

func (c storageCase) read(key string, offset, length int64) []byte {
	c.Helper()
	body, err := c.ReadRange(c.Context(), key, offset, length)
	if err != nil {
		c.Fatal(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		c.Fatal(err)
	}
	return content
}

var storageObjectRules = []storageRule{
	{"objects are put, replaced, headed and read by ranges", putAndRead},
	{"what is absent is NotFound", absentIsNotFound},
	{"a presigned link downloads the object under its file name", presignedLink},
	{"a cancelled context ends every call and stays visible", cancelledContext},
}

func putAndRead(c storageCase) {
	c.put(storagePrefix+"manifest.json", `{"old":1}`)
	c.put(storagePrefix+"manifest.json", `{"format":1}`)
	c.put(storagePrefix+"empty", "")
	c.holds(storagePrefix+"manifest.json", "", []byte(`{"format":1}`))
	c.holds(storagePrefix+"empty", "", nil)
	if got := c.read(storagePrefix+"manifest.json", 2, 6); string(got) != "format" {
		c.Errorf("6 bytes at 2: %q", got)
	}
	if got := c.read(storagePrefix+"manifest.json", 3, 0); len(got) != 0 {
		c.Errorf("no bytes at 3: %q", got)
	}
}

func absentIsNotFound(c storageCase) {
	_, err := c.Head(c.Context(), storageKey)
	c.want(backup.NotFound, "Head", err)
	_, err = c.ReadRange(c.Context(), storageKey, 0, 1)
	c.want(backup.NotFound, "ReadRange", err)
}

func presignedLink(c storageCase) {
	c.put(storageKey, "content")
	link, err := c.PresignGet(c.Context(), storageKey, "blog-files.zip", time.Minute)
	if err != nil {
		c.Fatal(err)
	}
	response, err := http.Get(link)
	if err != nil {
		c.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || string(content) != "content" {
		c.Fatalf("%s: %s, %q, %v", link, response.Status, content, err)
	}
	disposition, parameters, err := mime.ParseMediaType(response.Header.Get("Content-Disposition"))
	if err != nil || disposition != "attachment" || parameters["filename"] != "blog-files.zip" {
		c.Errorf("Content-Disposition: %s", response.Header.Get("Content-Disposition"))
	}
	response, err = http.Get(strings.Replace(link, "files-1.zip", "files-2.zip", 1))
	if err != nil {
		c.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		c.Errorf("the link's signature also serves another key: %s", response.Status)
	}
}

func cancelledContext(c storageCase) {
	id := c.create(storageKey, "token")
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	calls := map[string]func() error{
		"CreateUpload": func() error { _, err := c.CreateUpload(ctx, storageKey, "token"); return err },
		"UploadPart": func() error {
			_, err := c.UploadPart(ctx, storageUploadOf(storageKey, id, 1, lastPart))
			return err
		},
		"UploadedParts":  func() error { _, err := c.UploadedParts(ctx, storageKey, id, 1, backup.MaxParts); return err },
		"CompleteUpload": func() error { return c.CompleteUpload(ctx, step.Completion{Key: storageKey, UploadID: id}) },
		"AbortUpload":    func() error { return c.AbortUpload(ctx, storageKey, id) },
		"Head":           func() error { _, err := c.Head(ctx, storageKey); return err },
		"ReadRange":      func() error { _, err := c.ReadRange(ctx, storageKey, 0, 1); return err },
		"Put":            func() error { return c.Put(ctx, storageKey, "text/plain", nil) },
		"AbortUploads":   func() error { _, err := c.AbortUploads(ctx, storagePrefix, nil, nil); return err },
		"DeleteObjects":  func() error { _, err := c.DeleteObjects(ctx, storagePrefix, nil); return err },
	}
	for op, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			c.Errorf("%s: %v", op, err)
		}
	}
	if parts, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts); err != nil || len(parts) != 0 {
		c.Errorf("after all that the upload has %v, %v", parts, err)
	}
}
