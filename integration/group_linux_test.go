package integration_test

import "syscall"

// ownGroup keeps the terminal's Ctrl-C from a child and lets the kernel kill it as soon as we are gone.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// endGroup signals whoever is left of the group.
func endGroup(leader int, signal syscall.Signal) { _ = syscall.Kill(-leader, signal) }
