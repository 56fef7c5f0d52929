package backup_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
)

func anyFileSize() *rapid.Generator[int64] {
	return rapid.OneOf(
		rapid.Int64Range(1, backup.MaxFileBytes),
		rapid.Int64Range(1, 100<<20),
		rapid.Custom(func(t *rapid.T) int64 { // around where the part size begins to grow, and around whole parts
			edge := rapid.SampledFrom([]int64{backup.BasePartSizeBytes, 9_000 * backup.BasePartSizeBytes, 9_000 * (17 << 20), backup.MaxFileBytes}).Draw(t, "edge")
			return min(max(1, edge+rapid.Int64Range(-2, 2).Draw(t, "beside")), backup.MaxFileBytes)
		}),
	)
}

func plannedFile(sizeBytes int64) backup.File {
	return backup.File{Name: "files", Pin: backup.Pin{ETag: `"v1"`, SizeBytes: sizeBytes}, PartSizeBytes: backup.PartSizeBytes(sizeBytes)}
}

// The parts of every file that a site may have cover it exactly once and keep S3's limits.
func TestPartsCoverFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := anyFileSize().Draw(t, "sizeBytes")
		f := plannedFile(size)
		if f.PartSizeBytes < backup.MinPartSizeBytes || f.PartSizeBytes > backup.MaxPartSizeBytes || f.PartSizeBytes%(1<<20) != 0 {
			t.Fatalf("parts of %d bytes", f.PartSizeBytes)
		}
		if f.PartCount() < 1 || f.PartCount() > backup.MaxParts {
			t.Fatalf("%d parts", f.PartCount())
		}
		next := int64(0)
		for n := 1; n <= f.PartCount(); n++ {
			offset, length := f.PartRange(n)
			if offset != next || length < 1 || length > f.PartSizeBytes || (length < f.PartSizeBytes && n < f.PartCount()) {
				t.Fatalf("part %d of %d: %d bytes at %d, expected at %d", n, f.PartCount(), length, offset, next)
			}
			next += length
		}
		if next != size {
			t.Fatalf("parts end at %d", next)
		}
	})
}

// A larger file never gets smaller parts, and a file as large as the base size allows keeps it.
func TestPartSize(t *testing.T) {
	for _, tc := range []struct{ sizeBytes, want int64 }{
		{1, 16 << 20},
		{9_000 * (16 << 20), 16 << 20},
		{9_000*(16<<20) + 1, 17 << 20},
		{1 << 40, 117 << 20}, // 1 TiB
		{backup.MaxFileBytes, backup.MaxPartSizeBytes},
	} {
		if got := backup.PartSizeBytes(tc.sizeBytes); got != tc.want {
			t.Errorf("%d bytes: parts of %d, want %d", tc.sizeBytes, got, tc.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyFileSize().Draw(t, "a"), anyFileSize().Draw(t, "b")
		if small, large := backup.PartSizeBytes(min(a, b)), backup.PartSizeBytes(max(a, b)); small > large {
			t.Fatalf("%d for the smaller, %d for the larger", small, large)
		}
	})
}

// Batches partition the parts, in order, within the given number; small files keep the workers busy.
func TestBatchesPartitionParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.IntRange(1, backup.MaxParts).Draw(t, "parts")
		parallel := rapid.IntRange(1, backup.MaxParallelism).Draw(t, "parallel")
		most := rapid.IntRange(backup.MaxBatches/backup.MaxProviders, backup.MaxBatches).Draw(t, "maxBatches")
		batches := backup.Batches(parts, parallel, most)
		if len(batches) > most {
			t.Fatalf("%d batches", len(batches))
		}
		next := 1
		for _, b := range batches {
			if b.First != next || b.Last < b.First {
				t.Fatalf("batch %+v, expected from %d", b, next)
			}
			next = b.Last + 1
		}
		if next != parts+1 {
			t.Fatalf("batches end before part %d of %d", next, parts)
		}
		if want := min(parts, parallel); len(batches) < min(want, most) {
			t.Fatalf("%d batches of %d parts leave some of %d workers idle", len(batches), parts, parallel)
		}
	})
	if got := backup.Batches(0, 4, 100); got != nil {
		t.Errorf("no parts: %v", got)
	}
}

// Missing keeps exactly the batches with a part that is not recorded.
func TestMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.IntRange(1, 300).Draw(t, "parts")
		batches := backup.Batches(parts, rapid.IntRange(1, 8).Draw(t, "parallel"), 250)
		recorded := map[int]bool{}
		var rows []backup.Part
		for n := 1; n <= parts; n++ {
			if rapid.Bool().Draw(t, "recorded") {
				recorded[n] = true
				rows = append(rows, backup.Part{Number: n})
			}
		}
		missing := backup.Missing(batches, rows)
		for _, b := range batches {
			incomplete := false
			for n := b.First; n <= b.Last; n++ {
				incomplete = incomplete || !recorded[n]
			}
			if len(missing) > 0 && missing[0] == b {
				if !incomplete {
					t.Fatalf("batch %+v is complete", b)
				}
				missing = missing[1:]
			} else if incomplete {
				t.Fatalf("batch %+v is left out", b)
			}
		}
		if len(missing) != 0 {
			t.Fatalf("more than the batches: %v", missing)
		}
	})
}
