package integration_test

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// endOnSignal ends this process and all its programs at Ctrl-C, which would otherwise end this process alone.
func endOnSignal(t *testing.T, p *programs) {
	t.Helper()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	t.Cleanup(func() { signal.Stop(signals) })
	go func() {
		<-signals
		p.kill()
		os.Exit(130)
	}()
}
