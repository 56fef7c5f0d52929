package backuptest

import (
	"bytes"
	"slices"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var storageSingleRules = []storageRule{
	{"the part of a single upload becomes the object, and completing it changes nothing", singleBecomesObject},
	{"a single upload sent again finds its own object", singleSentAgain},
	{"the object of a single upload is listed as its part", singleIsListed},
	{"a single upload never replaces another object", singleNeverReplaces},
	{"a single upload of a body that fails leaves no object", singleFailingBody},
	{"aborting a single upload removes its object", singleAborted},
}

var singleContent = pattern(3, 700_001)

// singleOf is the one part of a single upload with the given token.
func singleOf(token string, content []byte) step.PartUpload {
	return storageUploadOf(storageKey, backup.SingleUploadID(token), 1, content)
}

func (c storageCase) single(token string, content []byte) (etag string) {
	c.Helper()
	etag, err := c.UploadPart(c.Context(), singleOf(token, content))
	if err != nil {
		c.Fatal(err)
	}
	return etag
}

func singleBecomesObject(c storageCase) {
	etag := c.single("token-1", singleContent)
	crc := crc64nvme.Checksum(singleContent)
	completion := step.Completion{
		Key: storageKey, UploadID: backup.SingleUploadID("token-1"), SizeBytes: int64(len(singleContent)), CRC64NVME: crc,
		Parts: []backup.Part{{Number: 1, ETag: etag, SizeBytes: int64(len(singleContent)), CRC64NVME: crc}},
	}
	for range 2 {
		c.complete(completion)
		c.holds(storageKey, "token-1", singleContent)
	}
}

func singleSentAgain(c storageCase) {
	first := c.single("token-1", singleContent)
	if again := c.single("token-1", singleContent); again != first {
		c.Errorf("sent again: ETag %s, then %s", first, again)
	}
	c.holds(storageKey, "token-1", singleContent)
}

func singleIsListed(c storageCase) {
	list := func(token string, want ...backup.Part) {
		c.Helper()
		if got, err := c.UploadedParts(c.Context(), storageKey, backup.SingleUploadID(token), 1, 1); err != nil || !slices.Equal(got, want) {
			c.Errorf("of %s: %v, %v, want %v", token, got, err, want)
		}
	}
	list("token-1")
	etag := c.single("token-1", singleContent)
	list("token-1", backup.Part{Number: 1, ETag: etag, SizeBytes: int64(len(singleContent)), CRC64NVME: crc64nvme.Checksum(singleContent)})
	list("token-2")
}

func singleNeverReplaces(c storageCase) {
	c.single("token-1", singleContent)
	other := bytes.Clone(singleContent)
	other[len(other)/2]++
	_, err := c.UploadPart(c.Context(), singleOf("token-1", other))
	c.want(backup.ChecksumMismatch, "other bytes under the same token", err)
	_, err = c.UploadPart(c.Context(), singleOf("token-2", singleContent))
	c.want(backup.ChecksumMismatch, "the same bytes under another token", err)
	c.holds(storageKey, "token-1", singleContent)
}

func singleFailingBody(c storageCase) {
	upload := singleOf("token-1", singleContent)
	upload.SizeBytes++
	_, err := c.UploadPart(c.Context(), upload)
	c.want(backup.Internal, "a short body", err)
	_, err = c.Head(c.Context(), storageKey)
	c.want(backup.NotFound, "the object", err)
}

func singleAborted(c storageCase) {
	c.single("token-1", singleContent)
	for range 2 {
		if err := c.AbortUpload(c.Context(), storageKey, backup.SingleUploadID("token-1")); err != nil {
			c.Fatal(err)
		}
	}
	_, err := c.Head(c.Context(), storageKey)
	c.want(backup.NotFound, "the object", err)
}
