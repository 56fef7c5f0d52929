package functions_test

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// maxArchiveBytes keeps cold starts short; Lambda itself would take 50 MB.
const maxArchiveBytes = 12 << 20

// Each function becomes a small archive that holds it as an executable bootstrap, the same bytes whenever it is packed.
func TestArchives(t *testing.T) {
	from := filepath.Dir(program(t, "create"))
	packed := [2]string{t.TempDir(), t.TempDir()}
	for i, to := range packed {
		if out, err := exec.Command("go", "run", "../internal/lambdazip", "-from", from, "-to", to).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if i == 0 { // as if built anew
			if err := os.Chtimes(filepath.Join(from, "create"), time.Now(), time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name := range needed {
		first, err := os.ReadFile(filepath.Join(packed[0], name+".zip"))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(packed[1], name+".zip"))
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: the second archive differs, %v", name, err)
		}
		t.Logf("%-20s %.1f MB", name, float64(len(first))/1e6)
		if len(first) > maxArchiveBytes {
			t.Errorf("%s has %d bytes", name, len(first))
		}
		wantBootstrap(t, first, filepath.Join(from, name))
	}
}

func wantBootstrap(t *testing.T, archive []byte, program string) {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil || len(r.File) != 1 || r.File[0].Name != "bootstrap" || r.File[0].Mode().Perm() != 0o755 {
		t.Fatalf("%s: %+v, %v", program, r, err)
	}
	entry, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(entry)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(program); err != nil || !bytes.Equal(content, want) {
		t.Errorf("%s: another program, %v", program, err)
	}
}
