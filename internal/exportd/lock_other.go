//go:build !unix

package exportd

import (
	"io"
	"os"
	"path/filepath"
)

// lockDir holds a file open; systems of this kind refuse to remove it meanwhile but do not keep a second server out.
func lockDir(dir string) (io.Closer, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
}

// syncDir does nothing: a folder cannot be flushed here, and the file system journals its renames itself.
func syncDir(string) error { return nil }
