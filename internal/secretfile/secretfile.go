// Package secretfile reads files that hold a token or a secret, but none that others can read as well.
package secretfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

const othersBits fs.FileMode = 0o077 // what group and others may do

// Read reads a file of at most maxBytes.
func Read(path string, maxBytes int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := Check(path, info); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > maxBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxBytes)
	}
	return content, nil
}

// Check refuses a file or folder that group or others have any access to, with the command that ends it. Pipes and the like
// are not judged: their mode does not say who reads them. Windows has no such modes.
func Check(path string, info fs.FileInfo) error {
	mode := info.Mode()
	if runtime.GOOS == "windows" || mode.Perm()&othersBits == 0 || (!mode.IsRegular() && !mode.IsDir()) {
		return nil
	}
	owner := "600"
	if mode.IsDir() {
		owner = "700"
	}
	return fmt.Errorf("%s is open to other users of this machine (mode %04o); run: chmod %s %s", path, mode.Perm(), owner, quoted(path))
}

// quoted is how a shell takes the path as one word.
func quoted(path string) string {
	if !strings.ContainsAny(path, " \t\n\"'`$&|;<>()*?[]#~!\\{}") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
