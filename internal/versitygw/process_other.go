//go:build !linux

package versitygw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return nil }

// endStale kills the process that an earlier run of this program left behind: the one in the pid file, if it is a
// versitygw that serves our folder.
func endStale(pidFile, objects string) error {
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return os.Remove(pidFile)
	}
	command, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err == nil && strings.Contains(string(command), "versitygw") && strings.Contains(string(command), objects) {
		if err := kill(pid); err != nil {
			return fmt.Errorf("end the versitygw left behind (pid %d): %w", pid, err)
		}
	}
	return os.Remove(pidFile)
}

func kill(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}
