//go:build unix

package exportd_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestFolderSpecialFiles: pipes and sockets are skipped and counted; opening one would hang the walk.
func TestFolderSpecialFiles(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "file"), "x")
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root) // a socket's path has a short limit
	l, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	archive, report := snapshot(t, folder(t, root))
	if got := entryNames(open(t, archive)); !slices.Equal(got, []string{"file"}) || report.Special != 2 {
		t.Errorf("entries %q, %d special", got, report.Special)
	}
}

// TestFolderPipeRace: a file exchanged for a pipe after it was listed does not hang the walk.
func TestFolderPipeRace(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, bigName), strings.Repeat("b", bigBytes))
	write(t, filepath.Join(root, "file"), "x")
	z, report := snapshotWhile(t, folder(t, root), func() {
		path := filepath.Join(root, "file")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if len(z.File) != 1 || report.Special != 1 {
		t.Errorf("entries %q, %d special", entryNames(z), report.Special)
	}
}

// TestFolderUnreadable: what the agent may not read fails the snapshot by name, unless it is excluded.
func TestFolderUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED: root may read everything; run as another user")
	}
	for _, name := range []string{"private/file", "private"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, "private/file"), "x")
			path := filepath.Join(root, name)
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(path, 0o700) }) // so that the folder can be removed
			_, err := folder(t, root).Snapshot(t.Context(), new(bytes.Buffer))
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want an error that names %s", err, name)
			}
			if _, report := snapshot(t, folder(t, root, "private")); report.Excluded != 1 {
				t.Errorf("%+v", report)
			}
		})
	}
}
