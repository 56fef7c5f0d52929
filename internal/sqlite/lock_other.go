//go:build !unix

package sqlite

import (
	"errors"
	"os"
)

// takeLock refuses systems without flock: two processes on one file would not notice each other.
func takeLock(string) (*os.File, error) {
	return nil, errors.New("the database needs a Unix system: files cannot be locked here")
}
