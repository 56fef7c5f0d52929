package archive_test

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
)

// wide is an archive of empty files whose directory and end records are zip64 throughout.
type wide struct {
	entries      int
	uncompressed uint64 // of each entry, as announced
	sector       int    // bytes of extensible data in the zip64 end record
	change       func(r *records)
}

type records struct {
	extra               []byte // of each entry
	end64, locator, end []byte
}

var le = binary.LittleEndian

func (w wide) build() []byte {
	locals := []byte("PK\x03\x04" + strings.Repeat("\x00", 26))
	offset := uint64(len(locals))
	r := records{extra: []byte{1, 0, 28, 0}}
	r.extra = le.AppendUint64(r.extra, w.uncompressed)
	r.extra = le.AppendUint64(r.extra, 0) // compressed
	r.extra = le.AppendUint64(r.extra, 0) // offset
	r.extra = le.AppendUint32(r.extra, 0) // disk
	size := uint64(w.entries * (46 + len(r.extra)))

	r.end64 = append(le.AppendUint64([]byte("PK\x06\x06"), uint64(44+w.sector)), make([]byte, 12)...)
	for _, v := range []uint64{uint64(w.entries), uint64(w.entries), size, offset} {
		r.end64 = le.AppendUint64(r.end64, v)
	}
	r.end64 = append(r.end64, make([]byte, w.sector)...)
	r.locator = le.AppendUint64([]byte("PK\x06\x07\x00\x00\x00\x00"), offset+size)
	r.locator = le.AppendUint32(r.locator, 1)
	r.end = append([]byte("PK\x05\x06"), strings.Repeat("\xff", 16)...)
	r.end = append(r.end, 0, 0)
	if w.change != nil {
		w.change(&r)
	}
	content := locals
	for range w.entries {
		content = append(content, entry(r.extra)...)
	}
	content = append(content, r.end64...)
	content = append(content, r.locator...)
	return append(content, r.end...)
}

func entry(extra []byte) []byte {
	e := append([]byte("PK\x01\x02"), make([]byte, 42)...)
	le.PutUint64(e[20:], math.MaxUint64) // both sizes
	le.PutUint16(e[30:], uint16(len(extra)))
	le.PutUint16(e[34:], math.MaxUint16)
	le.PutUint32(e[42:], math.MaxUint32)
	return append(e, extra...)
}

func TestZip64(t *testing.T) {
	for _, tc := range []struct {
		name string
		wide wide
		want backup.Archive
	}{
		{"one entry", wide{entries: 1, uncompressed: 5 << 32}, backup.Archive{Entries: 1, UncompressedBytes: 5 << 32}},
		{"more entries than 16 bits count", wide{entries: 70_000, uncompressed: 3}, backup.Archive{Entries: 70_000, UncompressedBytes: 210_000}},
		{"extensible data", wide{entries: 2, sector: 100}, backup.Archive{Entries: 2}},
		{"end record that knows the values too", wide{entries: 1, change: func(r *records) {
			le.PutUint16(r.end[8:], 1)
			le.PutUint16(r.end[10:], 1)
			le.PutUint32(r.end[16:], 30)
		}}, backup.Archive{Entries: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := inspect(tc.wide.build()); err != nil || got != tc.want {
				t.Fatalf("%+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestDamagedZip64(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(r *records)
		want   string
	}{
		"locator too low":         {func(r *records) { r.locator[8]-- }, "not at byte"},
		"locator too high":        {func(r *records) { r.locator[8]++ }, "not at byte"},
		"locator beyond the file": {func(r *records) { r.locator[15] = 0xff }, "not at byte"},
		"locator's disk":          {func(r *records) { r.locator[4] = 1 }, "one volume"},
		"disks":                   {func(r *records) { r.locator[16] = 2 }, "one volume"},
		"record's signature":      {func(r *records) { r.end64[0] = 'Q' }, "not at byte"},
		"record's size":           {func(r *records) { r.end64[4]++ }, "not at byte"},
		"record's disk":           {func(r *records) { r.end64[16] = 1 }, "one volume"},
		"entries on this disk":    {func(r *records) { r.end64[24]++ }, "one volume"},
		"directory size":          {func(r *records) { r.end64[40]++ }, "bytes are missing"},
		"huge directory size":     {func(r *records) { r.end64[47] = 0xff }, "bytes are missing"},
		"directory offset":        {func(r *records) { r.end64[48]++ }, "bytes are missing"},
		"no locator":              {func(r *records) { r.locator[0] = 'Q' }, "one volume"},
		"contradiction":           {func(r *records) { le.PutUint16(r.end[10:], 7) }, "contradict"},
		"no zip64 field":          {func(r *records) { r.extra[0] = 9 }, "announces zip64 sizes"},
		"short zip64 field":       {func(r *records) { r.extra[2] = 12 }, "announces zip64 sizes"},
		"field without disk":      {func(r *records) { r.extra[2] = 24 }, "announces zip64 sizes"},
		"field beyond its block":  {func(r *records) { r.extra[2] = 29 }, "announces zip64 sizes"},
		"compressed size":         {func(r *records) { r.extra[12] = 1 }, "reaches beyond"},
		"huge compressed size":    {func(r *records) { r.extra[19] = 0xff }, "reaches beyond"},
		"offset":                  {func(r *records) { r.extra[20] = 1 }, "reaches beyond"},
		"huge offset":             {func(r *records) { r.extra[27] = 0xff }, "reaches beyond"},
		"disk":                    {func(r *records) { r.extra[28] = 1 }, "another volume"},
		"sum beyond counting":     {func(r *records) { r.extra[11] = 0x7f }, "can be counted"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspect(wide{entries: 3, uncompressed: math.MaxUint32, change: tc.change}.build())
			if !backup.Is(err, backup.ArchiveInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %s", err, tc.want)
			}
		})
	}
}
