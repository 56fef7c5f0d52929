package versitygw_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/versitygw"
)

const asProgram = "SITEVAULT_TEST_VERSITYGW_DIR"

// TestMain also serves as a program that starts a server and then hangs, for TestNoOrphan.
func TestMain(m *testing.M) {
	dir := os.Getenv(asProgram)
	if dir == "" {
		os.Exit(m.Run())
	}
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err == nil {
		var s *versitygw.Server
		if s, err = versitygw.Start(context.Background(), versitygw.Config{Binary: binary, Dir: dir}); err == nil {
			fmt.Println(s.PID())
			select {}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// When this program is killed outright, the process that it started dies with it.
func TestNoOrphan(t *testing.T) {
	binary, err := versitygw.Find(os.Getenv("VERSITYGW"))
	if err != nil {
		t.Skip(err)
	}
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), asProgram+"="+t.TempDir(), "VERSITYGW="+binary)
	program.Stderr = os.Stderr
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := atoi(t, strings.TrimSpace(line))
	if !running(pid) {
		t.Fatalf("process %d does not run", pid)
	}
	if err := program.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	program.Wait()
	eventually(t, "the process is gone", func() bool { return !running(pid) })
}

// running is false for a process that ended and that nobody has waited for yet.
func running(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
