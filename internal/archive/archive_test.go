package archive_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sitevault/sitevault/internal/archive"
	"github.com/sitevault/sitevault/internal/backup"
)

// source serves an archive by ranges and counts them. Outside the archive it fails, as a storage does.
type source struct {
	content []byte
	reads   int
	bytes   int64
}

func (s *source) read(_ context.Context, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length <= 0 || offset+length > int64(len(s.content)) {
		return nil, fmt.Errorf("range of %d bytes at %d of %d", length, offset, len(s.content))
	}
	s.reads, s.bytes = s.reads+1, s.bytes+length
	return io.NopCloser(bytes.NewReader(s.content[offset : offset+length])), nil
}

func inspect(content []byte) (backup.Archive, error) {
	s := source{content: content}
	return archive.Inspect(context.Background(), int64(len(content)), s.read)
}

type file struct {
	name, content, extra, comment string
	method                        uint16
}

func zipOf(t interface{ Fatal(...any) }, comment string, files ...file) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		entry, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method, Extra: []byte(f.extra), Comment: f.comment})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(entry, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetComment(comment); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever the standard library writes is a whole archive, with the counts that the standard library reads.
func TestAgreesWithStandardLibrary(t *testing.T) {
	files := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) file {
		return file{
			name:    rapid.StringN(0, 40, 200).Draw(t, "name") + "x", // a name that ends in / is a folder
			content: rapid.StringN(0, 300, 1000).Draw(t, "content"),
			comment: rapid.StringN(0, 20, 80).Draw(t, "comment"),
			extra:   rapid.SampledFrom([]string{"", "\x01\x99\x02\x00ab", "\x00", "\x00\x00\x00"}).Draw(t, "extra"),
			method:  rapid.SampledFrom([]uint16{zip.Store, zip.Deflate}).Draw(t, "method"),
		}
	}), 0, 12)
	comment := rapid.OneOf(rapid.Just(""), rapid.StringN(0, 300, 1000), rapid.Just("PK\x05\x06"))
	rapid.Check(t, func(t *rapid.T) {
		content := zipOf(t, comment.Draw(t, "comment"), files.Draw(t, "files")...)
		got, err := inspect(content)
		if err != nil {
			t.Fatal(err)
		}
		if want := standard(t, content); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

func standard(t interface{ Fatal(...any) }, content []byte) backup.Archive {
	r, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		t.Fatal(err)
	}
	want := backup.Archive{Entries: int64(len(r.File))}
	for _, f := range r.File {
		want.UncompressedBytes += int64(f.UncompressedSize64)
	}
	return want
}

// An archive cut short anywhere, or with anything behind it, is no whole archive.
func TestEveryTruncationFails(t *testing.T) {
	content := zipOf(t, "a comment", file{name: "a", content: "first"}, file{name: "b/c", content: strings.Repeat("second ", 50), method: zip.Deflate})
	if _, err := inspect(content); err != nil {
		t.Fatal(err)
	}
	for n := range content {
		if _, err := inspect(content[:n]); !backup.Is(err, backup.ArchiveInvalid) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(content), err)
		}
		if _, err := inspect(content[n+1:]); !backup.Is(err, backup.ArchiveInvalid) {
			t.Errorf("without the first %d bytes: %v", n+1, err)
		}
	}
	if _, err := inspect(append(bytes.Clone(content), 0)); !backup.Is(err, backup.ArchiveInvalid) {
		t.Errorf("with a byte behind it: %v", err)
	}
}

// An archive with a short directory takes one read; a long directory is read once, in one stream.
func TestReads(t *testing.T) {
	many := make([]file, 4000)
	for i := range many {
		many[i] = file{name: fmt.Sprintf("%0100d", i)}
	}
	for _, tc := range []struct {
		name    string
		content []byte
		reads   int
	}{
		{"empty", zipOf(t, ""), 1},
		{"small", zipOf(t, "", file{name: "a", content: "b"}), 1},
		{"large content", zipOf(t, "", file{name: "a", content: strings.Repeat("x", 1<<20)}), 1},
		{"longest comment", zipOf(t, strings.Repeat("c", math.MaxUint16), file{name: "a", content: strings.Repeat("x", 1<<20)}), 1},
		{"large directory", zipOf(t, "", many...), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := source{content: tc.content}
			got, err := archive.Inspect(t.Context(), int64(len(tc.content)), s.read)
			if err != nil || got != standard(t, tc.content) {
				t.Fatalf("%+v, %v", got, err)
			}
			if s.reads != tc.reads || s.bytes > int64(len(tc.content)) {
				t.Errorf("%d reads of %d bytes, want %d reads of at most %d", s.reads, s.bytes, tc.reads, len(tc.content))
			}
		})
	}
}

