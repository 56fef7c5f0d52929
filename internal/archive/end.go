package archive

import (
	"bytes"
	"encoding/binary"
	"math"
)

const (
	signatureBytes = 4
	localSignature = 0x04034b50
	entrySignature = 0x02014b50
	end64Signature = 0x06064b50
	locatorSign    = 0x07064b50
	endSignature   = 0x06054b50

	localBytes   = 30 // 4.3.7, without name and extra fields
	entryBytes   = 46 // 4.3.12, without name, extra fields and comment
	end64Bytes   = 56 // 4.3.14, without the extensible data sector
	locatorBytes = 20 // 4.3.15
	endBytes     = 22 // 4.3.16, without the comment

	end64Uncounted = 12 // of its first bytes, that its size field leaves out
)

// end is what the end records say of the directory, which lies exactly before them.
type end struct {
	entries uint64
	size    int64
	offset  int64 // from the start of the archive
}

// findEnd looks for the end record whose comment reaches exactly to the end of the tail.
func findEnd(tail []byte, tailStart int64) (e end, found bool, err error) {
	for at := len(tail) - endBytes; at >= 0; at-- {
		record := tail[at:]
		if binary.LittleEndian.Uint32(record) != endSignature {
			continue
		}
		if comment := int(binary.LittleEndian.Uint16(record[20:])); endBytes+comment == len(record) {
			e, err = parseEnd(tail, at, tailStart)
			return e, true, err
		}
	}
	return end{}, false, nil
}

// bytesBehind is how many bytes follow the last end record of the tail that ends a whole archive; 0 if there is none. The
// end record of an archive that is an entry of this one ends none, nor does what only looks like one.
func bytesBehind(tail []byte, tailStart int64) int {
	signature := binary.LittleEndian.AppendUint32(nil, endSignature)
	for at := bytes.LastIndex(tail, signature); at >= 0; at = bytes.LastIndex(tail[:at], signature) {
		if len(tail)-at < endBytes {
			continue
		}
		behind := len(tail) - at - endBytes - int(binary.LittleEndian.Uint16(tail[at+20:]))
		if _, err := parseEnd(tail, at, tailStart); err == nil && behind > 0 {
			return behind
		}
	}
	return 0
}

// parseEnd reads the end record at position at of the tail and the zip64 records before it, if there are any.
func parseEnd(tail []byte, at int, tailStart int64) (end, error) {
	record := tail[at:]
	disk, dirDisk := binary.LittleEndian.Uint16(record[4:]), binary.LittleEndian.Uint16(record[6:])
	here, total := uint64(binary.LittleEndian.Uint16(record[8:])), uint64(binary.LittleEndian.Uint16(record[10:]))
	size, offset := uint64(binary.LittleEndian.Uint32(record[12:])), uint64(binary.LittleEndian.Uint32(record[16:]))
	directoryEnd := tailStart + int64(at)
	if start := at - locatorBytes; start >= 0 && binary.LittleEndian.Uint32(tail[start:]) == locatorSign {
		wide, position, err := parseEnd64(tail, start, tailStart)
		if err != nil {
			return end{}, err
		}
		if !agrees(here, wide.here, math.MaxUint16) || !agrees(total, wide.total, math.MaxUint16) ||
			!agrees(size, wide.size, math.MaxUint32) || !agrees(offset, wide.offset, math.MaxUint32) {
			return end{}, invalid("the two end records contradict each other")
		}
		here, total, size, offset, directoryEnd = wide.here, wide.total, wide.size, wide.offset, position
		disk, dirDisk = zeroIfWide(disk), zeroIfWide(dirDisk)
	}
	if disk != 0 || dirDisk != 0 || here != total {
		return end{}, invalid("is one volume of several")
	}
	return placed(total, size, offset, directoryEnd)
}

// agrees tells whether a field of the end record is the zip64 record's, or defers to it by its highest value.
func agrees(narrow, wide, deferring uint64) bool { return narrow == wide || narrow == deferring }

func zeroIfWide(disk uint16) uint16 {
	if disk == math.MaxUint16 {
		return 0
	}
	return disk
}

// placed checks that the directory lies exactly before its end records, which begin at directoryEnd.
func placed(entries, size, offset uint64, directoryEnd int64) (end, error) {
	limit := uint64(directoryEnd)
	switch {
	case offset > limit || size > limit-offset:
		return end{}, invalid("bytes are missing: its directory (%d bytes at %d) would reach into its end record (at %d)", size, offset, limit)
	case size < limit-offset:
		return end{}, invalid("%d bytes too many stand before its end record: something was put before or into the archive", limit-offset-size)
	}
	if size > maxDirectoryBytes {
		return end{}, invalid("its directory of %d bytes is longer than the %d that are read", size, int64(maxDirectoryBytes))
	}
	if entries > size/entryBytes {
		return end{}, invalid("its directory of %d bytes is too short for %d entries", size, entries)
	}
	return end{entries: entries, size: int64(size), offset: int64(offset)}, nil
}

type wideEnd struct{ here, total, size, offset uint64 }

// parseEnd64 reads the zip64 end record that the locator at position start of the tail names. It lies exactly before
// the locator; position is where it begins in the archive.
func parseEnd64(tail []byte, start int, tailStart int64) (wide wideEnd, position int64, err error) {
	locator := tail[start:]
	named, disks := binary.LittleEndian.Uint64(locator[8:]), binary.LittleEndian.Uint32(locator[16:])
	if binary.LittleEndian.Uint32(locator[4:]) != 0 || disks > 1 {
		return wideEnd{}, 0, invalid("is one volume of several")
	}
	locatorAt := uint64(tailStart) + uint64(start)
	if named < uint64(tailStart) || named > locatorAt || locatorAt-named < end64Bytes {
		return wideEnd{}, 0, invalid("its zip64 end record is not at byte %d, where it should be", named)
	}
	record := tail[named-uint64(tailStart) : start]
	if binary.LittleEndian.Uint32(record) != end64Signature ||
		binary.LittleEndian.Uint64(record[4:]) != uint64(len(record)-end64Uncounted) {
		return wideEnd{}, 0, invalid("its zip64 end record is not at byte %d, where it should be", named)
	}
	if binary.LittleEndian.Uint32(record[16:]) != 0 || binary.LittleEndian.Uint32(record[20:]) != 0 {
		return wideEnd{}, 0, invalid("is one volume of several")
	}
	return wideEnd{
		here:   binary.LittleEndian.Uint64(record[24:]),
		total:  binary.LittleEndian.Uint64(record[32:]),
		size:   binary.LittleEndian.Uint64(record[40:]),
		offset: binary.LittleEndian.Uint64(record[48:]),
	}, int64(named), nil
}
