package s3store_test

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/step"
)

// zeros yields zeros for ever, so that the benchmark pays for moving bytes and not for making them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// uncounted is a body without a checksum of its own: what is left is the client's cost of sending.
type uncounted struct {
	io.Reader
	crc uint64
}

func (u uncounted) CRC64NVME() uint64 { return u.crc }

// BenchmarkUploadPart moves parts into a real server and reports the CPU time of this process per byte; the server's is
// not in it.
func BenchmarkUploadPart(b *testing.B) {
	server := startServer(b, false)
	store := openStore(b, configOf(server, "vault"), false)
	for _, size := range []int64{16 << 20, 256 << 20} {
		sum := backuptest.NewPartBody(io.LimitReader(zeros{}, size))
		if _, err := io.Copy(io.Discard, sum); err != nil {
			b.Fatal(err)
		}
		for name, body := range map[string]func() step.PartBody{
			"summing": func() step.PartBody { return backuptest.NewPartBody(io.LimitReader(zeros{}, size)) },
			"sending": func() step.PartBody { return uncounted{io.LimitReader(zeros{}, size), sum.CRC64NVME()} },
		} {
			b.Run(fmt.Sprintf("%s/%dMiB", name, size>>20), func(b *testing.B) {
				id, err := store.CreateUpload(b.Context(), "bench", "token")
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(size)
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					part := step.PartUpload{Key: "bench", UploadID: id, Number: 1, SizeBytes: size, Body: body()}
					if _, err := store.UploadPart(b.Context(), part); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpuTime(b)-before)/float64(size)/float64(b.N), "cpu-ns/B")
			})
		}
	}
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
