package archive

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
)

// bufferBytes holds the longest extra field, which is looked at in place.
const bufferBytes = math.MaxUint16 + 1

const zip64Field = 0x0001 // 4.5.3

// directory is what the entries sum up to.
type directory struct {
	entries      int64
	uncompressed int64
	lowest       int64 // offset of the entry that lies first in the archive
}

// readDirectory reads entries to the end of the directory, which r yields. Every length is checked against what is
// left before it is read, so that an error of r is never taken for one of the archive.
func readDirectory(r io.Reader, e end) (directory, error) {
	buffered := bufio.NewReaderSize(r, int(min(bufferBytes, e.size)))
	d := directory{lowest: math.MaxInt64}
	for left := e.size; left > 0; {
		n, err := d.readEntry(buffered, left, e.offset)
		if err != nil {
			return directory{}, err
		}
		left -= n
	}
	if uint64(d.entries) != e.entries {
		return directory{}, invalid("its directory has %d entries, its end record says %d", d.entries, e.entries)
	}
	return d, nil
}

// readEntry reads one entry of a directory that has left bytes more, and returns the entry's length. limit is where
// the directory begins: every entry's content lies before it.
func (d *directory) readEntry(r *bufio.Reader, left, limit int64) (int64, error) {
	if left < entryBytes {
		return 0, invalid("its directory ends in the middle of entry %d", d.entries+1)
	}
	header, err := r.Peek(entryBytes)
	if err != nil {
		return 0, unexpected(err)
	}
	if binary.LittleEndian.Uint32(header) != entrySignature {
		return 0, invalid("entry %d of its directory has no signature", d.entries+1)
	}
	f := fields{
		compressed:   uint64(binary.LittleEndian.Uint32(header[20:])),
		uncompressed: uint64(binary.LittleEndian.Uint32(header[24:])),
		disk:         uint32(binary.LittleEndian.Uint16(header[34:])),
		offset:       uint64(binary.LittleEndian.Uint32(header[42:])),
	}
	name, extra, comment := uint16At(header, 28), uint16At(header, 30), uint16At(header, 32)
	length := int64(entryBytes + name + extra + comment)
	if length > left {
		return 0, invalid("entry %d is longer than the rest of its directory", d.entries+1)
	}
	if err := f.read(r, entryBytes+name, extra, comment); err != nil {
		return 0, err
	}
	return length, d.add(f, limit)
}

func uint16At(b []byte, at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }

// add checks where an entry lies and counts it.
func (d *directory) add(f fields, limit int64) error {
	if f.wide {
		return invalid("entry %d announces zip64 sizes and has none", d.entries+1)
	}
	if f.disk != 0 {
		return invalid("entry %d lies on another volume", d.entries+1)
	}
	room := uint64(limit)
	if f.offset > room || room-f.offset < localBytes || room-f.offset-localBytes < f.compressed {
		return invalid("entry %d (%d bytes at %d) reaches beyond the directory's start at %d", d.entries+1, f.compressed, f.offset, limit)
	}
	if f.uncompressed > math.MaxInt64-uint64(d.uncompressed) {
		return invalid("its entries sum up to more bytes than can be counted")
	}
	d.entries++
	d.uncompressed += int64(f.uncompressed)
	d.lowest = min(d.lowest, int64(f.offset))
	return nil
}

// fields are those of an entry that zip64 may widen; wide: one of them is still to be found in the extra field.
type fields struct {
	compressed, uncompressed, offset uint64
	disk                             uint32
	wide                             bool
}

// read takes the zip64 values out of the extra field and leaves r behind the entry.
func (f *fields) read(r *bufio.Reader, before, extra, comment int) error {
	if _, err := r.Discard(before); err != nil {
		return unexpected(err)
	}
	block, err := r.Peek(extra)
	if err != nil {
		return unexpected(err)
	}
	f.widen(block)
	if _, err := r.Discard(extra + comment); err != nil {
		return unexpected(err)
	}
	return nil
}

// widen replaces the fields that hold their highest value by those of the zip64 block, which has them in this order.
func (f *fields) widen(extra []byte) {
	block := zip64Block(extra)
	if block == nil {
		// A file of exactly 4 GiB - 1 needs no zip64 block; an offset or a compressed size of that is not believed.
		f.wide = f.compressed == math.MaxUint32 || f.offset == math.MaxUint32
		return
	}
	for _, value := range []*uint64{&f.uncompressed, &f.compressed, &f.offset} {
		if *value != math.MaxUint32 {
			continue
		}
		if len(block) < 8 {
			f.wide = true
			return
		}
		*value, block = binary.LittleEndian.Uint64(block), block[8:]
	}
	if f.disk == math.MaxUint16 {
		if len(block) < 4 {
			f.wide = true
			return
		}
		f.disk = binary.LittleEndian.Uint32(block)
	}
}

// zip64Block finds the zip64 block in an extra field. Padding that is no block, as some writers leave it at the end,
// ends the search.
func zip64Block(extra []byte) []byte {
	for len(extra) >= 4 {
		id, length := binary.LittleEndian.Uint16(extra), uint16At(extra, 2)
		extra = extra[4:]
		if length > len(extra) {
			return nil
		}
		if id == zip64Field {
			return extra[:length:length]
		}
		extra = extra[length:]
	}
	return nil
}

// unexpected makes an early end of the stream an error of the stream.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
