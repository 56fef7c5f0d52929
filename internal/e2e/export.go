package e2e

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
)

// PartBytes is the size of every part of a small export but the last.
const PartBytes = backup.BasePartSizeBytes

const exportPath = "/export"

// Export is an export server behind a gate.
type Export struct {
	*Gate
	*backuptest.Provider
	URL     string
	Content backuptest.Content
}

// NewExport exports a made-up zip archive of the given parts; the last one is not whole. Archives of different seeds
// differ in every part.
func NewExport(tb testing.TB, seed uint64, parts int) *Export {
	return ExportOf(tb, Archive(seed, parts))
}

// Archive is a zip archive of the given parts; the last one is not whole.
func Archive(seed uint64, parts int) *backuptest.Zip {
	return backuptest.ZipOf(seed, int64(parts)*PartBytes-PartBytes/2)
}

// ExportOf exports any content.
func ExportOf(tb testing.TB, content backuptest.Content) *Export {
	p := backuptest.NewProvider(tb, content)
	gate := newGate(tb, p)
	return &Export{Gate: gate, Provider: p, URL: gate.front + exportPath, Content: content}
}

// Offset is where a part begins, numbered from 1.
func Offset(part int) int64 { return int64(part-1) * PartBytes }

// Fetched counts how often the part was asked for.
func (e *Export) Fetched(part int) int { return e.Fetches(Offset(part)) }

// SameBytes compares everything that r yields with the content.
func SameBytes(r io.Reader, content backuptest.Content) error {
	got, want := make([]byte, 256<<10), make([]byte, 256<<10)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, got)
		if m, _ := content.ReadAt(want[:n], offset); m != n {
			return fmt.Errorf("longer than the %d bytes of the export", content.Size())
		}
		if !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("differs from the export between bytes %d and %d", offset, offset+int64(n))
		}
		offset += int64(n)
		if err == nil {
			continue
		}
		if offset != content.Size() {
			return fmt.Errorf("%d bytes, the export has %d (%w)", offset, content.Size(), err)
		}
		return nil
	}
}

func readAll(tb testing.TB, r io.Reader) []byte {
	tb.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
