//go:build !linux

package demo

import "syscall"

func apart() *syscall.SysProcAttr { return nil }

// bound is empty: only Linux can end a child with its parent. A demo that is killed there leaves its children.
func bound() *syscall.SysProcAttr { return nil }
