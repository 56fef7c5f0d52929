package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	stopTime  = 10 * time.Second // from SIGTERM to SIGKILL
	tailBytes = 4 << 10          // of a program's output that an error shows
)

// programs are the child processes of a deployment, each with its descendants in a group of its own. Their output goes
// into <work>/<name>.log.
type programs struct {
	work string

	mu      sync.Mutex
	running []*program
}

// program is one child process.
type program struct {
	name    string
	cmd     *exec.Cmd
	log     string // path
	started chan error
	ended   chan struct{} // closed when it has ended; err is set then
	err     error
}

// start runs a program until stop, or until this process ends in whatever way.
func (p *programs) start(name string, env []string, dir, path string, args ...string) (*program, error) {
	c := &program{name: name, log: filepath.Join(p.work, name+".log"), started: make(chan error), ended: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(path, args...)
	c.cmd.Env, c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr, c.cmd.SysProcAttr = env, dir, log, log, ownGroup()
	go func() {
		defer log.Close()
		c.run()
	}()
	if err := <-c.started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, c)
	return c, nil
}

// run keeps its operating system thread: on Linux a child is killed when the thread that started it ends.
func (c *program) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	c.started <- err
	if err != nil {
		return
	}
	c.err = c.cmd.Wait()
	close(c.ended)
}

// complete runs a program to its end.
func (p *programs) complete(ctx context.Context, name string, env []string, dir, path string, args ...string) error {
	c, err := p.start(name, env, dir, path, args...)
	if err != nil {
		return err
	}
	select {
	case <-c.ended:
	case <-ctx.Done():
		c.stop()
		return fmt.Errorf("%s: %w; its last output:\n%s", name, context.Cause(ctx), c.tail())
	}
	p.forget(c)
	if c.err != nil {
		return fmt.Errorf("%s: %w; its last output:\n%s", name, c.err, c.tail())
	}
	return nil
}

func (p *programs) forget(ended *program) {
	endGroup(ended.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = slices.DeleteFunc(p.running, func(c *program) bool { return c == ended })
}

// stop ends all, the youngest first, and waits for that.
func (p *programs) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.running) > 0 {
		last := len(p.running) - 1
		p.running[last].stop()
		p.running = p.running[:last]
	}
}

// kill ends all at once, for when nobody waits any more.
func (p *programs) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.running {
		endGroup(c.cmd.Process.Pid, syscall.SIGKILL)
	}
}

func (c *program) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // or it has ended
	late := time.AfterFunc(stopTime, func() { _ = c.cmd.Process.Kill() })
	<-c.ended
	late.Stop()
	endGroup(c.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
}

func (c *program) tail() []byte {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(content[max(0, len(content)-tailBytes):])
}

// showTails logs the end of every program's output when the test has failed.
func (p *programs) showTails(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.running {
		if t.Failed() {
			t.Logf("%s ends with:\n%s", c.log, c.tail())
		}
	}
}
