package backuptest

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
)

// zipBlockBytes repeats as the content of a Zip. It fits a core's cache, so that reading costs a copy and no memory
// bandwidth; and it is odd, so that parts of any power of two differ from each other and mixed-up parts are noticed.
const zipBlockBytes = 256<<10 - 5

const zipEntryName = "content.bin"

// Zip is a valid zip archive of any size with one stored entry, made up while it is read. Reads are safe for
// concurrent use and allocate nothing.
type Zip struct {
	head, tail   []byte
	block        []byte
	contentBytes int64
}

// ZipOf makes an archive of exactly sizeBytes, or of the least possible size (about 120 bytes) if that is larger. The
// same seed and size make the same bytes. From 4 GiB on it is a zip64 archive.
func ZipOf(seed uint64, sizeBytes int64) *Zip {
	frame := zipFrame{zip64: sizeBytes >= math.MaxUint32}
	frame.contentBytes = max(0, sizeBytes-int64(len(frame.head())+len(frame.tail())))
	block := randomBlock(seed)
	frame.sum = crcOfRepeated(block, frame.contentBytes)
	return &Zip{head: frame.head(), tail: frame.tail(), block: block, contentBytes: frame.contentBytes}
}

func randomBlock(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	block := make([]byte, 0, zipBlockBytes+8)
	for len(block) < zipBlockBytes {
		block = binary.LittleEndian.AppendUint64(block, random.Uint64())
	}
	return block[:zipBlockBytes]
}

// Size is the number of bytes of the archive.
func (z *Zip) Size() int64 { return int64(len(z.head)+len(z.tail)) + z.contentBytes }

// ReadAt implements io.ReaderAt.
func (z *Zip) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		run := z.run(off + int64(n))
		if len(run) == 0 {
			return n, io.EOF
		}
		n += copy(p[n:], run)
	}
	return n, nil
}

// WriteRange writes lengthBytes from off without copying them first.
func (z *Zip) WriteRange(w io.Writer, off, lengthBytes int64) (int64, error) {
	var written int64
	for written < lengthBytes {
		run := z.run(off + written)
		if len(run) == 0 {
			return written, io.ErrUnexpectedEOF
		}
		n, err := w.Write(run[:min(int64(len(run)), lengthBytes-written)])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// run is the longest piece from off that lies in memory as a whole; empty outside the archive.
func (z *Zip) run(off int64) []byte {
	inner := off - int64(len(z.head))
	switch {
	case off < 0 || off >= z.Size():
		return nil
	case inner < 0:
		return z.head[off:]
	case inner >= z.contentBytes:
		return z.tail[inner-z.contentBytes:]
	}
	run := z.block[inner%zipBlockBytes:]
	return run[:min(int64(len(run)), z.contentBytes-inner)]
}

// zipFrame writes what stands around the content, as APPNOTE.TXT 6.3.10 says in sections 4.3.7 to 4.3.16 and 4.5.3
// (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, read 2026-11). The lengths of head and tail depend on
// zip64 only.
type zipFrame struct {
	zip64        bool
	contentBytes int64
	sum          uint32 // CRC-32 of the content
}

func (f zipFrame) head() []byte {
	b := f.entry(binary.LittleEndian.AppendUint32(nil, 0x04034b50))
	b = append(b, zipEntryName...)
	return f.sizes64(b)
}

func (f zipFrame) tail() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x02014b50)
	b = f.entry(le.AppendUint16(b, f.version())) // made by
	b = append(b, make([]byte, 2+2+2+4+4)...)    // comment, disk, attributes, offset of the local header: all 0
	b = append(b, zipEntryName...)
	directory := f.sizes64(b)
	return f.end(directory, int64(len(f.head()))+f.contentBytes, int64(len(directory)))
}

