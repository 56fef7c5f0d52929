//go:build unix

package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/sqlite"
)

// The test program runs itself again as a child; these variables tell the child what to do.
const (
	childRole = "SQLITE_TEST_CHILD"
	childPath = "SQLITE_TEST_PATH"
	childJob  = "SQLITE_TEST_JOB"
)

func TestMain(m *testing.M) {
	roles := map[string]func(path string, job int) error{"write": writeForever, "hold": holdOpen, "disk full": fillDisk}
	role, isChild := roles[os.Getenv(childRole)]
	if !isChild {
		os.Exit(m.Run())
	}
	var job int
	_, _ = fmt.Sscan(os.Getenv(childJob), &job)
	if err := role(os.Getenv(childPath), job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, role, path string, job int) (*exec.Cmd, io.Reader) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childRole+"="+role, childPath+"="+path, fmt.Sprintf("%s=%d", childJob, job))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

const crashWriters = 8

// writeForever records parts of one file from many goroutines and says the number of each once it is acknowledged.
func writeForever(path string, n int) error {
	store, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	file := backup.File{JobID: newJob(n).JobID, Name: "files", Status: backup.FileOpen, Attempt: 1, UploadID: "upload"}
	job, err := store.CreateJob(ctx, newJob(n), backup.Idempotency{})
	job.Status = backup.Running
	if err := errors.Join(err, store.SwapJob(ctx, job), store.SwapFile(ctx, backup.Guard(job.JobID, 1), file)); err != nil {
		return err
	}
	var group sync.WaitGroup
	for i := range crashWriters {
		group.Go(func() {
			for number := 1 + i; err == nil; number += crashWriters {
				if err := store.RecordPart(ctx, partOf(file, number)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				if _, err := fmt.Fprintf(os.Stdout, "%d\n", number); err != nil {
					return // the test is gone
				}
			}
		})
	}
	group.Wait()
	return nil
}

// After kill -9 in the middle of writes the database opens, is whole, and holds every write that was acknowledged.
func TestKill(t *testing.T) {
	path := databasePath(t)
	for n := range 3 {
		cmd, out := child(t, "write", path, n)
		var acknowledged []int
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var number int
			if _, err := fmt.Sscan(lines.Text(), &number); err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			acknowledged = append(acknowledged, number)
			if len(acknowledged) == 500 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			t.Fatalf("child ended by itself: %v", cmd.ProcessState)
		}
		checkAfterKill(t, path, n, acknowledged)
	}
}

func checkAfterKill(t *testing.T, path string, n int, acknowledged []int) {
	t.Helper()
	store := open(t, path, sqlite.Options{})
	file, err := store.GetFile(t.Context(), newJob(n).JobID, "files")
	if err != nil {
		t.Fatal(err)
	}
	parts, err := store.Parts(t.Context(), file, 1, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	there := map[int]bool{}
	for _, p := range parts {
		there[p.Number] = true
	}
	for _, number := range acknowledged {
		if !there[number] {
			t.Errorf("part %d was acknowledged and is gone", number)
		}
	}
	if file.Recorded.Parts != len(parts) || file.Changes != int64(1+len(parts)) {
		t.Errorf("counters %+v and %d changes beside %d parts", file.Recorded, file.Changes, len(parts))
	}
	if answer := raw(t, path, "PRAGMA integrity_check"); answer != "ok" {
		t.Errorf("integrity check: %s", answer)
	}
	if answer := raw(t, path, "PRAGMA foreign_key_check"); answer != "" {
		t.Errorf("foreign key check: %s", answer)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// holdOpen keeps the store open until it is killed.
func holdOpen(path string, _ int) error {
	if _, err := sqlite.Open(path, sqlite.Options{}); err != nil {
		return err
	}
	fmt.Println("open")
	select {}
}

// Another process on the file is named by its id; once it is killed the file is free.
func TestAnotherProcess(t *testing.T) {
	path := databasePath(t)
	cmd, out := child(t, "hold", path, 0)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	_, err := sqlite.Open(path, sqlite.Options{})
	if want := fmt.Sprintf("in use by process %d", cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	open(t, path, sqlite.Options{})
}

// fillDisk writes until the limit on the size of files stops it, and goes on once the limit is lifted.
func fillDisk(path string, _ int) error {
	signal.Ignore(syscall.SIGXFSZ)
	store, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return err
	}
	var unlimited syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	limited := syscall.Rlimit{Cur: 1 << 20, Max: unlimited.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limited); err != nil {
		return err
	}
	for n := range 100_000 {
		if _, err := store.CreateJob(context.Background(), newJob(n), backup.Idempotency{}); err != nil {
			fmt.Printf("%s after %d jobs\n", backup.KindOf(err), n)
			break
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &unlimited); err != nil {
		return err
	}
	if _, err := store.CreateJob(context.Background(), newJob(100_000), backup.Idempotency{}); err != nil {
		return err
	}
	return store.Close()
}

// A full disk fails writes with StoreUnavailable, costs none that were acknowledged, and once there is room the same
// store goes on.
func TestDiskFull(t *testing.T) {
	path := databasePath(t)
	cmd, out := child(t, "disk full", path, 0)
	said, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var kind backup.Kind
	var written int
	if _, err := fmt.Sscanf(string(said), "%s after %d jobs", &kind, &written); err != nil || kind != backup.StoreUnavailable || written == 0 {
		t.Fatalf("child says %q", said)
	}
	store := open(t, path, sqlite.Options{})
	active, err := store.ActiveJobs(t.Context())
	if err != nil || len(active) != written+1 {
		t.Errorf("%d jobs are there (%v), want %d", len(active), err, written+1)
	}
	if answer := raw(t, path, "PRAGMA integrity_check"); answer != "ok" {
		t.Errorf("integrity check: %s", answer)
	}
}
