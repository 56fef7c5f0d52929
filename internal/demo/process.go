package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

const (
	startTime = time.Minute      // from a child's start to the line that names its address
	stopTime  = 15 * time.Second // from SIGTERM to SIGKILL
	tailBytes = 2 << 10          // of a child's output that an error shows

	maxLineBytes = 64 << 10
	maxTroubles  = 10 // different ones that are shown
)

var baseURL = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

// start runs the program with args, and with variables beside its environment, as a child that lives until the demo ends;
// it returns the URL that the child serves on.
func (r *run) start(ctx context.Context, variables []string, args ...string) (string, error) {
	log, err := os.Create(filepath.Join(r.dir, args[0]+".log"))
	if err != nil {
		return "", err
	}
	p := &process{name: args[0], log: log, address: make(chan string, 1), ended: make(chan struct{}), started: make(chan error, 1)}
	p.cmd = exec.Command(r.Executable, append(args, "--log-format", "json")...)
	p.cmd.Env, p.cmd.Stderr = slices.Concat(r.Environ, variables), &troubleWriter{log: log, tell: r.trouble(p.name)}
	p.cmd.WaitDelay = stopTime
	p.cmd.SysProcAttr = bound()
	go p.run()
	if err := <-p.started; err != nil {
		return "", errors.Join(fmt.Errorf("start the %s: %w", p.name, err), log.Close())
	}
	r.closers = append(r.closers, p.stop)
	overdue := time.NewTimer(startTime)
	defer overdue.Stop()
	select {
	case url := <-p.address:
		return url, nil
	case <-p.ended:
		return "", fmt.Errorf("the %s ended at once:\n%s", p.name, p.tail())
	case <-overdue.C:
		return "", fmt.Errorf("the %s is not up after %s:\n%s", p.name, startTime, p.tail())
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// process is a child.
type process struct {
	name    string
	cmd     *exec.Cmd
	log     *os.File
	started chan error
	address chan string   // holds one: the first URL that the child prints
	ended   chan struct{} // closed when it has ended
}

// run keeps its operating system thread: on Linux a child is killed when the thread that started it ends.
func (p *process) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	output, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	p.started <- err
	if err != nil {
		return
	}
	defer close(p.ended)
	p.read(output)
	_ = p.cmd.Wait() // how it ended shows in what it did or left undone
}

// read copies the child's output to its log until the child closes it.
func (p *process) read(output io.Reader) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		fmt.Fprintf(p.log, "%s\n", lines.Bytes())
		if url := baseURL.Find(lines.Bytes()); url != nil {
			select {
			case p.address <- string(url):
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, output) // after a line that is too long
}

// troubleWriter copies a child's log and tells of the errors in it.
type troubleWriter struct {
	log  io.Writer
	tell func(text string)
	line []byte // not ended yet
}

func (t *troubleWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		t.line = append(t.line, line...)
		if ended || len(t.line) > maxLineBytes {
			t.read()
			t.line = t.line[:0]
		}
		rest = after
	}
	return t.log.Write(p)
}

func (t *troubleWriter) read() {
	var record struct{ Level, Msg, Error string }
	if json.Unmarshal(t.line, &record) == nil && record.Level == slog.LevelError.String() {
		t.tell(record.Msg + ": " + record.Error)
	}
}

// trouble shows what a child says, each text once: the service tries again and again what the agent cannot do.
func (r *run) trouble(name string) func(string) {
	var said []string
	return func(text string) {
		if len(said) < maxTroubles && !slices.Contains(said, text) {
			said = append(said, text)
			r.step("The %s reports: %s", name, text)
		}
	}
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // or it has ended
	late := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.ended
	return p.log.Close()
}

func (p *process) tail() []byte {
	content, err := os.ReadFile(p.log.Name())
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(content[max(0, len(content)-tailBytes):])
}

// command runs the program with args to its end.
func (r *run) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, r.Executable, args...)
	cmd.Env = r.Environ
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sitevault %s %s: %w: %s", args[0], args[1], err, bytes.TrimSpace(output))
	}
	return nil
}
