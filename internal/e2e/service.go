package e2e

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/local"
)

// workerLife makes the second sweep follow at once.
const workerLife = 100 * time.Millisecond

// Config is that of a service on a folder of its own, which tends due jobs at every opportunity and tries no failed
// attempt again by itself.
func Config(tb testing.TB, storage *Storage) local.Config {
	c := local.DefaultConfig(tb.TempDir())
	c.Listen = "127.0.0.1:0"
	c.AllowHosts = []string{"127.0.0.1"}
	c.SweepEvery, c.Policy.WorkerLife, c.Policy.FirstPause = 50*time.Millisecond, workerLife, 0
	c.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	if storage != nil {
		c.S3 = storage.S3
	}
	return c
}

// Service is the service in this process.
type Service struct {
	Client
	MetricsURL string // "": with the API

	config local.Config
	open   *local.Service
	cancel func()
	served chan error
}

// Start runs the service until Stop or the end of the test.
func Start(tb testing.TB, c local.Config) *Service {
	tb.Helper()
	s := &Service{Client: Client{tb: tb}, config: c}
	tb.Cleanup(s.Stop)
	s.start()
	return s
}

// Run is Start with a storage and the usual config.
func Run(tb testing.TB) (*Service, *Storage) {
	tb.Helper()
	storage := NewStorage(tb)
	return Start(tb, Config(tb, storage)), storage
}

func (s *Service) start() {
	s.tb.Helper()
	var err error
	if s.open, err = local.Open(context.Background(), s.config); err != nil {
		s.tb.Fatal(err)
	}
	s.URL, s.MetricsURL = s.open.URL(), s.open.MetricsURL()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.served = cancel, make(chan error, 1)
	go func() { s.served <- s.open.Serve(ctx) }()
}

// Stop ends the service as a signal does; its jobs stay as they are.
func (s *Service) Stop() {
	if s.open == nil {
		return
	}
	s.cancel()
	if err := <-s.served; err != nil {
		s.tb.Errorf("serve: %v", err)
	}
	if err := s.open.Close(); err != nil {
		s.tb.Errorf("close: %v", err)
	}
	s.open = nil
}

// Restart stops the service and starts it on the same folder.
func (s *Service) Restart() {
	s.tb.Helper()
	s.Stop()
	s.start()
}

// Clock is a clock that can be put forward. The zero Clock shows the real time.
type Clock struct{ ahead atomic.Int64 }

// Now is the time that the clock shows.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance puts the clock forward.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }
