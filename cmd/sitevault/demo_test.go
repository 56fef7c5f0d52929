package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/demo"
	"github.com/sitevault/sitevault/internal/versitygw"
)

// demoProcess is `sitevault demo` on a small folder, with a temporary folder of its own.
type demoProcess struct {
	*exec.Cmd
	temporary string
	stderr    bytes.Buffer
}

func newDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	gateway, err := versitygw.Find("")
	if err != nil {
		t.Skipf("SKIPPED, the demo was not run: %v", err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	site := t.TempDir()
	for name, content := range map[string]string{"index.html": "<p>hello</p>", "empty": "", "large.bin": strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(filepath.Join(site, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("index.html", filepath.Join(site, "link")); err != nil {
		t.Fatal(err)
	}
	d := &demoProcess{Cmd: exec.Command(executable, append([]string{"demo", "--site", site}, args...)...), temporary: t.TempDir()}
	d.Env = []string{asProgram + "=1", "TMPDIR=" + d.temporary, "HOME=" + d.temporary, "PATH=" + filepath.Dir(gateway) + ":" + os.Getenv("PATH"), "SITEVAULT_DATA=/nowhere"}
	d.Stderr = &d.stderr
	return d
}

// The demo proves all of its input, and says so.
func TestDemo(t *testing.T) {
	d := newDemo(t, "-o", "json")
	output, err := d.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, d.stderr.Bytes())
	}
	var report demo.Report
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if f := report.Files; f.Files != 3 || f.Links != 1 || f.Bytes != 12+1<<20 {
		t.Errorf("files %+v", f)
	}
	if db := report.Database; db.Rows != 3 || !strings.Contains(db.Proven, "byte for byte") {
		t.Errorf("database %+v", db)
	}
	if len(report.Archives) != 2 || report.Archives[0].CRC64NVME == "" {
		t.Errorf("archives %+v", report.Archives)
	}
	d.expectNothingLeft(t)
}

// Whenever it is interrupted or killed, the demo leaves no process and no file.
func TestDemoLeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED, the demo was not killed: only Linux ends the children of a killed process")
	}
	for name, test := range map[string]struct {
		after  string // the line after which the signal comes
		signal syscall.Signal
	}{
		"interrupted at the start":     {"Site:", syscall.SIGINT},
		"interrupted with an agent":    {"Agent:", syscall.SIGINT},
		"terminated in a backup":       {"Backup:", syscall.SIGTERM},
		"killed at the start":          {"Site:", syscall.SIGKILL},
		"killed with an agent":         {"Agent:", syscall.SIGKILL},
		"killed in a backup":           {"Backup:", syscall.SIGKILL},
		"killed while it is comparing": {"Compare:", syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDemo(t)
			state := d.signalAfter(t, test.after, test.signal)
			if test.signal != syscall.SIGKILL && state.ExitCode() != exitInterrupted {
				t.Errorf("exit code %d: %s", state.ExitCode(), d.stderr.Bytes())
			}
			if test.signal == syscall.SIGKILL && state.ExitCode() != -1 {
				t.Errorf("it was not killed: exit code %d", state.ExitCode())
			}
			d.expectNothingLeft(t)
		})
	}
}

// What the agent cannot do is shown at once, although the service goes on trying.
func TestDemoReportsTrouble(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.db")
	if err := os.WriteFile(broken, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDemo(t, "--db", broken)
	if state := d.signalAfter(t, "The agent reports: snapshot failed: ", syscall.SIGINT); state.ExitCode() != exitInterrupted {
		t.Errorf("exit code %d: %s", state.ExitCode(), d.stderr.Bytes())
	}
	d.expectNothingLeft(t)
}

// signalAfter sends the signal when a line with the prefix comes, and waits for the end.
func (d *demoProcess) signalAfter(t *testing.T, prefix string, signal syscall.Signal) *os.ProcessState {
	t.Helper()
	output, err := d.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	sent := false
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if !sent && strings.HasPrefix(lines.Text(), prefix) {
			if len(d.processes(t)) < 2 { // itself and the keeper of its folder
				t.Error("the processes of the demo are not seen, so nothing would be proven")
			}
			sent = d.Process.Signal(signal) == nil
		}
	}
	d.Wait() // its error is the exit code
	if !sent {
		t.Fatalf("the line %q never came: %s", prefix, d.stderr.Bytes())
	}
	return d.ProcessState
}

// expectNothingLeft waits for what the kernel and the keeper of the folder do after a kill.
func (d *demoProcess) expectNothingLeft(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		files, err := os.ReadDir(d.temporary)
		if err != nil {
			t.Fatal(err)
		}
		processes := d.processes(t)
		if len(files) == 0 && len(processes) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: files %v, processes %q", files, processes)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processes finds those that know the temporary folder by an argument or a variable.
func (d *demoProcess) processes(t *testing.T) (found []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	for _, file := range []string{"cmdline", "environ"} {
		paths, err := filepath.Glob("/proc/[0-9]*/" + file)
		if err != nil || len(paths) == 0 {
			t.Fatalf("list processes: %v", err)
		}
		for _, path := range paths {
			if raw, err := os.ReadFile(path); err == nil && bytes.Contains(raw, []byte(d.temporary)) {
				found = append(found, path)
			}
		}
	}
	return found
}
