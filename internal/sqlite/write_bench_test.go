package sqlite_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/sqlite"
)

// writersPerCore is how many goroutines write at the same time for each core.
const writersPerCore = 32

// BenchmarkWrites measures small durable transitions from many goroutines, alone and beside others that read about a
// thousand times a second each.
func BenchmarkWrites(b *testing.B) {
	for _, readers := range []int{0, 4} {
		b.Run(fmt.Sprintf("RecordPart/readers=%d", readers), func(b *testing.B) {
			store := open(b, databasePath(b), sqlite.Options{})
			file := openFile(b, store, 1)
			var number atomic.Int64
			besideReaders(b, store, readers, func() func() error {
				return func() error { return store.RecordPart(b.Context(), partOf(file, int(number.Add(1)))) }
			})
		})
		b.Run(fmt.Sprintf("SwapJob/readers=%d", readers), func(b *testing.B) {
			store := open(b, databasePath(b), sqlite.Options{})
			openFile(b, store, 1)
			var number atomic.Int64
			besideReaders(b, store, readers, func() func() error {
				job := create(b, store, 1+int(number.Add(1)))
				return func() error {
					defer func() { job.Rev++ }()
					return store.SwapJob(b.Context(), job)
				}
			})
		})
	}
}

// besideReaders runs the writes of many writers, and readers of job 1 for as long as they last.
func besideReaders(b *testing.B, store *sqlite.Store, readers int, newWriter func() (write func() error)) {
	ctx, stop := context.WithCancel(b.Context())
	var reads atomic.Int64
	var reading sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for ctx.Err() == nil {
				if _, err := store.Files(b.Context(), newJob(1).JobID); err != nil {
					b.Error(err)
				}
				reads.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	b.SetParallelism(writersPerCore)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for write := newWriter(); pb.Next(); {
			if err := write(); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	b.ReportMetric(float64(reads.Load())/b.Elapsed().Seconds(), "reads/s")
	stop()
	reading.Wait()
}

// BenchmarkLoneWrite measures one writer alone, which pays for a whole commit each time.
func BenchmarkLoneWrite(b *testing.B) {
	store := open(b, databasePath(b), sqlite.Options{})
	file := openFile(b, store, 1)
	for n := 0; b.Loop(); n++ {
		if err := store.RecordPart(b.Context(), partOf(file, n)); err != nil {
			b.Fatal(err)
		}
	}
}
