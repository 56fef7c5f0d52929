//go:build !linux

package versitygw

// hasAttributes tells whether the file system of folder keeps user extended attributes; outside Linux we do not ask.
func hasAttributes(string) bool { return false }
