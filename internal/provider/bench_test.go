package provider_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/provider"
)

// BenchmarkRange reads parts of the base size; server and client share the machine.
func BenchmarkRange(b *testing.B) {
	for _, readBytes := range []int{32 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("read=%dKiB", readBytes>>10), func(b *testing.B) {
			p := backuptest.NewProvider(b, backuptest.ZipOf(1, 1<<30))
			c := newClient(b, provider.Timeouts{})
			pin := backup.Pin{ETag: `"version-1"`, SizeBytes: 1 << 30}
			buffer := make([]byte, readBytes)
			b.SetBytes(backup.BasePartSizeBytes)
			b.ReportAllocs()
			for b.Loop() {
				body, err := c.Range(b.Context(), exportAt(p.URL), pin, 5<<20, backup.BasePartSizeBytes)
				for err == nil {
					_, err = body.Read(buffer)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
				body.Close()
			}
		})
	}
}
