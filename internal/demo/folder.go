package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	folderPattern = "sitevault-demo-*"
	// KeeperCommand is the name of the program's command that runs KeepFolder.
	KeeperCommand = "demo-folder"

	removeTries = 100
	removePause = 100 * time.Millisecond
	keeperTime  = 20 * time.Second // for removing the folder at the end
)

// KeepFolder makes a work folder in parent ("": the system's), prints its path and removes it when input ends. It runs as
// a process of its own: input is a pipe from the demo, which ends in whatever way the demo does, so that even a demo
// that was killed leaves no folder.
func KeepFolder(parent string, input io.Reader, output io.Writer) error {
	dir, err := os.MkdirTemp(parent, folderPattern)
	if err != nil {
		return err
	}
	fmt.Fprintln(output, dir) // nobody reads it when the demo is gone already; then input has ended too
	_, err = io.Copy(io.Discard, input)
	return errors.Join(err, removeFolder(dir))
}

// removeFolder repeats what a dying process of the demo may still undo.
func removeFolder(dir string) (err error) {
	for range removeTries {
		err = os.RemoveAll(dir)
		time.Sleep(removePause)
		if _, gone := os.Lstat(dir); errors.Is(gone, os.ErrNotExist) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("the work folder %s could not be removed", dir), err)
}

func (r *run) openFolder(ctx context.Context) error {
	if r.Keep {
		dir, err := os.MkdirTemp(r.TempDir, folderPattern)
		if err != nil {
			return err
		}
		r.dir, r.report.WorkDir = dir, dir
		r.step("Work folder: %s (kept)", dir)
		return nil
	}
	return r.openKeptFolder()
}

func (r *run) openKeptFolder() error {
	cmd := exec.Command(r.Executable, KeeperCommand, "--parent", r.TempDir)
	cmd.Env, cmd.Stderr = r.Environ, os.Stderr
	cmd.SysProcAttr = apart()
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the keeper of the work folder: %w", err)
	}
	r.closers = append(r.closers, func() error {
		input.Close()
		late := time.AfterFunc(keeperTime, func() { _ = cmd.Process.Kill() }) // or it has ended
		defer late.Stop()
		if cmd.Wait() == nil || r.dir == "" {
			return nil
		}
		return removeFolder(r.dir) // the keeper itself was killed
	})
	r.dir, err = readPath(output)
	return err
}

// readPath reads one line byte by byte: nothing after it may be lost to a buffer that Wait closes.
func readPath(output io.Reader) (string, error) {
	var line strings.Builder
	one := make([]byte, 1)
	for line.Len() < 4096 {
		if _, err := io.ReadFull(output, one); err != nil {
			return "", fmt.Errorf("make the work folder: %w", err)
		}
		if one[0] == '\n' {
			return filepath.Clean(line.String()), nil
		}
		line.WriteByte(one[0])
	}
	return "", errors.New("make the work folder: its path is too long")
}