// entry is the run of fields that the local header and the directory have in common.
func (f zipFrame) entry(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, f.version())
	b = le.AppendUint16(b, 0)      // flags
	b = le.AppendUint16(b, 0)      // method: stored
	b = le.AppendUint16(b, 0)      // midnight
	b = le.AppendUint16(b, 1<<5|1) // of 1 January 1980
	b = le.AppendUint32(b, f.sum)
	b = le.AppendUint32(b, f.short(f.contentBytes)) // compressed
	b = le.AppendUint32(b, f.short(f.contentBytes)) // uncompressed
	b = le.AppendUint16(b, uint16(len(zipEntryName)))
	return le.AppendUint16(b, uint16(len(f.sizes64(nil))))
}

// sizes64 is the extra field with the sizes that entry has no room for.
func (f zipFrame) sizes64(b []byte) []byte {
	if !f.zip64 {
		return b
	}
	le := binary.LittleEndian
	b = le.AppendUint16(b, 0x0001)
	b = le.AppendUint16(b, 16)
	b = le.AppendUint64(b, uint64(f.contentBytes))
	return le.AppendUint64(b, uint64(f.contentBytes))
}

// end is the end record, with zip64's own before it.
func (f zipFrame) end(b []byte, directoryAt, directoryBytes int64) []byte {
	le := binary.LittleEndian
	if f.zip64 {
		b = le.AppendUint32(b, 0x06064b50)
		b = le.AppendUint64(b, 44) // bytes that follow in this record
		b = le.AppendUint16(b, f.version())
		b = le.AppendUint16(b, f.version())
		b = le.AppendUint64(b, 0) // disks
		b = le.AppendUint64(b, 1)
		b = le.AppendUint64(b, 1)
		b = le.AppendUint64(b, uint64(directoryBytes))
		b = le.AppendUint64(b, uint64(directoryAt))

		b = le.AppendUint32(b, 0x07064b50)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, uint64(directoryAt+directoryBytes))
		b = le.AppendUint32(b, 1)
	}
	b = le.AppendUint32(b, 0x06054b50)
	b = le.AppendUint32(b, 0) // disks
	b = le.AppendUint16(b, 1)
	b = le.AppendUint16(b, 1)
	b = le.AppendUint32(b, uint32(directoryBytes))
	b = le.AppendUint32(b, f.short(directoryAt))
	return le.AppendUint16(b, 0) // comment
}

func (f zipFrame) version() uint16 {
	if f.zip64 {
		return 45
	}
	return 20
}

// short is a size where only 32 bits are free.
func (f zipFrame) short(size int64) uint32 {
	if f.zip64 {
		return math.MaxUint32
	}
	return uint32(size)
}

// crcOfRepeated is the CRC-32 of lengthBytes that repeat block, without reading them: the sum of two halves follows
// from the sums of the halves, so that doubling reaches any length.
func crcOfRepeated(block []byte, lengthBytes int64) uint32 {
	blockBytes := int64(len(block))
	sum := uint32(0)
	run, runBytes := crc32.ChecksumIEEE(block), blockBytes
	for times := lengthBytes / blockBytes; times > 0; times >>= 1 {
		if times&1 == 1 {
			sum = joinCRC(sum, run, runBytes)
		}
		run, runBytes = joinCRC(run, run, runBytes), 2*runBytes
	}
	rest := block[:lengthBytes%blockBytes]
	return joinCRC(sum, crc32.ChecksumIEEE(rest), int64(len(rest)))
}

// joinCRC is the sum of what first is the sum of, followed by secondBytes that second is the sum of: first is
// multiplied by x to the power of the bits that follow it, modulo the polynomial.
func joinCRC(first, second uint32, secondBytes int64) uint32 {
	power := uint32(1 << 31)  // x^0; sums are written with their highest power in bit 0
	square := uint32(1 << 23) // x^8
	for n := secondBytes; n > 0; n >>= 1 {
		if n&1 == 1 {
			power = crcProduct(power, square)
		}
		square = crcProduct(square, square)
	}
	return crcProduct(first, power) ^ second
}

func crcProduct(a, b uint32) uint32 {
	product := uint32(0)
	for ; a != 0; a <<= 1 {
		if a>>31 == 1 {
			product ^= b
		}
		carry := b & 1
		b = b>>1 ^ carry*crc32.IEEE
	}
	return product
}
