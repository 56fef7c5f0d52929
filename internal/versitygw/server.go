package versitygw

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const (
	// Region is the one that the server expects in signatures.
	Region = "us-east-1"

	healthPath    = "/_health" // no bucket can have this name
	healthEvery   = 20 * time.Millisecond
	healthTimeout = 2 * time.Second
	startTimeout  = 20 * time.Second // from the start of a process to its first answer
	closeTimeout  = 3 * time.Second  // from SIGTERM to SIGKILL

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second

	portTries = 5 // free ports that are tried before giving up
)

// Config says what to run and where.
type Config struct {
	Binary      string // as found by Find
	Dir         string // created if absent; objects, metadata and versions live below it
	Versioning  bool   // let buckets keep versions; off, nothing is kept twice
	Port        int    // on the loopback interface; 0: a free one
	Credentials Credentials
	Log         *slog.Logger
}

// errEnded is how a process fails that finds its port taken, among other things.
var errEnded = errors.New("the process ended at once")

// Credentials are the server's only account; both "" in Config: random ones for each Start.
type Credentials struct{ AccessKey, SecretKey string }

// Server is a running versitygw. A process that dies is started again on the same port.
type Server struct {
	config Config
	layout layout
	client *http.Client

	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when no process is left
	once    sync.Once

	mu      sync.Mutex
	pid     int
	ready   chan error // the outcome of the first start; nil once it was received
	lastOut *tail
}

// Start runs the server and returns when it answers. ctx bounds the start only: the server runs until Close, or until
// this program ends in whatever way.
func Start(ctx context.Context, c Config) (*Server, error) {
	l, err := prepare(c.Dir, c.Versioning)
	if err != nil {
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	if c.Credentials == (Credentials{}) {
		c.Credentials = Credentials{AccessKey: rand.Text(), SecretKey: rand.Text()}
	}
	if l.metadata != "" && c.Log != nil {
		c.Log.Warn("the file system keeps no extended attributes: metadata lies beside the objects, which is slower", "dir", c.Dir)
	}
	if err := endStale(pidFile(c.Dir), l.objects); err != nil {
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	tries := portTries
	if c.Port != 0 {
		tries = 1
	}
	for range tries {
		var s *Server
		if s, err = startOnce(ctx, c, l); err == nil {
			return s, nil
		}
		if !errors.Is(err, errEnded) {
			break
		}
	}
	return nil, fmt.Errorf("start versitygw: %w", err)
}

func startOnce(ctx context.Context, c Config, l layout) (*Server, error) {
	if c.Port == 0 {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		c.Port = port
	}
	s := &Server{
		config: c, layout: l, lastOut: &tail{log: c.Log},
		client: &http.Client{Timeout: healthTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
		stop:   make(chan struct{}), stopped: make(chan struct{}), ready: make(chan error, 1),
	}
	ready := s.ready
	go s.supervise()
	select {
	case err := <-ready:
		if err == nil {
			return s, nil
		}
		s.Close()
		return nil, err
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Endpoint is the base URL of the server.
func (s *Server) Endpoint() string { return "http://" + s.address() }

func (s *Server) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.Port))
}

// Credentials are those of the server's only account.
func (s *Server) Credentials() Credentials { return s.config.Credentials }

// PID is the id of the current process; 0 while there is none.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Close ends the process and waits for that.
func (s *Server) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.stopped
	return nil
}

// pidFile names the current process, for systems where the end of this program does not end it.
func pidFile(dir string) string { return filepath.Join(dir, "versitygw.pid") }

func (s *Server) arguments() []string {
	args := []string{
		"--port", s.address(), "--region", Region, "--health", healthPath,
		"--keep-alive", "--quiet", "--disable-acl", "--iam-cache-disable",
	}
	return append(args, s.layout.arguments()...)
}

// environment holds nothing of ours: versitygw reads dozens of variables.
func (s *Server) environment() []string {
	return []string{
		"ROOT_ACCESS_KEY_ID=" + s.config.Credentials.AccessKey,
		"ROOT_SECRET_ACCESS_KEY=" + s.config.Credentials.SecretKey,
	}
}

// announce reports the outcome of the first start, once.
func (s *Server) announce(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready != nil {
		s.ready <- err
		s.ready = nil
	}
}

func (s *Server) setPID(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
}

// awaitHealth asks until the server answers, or fails when the process ended or took too long.
func (s *Server) awaitHealth(ended <-chan struct{}) error {
	overdue := time.NewTimer(startTimeout)
	defer overdue.Stop()
	again := time.NewTicker(healthEvery)
	defer again.Stop()
	for !s.healthy() {
		select {
		case <-again.C:
		case <-ended:
			return fmt.Errorf("%w: %s", errEnded, s.lastOut)
		case <-overdue.C:
			return fmt.Errorf("no answer within %s: %s", startTimeout, s.lastOut)
		case <-s.stop:
			return errors.New("closed")
		}
	}
	return nil
}

func (s *Server) healthy() bool {
	response, err := s.client.Get(s.Endpoint() + healthPath)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// tail logs what the process writes and keeps the end of it for error messages.
type tail struct {
	log *slog.Logger
	mu  sync.Mutex
	end []byte
}

const maxTailBytes = 1 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.log != nil {
		t.log.Debug("versitygw", "output", string(bytes.TrimSpace(p)))
	}
	t.end = append(t.end, p...)
	if over := len(t.end) - maxTailBytes; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(p), nil
}

// String is the end of what was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}
