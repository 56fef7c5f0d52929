package versitygw_test

import (
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
