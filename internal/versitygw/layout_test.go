package versitygw_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sitevault/sitevault/internal/versitygw"
)

// Uploads that a killed process was completing are given back before the next one starts.
func TestClaimedUploadsAreGivenBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*c") // no pattern
	uploads := filepath.Join(dir, "objects", "bucket", ".sgwtmp", "multipart", "0a1b")
	claimed := filepath.Join(uploads, "5a5a-11.0123abcd-3.inprogress")
	if err := os.MkdirAll(claimed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(claimed, "1"), []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, versitygw.Config{Dir: dir})
	if content, err := os.ReadFile(filepath.Join(uploads, "5a5a-11", "1")); err != nil || string(content) != "part" {
		t.Fatalf("part 1: %q, %v", content, err)
	}
	if _, err := os.Stat(claimed); !os.IsNotExist(err) {
		t.Fatalf("the claim is still there: %v", err)
	}
}

// The offsets of MaxParts parts, compressed as the server does it, leave room for the object's other attributes in the
// one block that ext4 has for all of them.
func TestMaxPartsFitIntoOneBlock(t *testing.T) {
	const block, others = 4096, 800
	for partMiB := int64(16); partMiB <= 5120; partMiB += 13 {
		offsets := make([]int64, versitygw.MaxParts)
		for i := range offsets {
			offsets[i] = int64(i+1) * partMiB << 20
		}
		offsets[len(offsets)-1] -= 12_345
		raw, err := json.Marshal(map[string]any{"uploadId": "337debc3-326a-4fec-88b2-b9eabdc08e4e", "parts": offsets})
		if err != nil {
			t.Fatal(err)
		}
		var compressed bytes.Buffer
		w := gzip.NewWriter(&compressed)
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if compressed.Len() > block-others {
			t.Errorf("parts of %d MiB: %d bytes", partMiB, compressed.Len())
		}
	}
}
