package versitygw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MaxParts is how many parts an object may have: the server keeps their offsets, compressed, in one extended attribute,
// and on ext4 all attributes of a file share one block of 4 KiB. 500 offsets take 3.1 KiB at most (measured over part
// sizes of 16 MiB to 5 GiB); 640 may not fit.
const MaxParts = 500

// layout is the folder of one server.
type layout struct {
	objects  string // one folder per bucket
	metadata string // beside the objects; "" where extended attributes hold it
	versions string // "" without versioning
}

// The names that versitygw itself uses inside a bucket.
const (
	uploadsFolder    = ".sgwtmp/multipart" // then <hash of the key>/<upload id>
	inProgressSuffix = ".inprogress"
)

func prepare(dir string, versioning bool) (layout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, err
	}
	l := layout{objects: filepath.Join(dir, "objects")}
	if err := os.MkdirAll(l.objects, 0o700); err != nil {
		return layout{}, err
	}
	if !hasAttributes(l.objects) {
		l.metadata = filepath.Join(dir, "metadata")
	}
	if versioning {
		l.versions = filepath.Join(dir, "versions")
	}
	for _, folder := range []string{l.metadata, l.versions} {
		if folder == "" {
			continue
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return layout{}, err
		}
	}
	return l, nil
}

// arguments are those of the posix backend.
func (l layout) arguments() []string {
	// The checksum that the server computes anyway serves as ETag; MD5 would cost as much CPU time again.
	args := []string{"posix", "--data-integrity-etag", "--dir-perms", "0700", "--file-perms", "0600"}
	if l.metadata != "" {
		args = append(args, "--sidecar", l.metadata)
	}
	if l.versions != "" {
		args = append(args, "--versioning-dir", l.versions)
	}
	return append(args, l.objects)
}

// recover gives back the uploads that a killed process was completing. versitygw renames an upload's folder while it
// puts the object together and, after a kill, would forever answer that the object is done. No process may be running.
func (l layout) recover() error {
	claimed, err := filepath.Glob(filepath.Join(globSafe(l.objects), "*", uploadsFolder, "*", "*"+inProgressSuffix))
	if err != nil {
		return fmt.Errorf("recover uploads: %w", err)
	}
	for _, folder := range claimed {
		if err := l.unclaim(folder); err != nil {
			return fmt.Errorf("recover uploads: %w", err)
		}
	}
	return nil
}

// unclaim renames <upload id>.<claim>.inprogress back to <upload id>, the metadata first, so that a crash in between
// is repeated.
func (l layout) unclaim(folder string) error {
	parent, name := filepath.Split(folder)
	uploadID, _, _ := strings.Cut(name, ".")
	if l.metadata != "" {
		relative, err := filepath.Rel(l.objects, parent)
		if err != nil {
			return err
		}
		beside := filepath.Join(l.metadata, relative)
		err = os.Rename(filepath.Join(beside, name), filepath.Join(beside, uploadID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(folder, filepath.Join(parent, uploadID))
}

// globSafe escapes what filepath.Glob takes as a pattern.
func globSafe(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