// What is no archive at all is described by how it begins.
func TestSaysWhatItIs(t *testing.T) {
	whole := zipOf(t, "", file{name: "a", content: "b"})
	nested := zipOf(t, "", file{name: "a.zip", content: string(whole)}, file{name: "b", content: strings.Repeat("x", 1000)})
	for _, tc := range []struct{ content, want string }{
		{"<!DOCTYPE html><html><body>Please log in" + strings.Repeat(".", 300_000), `ends with no zip end record; it begins with "<!DOCTYPE html`},
		{`{"error":"no such site"}`, `begins with "{\"error\":`},
		{"", `begins with ""`},
		{"\xff\xfe\x00", `begins with "`},
		{string(whole[:len(whole)-30]), "cut short"},
		{string(nested[:len(nested)-200]), "cut short"},
		{string(whole) + "\n", "1 bytes stand behind its end"},
		{string(whole) + strings.Repeat("<br>", 50_000), "200000 bytes stand behind its end"},
		{string(whole) + "PK\x05\x06", "4 bytes stand behind its end"},
		{string(whole) + "PK\x05\x06" + strings.Repeat("x", 100), "104 bytes stand behind its end"},
		{string(zipOf(t, "")) + "\n", "1 bytes stand behind its end"},
		{string(zipOf(t, "a comment", file{name: "a"})) + "\r\n", "2 bytes stand behind its end"},
		{string(nested) + strings.Repeat("\x00", 512), "512 bytes stand behind its end"},
		{string(whole) + strings.Repeat("x", 5<<20), "or something else follows it"},
		{"Notice: x\n" + string(whole), "10 bytes too many stand before its end record"},
		{string(whole[10:]), "bytes are missing"},
	} {
		_, err := inspect([]byte(tc.content))
		if !backup.Is(err, backup.ArchiveInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40q: %v, want %s", tc.content, err, tc.want)
		}
	}
}

// Damage to single fields of the directory and the end record is found. Positions count from the field's record.
func TestDamagedFields(t *testing.T) {
	const localAndEntry, inEntry, inEnd = 0, 1, 2
	for _, tc := range []struct {
		name   string
		record int
		at     int
		value  uint16
		want   string
	}{
		{"first entry's signature", localAndEntry, 0, 1, "first entry is not where it should be"},
		{"entry's signature", inEntry, 0, 1, "no signature"},
		{"compressed size", inEntry, 22, 1, "reaches beyond"},
		{"name length", inEntry, 28, 9999, "longer than the rest"},
		{"name length, slightly", inEntry, 28, 2, "longer than the rest"},
		{"name length, shorter", inEntry, 28, 0, "ends in the middle of entry 2"},
		{"entry's disk", inEntry, 34, 1, "another volume"},
		{"entry's disk, deferring", inEntry, 34, math.MaxUint16, "another volume"},
		{"local offset", inEntry, 42, 1000, "reaches beyond"},
		{"disk", inEnd, 4, 1, "one volume of several"},
		{"directory's disk", inEnd, 6, 1, "one volume of several"},
		{"entries on this disk", inEnd, 8, 2, "one volume of several"},
		{"directory size", inEnd, 12, 46, "bytes too many"},
		{"directory offset", inEnd, 16, 30, "bytes too many"},
		{"comment length", inEnd, 20, 1, "cut short"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			content := zipOf(t, "", file{name: "a", content: "b"})
			entry := bytes.Index(content, []byte("PK\x01\x02"))
			start := []int{0, entry, len(content) - 22}[tc.record]
			binary.LittleEndian.PutUint16(content[start+tc.at:], tc.value)
			_, err := inspect(content)
			if !backup.Is(err, backup.ArchiveInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %s", err, tc.want)
			}
		})
	}
}

// The number of entries must be the announced one.
func TestEntryCount(t *testing.T) {
	for announced, want := range map[uint16]string{0: "has 2 entries, its end record says 0", 1: "says 1", 3: "too short for 3"} {
		content := zipOf(t, "", file{name: "a"}, file{name: "b"})
		end := content[len(content)-22:]
		binary.LittleEndian.PutUint16(end[8:], announced)
		binary.LittleEndian.PutUint16(end[10:], announced)
		if _, err := inspect(content); !backup.Is(err, backup.ArchiveInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d announced: %v", announced, err)
		}
	}
}

// The kind of a failing storage survives, wherever it fails; so does that of a body that ends early.
func TestStorageFailuresKeepTheirKind(t *testing.T) {
	many := make([]file, 4000)
	for i := range many {
		many[i] = file{name: fmt.Sprintf("%0100d", i)}
	}
	content := zipOf(t, "", many...)
	for failing := 1; failing <= 2; failing++ {
		for _, early := range []bool{false, true} {
			s := source{content: content}
			fired := false
			_, err := archive.Inspect(t.Context(), int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
				body, err := s.read(ctx, offset, length)
				if s.reads != failing || err != nil {
					return body, err
				}
				fired = true
				if !early {
					return nil, backup.E(backup.StorageUnavailable, "away")
				}
				return io.NopCloser(io.MultiReader(io.LimitReader(body, length/2), brokenReader{})), nil
			})
			if !fired || !backup.Is(err, backup.StorageUnavailable) {
				t.Errorf("read %d, early %v: fired %v, %v", failing, early, fired, err)
			}
		}
	}
	s := source{content: content}
	_, err := archive.Inspect(t.Context(), int64(len(content)), func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
		body, err := s.read(ctx, offset, length)
		return io.NopCloser(io.LimitReader(body, length-1)), err
	})
	if !errors.Is(err, io.ErrUnexpectedEOF) || backup.Is(err, backup.ArchiveInvalid) {
		t.Errorf("a body that ends early: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) {
	return 0, backup.E(backup.StorageUnavailable, "the connection broke")
}

// What Inspect accepts, the standard library reads the same.
func FuzzInspect(f *testing.F) {
	f.Add(zipOf(f, "", file{name: "a", content: "b"}))
	f.Add(zipOf(f, "PK\x05\x06 comment"))
	f.Add(wide{entries: 1}.build())
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := inspect(content)
		if err != nil {
			if !backup.Is(err, backup.ArchiveInvalid) {
				t.Fatal(err)
			}
			return
		}
		if want := standard(t, content); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}
