package exportd_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/exportd"
)

// snapshot runs source once and returns the archive's bytes.
func snapshot(t *testing.T, source exportd.Source) ([]byte, exportd.Report) {
	t.Helper()
	var out bytes.Buffer
	report, err := source.Snapshot(t.Context(), &out)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), report
}

func open(t *testing.T, archive []byte) *zip.Reader {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func content(t *testing.T, f *zip.File) string {
	t.Helper()
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r) // checks the entry's CRC at the end
	if err != nil {
		t.Fatalf("%s: %v", f.Name, err)
	}
	return string(data)
}

func entryNames(z *zip.Reader) []string {
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	return names
}

// onFirstWrite runs do when the first bytes arrive: the walk is then in the middle of its work.
type onFirstWrite struct {
	bytes.Buffer
	do   func()
	done bool
}

func (w *onFirstWrite) Write(p []byte) (int, error) {
	if !w.done {
		w.done = true
		w.do()
	}
	return w.Buffer.Write(p)
}

// snapshotWhile runs source with do happening during its first write.
func snapshotWhile(t *testing.T, source exportd.Source, do func()) (*zip.Reader, exportd.Report) {
	t.Helper()
	w := &onFirstWrite{do: do}
	report, err := source.Snapshot(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if !w.done {
		t.Fatal("nothing was written before the end, so nothing happened meanwhile")
	}
	return open(t, w.Bytes()), report
}

// item is what the archive must keep of a file.
type item struct {
	mode    fs.FileMode
	content string
	modUnix int64 // of regular files and directories
}

// TestFolderRoundTrip: unpacking gives the very tree, with contents, modes, times, empty folders and links, and equal trees
// give equal bytes.
func TestFolderRoundTrip(t *testing.T) {
	root := t.TempDir()
	stamp := time.Date(2021, 3, 4, 5, 6, 7, 0, time.UTC)
	want := map[string]item{
		"a.txt":             {0o640, "text " + strings.Repeat("again ", 1000), stamp.Unix()},
		"bin/run.sh":        {0o755 | fs.ModeSetuid, "#!/bin/sh\n", stamp.Unix() + 1},
		"bin/":              {0o750 | fs.ModeDir, "", stamp.Unix() + 2},
		"empty/":            {0o711 | fs.ModeDir | fs.ModeSticky, "", stamp.Unix() + 3},
		"empty.txt":         {0o600, "", stamp.Unix()},
		"img/":              {0o755 | fs.ModeDir, "", stamp.Unix()},
		"img/ä photo.JPG":   {0o644, strings.Repeat("\x00\xff", 70_000), stamp.Unix()},
		"img/latin1-\xe4":   {0o644, "old", stamp.Unix()},
		"link":              {fs.ModeSymlink | 0o777, "a.txt", 0},
		"link-dangling":     {fs.ModeSymlink | 0o777, "nowhere/to be found", 0},
		"link-dir":          {fs.ModeSymlink | 0o777, "bin", 0},
		"link-outside":      {fs.ModeSymlink | 0o777, "/etc", 0},
		"name\\with\"signs": {0o644, "x", stamp.Unix()},
	}
	plant(t, root, want)

	archive, report := snapshot(t, folder(t, root))
	z := open(t, archive)
	if report.Entries != len(want) || len(z.File) != len(want) {
		t.Fatalf("%d entries reported, %d found, want %d: %q", report.Entries, len(z.File), len(want), entryNames(z))
	}
	for _, f := range z.File {
		got := item{mode: f.Mode(), content: content(t, f)}
		if got.mode.Type() != fs.ModeSymlink {
			got.modUnix = f.Modified.Unix()
		}
		if got != want[f.Name] {
			t.Errorf("%q: mode %v, %d bytes, time %d; want mode %v, %d bytes, time %d", f.Name, got.mode, len(got.content), got.modUnix,
				want[f.Name].mode, len(want[f.Name].content), want[f.Name].modUnix)
		}
		if stored := f.Method == zip.Store; stored != (f.Name != "a.txt" && f.Name != "bin/run.sh" && !strings.Contains(f.Name, "latin1") && !strings.Contains(f.Name, "signs")) {
			t.Errorf("%q: stored %v", f.Name, stored)
		}
	}
	zone := time.Local
	t.Cleanup(func() { time.Local = zone })
	time.Local = time.FixedZone("elsewhere", 5*3600)
	if again, _ := snapshot(t, folder(t, root)); !bytes.Equal(archive, again) {
		t.Error("the same tree gave other bytes in another time zone")
	}
}

// plant makes the tree; directories get their mode and time last.
func plant(t *testing.T, root string, items map[string]item) {
	t.Helper()
	var names []string
	for name := range items {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
	for _, name := range names {
		i, path := items[name], filepath.Join(root, name)
		if i.mode.Type() == fs.ModeSymlink {
			if err := os.Symlink(i.content, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if i.mode.IsDir() {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, path, i.content)
		}
		if err := os.Chmod(path, i.mode); err != nil {
			t.Fatal(err)
		}
		stamp := time.Unix(i.modUnix, 0)
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFolderExclude: patterns with a slash mean whole paths, others any last element, a trailing slash directories only.
func TestFolderExclude(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"cache/x", "wp/cache/y", "wp/a.log", "b.log", "logs", "wp/logs/z", "keep.txt"} {
		write(t, filepath.Join(root, name), name)
	}
	all := []string{"b.log", "cache/", "cache/x", "keep.txt", "logs", "wp/", "wp/a.log", "wp/cache/", "wp/cache/y", "wp/logs/", "wp/logs/z"}
	for _, c := range []struct {
		patterns []string
		gone     []string
		count    int
	}{
		{nil, nil, 0},
		{[]string{"*.log"}, []string{"b.log", "wp/a.log"}, 2},
		{[]string{"cache"}, []string{"cache/", "cache/x", "wp/cache/", "wp/cache/y"}, 2},
		{[]string{"/cache"}, []string{"cache/", "cache/x"}, 1},
		{[]string{"wp/cache"}, []string{"wp/cache/", "wp/cache/y"}, 1},
		{[]string{"*/cache"}, []string{"wp/cache/", "wp/cache/y"}, 1},
		{[]string{"logs/"}, []string{"wp/logs/", "wp/logs/z"}, 1},
		{[]string{"wp", "[bk]*"}, []string{"b.log", "keep.txt", "wp/", "wp/a.log", "wp/cache/", "wp/cache/y", "wp/logs/", "wp/logs/z"}, 3},
	} {
		t.Run(strings.Join(c.patterns, ","), func(t *testing.T) {
			archive, report := snapshot(t, folder(t, root, c.patterns...))
			want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(c.gone, name) })
			if got := entryNames(open(t, archive)); !slices.Equal(got, want) || report.Excluded != c.count {
				t.Errorf("got %q, %d excluded; want %q, %d", got, report.Excluded, want, c.count)
			}
		})
	}
}

// TestEmptyFolder: a folder without anything in it is taken only if the operator has said that it may be so.
func TestEmptyFolder(t *testing.T) {
	root := t.TempDir()
	if _, err := folder(t, root).Snapshot(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("%v", err)
	}
	allowed, err := exportd.Folder(root, exportd.FolderOptions{AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	if archive, _ := snapshot(t, allowed); len(open(t, archive).File) != 0 {
		t.Error("there is something in nothing")
	}
	write(t, filepath.Join(root, "a.log"), "x")
	if _, err := folder(t, root, "*.log").Snapshot(t.Context(), io.Discard); err == nil {
		t.Error("a folder of which nothing is left was taken")
	}
}

// TestFolderRefuses: a wrong root or pattern is found when the agent starts.
func TestFolderRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	for name, c := range map[string]struct {
		root, pattern string
	}{"absent": {file + "-not", "x"}, "file": {file, "x"}, "pattern": {filepath.Dir(file), "[x"}, "empty pattern": {filepath.Dir(file), "/"}} {
		if _, err := exportd.Folder(c.root, exportd.FolderOptions{Exclude: []string{c.pattern}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// big is more than all buffers between a file and the archive, and its name keeps it from being compressed.
const (
	bigBytes = 1 << 20
	bigName  = "a-big.jpg"
)

// TestFolderVanishing: what the site removes during the walk is skipped and counted, and the archive is whole.
func TestFolderVanishing(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, bigName), strings.Repeat("b", bigBytes))
	write(t, filepath.Join(root, "dir/inside"), "x")
	write(t, filepath.Join(root, "gone"), "x")
	write(t, filepath.Join(root, "stays"), "x")
	z, report := snapshotWhile(t, folder(t, root), func() {
		for _, name := range []string{"dir", "gone"} {
			if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
	})
	if got := entryNames(z); !slices.Equal(got, []string{bigName, "stays"}) || report.Vanished != 2 {
		t.Errorf("entries %q, %d vanished, notes %q", got, report.Vanished, report.Notes)
	}
}

// TestFolderChangingFile: a file that changes while it is read gives a valid entry of the bytes read, and is counted.
func TestFolderChangingFile(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		size   func(int) bool
	}{
		{"shrinks", func(p string) error { return os.Truncate(p, 10) }, func(n int) bool { return n < bigBytes }},
		{"grows", func(p string) error { return os.Truncate(p, 4*bigBytes) }, func(n int) bool { return n == bigBytes }},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, bigName)
			write(t, path, strings.Repeat("b", bigBytes))
			z, report := snapshotWhile(t, folder(t, root), func() {
				if err := c.change(path); err != nil {
					t.Fatal(err)
				}
			})
			if n := len(content(t, z.File[0])); !c.size(n) || report.Changed != 1 {
				t.Errorf("%d bytes, %d changed", n, report.Changed)
			}
		})
	}
}

// TestFolderLinkRace: a folder or file that is exchanged for a link during the walk gives nothing from outside the root.
func TestFolderLinkRace(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "inside"), "secret")
	for _, c := range []struct{ name, victim, target string }{
		{"folder for a link out", "dir", outside},
		{"folder for a link within", "dir", "other"},
		{"file for a link", "file", filepath.Join(outside, "inside")},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(root, bigName), strings.Repeat("b", bigBytes))
			write(t, filepath.Join(root, "dir/inside"), "x")
			write(t, filepath.Join(root, "file"), "x")
			write(t, filepath.Join(root, "other/inside"), "y")
			z, _ := snapshotWhile(t, folder(t, root), func() {
				victim := filepath.Join(root, c.victim)
				if err := os.RemoveAll(victim); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(c.target, victim); err != nil {
					t.Fatal(err)
				}
			})
			for _, f := range z.File {
				if got := content(t, f); got == "secret" || c.victim == "dir" && f.Name == "dir/inside" {
					t.Errorf("%s was reached through the link: %q", f.Name, got)
				}
				if f.Name == c.victim && f.Mode().Type() != fs.ModeSymlink {
					t.Errorf("%s is stored as %v", f.Name, f.Mode())
				}
			}
		})
	}
}

// TestFolderManyEntries: more than 65,535 entries need zip64, which every reader of ours must get right.
func TestFolderManyEntries(t *testing.T) {
	root := t.TempDir()
	const entries = 66_000
	for i := range entries {
		if err := os.Symlink("x", filepath.Join(root, fmt.Sprintf("%05d", i))); err != nil {
			t.Fatal(err)
		}
	}
	archive, _ := snapshot(t, folder(t, root))
	if z := open(t, archive); len(z.File) != entries || content(t, z.File[entries-1]) != "x" {
		t.Errorf("%d entries", len(z.File))
	}
}
