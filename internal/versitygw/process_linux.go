package versitygw

import "syscall"

// attributes let the kernel kill the process as soon as this program is gone, and keep the terminal's Ctrl-C from it:
// what it serves is still needed while we shut down.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// endStale has nothing to do: no process outlives the program that started it.
func endStale(string, string) error { return nil }
