package client_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/checksum"
	"github.com/sitevault/sitevault/internal/client"
)

const fileName = "shop-files-2026-11-24T0312Z.zip"

const nothing = -1 // for breakAt: connections end before their first byte

// storage serves one file over links, each with a number, and breaks as told.
type storage struct {
	mu       sync.Mutex
	content  []byte
	name     string
	link     api.Download // the parts that a test changes
	links    int
	ranges   []string
	breakAt  int  // each connection ends after this many bytes; 0: none does
	expireAt int  // links up to this number answer 403
	noRanges bool // ranges are ignored
	tooLong  bool // sends a byte too many
}

func newStorage() *storage {
	content := make([]byte, 5<<20)
	rand.Read(content)
	return &storage{content: content, name: fileName}
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/files/files") {
		s.mu.Lock()
		s.links++
		link := api.Download{
			URL: fmt.Sprintf("http://%s/object/%d", r.Host, s.links), FileName: s.name,
			SizeBytes: int64(len(s.content)), CRC64NVME: checksum.Encode(crc64nvme.Checksum(s.content)),
		}
		if s.link.CRC64NVME != "" {
			link.CRC64NVME = s.link.CRC64NVME
		}
		s.mu.Unlock()
		answer(w, 200, link)
		return
	}
	s.object(w, r)
}

func (s *storage) object(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		panic("the token went to the storage")
	}
	var number int
	fmt.Sscanf(r.URL.Path, "/object/%d", &number)
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	if number <= s.expireAt {
		http.Error(w, "Request has expired", http.StatusForbidden)
		return
	}
	content := s.content
	if s.tooLong {
		content = append(slices.Clone(content), 'x')
	}
	if s.noRanges {
		r.Header.Del("Range")
	}
	if s.breakAt != 0 {
		w = &breaking{ResponseWriter: w, left: max(s.breakAt, 0)}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// breaking ends the connection after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.ResponseWriter.Write(p[:b.left])
		http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

func expect(t *testing.T, dir string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file is not the backup's: %d bytes, error %v", len(got), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func partial(dir string) string { return filepath.Join(dir, fileName+"."+job+".part") }

// A download is whole and reported, whatever the connections do.
func TestDownload(t *testing.T) {
	tests := map[string]struct {
		change      func(*storage)
		wantRanges  []string
		wantNewLink bool
	}{
		"at once":             {func(*storage) {}, []string{""}, false},
		"broken connections":  {func(s *storage) { s.breakAt = 2 << 20 }, []string{"", "bytes=2097152-", "bytes=4194304-"}, false},
		"a link that expired": {func(s *storage) { s.expireAt = 1 }, []string{"", ""}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, dir := newStorage(), t.TempDir()
			test.change(s)
			c, _ := connect(t, s)
			var seen int64
			got, err := c.Download(t.Context(), job, "files", dir, func(done, total int64) {
				if done < seen || total != int64(len(s.content)) {
					t.Errorf("progress %d of %d after %d", done, total, seen)
				}
				seen = done
			})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, dir, s.content)
			if seen != got.SizeBytes || got.ResumedBytes != 0 || !slices.Equal(s.ranges, test.wantRanges) || (s.links == 2) != test.wantNewLink {
				t.Errorf("got %+v, progress %d, ranges %q, %d links", got, seen, s.ranges, s.links)
			}
		})
	}
}

// What an interrupted download left is not fetched again.
func TestDownloadResumes(t *testing.T) {
	s, dir := newStorage(), t.TempDir()
	if err := os.WriteFile(partial(dir), s.content[:3<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := connect(t, s)
	got, err := c.Download(t.Context(), job, "files", dir, nil)
	if err != nil || got.ResumedBytes != 3<<20 || !slices.Equal(s.ranges, []string{"bytes=3145728-"}) {
		t.Fatalf("got %+v, %v, ranges %q", got, err, s.ranges)
	}
	expect(t, dir, s.content)
}

// A partial file with other bytes, or too many, costs a second fetch but never a wrong result.
func TestDownloadMistrustsPartialFiles(t *testing.T) {
	for name, old := range map[string][]byte{"other bytes": make([]byte, 1<<20), "too many": make([]byte, 6<<20)} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStorage(), t.TempDir()
			if err := os.WriteFile(partial(dir), old, 0o600); err != nil {
				t.Fatal(err)
			}
			c, _ := connect(t, s)
			if _, err := c.Download(t.Context(), job, "files", dir, nil); err != nil {
				t.Fatal(err)
			}
			expect(t, dir, s.content)
		})
	}
}

// Bytes whose checksum is not the backup's get no name, and are not built upon later.
func TestDownloadProvesTheChecksum(t *testing.T) {
	s, dir := newStorage(), t.TempDir()
	s.link.CRC64NVME = checksum.Encode(1)
	c, _ := connect(t, s)
	_, err := c.Download(t.Context(), job, "files", dir, nil)
	if wrong, ok := errors.AsType[*client.MismatchError](err); !ok || wrong.Want != checksum.Encode(1) {
		t.Fatalf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A storage that never gets further, ignores ranges or sends too much ends in an error, not in a loop or a wrong file.
func TestDownloadRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*storage)
		old    int // bytes of a partial file
		seen   int // requests to the storage
	}{
		"no progress":    {func(s *storage) { s.breakAt = nothing }, 1 << 20, 5},
		"links expired":  {func(s *storage) { s.expireAt = 99 }, 0, 5},
		"ranges ignored": {func(s *storage) { s.noRanges = true }, 1 << 20, 1},
		"too long":       {func(s *storage) { s.tooLong = true }, 0, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, dir := newStorage(), t.TempDir()
			test.change(s)
			if test.old > 0 {
				if err := os.WriteFile(partial(dir), s.content[:test.old], 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, _ := connect(t, s)
			if _, err := c.Download(t.Context(), job, "files", dir, nil); err == nil {
				t.Fatal("no error")
			}
			if _, err := os.Stat(filepath.Join(dir, fileName)); err == nil {
				t.Error("an unproven file has its name")
			}
			if len(s.ranges) != test.seen {
				t.Errorf("%d requests", len(s.ranges))
			}
		})
	}
}

// A file that is there already is accepted if it is the backup's and left alone if it is not.
func TestDownloadMeetsAFile(t *testing.T) {
	s, dir := newStorage(), t.TempDir()
	c, _ := connect(t, s)
	for range 2 {
		if _, err := c.Download(t.Context(), job, "files", dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.ranges) != 1 {
		t.Errorf("fetched %d times", len(s.ranges))
	}
	other := slices.Clone(s.content)
	other[7] ^= 1
	if err := os.WriteFile(filepath.Join(dir, fileName), other, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := c.Download(t.Context(), job, "files", dir, nil)
	if _, ok := errors.AsType[*client.ExistsError](err); !ok {
		t.Errorf("got %v", err)
	}
	if now, _ := os.ReadFile(filepath.Join(dir, fileName)); !bytes.Equal(now, other) {
		t.Error("somebody's file was changed")
	}
}

// A service cannot choose where a file goes.
func TestDownloadStaysInItsFolder(t *testing.T) {
	for _, name := range []string{"../evil.zip", "/tmp/evil.zip", "a/b.zip", "..", ".", ""} {
		s, dir := newStorage(), t.TempDir()
		s.name = name
		c, _ := connect(t, s)
		if _, err := c.Download(t.Context(), job, "files", filepath.Join(dir, "in"), nil); err == nil {
			t.Errorf("%q was accepted", name)
		}
		if len(s.ranges) > 0 {
			t.Errorf("%q was fetched", name)
		}
	}
}
