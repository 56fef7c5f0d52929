package main

import (
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// byteSize is a flag that takes bytes as people write them: 128MiB, 1.5GB.
type byteSize int64

var _ pflag.Value = (*byteSize)(nil)

// String implements pflag.Value.
func (s *byteSize) String() string { return humanize.IBytes(uint64(*s)) }

// Type implements pflag.Value.
func (s *byteSize) Type() string { return "size" }

// Set implements pflag.Value.
func (s *byteSize) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("want a size such as 128MiB, not %q", text)
	}
	*s = byteSize(n)
	return nil
}
