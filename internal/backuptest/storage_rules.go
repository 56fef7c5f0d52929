package backuptest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/step"
)

var storageUploadRules = []storageRule{
	{"parts become one object with size, checksum and token", partsBecomeObject},
	{"a part of any length arrives whole", partLengths},
	{"parts are listed in order with their checksums, over pages and from any of them on", partsAreListed},
	{"an upload refuses parts and checksums that are not its own", wrongCompletions},
	{OtherSizesRefused, wrongSizes},
	{"a part sent again replaces the earlier one", partSentAgain},
	{"of parts sent together under one number one stands", partsSentTogether},
	{"short parts stand only at the end", shortParts},
	{"an existing object is never replaced", neverReplaced},
	{"of two completions of one key one wins", completionsTogether},
	{"a repeated completion changes nothing", repeatedCompletion},
	{"an unknown upload is lost", unknownUpload},
	{"a part that is refused before it is read is refused for that reason, each time", refusedEarly},
	{"a body that fails keeps its kind and leaves no part", failingBodies},
	{"a part with another checksum is refused", wrongPartChecksum},
}

func partsBecomeObject(c storageCase) {
	completion := c.twoParts(storageKey, "token-1")
	if _, err := c.Head(c.Context(), storageKey); !backup.Is(err, backup.NotFound) {
		c.Errorf("before the completion: %v", err)
	}
	c.complete(completion)
	c.holds(storageKey, "token-1", slices.Concat(firstPart, lastPart))
	seam := int64(len(firstPart)) - 2
	if got, want := c.read(storageKey, seam, 4), slices.Concat(firstPart[seam:], lastPart[:2]); !bytes.Equal(got, want) {
		c.Errorf("across the seam: %x, want %x", got, want)
	}
}

// The lengths lie around what a chunk of a streamed part may be.
func partLengths(c storageCase) {
	id := c.create(storageKey, "token")
	lengths := []int64{0, 1, 8191, 8192, 256<<10 - 1, 256 << 10, 256<<10 + 1, 512 << 10, 1<<20 + 13}
	var want []backup.Part
	for i, length := range lengths {
		want = append(want, c.part(storageKey, id, i+1, pattern(byte(i), length)))
	}
	if got, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts); err != nil || !slices.Equal(got, want) {
		c.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func partsAreListed(c storageCase) {
	const parts = 1_003 // a page has 1,000
	id := c.create(storageKey, "token")
	want := make([]backup.Part, parts)
	for n := parts; n >= 1; n-- {
		want[n-1] = c.part(storageKey, id, n, []byte{byte(n), byte(n >> 8)})
	}
	got, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts)
	if err != nil || !slices.Equal(got, want) {
		c.Fatalf("%d parts, %v, want %d", len(got), err, parts)
	}
	for _, r := range [][2]int{{1, 1}, {2, 2}, {17, 40}, {2, parts}, {parts, backup.MaxParts}, {parts + 1, parts + 2}} {
		within := want[min(r[0]-1, parts):min(r[1], parts)]
		if got, err := c.UploadedParts(c.Context(), storageKey, id, r[0], r[1]); err != nil || !slices.Equal(got, within) {
			c.Errorf("%d..%d: %d parts, %v, want %d", r[0], r[1], len(got), err, len(within))
		}
	}
}

func wrongCompletions(c storageCase) {
	right := c.twoParts(storageKey, "token")
	for what, change := range map[string]func(*step.Completion){
		"another whole checksum": func(w *step.Completion) { w.CRC64NVME++ },
		"another ETag":           func(w *step.Completion) { w.Parts[0].ETag = w.Parts[1].ETag },
		"another part checksum":  func(w *step.Completion) { w.Parts[1].CRC64NVME++ },
		"a part never sent":      func(w *step.Completion) { w.Parts[1].Number = 3 },
		"a part left out":        func(w *step.Completion) { w.Parts = w.Parts[:1] },
	} {
		wrong := right
		wrong.Parts = slices.Clone(right.Parts)
		change(&wrong)
		c.want(backup.ChecksumMismatch, what, c.CompleteUpload(c.Context(), wrong))
	}
	c.complete(right) // none of it has harmed the upload
	c.holds(storageKey, "token", slices.Concat(firstPart, lastPart))
}

