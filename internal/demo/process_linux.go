package demo

import "syscall"

// apart keeps the terminal's Ctrl-C from the child.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// bound lets the kernel kill the child as soon as the demo is gone; until then the demo ends it in its own order.
func bound() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
