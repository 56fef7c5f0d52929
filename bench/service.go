package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
)

// pollEvery is seldom enough not to count in what the service costs.
const pollEvery = 200 * time.Millisecond

// service is a running `sitevault serve`.
type service struct {
	cmd     *exec.Cmd
	url     string
	started time.Time
}

func startService(ctx context.Context, s settings, store *storage, dir string) (*service, error) {
	data, err := os.MkdirTemp(dir, "data-")
	if err != nil {
		return nil, err
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "sitevault"), "serve", "--data", data, "--listen", listen,
		"--s3-endpoint", store.Endpoint(), "--s3-bucket", bucket, "--s3-path-style", "--allow-host", "127.0.0.1", "--log-level", "error")
	cmd.Env, cmd.Stderr = store.environment(), os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	v := &service{cmd: cmd, url: "http://" + listen, started: time.Now()}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if err = v.call(ctx, http.MethodGet, "/v1/site", nil, &api.SitePage{}); err == nil {
			return v, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, _ = v.stop()
	return nil, fmt.Errorf("sitevault serve does not answer: %w", err)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stop ends the service and returns what all of its life cost.
func (v *service) stop() (figures, error) {
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return figures{}, err
	}
	return finish(v.cmd, v.started)
}

func (v *service) call(ctx context.Context, method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, v.url+path, &body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, raw)
	}
	return json.Unmarshal(raw, out)
}

func (v *service) putSite(ctx context.Context, site string, parallelism int, providers ...backup.Provider) error {
	return v.call(ctx, http.MethodPut, "/v1/site/"+site, api.SiteBody{
		Providers: providers, Schedule: backup.Schedule{Off: true}, Limits: backup.Limits{Parallelism: parallelism},
	}, &api.Site{})
}

// sitevaultPeer charges the whole service: start, API, store, sweeper and stop included. The wall time is from the
// creation of the job to its end, as the job says.
func sitevaultPeer(s settings, store *storage, dir string) func(context.Context, string) (figures, error) {
	return func(ctx context.Context, export string) (figures, error) {
		v, err := startService(ctx, s, store, dir)
		if err != nil {
			return figures{}, err
		}
		wall, err := v.backUp(ctx, export)
		f, stopped := v.stop()
		if err == nil {
			err = stopped
		}
		f.wall = wall
		return f, err
	}
}

func (v *service) backUp(ctx context.Context, export string) (time.Duration, error) {
	if err := v.putSite(ctx, "bench", backup.DefaultParallelism, backup.Provider{Name: "files", URL: export}); err != nil {
		return 0, err
	}
	var job api.BackupDetail
	if err := v.call(ctx, http.MethodPost, "/v1/backup", api.CreateBackupBody{SiteID: "bench", KeepDays: 1}, &job); err != nil {
		return 0, err
	}
	for job.Status != backup.Done {
		if job.Status == backup.Failed {
			return 0, fmt.Errorf("backup failed: %+v", job.Error)
		}
		time.Sleep(pollEvery)
		if err := v.call(ctx, http.MethodGet, "/v1/backup/"+job.JobID, nil, &job); err != nil {
			return 0, err
		}
	}
	return job.FinishedAt.Sub(job.CreatedAt), nil
}