// OtherSizesRefused is a rule that servers may lack: before a backup is done, its size is also proven by HEAD.
const OtherSizesRefused = "an upload refuses a size that is not its own"

func wrongSizes(c storageCase) {
	for _, by := range []int64{1, -1} {
		wrong := c.twoParts(storageKey, "token")
		wrong.SizeBytes += by
		c.want(backup.ChecksumMismatch, "another size", c.CompleteUpload(c.Context(), wrong))
	}
}

func partSentAgain(c storageCase) {
	old := c.onePart(storageKey, "token", "first try")
	again := c.part(storageKey, old.UploadID, 1, []byte("second"))
	if again.ETag == old.Parts[0].ETag {
		c.Errorf("both tries have the ETag %s", again.ETag)
	}
	c.want(backup.ChecksumMismatch, "the first try's part", c.CompleteUpload(c.Context(), old))
	if parts, err := c.UploadedParts(c.Context(), storageKey, old.UploadID, 1, backup.MaxParts); err != nil || !slices.Equal(parts, []backup.Part{again}) {
		c.Errorf("listed: %v, %v, want %v", parts, err, again)
	}
	c.complete(step.Completion{
		Key: storageKey, UploadID: old.UploadID, SizeBytes: 6, CRC64NVME: again.CRC64NVME, Parts: []backup.Part{again},
	})
	c.holds(storageKey, "token", []byte("second"))
}

func partsSentTogether(c storageCase) {
	const tries = 8
	id := c.create(storageKey, "token")
	sent := make([]backup.Part, tries)
	outcome := together(tries, func(i int) error {
		content := pattern(byte(i), 100_000+int64(i))
		etag, err := c.UploadPart(c.Context(), storageUploadOf(storageKey, id, 1, content))
		sent[i] = backup.Part{Number: 1, ETag: etag, SizeBytes: int64(len(content)), CRC64NVME: crc64nvme.Checksum(content)}
		return err
	})
	parts, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts)
	if outcome[""] != tries || err != nil || len(parts) != 1 || !slices.Contains(sent, parts[0]) {
		c.Fatalf("%v; listed: %v, %v", outcome, parts, err)
	}
}

func shortParts(c storageCase) {
	id := c.create(storageKey, "token")
	completion := step.Completion{
		Key: storageKey, UploadID: id, SizeBytes: 4, CRC64NVME: crc64nvme.Checksum([]byte("abcd")),
		Parts: []backup.Part{c.part(storageKey, id, 1, []byte("ab")), c.part(storageKey, id, 2, []byte("cd"))},
	}
	c.want(backup.StorageRefused, "two short parts", c.CompleteUpload(c.Context(), completion))
}

func neverReplaced(c storageCase) {
	c.complete(c.onePart(storageKey, "mine", "mine"))
	c.want(backup.Conflict, "another upload of the key", c.CompleteUpload(c.Context(), c.onePart(storageKey, "other", "other")))
	c.holds(storageKey, "mine", []byte("mine"))
}

func completionsTogether(c storageCase) {
	both := []step.Completion{c.onePart(storageKey, "token-0", "one"), c.onePart(storageKey, "token-1", "the other")}
	outcome := together(len(both), func(i int) error { return c.CompleteUpload(c.Context(), both[i]) })
	if outcome[""] != 1 || outcome[backup.Conflict] != 1 {
		c.Fatalf("%v", outcome)
	}
}

