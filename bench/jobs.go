package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/sync/errgroup"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
)

const (
	smallExportBytes = 1 << 20
	clients          = 8 // concurrent callers of the API
)

// smallJobs counts whole backups a second: two providers of 1 MiB each, one site for each job.
func smallJobs(ctx context.Context, s settings, store *storage, dir string) error {
	export, stop, err := startExport(ctx, smallExportBytes)
	if err != nil {
		return err
	}
	defer stop()
	v, err := startService(ctx, s, store, dir)
	if err != nil {
		return err
	}
	latencies, wall, err := v.smallJobs(ctx, s.jobs, export)
	service, stopped := v.stop()
	if err = errors.Join(err, stopped); err != nil {
		return err
	}
	printJobs(s.jobs, latencies, wall, service)
	return nil
}

func (v *service) smallJobs(ctx context.Context, jobs int, export string) ([]time.Duration, time.Duration, error) {
	err := eachJob(ctx, jobs, func(ctx context.Context, n int) error {
		return v.putSite(ctx, siteName(n), 2, backup.Provider{Name: "files", URL: export}, backup.Provider{Name: "database", URL: export})
	})
	if err != nil {
		return nil, 0, err
	}
	return v.runJobs(ctx, jobs)
}

func printJobs(jobs int, latencies []time.Duration, wall time.Duration, service figures) {
	slices.Sort(latencies)
	at := func(q float64) string {
		return fmt.Sprintf("%.1f", latencies[int(q*float64(len(latencies)-1))].Seconds()*1000)
	}
	t := table.NewWriter()
	t.SetTitle("%d jobs, two providers of 1 MiB each; latency of create under that load", jobs)
	t.AppendHeader(table.Row{"jobs/s", "create p50 ms", "create p90 ms", "create p99 ms", "service CPU ms/job", "service peak MiB"})
	t.AppendRow(table.Row{
		fmt.Sprintf("%.0f", float64(jobs)/wall.Seconds()), at(0.5), at(0.9), at(0.99),
		fmt.Sprintf("%.1f", service.cpu.Seconds()*1000/float64(jobs)), service.peakBytes >> 20,
	})
	fmt.Println(t.Render())
}

func siteName(n int) string { return fmt.Sprintf("site-%d", n) }

func eachJob(ctx context.Context, jobs int, do func(ctx context.Context, n int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(clients)
	for n := range jobs {
		g.Go(func() error { return do(ctx, n) })
	}
	return g.Wait()
}

func (v *service) runJobs(ctx context.Context, jobs int) (latencies []time.Duration, wall time.Duration, err error) {
	var mu sync.Mutex
	started := time.Now()
	err = eachJob(ctx, jobs, func(ctx context.Context, n int) error {
		sent := time.Now()
		err := v.call(ctx, http.MethodPost, "/v1/backup", api.CreateBackupBody{SiteID: siteName(n), KeepDays: 1}, &api.Backup{})
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, time.Since(sent))
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	for {
		last, err := v.allDone(ctx, jobs)
		if err != nil || !last.IsZero() {
			return latencies, last.Sub(started), err
		}
		time.Sleep(pollEvery)
	}
}

// allDone returns when the last job was done, or the zero time as long as one is not. Jobs start in the order of their
// creation, so that the newest, on the first page, are done last.
func (v *service) allDone(ctx context.Context, jobs int) (last time.Time, err error) {
	seen := 0
	for token := ""; ; {
		var page api.BackupPage
		if err := v.call(ctx, http.MethodGet, "/v1/backup?limit=100&pageToken="+token, nil, &page); err != nil {
			return last, err
		}
		for _, b := range page.Backups {
			if b.Status == backup.Failed {
				return last, fmt.Errorf("backup %s failed: %+v", b.JobID, b.Error)
			}
			if b.Status != backup.Done {
				return time.Time{}, nil
			}
			if b.FinishedAt.After(last) {
				last = *b.FinishedAt
			}
			seen++
		}
		if token = page.NextPageToken; token == "" && seen != jobs {
			return last, fmt.Errorf("%d jobs created, %d listed", jobs, seen)
		}
		if token == "" {
			return last, nil
		}
	}
}
