package versitygw_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/versitygw"
)

func start(t *testing.T, c versitygw.Config) *versitygw.Server {
	t.Helper()
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		t.Skip(err)
	}
	if c.Binary = binary; c.Dir == "" {
		c.Dir = t.TempDir()
	}
	s, err := versitygw.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func healthy(s *versitygw.Server) bool {
	response, err := http.Get(s.Endpoint() + "/_health")
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// A killed process is replaced on the same port; Close leaves none behind.
func TestKilledProcessIsReplaced(t *testing.T) {
	s := start(t, versitygw.Config{})
	first := s.PID()
	if !healthy(s) {
		t.Fatal("started, but does not answer")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another process answers", func() bool { return s.PID() != first && s.PID() != 0 && healthy(s) })
	second := s.PID()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if alive(first) || alive(second) || s.PID() != 0 || healthy(s) {
		t.Fatalf("after Close: first alive %v, second alive %v, PID() %d, healthy %v", alive(first), alive(second), s.PID(), healthy(s))
	}
	if err := s.Close(); err != nil {
		t.Fatalf("closing twice: %v", err)
	}
}

// Credentials are random, not on the command line, and kept when given.
func TestCredentials(t *testing.T) {
	a, b := start(t, versitygw.Config{}), start(t, versitygw.Config{})
	if a.Credentials() == b.Credentials() || len(a.Credentials().SecretKey) < 20 {
		t.Fatalf("credentials %v and %v", a.Credentials(), b.Credentials())
	}
	if line, err := os.ReadFile("/proc/" + itoa(a.PID()) + "/cmdline"); err == nil && strings.Contains(string(line), a.Credentials().SecretKey) {
		t.Fatalf("the secret is on the command line: %q", line)
	}
	given := versitygw.Credentials{AccessKey: "someone", SecretKey: "something"}
	if c := start(t, versitygw.Config{Credentials: given}); c.Credentials() != given {
		t.Fatalf("credentials %v", c.Credentials())
	}
}

// A process that cannot run is reported with its own words, and not tried for ever.
func TestStartReportsWhatTheProcessSaid(t *testing.T) {
	script := filepath.Join(t.TempDir(), "versitygw")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no such luck >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := versitygw.Start(t.Context(), versitygw.Config{Binary: script, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Fatalf("Start: %v", err)
	}
}

// The context of Start bounds the start, and nothing is left running when it ends.
func TestStartIsBounded(t *testing.T) {
	folder := t.TempDir()
	script, pidFile := filepath.Join(folder, "versitygw"), filepath.Join(folder, "pid")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho $$ > "+pidFile+"\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if text, _ := os.ReadFile(pidFile); strings.HasSuffix(string(text), "\n") {
				cancel()
			}
		}
	}()
	_, err := versitygw.Start(ctx, versitygw.Config{Binary: script, Dir: folder})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Start: %v", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if pid := atoi(t, strings.TrimSpace(string(text))); alive(pid) {
		t.Fatalf("process %d is still there", pid)
	}
}
