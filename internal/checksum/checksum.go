// Package checksum does the arithmetic on CRC64NVME values that S3's full-object checksums need: the checksum of a
// whole object from those of its parts, and the text form in which S3 sends them. It computes no checksum of bytes.
//
// The algorithm is CRC-64/NVME of the catalogue of parametrised CRCs: polynomial 0xad93d23594c93659, reflected,
// initial value and final XOR all ones.
package checksum

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	// polynomial is the generator without its x^64 term, reflected: bit 63 is the coefficient of x^0.
	polynomial = 0x9a6c9329ac4bc9b5
	one        = 1 << 63 // x^0
	xToThe8    = 1 << 55 // what one more zero byte multiplies by

	textBytes = 12 // of eight bytes in base64, padding included
)

// Combine is the checksum of A followed by B, from the checksums of both and the length of B. Neither the initial
// value nor the final XOR enters: what they add to the shifted A and to B cancels out.
func Combine(crcA, crcB uint64, lengthB int64) uint64 {
	return multiply(crcA, shift(lengthB)) ^ crcB
}

// Whole is the checksum of the parts put one after the other; 0, that of no bytes, when there are none.
func Whole(parts []backup.Part) uint64 {
	var whole, factor uint64
	length := int64(-1)
	for _, p := range parts {
		if p.SizeBytes != length { // all parts of a file but its last have one size
			length, factor = p.SizeBytes, shift(p.SizeBytes)
		}
		whole = multiply(whole, factor) ^ p.CRC64NVME
	}
	return whole
}

// shift is x^(8*lengthBytes) modulo the generator, by repeated squaring.
func shift(lengthBytes int64) uint64 {
	power, square := uint64(one), uint64(xToThe8)
	for n := uint64(max(lengthBytes, 0)); n > 0; n >>= 1 {
		if n&1 == 1 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return power
}

// multiply is a*b modulo the generator, over GF(2).
func multiply(a, b uint64) uint64 {
	var product uint64
	for ; a != 0; a <<= 1 {
		if a&one != 0 {
			product ^= b
		}
		b = b>>1 ^ polynomial&-(b&1) // b*x
	}
	return product
}

// Encode writes crc as S3 does in headers and XML: base64 of eight bytes, the most significant first.
func Encode(crc uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))
}

// Decode reads what Encode writes and refuses everything else, a composite checksum ("...-3") included.
func Decode(text string) (uint64, error) {
	if len(text) != textBytes {
		return 0, fmt.Errorf("CRC64NVME %.40q has %d characters, not %d", text, len(text), textBytes)
	}
	var raw [9]byte // base64 decodes in whole groups of three
	n, err := base64.StdEncoding.Strict().Decode(raw[:], []byte(text))
	if err != nil {
		return 0, fmt.Errorf("CRC64NVME %q: %w", text, err)
	}
	if n != 8 {
		return 0, fmt.Errorf("CRC64NVME %q holds %d bytes, not 8", text, n)
	}
	return binary.BigEndian.Uint64(raw[:8]), nil
}
