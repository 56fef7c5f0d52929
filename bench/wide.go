package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/sitevault/sitevault/internal/backup"
)

const (
	wideExportBytes = backup.MaxParallelism * backup.BasePartSizeBytes // a part for each range that is pulled at a time
	idleTime        = 10 * time.Second
)

// wideJobs measures the memory of the service over jobs that each pull as many ranges at a time as a site may have.
func wideJobs(ctx context.Context, s settings, store *storage, dir string) error {
	export, stop, err := startExport(ctx, wideExportBytes)
	if err != nil {
		return err
	}
	defer stop()
	v, err := startService(ctx, s, store, dir)
	if err != nil {
		return err
	}
	wall, idle, err := v.wideJobs(ctx, s.wide, export)
	service, stopped := v.stop()
	if err = errors.Join(err, stopped, store.clear(ctx)); err != nil {
		return err
	}
	printWide(s.wide, wall, idle, service)
	return nil
}

func printWide(jobs int, wall time.Duration, idleBytes int64, service figures) {
	gibs := float64(int64(jobs)*wideExportBytes) / float64(gib)
	t := table.NewWriter()
	t.SetTitle("%d jobs at a time of %d parallel ranges, %d MiB each", jobs, backup.MaxParallelism, wideExportBytes>>20)
	t.AppendHeader(table.Row{"wall s", "service CPU s/GiB", "service peak MiB", "MiB 10 s after"})
	t.AppendRow(table.Row{show(wall.Seconds()), show(service.cpu.Seconds() / gibs), service.peakBytes >> 20, idleBytes >> 20})
	fmt.Println(t.Render())
}

func (v *service) wideJobs(ctx context.Context, jobs int, export string) (wall time.Duration, idleBytes int64, err error) {
	for n := range jobs {
		if err := v.putSite(ctx, siteName(n), backup.MaxParallelism, backup.Provider{Name: "files", URL: export}); err != nil {
			return 0, 0, err
		}
	}
	if _, wall, err = v.runJobs(ctx, jobs); err != nil {
		return 0, 0, err
	}
	time.Sleep(idleTime)
	idleBytes, err = residentBytes(v.cmd.Process.Pid)
	return wall, idleBytes, err
}

// residentBytes is the memory of a process at the moment, as Linux tells it.
func residentBytes(pid int) (int64, error) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("%s does not tell VmRSS", status.Name())
}
