package backuptest_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/sitevault/sitevault/internal/backuptest"
)

// A made-up archive is one that the standard library reads and finds intact, of exactly the size asked for.
func TestZipIsValid(t *testing.T) {
	for _, size := range []int64{131, 1000, 256 << 10, 1 << 20, 20<<20 + 12345} {
		archive := backuptest.ZipOf(7, size)
		if archive.Size() != size {
			t.Errorf("asked for %d bytes, got %d", size, archive.Size())
		}
		entry := openOnly(t, archive)
		content, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, content); err != nil || uint64(n) != entry.UncompressedSize64 {
			t.Errorf("%d bytes: read %d of %d: %v", size, n, entry.UncompressedSize64, err)
		}
	}
}

func openOnly(t *testing.T, archive *backuptest.Zip) *zip.File {
	t.Helper()
	reader, err := zip.NewReader(archive, archive.Size())
	if err != nil || len(reader.File) != 1 {
		t.Fatalf("%d bytes: %v", archive.Size(), err)
	}
	return reader.File[0]
}

// From 4 GiB on the archive is zip64, on both sides of each limit, and its checksum is the content's.
func TestZip64(t *testing.T) {
	for _, size := range []int64{math.MaxUint32 - 1, math.MaxUint32, math.MaxUint32 + 200, 10 << 30, 5 << 40} {
		archive := backuptest.ZipOf(7, size)
		entry := openOnly(t, archive)
		if archive.Size() != size || int64(entry.UncompressedSize64) < size-500 {
			t.Errorf("asked for %d bytes, got %d with %d of content", size, archive.Size(), entry.UncompressedSize64)
		}
		if _, err := entry.OpenRaw(); err != nil {
			t.Error(err)
		}
	}
	archive := backuptest.ZipOf(7, 1<<32+200)
	entry := openOnly(t, archive)
	sum := crc32.NewIEEE()
	offset, err := entry.DataOffset()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.WriteRange(sum, offset, int64(entry.UncompressedSize64)); err != nil || sum.Sum32() != entry.CRC32 {
		t.Errorf("checksum is %08x, the archive says %08x (%v)", sum.Sum32(), entry.CRC32, err)
	}
}

// ReadAt and WriteRange agree, whatever the borders; reading allocates nothing.
func TestZipReads(t *testing.T) {
	archive := backuptest.ZipOf(7, 1<<20)
	all := make([]byte, archive.Size())
	if _, err := archive.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{0, 1}, {40, 10}, {30, 600_000}, {1<<20 - 90, 90}, {262_000, 300_000}} {
		var written bytes.Buffer
		if _, err := archive.WriteRange(&written, r[0], r[1]); err != nil || !bytes.Equal(written.Bytes(), all[r[0]:r[0]+r[1]]) {
			t.Errorf("WriteRange%v differs from ReadAt: %v", r, err)
		}
	}
	if n, err := archive.ReadAt(make([]byte, 100), archive.Size()-10); n != 10 || err != io.EOF {
		t.Errorf("past the end: %d, %v", n, err)
	}
	if _, err := archive.WriteRange(io.Discard, archive.Size()-10, 11); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: %v", err)
	}
	buffer := make([]byte, 1<<20)
	if n := testing.AllocsPerRun(10, func() { _, _ = archive.ReadAt(buffer, 0) }); n != 0 {
		t.Errorf("a read allocates %v times", n)
	}
}

// No two parts of an archive are the same, or mixed-up parts would go unnoticed; nor are two seeds.
func TestZipPartsDiffer(t *testing.T) {
	const part = 1 << 20
	archive := backuptest.ZipOf(7, 64*part)
	seen := map[uint32]int64{}
	for offset := int64(0); offset < archive.Size(); offset += part {
		sum := crc32.NewIEEE()
		if _, err := archive.WriteRange(sum, offset, part); err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[sum.Sum32()]; ok {
			t.Errorf("the parts at %d and %d are the same", other, offset)
		}
		seen[sum.Sum32()] = offset
	}
	a, b := make([]byte, 1000), make([]byte, 1000)
	_, _ = backuptest.ZipOf(1, part).ReadAt(a, 500)
	_, _ = backuptest.ZipOf(2, part).ReadAt(b, 500)
	if bytes.Equal(a, b) {
		t.Error("two seeds make the same bytes")
	}
}

// The honest provider follows the contract to the letter, and counts.
func TestProviderIsHonest(t *testing.T) {
	text := strings.Repeat("0123456789", 10)
	p := backuptest.NewProvider(t, strings.NewReader(text))
	tests := []struct {
		method, rng, ifMatch string
		status               int
		contentRange, body   string
	}{
		{"HEAD", "", "", 200, "", ""},
		{"HEAD", "bytes=0-9", "", 200, "", ""},
		{"GET", "", "", 200, "", text},
		{"GET", "bytes=5-14", `"version-1"`, 206, "bytes 5-14/100", "5678901234"},
		{"GET", "bytes=95-200", "", 206, "bytes 95-99/100", "56789"},
		{"GET", "bytes=100-200", "", 416, "bytes */100", ""},
		{"GET", "bytes=5-14", `"version-0"`, 412, "", ""},
		{"POST", "", "", 405, "", ""},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.method, test.rng, test.ifMatch), func(t *testing.T) {
			status, header, body := ask(t, test.method, p.URL, test.rng, test.ifMatch)
			if status != test.status || header.Get("Content-Range") != test.contentRange || body != test.body {
				t.Errorf("got %d, %q, %q", status, header.Get("Content-Range"), body)
			}
			if header.Get("ETag") != `"version-1"` || header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("header is %v", header)
			}
		})
	}
	if p.Fetches(5) != 2 || p.SentBytes()[5] != 10 || p.Faults() != 0 || len(p.Requests()) != len(tests) {
		t.Errorf("%d fetches, %v sent, %d faults, %d requests", p.Fetches(5), p.SentBytes(), p.Faults(), len(p.Requests()))
	}
	p.Change(strings.NewReader("new"), `"version-2"`)
	if status, header, _ := ask(t, "HEAD", p.URL, "", ""); status != 200 || header.Get("Content-Length") != "3" || header.Get("ETag") != `"version-2"` {
		t.Errorf("after the change: %d, %v", status, header)
	}
}

// RangeAt hits the range it names, as often as told.
func TestRangeAt(t *testing.T) {
	p := backuptest.NewProvider(t, strings.NewReader("0123456789"))
	p.Misbehave(backuptest.RangeAt(5, 1, backuptest.AnswerStatus(500)))
	for i, want := range []int{206, 500, 206} {
		rng := []string{"bytes=0-4", "bytes=5-9", "bytes=5-9"}[i]
		if status, _, _ := ask(t, "GET", p.URL, rng, ""); status != want {
			t.Errorf("request %d got %d, want %d", i, status, want)
		}
	}
	if p.Faults() != 1 {
		t.Errorf("%d faults", p.Faults())
	}
}

func ask(t *testing.T, method, url, rng, ifMatch string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	if ifMatch != "" {
		req.Header.Set("If-Match", ifMatch)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}