// A storage that forgets a completed upload calls it lost or finds the object; one that remembers it succeeds.
func repeatedCompletion(c storageCase) {
	completion := c.onePart(storageKey, "token", "content")
	c.complete(completion)
	switch err := c.CompleteUpload(c.Context(), completion); backup.KindOf(err) {
	case "", backup.UploadLost, backup.Conflict:
	default:
		c.Errorf("again: %v", err)
	}
	c.holds(storageKey, "token", []byte("content"))
}

func unknownUpload(c storageCase) {
	completion := c.onePart(storageKey, "token", "content")
	if err := c.AbortUpload(c.Context(), storageKey, completion.UploadID); err != nil {
		c.Fatal(err)
	}
	if err := c.AbortUpload(c.Context(), storageKey, completion.UploadID); err != nil {
		c.Errorf("aborted again: %v", err)
	}
	_, err := c.UploadPart(c.Context(), storageUploadOf(storageKey, completion.UploadID, 2, lastPart))
	c.want(backup.UploadLost, "UploadPart", err)
	_, err = c.UploadPart(c.Context(), storageUploadOf(storageKey, "none", 1, lastPart)) // not even the form of an id
	if err == nil || backup.Is(err, backup.StorageUnavailable) {
		c.Errorf("a part of no upload: %v", err)
	}
	_, err = c.UploadedParts(c.Context(), storageKey, completion.UploadID, 1, backup.MaxParts)
	c.want(backup.UploadLost, "UploadedParts", err)
	c.want(backup.UploadLost, "CompleteUpload", c.CompleteUpload(c.Context(), completion))
	_, err = c.Head(c.Context(), storageKey)
	c.want(backup.NotFound, "Head", err)
}

