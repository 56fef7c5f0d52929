package demo

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// FilesProof counts what was compared and found equal.
type FilesProof struct {
	Files       int   `json:"files"`
	Directories int   `json:"directories"`
	Links       int   `json:"links"`
	Bytes       int64 `json:"bytes"`   // of the files, uncompressed
	Special     int   `json:"special"` // pipes, sockets and devices, which no archive holds
}

// DifferenceError says in what a backup differs from its source.
type DifferenceError struct {
	What     string
	Count    int
	Examples []string // at most maxExamples
}

const maxExamples = 10

func (e *DifferenceError) Error() string {
	text := fmt.Sprintf("%s: %d differences between the source and the backup:\n  %s", e.What, e.Count, strings.Join(e.Examples, "\n  "))
	if e.Count > len(e.Examples) {
		text += "\n  ..."
	}
	return text + "\nIf the source changed while the demo ran, run it again on input at rest."
}

// differences collects them, from several goroutines.
type differences struct {
	mu sync.Mutex
	DifferenceError
}

func (d *differences) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Count++
	if len(d.Examples) < maxExamples {
		d.Examples = append(d.Examples, fmt.Sprintf(format, args...))
	}
}

func (d *differences) result() error {
	if d.Count == 0 {
		return nil
	}
	return &d.DifferenceError
}

// CompareTree proves that the zip archive holds exactly what is below dir: every directory with its mode, every file with
// its mode and bytes, every link with its target, and nothing else. The error is a *DifferenceError if it does not.
func CompareTree(ctx context.Context, dir, archive string) (FilesProof, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return FilesProof{}, fmt.Errorf("open %s: %w", archive, err)
	}
	defer z.Close()
	t := &treeComparison{dir: dir, entries: make(map[string]*zip.File, len(z.File)), found: &differences{DifferenceError: DifferenceError{What: "files"}}}
	t.index(z.File)
	t.work.SetLimit(runtime.GOMAXPROCS(0))
	walked := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || path == dir {
			return err
		}
		return t.visit(path, entry)
	})
	if err := errors.Join(walked, t.work.Wait()); err != nil {
		return FilesProof{}, err
	}
	for name := range t.entries {
		t.found.add("%s: in the backup, not in the source", name)
	}
	return t.proof, t.found.result()
}

// treeComparison is one comparison. Entries leave the map as their sources are met.
type treeComparison struct {
	dir     string
	entries map[string]*zip.File
	proof   FilesProof
	found   *differences
	work    errgroup.Group
}

func (t *treeComparison) index(files []*zip.File) {
	for _, f := range files {
		if t.entries[f.Name] != nil {
			t.found.add("%s: twice in the backup", f.Name)
		}
		t.entries[f.Name] = f
	}
}

func (t *treeComparison) visit(path string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	name, err := filepath.Rel(t.dir, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	if info.IsDir() {
		name += "/"
	}
	kind := info.Mode().Type()
	if kind&^(fs.ModeDir|fs.ModeSymlink) != 0 {
		t.proof.Special++
		return nil
	}
	stored := t.entries[name]
	if stored == nil {
		t.found.add("%s: not in the backup", name)
		return nil
	}
	delete(t.entries, name)
	if stored.Mode() != info.Mode() {
		t.found.add("%s: mode %s in the source, %s in the backup", name, info.Mode(), stored.Mode())
		return nil
	}
	return t.content(path, info, stored)
}

func (t *treeComparison) content(path string, info fs.FileInfo, stored *zip.File) error {
	switch info.Mode().Type() {
	case fs.ModeDir:
		t.proof.Directories++
		return nil
	case fs.ModeSymlink:
		t.proof.Links++
		return t.link(path, stored)
	}
	t.proof.Files++
	t.proof.Bytes += info.Size()
	t.work.Go(func() error { return t.bytes(path, stored) })
	return nil
}

func (t *treeComparison) link(path string, stored *zip.File) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	entry, err := stored.Open()
	if err != nil {
		return fmt.Errorf("read %s from the backup: %w", stored.Name, err)
	}
	defer entry.Close()
	content, err := io.ReadAll(io.LimitReader(entry, int64(len(target))+1))
	if err != nil {
		return fmt.Errorf("read %s from the backup: %w", stored.Name, err)
	}
	if string(content) != target {
		t.found.add("%s: points to %q in the source, to %q in the backup", stored.Name, target, content)
	}
	return nil
}

func (t *treeComparison) bytes(path string, stored *zip.File) error {
	source, err := os.Open(path)
	if err != nil {
		return err
	}
	defer source.Close()
	entry, err := stored.Open()
	if err != nil {
		return fmt.Errorf("read %s from the backup: %w", stored.Name, err)
	}
	defer entry.Close()
	equal, err := sameBytes(source, entry)
	if err != nil {
		return fmt.Errorf("compare %s: %w", stored.Name, err)
	}
	if !equal {
		t.found.add("%s: other bytes in the backup", stored.Name)
	}
	return nil
}

const compareBytes = 128 << 10

// sameBytes tells whether a and b hold the same bytes up to their ends.
func sameBytes(a, b io.Reader) (bool, error) {
	bufferA, bufferB := make([]byte, compareBytes), make([]byte, compareBytes)
	for {
		n, errA := io.ReadFull(a, bufferA)
		m, errB := io.ReadFull(b, bufferB)
		if err := errors.Join(unexpected(errA), unexpected(errB)); err != nil {
			return false, err
		}
		if !bytes.Equal(bufferA[:n], bufferB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}

// unexpected drops the errors by which ReadFull tells the end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
