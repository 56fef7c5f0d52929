package checksum_test

import (
	"testing"

	"github.com/minio/crc64nvme"
	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/checksum"
)

// The check value is the one of the catalogue of parametrised CRCs; the text forms are what S3 sends for it.
func TestKnownVectors(t *testing.T) {
	for _, tc := range []struct {
		content string
		crc     uint64
		text    string
	}{
		{"", 0, "AAAAAAAAAAA="},
		{"123456789", 0xAE8B14860A799888, "rosUhgp5mIg="},
	} {
		if got := crc64nvme.Checksum([]byte(tc.content)); got != tc.crc {
			t.Errorf("checksum of %q = %#x, want %#x", tc.content, got, tc.crc)
		}
		if got := checksum.Encode(tc.crc); got != tc.text {
			t.Errorf("Encode(%#x) = %q, want %q", tc.crc, got, tc.text)
		}
		if got, err := checksum.Decode(tc.text); err != nil || got != tc.crc {
			t.Errorf("Decode(%q) = %#x, %v, want %#x", tc.text, got, err, tc.crc)
		}
	}
}

// Every split of the check string combines to the check value, empty halves included.
func TestCombineAtEverySplit(t *testing.T) {
	const content = "123456789"
	for i := range len(content) + 1 {
		a, b := []byte(content[:i]), []byte(content[i:])
		got := checksum.Combine(crc64nvme.Checksum(a), crc64nvme.Checksum(b), int64(len(b)))
		if got != 0xAE8B14860A799888 {
			t.Errorf("split at %d: %#x", i, got)
		}
	}
}

// Cutting content into parts of any sizes and combining them gives the checksum of the content.
func TestWholeEqualsDirectComputation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 200), 0, 12).Draw(t, "pieces")
		var content []byte
		var parts []backup.Part
		for i, p := range pieces {
			content = append(content, p...)
			parts = append(parts, backup.Part{Number: i + 1, SizeBytes: int64(len(p)), CRC64NVME: crc64nvme.Checksum(p)})
		}
		if got, want := checksum.Whole(parts), crc64nvme.Checksum(content); got != want {
			t.Fatalf("Whole = %#x, want %#x", got, want)
		}
	})
}

// Combination is associative for lengths far beyond what a test can hash.
func TestCombineIsAssociative(t *testing.T) {
	length := rapid.Int64Range(0, 5<<40)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b"), rapid.Uint64().Draw(t, "c")
		lb, lc := length.Draw(t, "length of b"), length.Draw(t, "length of c")
		left := checksum.Combine(checksum.Combine(a, b, lb), c, lc)
		right := checksum.Combine(a, checksum.Combine(b, c, lc), lb+lc)
		if left != right {
			t.Fatalf("(a+b)+c = %#x, a+(b+c) = %#x", left, right)
		}
	})
}

// Long zero runs, computed directly: the length reaches past 32 bits of bits.
func TestCombineWithLongZeroRun(t *testing.T) {
	const length = 600 << 20
	zeros := make([]byte, 1<<20)
	direct := crc64nvme.Checksum([]byte("head"))
	run := uint64(0)
	for range length / len(zeros) {
		direct, run = crc64nvme.Update(direct, zeros), crc64nvme.Update(run, zeros)
	}
	if got := checksum.Combine(crc64nvme.Checksum([]byte("head")), run, length); got != direct {
		t.Fatalf("Combine = %#x, want %#x", got, direct)
	}
}

// Combining allocates nothing.
func TestCombineDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { checksum.Combine(1, 2, 1<<40) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{
		"",
		"rosUhgp5mIg",     // no padding
		"rosUhgp5mIg=-3",  // composite
		"rosUhgp5mIgAAAA", // too long
		"rosUhgp5mIgA",    // nine bytes
		"rosUhgp5mIh=",    // bits behind the eighth byte
		"rosUhgp5mI==",    // seven bytes
		"rosUhgp5\nIg=",
	} {
		if crc, err := checksum.Decode(text); err == nil {
			t.Errorf("Decode(%q) = %#x, want an error", text, crc)
		}
	}
}

// Whatever is decoded encodes to the very same text.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{"AAAAAAAAAAA=", "rosUhgp5mIg=", "rosUhgp5mIh=", "a\r\nb", "============"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		crc, err := checksum.Decode(text)
		if err == nil && checksum.Encode(crc) != text {
			t.Fatalf("Decode(%q) = %#x, which encodes to %q", text, crc, checksum.Encode(crc))
		}
	})
}

func BenchmarkWhole(b *testing.B) {
	parts := make([]backup.Part, 10_000)
	for i := range parts {
		parts[i] = backup.Part{Number: i + 1, SizeBytes: 16 << 20, CRC64NVME: uint64(i) * 0x9e3779b97f4a7c15}
	}
	for b.Loop() {
		checksum.Whole(parts)
	}
}
