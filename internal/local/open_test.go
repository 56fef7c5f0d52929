package local_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/e2e"
	"github.com/sitevault/sitevault/internal/local"
)

// A service that cannot be opened says why, and leaves no process, no listener, no lock and no goroutine behind: with
// the cause mended it opens on the same folder.
func TestOpenFails(t *testing.T) {
	e2e.VersityGW(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*local.Config)
		says  string
	}{
		"port in use":           {func(c *local.Config) { c.Listen = taken.Addr().String() }, taken.Addr().String()},
		"no address":            {func(c *local.Config) { c.Listen = "127.0.0.1" }, "127.0.0.1"},
		"all IPv4 addresses":    {func(c *local.Config) { c.Listen = "0.0.0.0:0" }, "issuer"},
		"all addresses":         {func(c *local.Config) { c.Listen = ":0" }, "issuer"},
		"metrics for all":       {func(c *local.Config) { c.MetricsListen = ":0" }, "loopback"},
		"metrics' port in use":  {func(c *local.Config) { c.MetricsListen = taken.Addr().String() }, taken.Addr().String()},
		"unknown issuer":        {func(c *local.Config) { c.Issuer = "http://127.0.0.1:1" }, "http://127.0.0.1:1"},
		"allowed host":          {func(c *local.Config) { c.AllowHosts = []string{"http://127.0.0.1/"} }, `"http://127.0.0.1/"`},
		"no S3 server":          {func(c *local.Config) { c.VersityGW = filepath.Join(c.DataDir, "none") }, "none"},
		"a folder as S3 server": {func(c *local.Config) { c.VersityGW = c.DataDir }, "executable"},
		"a file as folder":      {func(c *local.Config) { c.DataDir = file }, file},
		"no bucket":             {func(c *local.Config) { c.S3.Bucket = "" }, "bucket"},
		"a bucket's bad name":   {func(c *local.Config) { c.S3.Bucket = "No Bucket" }, "No Bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			good := e2e.Config(t, nil)
			bad := good
			c.spoil(&bad)
			s, err := local.Open(t.Context(), bad)
			if err == nil || s != nil {
				t.Fatalf("opened %v, %v", s, err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %q, it should name %q", err, c.says)
			}
			nothingRuns(t)
			e2e.Start(t, good).Stop()
			nothingRuns(t)
		})
	}
}

// A storage whose bucket is not there is found at the start; one that does not answer may come up later.
func TestOpenLooksAtTheStorage(t *testing.T) {
	c := e2e.Config(t, e2e.NewStorage(t))
	c.S3.Bucket = "none"
	if s, err := local.Open(t.Context(), c); err == nil || s != nil || !strings.Contains(err.Error(), "bucket none") {
		t.Errorf("opened %v, %v", s, err)
	}
	c.S3.Endpoint = "http://127.0.0.1:1"
	e2e.Start(t, c).Stop()
}

// nothingRuns waits until no goroutine of the service is left and no S3 server of ours runs.
func nothingRuns(t *testing.T) {
	t.Helper()
	var left string
	e2e.Eventually(t, "nothing runs any more", func() bool {
		var b strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		left = b.String()
		for _, name := range []string{"local", "versitygw", "sqlite", "push", "schedule", "s3store", "asl"} {
			if strings.Contains(left, "/sitevault/internal/"+name+".") {
				return false
			}
		}
		return len(children(t)) == 0
	})
}

// children are the S3 servers that this process has started.
func children(t *testing.T) (pids []int) {
	t.Helper()
	statuses, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range statuses {
		status, err := os.ReadFile(path)
		if err != nil {
			continue // has ended meanwhile
		}
		parent := fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())
		if strings.Contains(string(status), parent) && strings.HasPrefix(string(status), "Name:\tversitygw\n") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// A second service on the same folder is refused before it touches anything: the first one's S3 server and the backup
// under way do not notice.
func TestSecondInstance(t *testing.T) {
	e2e.VersityGW(t)
	c := e2e.Config(t, nil)
	first := e2e.Start(t, c)
	export := e2e.NewExport(t, 1, 3)
	held := export.HoldBefore(e2e.Is(e2e.Range(e2e.Offset(3))))
	first.PutSerialSite("shop", e2e.Exports{"files": export})
	jobID := first.Create("shop")
	held.Reached(t)
	pidFile := filepath.Join(c.DataDir, "s3", "versitygw.pid")
	before, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	_, err = local.Open(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), c.DataDir) {
		t.Errorf("the second one: %v", err)
	}
	after, err := os.ReadFile(pidFile)
	if err != nil || string(after) != string(before) || len(children(t)) != 1 {
		t.Errorf("the S3 server was process %s, is %s (%v); running are %v", before, after, err, children(t))
	}
	held.Release()
	first.Await(jobID, backup.Done)
	first.Same(jobID, "files", export.Content)
}

// The folder and what is in it is its owner's alone.
func TestFolderIsPrivate(t *testing.T) {
	e2e.VersityGW(t)
	c := e2e.Config(t, nil)
	c.DataDir = filepath.Join(c.DataDir, "new", "folder")
	old := syscall.Umask(0)
	s := e2e.Start(t, c)
	syscall.Umask(old)
	export := e2e.NewExport(t, 1, 1)
	s.PutSite("shop", e2e.Exports{"files": export})
	s.Await(s.Create("shop"), backup.Done)
	err := filepath.WalkDir(c.DataDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if info.Mode().Perm()&0o077 != 0 && path != c.DataDir && info.Mode().IsRegular() && openToOthers(t, c.DataDir, path) {
			t.Errorf("%s is %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// openToOthers tells whether every folder from the top down lets others in.
func openToOthers(t *testing.T, top, path string) bool {
	t.Helper()
	for folder := filepath.Dir(path); len(folder) >= len(top); folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o011 == 0 {
			return false
		}
	}
	return true
}

// Without sign-in, no page of another site can speak in the user's name: neither by a name that it binds to this
// machine nor by a request across origins.
func TestForeignPages(t *testing.T) {
	e2e.VersityGW(t)
	s := e2e.Start(t, e2e.Config(t, nil))
	for name, change := range map[string]func(*http.Request){
		"rebound name":         func(r *http.Request) { r.Host = "evil.example" },
		"rebound name, port":   func(r *http.Request) { r.Host = "evil.example:8420" },
		"address of the house": func(r *http.Request) { r.Host = "192.168.1.7:8420" },
		"other origin":         func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"cross-site":           func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		for _, route := range []string{"POST /v1/ticket", "GET /v1/site", "GET /v1/openapi.json", "GET /metrics", "GET /ws?ticket=x", "GET /none"} {
			method, path, _ := strings.Cut(route, " ")
			r, err := http.NewRequest(method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			change(r)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s: %d", name, route, resp.StatusCode)
			}
		}
	}
}
