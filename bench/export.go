package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/sitevault/sitevault/internal/backuptest"
)

// serveExport is the provider in a process of its own, so that no peer is charged for it. It prints its URL.
func serveExport(ctx context.Context, sizeBytes string) error {
	size, err := strconv.ParseInt(sizeBytes, 10, 64)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	export := backuptest.ZipOf(1, size)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"bench-`+sizeBytes+`"`)
		http.ServeContent(w, r, "export.zip", time.Time{}, io.NewSectionReader(export, 0, export.Size()))
	})}
	fmt.Printf("http://%s/export.zip\n", l.Addr())
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// startExport runs serveExport as a child until stop is called.
func startExport(ctx context.Context, size int64) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, self, "-serve", strconv.FormatInt(size, 10))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() {
		cancel()
		_ = cmd.Wait() // killed on purpose
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("provider: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}
