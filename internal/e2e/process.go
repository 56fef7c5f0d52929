package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/local"
)

// processEnv holds what a service process is told.
const processEnv = "SITEVAULT_E2E_PROCESS"

type processConfig struct {
	DataDir string
	S3      local.S3
}

// ServeIfAsked makes this process a service if StartProcess started it, and then does not return. TestMain calls it.
func ServeIfAsked() {
	told := os.Getenv(processEnv)
	if told == "" {
		return
	}
	if err := serveProcess(told); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveProcess(told string) error {
	var p processConfig
	if err := json.Unmarshal([]byte(told), &p); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
		os.Exit(1)
	}()
	c := local.DefaultConfig(p.DataDir)
	c.Listen, c.AllowHosts, c.Log, c.S3 = "127.0.0.1:0", []string{"127.0.0.1"}, slog.New(slog.NewTextHandler(os.Stderr, nil)), p.S3
	s, err := local.Open(ctx, c)
	if err != nil {
		return err
	}
	fmt.Println(s.URL())
	return errors.Join(s.Serve(ctx), s.Close())
}

// Process is the service in a process of its own.
type Process struct {
	Client
	DataDir string
	s3      local.S3
	cmd     *exec.Cmd
}

// StartProcess runs the service in a process; storage nil: with an S3 server of the service's own.
func StartProcess(tb testing.TB, storage *Storage) *Process {
	tb.Helper()
	p := &Process{Client: Client{tb: tb}, DataDir: tb.TempDir(), s3: local.S3{Bucket: bucket}}
	if storage != nil {
		p.s3 = storage.S3
	}
	tb.Cleanup(func() { p.end(syscall.SIGKILL) })
	p.Start()
	return p
}

// Start starts the process anew, on the folder of the one before.
func (p *Process) Start() {
	p.tb.Helper()
	told, err := json.Marshal(processConfig{p.DataDir, p.s3})
	if err != nil {
		p.tb.Fatal(err)
	}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), processEnv+"="+string(told))
	p.cmd.Stderr = p.tb.Output()
	if _, err := p.cmd.StdinPipe(); err != nil {
		p.tb.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.tb.Fatalf("the process ended before it served: %v", err)
	}
	p.URL = strings.TrimSpace(url)
}

// Kill ends the process as kill -9 does.
func (p *Process) Kill() {
	p.tb.Helper()
	p.end(syscall.SIGKILL)
}

// Terminate asks the process to end and waits until it has; it must end well.
func (p *Process) Terminate() {
	p.tb.Helper()
	if err := p.end(syscall.SIGTERM); err != nil {
		p.tb.Errorf("the process ended with %v", err)
	}
}

func (p *Process) end(signal os.Signal) error {
	if p.cmd == nil || p.cmd.Process == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(signal)
	err := p.cmd.Wait()
	p.cmd = nil
	return err
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }
