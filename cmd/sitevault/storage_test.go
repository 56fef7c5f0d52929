package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/s3quirks"
	"github.com/sitevault/sitevault/internal/s3store"
	"github.com/sitevault/sitevault/internal/storagecheck"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// bucketBehind is a bucket on a real server behind a proxy with quirks: the proxy, and the environment that names it.
func bucketBehind(t *testing.T, quirks ...s3quirks.Quirk) (*s3quirks.Proxy, []string) {
	t.Helper()
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		t.Skip(err)
	}
	server, err := versitygw.Start(context.Background(), versitygw.Config{Binary: binary, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	key := server.Credentials()
	store, err := s3store.Open(t.Context(), s3store.Config{Bucket: "vault", Endpoint: server.Endpoint(), PathStyle: true, AccessKey: key.AccessKey, SecretKey: key.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.EnsureBucket(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	proxy := s3quirks.Start(t, server.Endpoint(), quirks...)
	return proxy, []string{
		"SITEVAULT_S3_ENDPOINT=" + proxy.URL, "SITEVAULT_S3_BUCKET=vault", "SITEVAULT_S3_PATH_STYLE=true",
		"AWS_ACCESS_KEY_ID=" + key.AccessKey, "AWS_SECRET_ACCESS_KEY=" + key.SecretKey,
	}
}

// process is the program as a process of its own.
func process(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	return cmd
}

// runProcess runs it to its end.
func runProcess(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := process(t, env, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code tells
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

var noChecksum = s3quirks.WithoutHeader("X-Amz-Checksum-Crc64nvme")

// A check tells each step, and by its exit code what became of it.
func TestStorageCheck(t *testing.T) {
	down := s3quirks.Refuse("down", http.StatusServiceUnavailable, "SlowDown", s3quirks.Is("", ""))
	for name, tc := range map[string]struct {
		quirks []s3quirks.Quirk
		code   int
		says   string
	}{
		"accepted": {nil, exitOK, ""},
		"refused":  {[]s3quirks.Quirk{noChecksum}, exitFailure, "nothing there can be proven: use a storage that does"},
		"silent":   {[]s3quirks.Quirk{down}, exitUnreachable, "the trial of the storage stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, env := bucketBehind(t, tc.quirks...)
			got := runProcess(t, env, "storage", "check", "-o", "json")
			var report storagecheck.Report
			if err := json.Unmarshal([]byte(got.out), &report); err != nil {
				t.Fatal(err, got)
			}
			if got.code != tc.code || report.OK != (tc.code == exitOK) || len(report.Steps) == 0 || !strings.Contains(got.err, tc.says) {
				t.Errorf("exit code %d, %+v, %s", got.code, report, got.err)
			}
			table := runProcess(t, env, "storage", "check", "-o", "table")
			if table.code != tc.code || !strings.Contains(table.out, "ms  clock") {
				t.Errorf("exit code %d: %s", table.code, table.out)
			}
			for _, q := range tc.quirks {
				if proxy.Fired(q) == 0 {
					t.Errorf("%s has never shown", q.Name)
				}
			}
		})
	}
	if got := runProcess(t, nil, "storage", "check"); got.code != exitUsage {
		t.Errorf("without a storage: %d %s", got.code, got.err)
	}
}

// The service does not start on a storage that cannot prove what it holds, and says so in one sentence.
func TestServeRefusesAStorage(t *testing.T) {
	proxy, env := bucketBehind(t, noChecksum)
	got := runProcess(t, env, "serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	last := got.err[strings.LastIndex(strings.TrimSpace(got.err), "\n")+1:]
	if got.code != exitFailure || !strings.Contains(last, "nothing there can be proven: use a storage that does") || proxy.Fired(noChecksum) == 0 {
		t.Errorf("exit code %d, %q", got.code, got.err)
	}
}

// It starts on one that can, and does not try it again at the next start.
func TestServeRemembersAStorage(t *testing.T) {
	proxy, env := bucketBehind(t)
	data, seen := t.TempDir(), 0
	for start, most := range []int{45, 3} {
		cmd := process(t, env, "serve", "--data", data, "--listen", "127.0.0.1:0")
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "listens on") {
			t.Fatalf("start %d: %q, %v", start, line, err)
		}
		if n := proxy.Seen() - seen; n > most || n == 0 {
			t.Errorf("start %d: %d requests, want at most %d", start, n, most)
		}
		seen = proxy.Seen()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("start %d ends with %v", start, err)
		}
	}
}
