// Package archive reads the directory of a zip archive by ranges, to prove that the archive is whole. It reads no
// entry's content and holds no directory in memory.
//
// The format is PKWARE's APPNOTE 6.3.10, section 4.3:
// https://pkware.cachefly.net/webdocs/APPNOTE/APPNOTE-6.3.10.TXT
package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// tailBytes holds the end records with the longest comment (65,635 bytes) and the directory of some hundred files.
	tailBytes = 80 << 10
	// maxDirectoryBytes is what the directory of some 40 million files takes.
	maxDirectoryBytes = 4 << 30
	startBytes        = 64 // of the archive's beginning that an error message may cite
	// searchBytes of the end are searched for an end record that is not where it should be, to say what is wrong.
	searchBytes = 4 << 20
)

// ReadRange opens length bytes from offset of the archive.
type ReadRange func(ctx context.Context, offset, lengthBytes int64) (io.ReadCloser, error)

// Inspect reads the directory of an archive of sizeBytes and checks that it is complete and leads to entries that lie
// inside the archive. What is not a whole zip archive fails with ArchiveInvalid; errors of read come back as they are.
// An ordinary archive takes one read, that of its tail.
func Inspect(ctx context.Context, sizeBytes int64, read ReadRange) (backup.Archive, error) {
	r := reader{size: sizeBytes, read: read}
	found, err := r.inspect(ctx)
	if err != nil {
		return backup.Archive{}, fmt.Errorf("inspect archive: %w", err)
	}
	return found, nil
}

type reader struct {
	size      int64
	read      ReadRange
	tail      []byte
	tailStart int64
}

func (r *reader) inspect(ctx context.Context) (backup.Archive, error) {
	var err error
	r.tailStart = max(0, r.size-tailBytes)
	if r.tail, err = r.bytes(ctx, r.tailStart, r.size-r.tailStart); err != nil {
		return backup.Archive{}, err
	}
	e, found, err := findEnd(r.tail, r.tailStart)
	if err != nil {
		return backup.Archive{}, err
	}
	if !found {
		return backup.Archive{}, r.noEnd(ctx)
	}
	d, err := r.directory(ctx, e)
	if err != nil {
		return backup.Archive{}, err
	}
	if d.entries > 0 && d.lowest >= r.tailStart {
		err = r.checkFirst(ctx, d.lowest)
	}
	return backup.Archive{Entries: d.entries, UncompressedBytes: d.uncompressed}, err
}

// directory reads the central directory: from the tail as far as it lies there, else as one stream.
func (r *reader) directory(ctx context.Context, e end) (directory, error) {
	var before io.Reader = strings.NewReader("")
	if e.offset < r.tailStart {
		body, err := r.read(ctx, e.offset, min(e.size, r.tailStart-e.offset))
		if err != nil {
			return directory{}, err
		}
		defer body.Close()
		before = body
	}
	within := r.tail[max(e.offset-r.tailStart, 0):max(e.offset+e.size-r.tailStart, 0)]
	return readDirectory(io.MultiReader(before, bytes.NewReader(within)), e)
}

// checkFirst looks at the signature of the entry that lies first in the archive. It is not worth a read of its own: an
// archive that misses bytes anywhere has its directory in the wrong place.
func (r *reader) checkFirst(ctx context.Context, offset int64) error {
	b, err := r.bytes(ctx, offset, signatureBytes)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != localSignature {
		return invalid("the directory's first entry is not where it should be, at byte %d", offset)
	}
	return nil
}

// noEnd says as well as it can what the thing is that has no end record.
func (r *reader) noEnd(ctx context.Context) error {
	start, err := r.bytes(ctx, 0, min(startBytes, r.size))
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(start, []byte("PK\x03\x04")) && !bytes.HasPrefix(start, []byte("PK\x05\x06")) {
		return invalid("ends with no zip end record; it begins with %q", bytes.ToValidUTF8(start, []byte(".")))
	}
	searched, err := r.bytes(ctx, max(0, r.size-searchBytes), min(searchBytes, r.size))
	if err != nil {
		return err
	}
	switch n := bytesBehind(searched, r.size-int64(len(searched))); {
	case n > 0:
		return invalid("%d bytes stand behind its end: the export sends something after the archive", n)
	case r.size > searchBytes:
		return invalid("begins like a zip archive but has no end record in its last %d MiB: its end is missing, or something else follows it",
			searchBytes>>20)
	}
	return invalid("begins like a zip archive but has no zip end record: it was cut short")
}

// bytes reads a short range, out of the tail if it lies there.
func (r *reader) bytes(ctx context.Context, offset, length int64) ([]byte, error) {
	if from := offset - r.tailStart; r.tail != nil && from >= 0 {
		return r.tail[from : from+length], nil
	}
	b := make([]byte, length)
	if length == 0 {
		return b, nil
	}
	body, err := r.read(ctx, offset, length)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, unexpected(err)
	}
	return b, nil
}

func invalid(format string, args ...any) error {
	return backup.E(backup.ArchiveInvalid, format, args...)
}
