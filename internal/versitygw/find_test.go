package versitygw_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/versitygw"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func program(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", filepath.Join(root, "path"))
	deep := filepath.Join(root, "module", "a", "b")
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)

	_, err := versitygw.Find("")
	if err == nil || !strings.Contains(err.Error(), "make tools") || !strings.Contains(err.Error(), "go install") {
		t.Fatalf("nothing installed: %v", err)
	}
	expect := func(explicit, want string) {
		t.Helper()
		if got, err := versitygw.Find(explicit); err != nil || got != want {
			t.Fatalf("Find(%q) = %q, %v, want %q", explicit, got, err, want)
		}
	}
	// Each of these stands before the one above it.
	expect("", program(t, filepath.Join(root, "path", "versitygw")))
	program(t, filepath.Join(root, "module", "bin", "versitygw"))
	expect("", filepath.Join(root, "path", "versitygw")) // no go.mod yet
	program(t, filepath.Join(root, "module", "go.mod"))
	expect("", filepath.Join(root, "module", "bin", "versitygw"))
	expect("", program(t, filepath.Join(deep, "bin", "versitygw")))
	expect(program(t, filepath.Join(root, "mine")), filepath.Join(root, "mine"))

	if _, err := versitygw.Find(filepath.Join(root, "absent")); err == nil {
		t.Fatal("an explicit path that is absent is replaced silently")
	}
}
