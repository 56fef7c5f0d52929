//go:build linux || darwin

package versitygw

import "golang.org/x/sys/unix"

// hasAttributes tells whether the file system of folder keeps user extended attributes.
func hasAttributes(folder string) bool {
	const name = "user.sitevault.probe"
	if err := unix.Setxattr(folder, name, []byte{1}, 0); err != nil {
		return false
	}
	return unix.Removexattr(folder, name) == nil
}
