package exportd

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// FolderOptions narrow what Folder archives.
type FolderOptions struct {
	// Exclude holds path.Match patterns. One with a slash inside is matched against the whole path below the root
	// ("wp-content/cache"), one without against the last element anywhere ("*.log"). A trailing slash restricts it to
	// directories. What is below an excluded directory is left out too.
	Exclude []string
	// AllowEmpty archives a folder that holds nothing. Without it that is an error: a disk that is not mounted would be
	// backed up as a site without files until the last backup with files is deleted.
	AllowEmpty bool
}

// Folder is the source of a directory tree: regular files and directories with mode and modification time, symbolic links
// as links, in an order that depends on names only. Links are never followed, also not ones put in place during the walk,
// so nothing outside root is read. Hard links become separate files; owners and extended attributes are not kept.
func Folder(root string, options FolderOptions) (Source, error) {
	for _, pattern := range options.Exclude {
		if _, err := path.Match(pattern, ""); err != nil || strings.Trim(pattern, "/") == "" {
			return nil, fmt.Errorf("exclude pattern %q is not a path.Match pattern", pattern)
		}
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("folder: %s is not a directory", root)
	}
	return &folder{root: root, options: options}, nil
}

type folder struct {
	root    string
	options FolderOptions
}

var _ Source = (*folder)(nil)

// contains says whether dir, which must exist, is the root or below it.
func (f *folder) contains(dir string) (bool, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	if dir, err = filepath.EvalSymlinks(abs); err != nil {
		return false, err
	}
	root, err := filepath.EvalSymlinks(f.root)
	if err != nil {
		return false, err
	}
	below, err := filepath.Rel(root, dir)
	return err == nil && filepath.IsLocal(below), nil
}

func (f *folder) Snapshot(ctx context.Context, w io.Writer) (Report, error) {
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return Report{}, err
	}
	defer root.Close()
	t := &tree{archive: newArchive(w), exclude: f.options.Exclude}
	if err := t.list(ctx, root, ""); err != nil {
		return t.report, err
	}
	if t.report.Entries == 0 && !f.options.AllowEmpty {
		return t.report, fmt.Errorf("folder %s holds nothing to export: is its disk mounted?", f.root)
	}
	return t.report, t.archive.Close()
}

// tree is one walk. dir is always the opened directory itself, never a path through one: what the walk has entered cannot
// be exchanged under it.
type tree struct {
	archive *archive
	exclude []string
	report  Report
}

// list archives what dir holds; prefix is its path in the archive, empty or ending in a slash.
func (t *tree) list(ctx context.Context, dir *os.Root, prefix string) error {
	names, err := namesIn(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", path.Join(".", prefix), err)
	}
	for _, base := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.visit(ctx, dir, base, prefix+base); err != nil {
			return err
		}
	}
	return nil
}

func namesIn(dir *os.Root) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (t *tree) visit(ctx context.Context, dir *os.Root, base, name string) error {
	info, err := dir.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.vanished(name)
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
	case t.excluded(name, info.IsDir()):
		t.report.Excluded++
		return nil
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		err = t.directory(ctx, dir, base, name, info)
	case fs.ModeSymlink:
		err = t.link(dir, base, name, info)
	case 0:
		err = t.file(dir, base, name)
	default:
		t.special(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.vanished(name)
		return nil
	}
	return err
}

func (t *tree) vanished(name string) {
	t.report.Vanished++
	t.report.note("vanished: %s", name)
}

func (t *tree) special(name string) {
	t.report.Special++
	t.report.note("special file: %s", name)
}

func (t *tree) excluded(name string, isDir bool) bool {
	return slices.ContainsFunc(t.exclude, func(pattern string) bool {
		bare := strings.TrimSuffix(pattern, "/")
		if bare != pattern && !isDir {
			return false
		}
		subject := name
		if !strings.Contains(bare, "/") {
			subject = path.Base(name)
		}
		matched, _ := path.Match(strings.TrimPrefix(bare, "/"), subject)
		return matched
	})
}

// directory opens before it writes, so that one which vanished leaves no entry. The identity check catches a link put in
// its place after it was looked at.
func (t *tree) directory(ctx context.Context, parent *os.Root, base, name string, info fs.FileInfo) error {
	dir, err := parent.OpenRoot(base)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer dir.Close()
	if opened, err := dir.Stat("."); err != nil || !os.SameFile(info, opened) {
		return fmt.Errorf("open %s: it was exchanged: %w", name, errors.Join(err, fs.ErrNotExist))
	}
	if _, err := t.entry(name+"/", info, zip.Store); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return t.list(ctx, dir, name+"/")
}

func (t *tree) link(dir *os.Root, base, name string, info fs.FileInfo) error {
	target, err := dir.Readlink(base)
	if err != nil {
		return fmt.Errorf("read link %s: %w", name, err)
	}
	w, err := t.entry(name, info, zip.Store)
	if err == nil {
		_, err = io.WriteString(w, target)
	}
	if err != nil {
		return fmt.Errorf("archive link %s: %w", name, err)
	}
	return nil
}

// file archives what the opened file is, whatever the listing said: many programs replace a file by renaming a new one
// over it. It opens without blocking, for a pipe may have taken the place.
func (t *tree) file(dir *os.Root, base, name string) error {
	f, err := dir.OpenFile(base, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		t.special(name)
		return nil
	}
	w, err := t.entry(name, info, methodFor(name, info.Size()))
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	// A file that grows is read up to the size it was opened with, or a busy log would never end.
	n, err := t.archive.copy(w, io.LimitReader(f, info.Size()))
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	t.noteChange(f, name, info, n)
	return nil
}

// noteChange reports a file that was written meanwhile. The entry is valid, with the bytes that were there to read.
func (t *tree) noteChange(f *os.File, name string, before fs.FileInfo, readBytes int64) {
	after, err := f.Stat()
	if err == nil && readBytes == before.Size() && after.Size() == before.Size() && after.ModTime().Equal(before.ModTime()) {
		return
	}
	t.report.Changed++
	t.report.note("changed while read: %s (%d of %d bytes)", name, readBytes, before.Size())
}

func (t *tree) entry(name string, info fs.FileInfo, method uint16) (io.Writer, error) {
	h, err := zip.FileInfoHeader(info)
	if err != nil {
		return nil, err
	}
	h.Name, h.Method = name, method
	t.report.Entries++
	return t.archive.create(h)
}

// packed are the endings of files that deflate cannot make smaller.
var packed = map[string]bool{
	".7z": true, ".aac": true, ".avif": true, ".br": true, ".bz2": true, ".docx": true, ".epub": true, ".flac": true, ".gif": true,
	".gz": true, ".heic": true, ".jar": true, ".jpeg": true, ".jpg": true, ".lz4": true, ".m4a": true, ".m4v": true, ".mkv": true,
	".mov": true, ".mp3": true, ".mp4": true, ".odt": true, ".ogg": true, ".opus": true, ".phar": true, ".png": true, ".pptx": true,
	".rar": true, ".tgz": true, ".webm": true, ".webp": true, ".woff": true, ".woff2": true, ".xlsx": true, ".xz": true, ".zip": true,
	".zst": true,
}

func methodFor(name string, sizeBytes int64) uint16 {
	if sizeBytes == 0 || packed[strings.ToLower(path.Ext(name))] {
		return zip.Store
	}
	return zip.Deflate
}
