// Package versitygw runs one versitygw process, an S3 server, on a folder: for the service on one machine, for tests
// and for benchmarks. It starts the process, starts it again when it dies, and never leaves it behind.
package versitygw

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Version is the release that the service is tested with.
const Version = "v1.8.0"

const maxParents = 64 // folders above the working folder that are searched for go.mod

// Find returns the path of the versitygw program: the explicit one if given; else the first found beside our own
// executable, in bin/ of the working folder, in bin/ of the module around it, or in PATH.
func Find(explicit string) (string, error) {
	if explicit != "" {
		if !isProgram(explicit) {
			return "", fmt.Errorf("versitygw: %s is not an executable file", explicit)
		}
		return filepath.Abs(explicit)
	}
	for _, folder := range folders() {
		if path := filepath.Join(folder, programName()); isProgram(path) {
			return path, nil
		}
	}
	if path, err := exec.LookPath(programName()); err == nil {
		return filepath.Abs(path)
	}
	return "", fmt.Errorf("versitygw: the program is not installed: run `make tools` or `go install github.com/versity/versitygw/cmd/versitygw@%s`", Version)
}

func folders() []string {
	var folders []string
	if own, err := os.Executable(); err == nil {
		folders = append(folders, filepath.Dir(own))
	}
	working, err := os.Getwd()
	if err != nil {
		return folders
	}
	folders = append(folders, filepath.Join(working, "bin"))
	for range maxParents {
		if _, err := os.Stat(filepath.Join(working, "go.mod")); err == nil {
			return append(folders, filepath.Join(working, "bin"))
		}
		working = filepath.Dir(working)
	}
	return folders
}

func programName() string {
	if runtime.GOOS == "windows" {
		return "versitygw.exe"
	}
	return "versitygw"
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	return runtime.GOOS == "windows" || info.Mode().Perm()&0o111 != 0
}
