//go:build !linux

package integration_test

import (
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return nil }

// endGroup knows the leader only. The emulator's functions end by themselves without it.
func endGroup(leader int, signal syscall.Signal) {
	if p, err := os.FindProcess(leader); err == nil {
		_ = p.Signal(signal)
	}
}
