package exportd

import (
	"archive/zip"
	"compress/flate"
	"io"
	"time"
)

// archive writes a zip, one entry after the other, and keeps its compressor and copy buffer between them: a site is mostly
// small files. The zip library keeps the central directory in memory, some hundred bytes for each entry.
type archive struct {
	zip     *zip.Writer
	deflate *flate.Writer
	buffer  []byte
}

const copyBufferBytes = 128 << 10

func newArchive(w io.Writer) *archive {
	a := &archive{zip: zip.NewWriter(w), buffer: make([]byte, copyBufferBytes)}
	a.zip.RegisterCompressor(zip.Deflate, a.compressor)
	return a
}

// compressor trades size for speed: the archive is made on the machine that serves the site.
func (a *archive) compressor(w io.Writer) (io.WriteCloser, error) {
	if a.deflate == nil {
		var err error
		a.deflate, err = flate.NewWriter(w, flate.BestSpeed)
		return a.deflate, err
	}
	a.deflate.Reset(w)
	return a.deflate, nil
}

// create starts an entry; the former one ends. Times are stored in UTC, so that the bytes do not depend on the zone.
func (a *archive) create(h *zip.FileHeader) (io.Writer, error) {
	h.Modified = h.Modified.UTC()
	return a.zip.CreateHeader(h)
}

// copy moves src into an entry and returns how many bytes it had.
func (a *archive) copy(entry io.Writer, src io.Reader) (int64, error) {
	return io.CopyBuffer(entry, src, a.buffer)
}

// Close writes the central directory; without it there is no archive.
func (a *archive) Close() error { return a.zip.Close() }

// timeless is the modification time of an entry that has none, the oldest that zip can hold: equal dumps must give equal
// archives.
var timeless = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
