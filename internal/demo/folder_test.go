package demo_test

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/demo"
)

// The work folder is there until its keeper's input ends, and gone with all that is in it afterwards.
func TestKeepFolder(t *testing.T) {
	parent := t.TempDir()
	input, release := io.Pipe()
	output, paths := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- demo.KeepFolder(parent, input, paths) }()
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(line)
	if filepath.Dir(dir) != parent {
		t.Fatalf("made %s", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	release.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
