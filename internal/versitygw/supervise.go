package versitygw

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// supervise runs one process after the other until Close. It keeps its operating system thread: on Linux a child is
// killed when the thread that started it ends, which any other thread may do at any time.
func (s *Server) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.stopped)
	backoff := minBackoff
	for {
		started := time.Now()
		err := s.runOnce()
		s.announce(err)
		if s.closing() {
			return
		}
		s.warn(err)
		if time.Since(started) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-s.stop:
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (s *Server) closing() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

func (s *Server) warn(err error) {
	if s.config.Log != nil {
		s.config.Log.Warn("versitygw ended and is started again", "error", err)
	}
}

// runOnce starts a process and waits for its end, which Close brings about.
func (s *Server) runOnce() error {
	if err := s.layout.recover(); err != nil {
		return err
	}
	cmd := exec.Command(s.config.Binary, s.arguments()...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.environment(), s.lastOut, s.lastOut
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = closeTimeout
	if err := cmd.Start(); err != nil {
		return err
	}
	s.setPID(cmd.Process.Pid)
	defer s.setPID(0)
	if err := os.WriteFile(pidFile(s.config.Dir), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		cmd.Process.Kill()
		return errors.Join(err, cmd.Wait())
	}
	defer os.Remove(pidFile(s.config.Dir))
	ended, watched := make(chan struct{}), make(chan error, 1)
	go func() { watched <- s.watch(cmd.Process, ended) }()
	exit := cmd.Wait()
	close(ended)
	return errors.Join(<-watched, exit)
}

// watch announces the process when it answers, kills one that does not, and ends it on Close.
func (s *Server) watch(p *os.Process, ended <-chan struct{}) error {
	if err := s.awaitHealth(ended); err != nil {
		p.Kill()
		return err
	}
	s.announce(nil)
	select {
	case <-ended:
		return nil
	case <-s.stop:
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(closeTimeout):
		p.Kill()
	}
	return nil
}