// A server that answers before it has read the part, and closes, resets the connection: its answer must not get lost.
func refusedEarly(c storageCase) {
	const tries, workers, size = 1_000, 4, 16 << 20 // more than the buffers between two sockets hold
	id := c.create(storageKey, "token")
	if err := c.AbortUpload(c.Context(), storageKey, id); err != nil {
		c.Fatal(err)
	}
	outcome := together(workers, func(int) error {
		for range tries / workers {
			_, err := c.UploadPart(c.Context(), step.PartUpload{
				Key: storageKey, UploadID: id, Number: 1, SizeBytes: size, Body: NewPartBody(io.LimitReader(zeros{}, size)),
			})
			if !backup.Is(err, backup.UploadLost) {
				return fmt.Errorf("got %w", err)
			}
		}
		return nil
	})
	if outcome[""] != workers {
		c.Errorf("%v", outcome)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// failingBody yields content and then fails.
func failingBody(content string, err error) *PartBody {
	return NewPartBody(io.MultiReader(strings.NewReader(content), errorReader{err}))
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func failingBodies(c storageCase) {
	id := c.create(storageKey, "token")
	long := string(lastPart)
	for what, tc := range map[string]struct {
		body *PartBody
		kind backup.Kind
	}{
		"short, after much": {failingBody(long[:len(long)-1], backup.E(backup.ProviderShortBody, "short")), backup.ProviderShortBody},
		"short, at once":    {failingBody("", backup.E(backup.ProviderChanged, "changed")), backup.ProviderChanged},
		"at its end":        {failingBody(long, backup.E(backup.ProviderLongBody, "long")), backup.ProviderLongBody},
		"quietly short":     {NewPartBody(strings.NewReader(long[1:])), backup.Internal},
		"quietly long":      {NewPartBody(strings.NewReader(long + "x")), backup.Internal},
		"without a kind":    {failingBody("ab", errOfBody), backup.Internal},
	} {
		etag, err := c.UploadPart(c.Context(), step.PartUpload{
			Key: storageKey, UploadID: id, Number: 1, SizeBytes: int64(len(long)), Body: tc.body,
		})
		c.want(tc.kind, what, err)
		if etag != "" {
			c.Errorf("%s: etag %s", what, etag)
		}
		if what == "without a kind" && !errors.Is(err, errOfBody) {
			c.Errorf("%s: %v does not wrap the body's error", what, err)
		}
	}
	if parts, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts); err != nil || len(parts) != 0 {
		c.Errorf("left behind: %v, %v", parts, err)
	}
}

var errOfBody = errors.New("the body broke")

func wrongPartChecksum(c storageCase) {
	id := c.create(storageKey, "token")
	upload := storageUploadOf(storageKey, id, 1, lastPart)
	upload.Body = wrongBody{NewPartBody(bytes.NewReader(lastPart))}
	_, err := c.UploadPart(c.Context(), upload)
	c.want(backup.ChecksumMismatch, "UploadPart", err)
	if parts, err := c.UploadedParts(c.Context(), storageKey, id, 1, backup.MaxParts); err != nil || len(parts) != 0 {
		c.Errorf("left behind: %v, %v", parts, err)
	}
}

var storageSweepRules = []storageRule{
	{"uploads under a prefix are aborted but those kept", uploadsAreAborted},
	{"objects under a prefix are deleted with all versions but those kept", objectsAreDeleted},
	{"more than one page is deleted", pagesAreDeleted},
}

func uploadsAreAborted(c storageCase) {
	kept := c.onePart(storagePrefix+"kept.zip", "kept", "kept")
	other := c.onePart("ada/blog/job-10/files.zip", "other", "other") // "job-1" is no prefix of it: the slash
	for range 3 {
		c.onePart(storageKey, "token", "several of one key")
	}
	c.onePart(storagePrefix+"database.zip", "token", "content")
	keep := func(key string) bool { return key == storagePrefix+"kept.zip" }
	keys := []string{storagePrefix + "kept.zip", storagePrefix + "database.zip", storagePrefix + "never.zip", storageKey}
	if n, err := c.AbortUploads(c.Context(), storagePrefix, keys, keep); n != 4 || err != nil {
		c.Errorf("removed %d, %v, want 4", n, err)
	}
	if n, err := c.AbortUploads(c.Context(), storagePrefix, keys, keep); n != 0 || err != nil {
		c.Errorf("removed %d, %v more", n, err)
	}
	c.complete(kept)
	c.complete(other)
}

func objectsAreDeleted(c storageCase) {
	c.put(storagePrefix+"manifest.json", "first version")
	c.put(storagePrefix+"manifest.json", "second version")
	c.complete(c.onePart(storageKey, "token", "content"))
	c.put(storagePrefix+"kept.json", "kept")
	c.put("ada/blog/job-10/manifest.json", "other")
	keep := func(key string) bool { return key == storagePrefix+"kept.json" }
	if n, err := c.DeleteObjects(c.Context(), storagePrefix, keep); n < 2 || n > 3 || err != nil {
		c.Errorf("removed %d, %v, want 3, or 2 without versions", n, err)
	}
	if n, err := c.DeleteObjects(c.Context(), storagePrefix, keep); n != 0 || err != nil {
		c.Errorf("removed %d, %v more", n, err)
	}
	for _, key := range []string{storageKey, storagePrefix + "manifest.json"} {
		_, err := c.Head(c.Context(), key)
		c.want(backup.NotFound, key, err)
	}
	c.holds(storagePrefix+"kept.json", "", []byte("kept"))
	c.holds("ada/blog/job-10/manifest.json", "", []byte("other"))
	if n, err := c.DeleteObjects(c.Context(), storagePrefix, nil); n != 1 || err != nil {
		c.Errorf("removed %d, %v, want the kept one", n, err)
	}
}

func pagesAreDeleted(c storageCase) {
	const objects = 1_003 // a page and a batch have 1,000
	for n := range objects {
		c.put(fmt.Sprintf("%s%04d", storagePrefix, n), "x")
	}
	if n, err := c.DeleteObjects(c.Context(), storagePrefix, nil); n != objects || err != nil {
		c.Fatalf("removed %d, %v, want %d", n, err, objects)
	}
}
