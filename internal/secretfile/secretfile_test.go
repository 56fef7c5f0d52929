package secretfile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/secretfile"
)

// What others have any access to is refused, and the command that the error names makes it readable.
func TestRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED, files have no modes here")
	}
	for _, name := range []string{"token", "a token", "it's $HOME", "ключ"} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660, 0o622, 0o601, 0o777, 0o440} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			content, err := secretfile.Read(path, 100)
			if err == nil || content != nil {
				t.Fatalf("mode %o: %q, %v", mode, content, err)
			}
			_, command, _ := strings.Cut(err.Error(), "run: ")
			if output, err := exec.Command("sh", "-c", command).CombinedOutput(); !strings.HasPrefix(command, "chmod 600 ") || err != nil {
				t.Fatalf("%s: %s, %v", command, output, err)
			}
			if content, err := secretfile.Read(path, 100); string(content) != "s3cret" || err != nil {
				t.Errorf("after %s: %q, %v", command, content, err)
			}
		}
	}
}

// A file that is no small one, or none, is no secret; a pipe is read whatever its mode.
func TestReadOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secretfile.Read(path, 5); err == nil {
		t.Error("a file that is too large was read")
	}
	if _, err := secretfile.Read(dir, 5); err == nil {
		t.Error("a folder was read")
	}
	if _, err := secretfile.Read(filepath.Join(dir, "none"), 5); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	output, err := exec.Command("sh", "-c", "umask 0; mkfifo "+path+".pipe").CombinedOutput()
	if err != nil {
		t.Fatalf("%s, %v", output, err)
	}
	go func() { _ = os.WriteFile(path+".pipe", []byte("piped"), 0o600) }() // ends with its reader
	if content, err := secretfile.Read(path+".pipe", 5); string(content) != "piped" || err != nil {
		t.Errorf("a pipe: %q, %v", content, err)
	}
}
