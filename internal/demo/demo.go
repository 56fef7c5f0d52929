// Package demo backs up real input with a service and an agent of its own, downloads the backup and proves that it
// holds everything. It drives the program as a user would and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

const (
	siteID     = "demo"
	filesName  = "files" // as the agent names its exports
	dataName   = "database"
	secretName = "demo-agent"
)

// Config says what to back up and how to run the program.
type Config struct {
	Executable string   // the program itself, started as agent, as service and as keeper of the work folder
	Environ    []string // of the children, without the settings of a user's own service
	SiteDir    string   // "": the tree of the Go toolchain
	Database   string   // path of an SQLite file or a URL; "": an SQLite database made of the facts of the site's files
	TempDir    string   // holds the work folder; "": the system's
	Keep       bool     // leave the work folder
	NewToken   func() string
	Now        func() time.Time
	Reporter   Reporter
}

// Reporter shows what goes on. Step may be called at any time, from any goroutine.
type Reporter interface {
	Step(text string)
	Backup(api.BackupDetail)
	Download(provider string, doneBytes, totalBytes int64)
}

// Report says what was proven.
type Report struct {
	JobID    string              `json:"jobId"`
	SiteDir  string              `json:"siteDir"`
	Files    FilesProof          `json:"files"`
	Database DatabaseProof       `json:"database"`
	Archives []Archive           `json:"archives"`
	Seconds  Seconds             `json:"seconds"`
	WorkDir  string              `json:"workDir,omitempty"` // if it was kept
	Last     *api.BackupDetail   `json:"-"`
	Loaded   []client.Downloaded `json:"-"`
}

// Archive is one downloaded file of the backup.
type Archive struct {
	Provider  string `json:"provider"`
	SizeBytes int64  `json:"sizeBytes"`
	Parts     int    `json:"parts"`
	CRC64NVME string `json:"crc64nvme"`
}

// Seconds is how long the stages took.
type Seconds struct {
	Backup   float64 `json:"backup"`
	Download float64 `json:"download"`
	Compare  float64 `json:"compare"`
}

// FailedError means that the backup itself failed; Job says why.
type FailedError struct{ Job api.BackupDetail }

func (e *FailedError) Error() string { return "the backup of the demo failed" }

// run is one demo.
type run struct {
	Config
	dir     string // the work folder
	closers []func() error
	client  *client.Client
	agent   string // base URL
	report  Report
}

// Run does the whole demo. When ctx ends it stops, and still leaves no process and no folder.
func Run(ctx context.Context, c Config) (report Report, err error) {
	r := &run{Config: c}
	defer func() { err = errors.Join(err, r.close()) }()
	for _, stage := range []func(context.Context) error{r.openFolder, r.chooseInput, r.startAgent, r.startService, r.registerSite, r.backUp, r.download, r.compare} {
		if err := stage(ctx); err != nil {
			return r.report, err
		}
		if ctx.Err() != nil {
			return r.report, context.Cause(ctx)
		}
	}
	return r.report, nil
}

func (r *run) step(format string, args ...any) { r.Reporter.Step(fmt.Sprintf(format, args...)) }

// close ends what was started, the last first.
func (r *run) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	return errors.Join(errs...)
}

func (r *run) startAgent(ctx context.Context) error {
	token := filepath.Join(r.dir, "token")
	if err := os.WriteFile(token, []byte(r.NewToken()+"\n"), 0o600); err != nil {
		return err
	}
	database := "SITEVAULT_AGENT_DATABASE=" + r.Database // it may hold a password, which arguments would show to everybody
	agent, err := r.start(ctx, []string{database}, "agent", "--files", r.SiteDir, "--listen", "127.0.0.1:0",
		"--dir", filepath.Join(r.dir, "snapshots"), "--token-file", token)
	if err != nil {
		return err
	}
	r.agent = agent
	r.step("Agent: %s serves the site's exports, process of its own", agent)
	return r.command(ctx, "secret", "put", secretName, "--data", r.dataDir(), "--file", token)
}

func (r *run) dataDir() string { return filepath.Join(r.dir, "service") }

func (r *run) startService(ctx context.Context) error {
	server, err := r.start(ctx, nil, "serve", "--data", r.dataDir(), "--listen", "127.0.0.1:0", "--allow-host", strings.TrimPrefix(r.agent, "http://"))
	if err != nil {
		return err
	}
	r.step("Service: %s, with an S3 server of its own", server)
	r.client, err = client.New(client.Config{Server: server, UserAgent: "sitevault-demo"})
	return err
}

func (r *run) registerSite(ctx context.Context) error {
	provider := func(name string) backup.Provider {
		return backup.Provider{Name: name, URL: r.agent + "/" + name, SecretRef: secretName}
	}
	_, err := r.client.PutSite(ctx, siteID, api.SiteBody{
		Providers: []backup.Provider{provider(filesName), provider(dataName)}, Schedule: backup.Schedule{Off: true},
	}, "")
	if err != nil {
		return fmt.Errorf("register the site: %w", err)
	}
	return nil
}

func (r *run) backUp(ctx context.Context) error {
	began := r.Now()
	job, err := r.client.CreateBackup(ctx, api.CreateBackupBody{SiteID: siteID, KeepDays: 1}, "")
	if err != nil {
		return fmt.Errorf("create the backup: %w", err)
	}
	r.report.JobID = job.JobID
	r.step("Backup: job %s", job.JobID)
	last, err := r.client.Watch(ctx, job.JobID, r.Reporter.Backup)
	if err != nil {
		return fmt.Errorf("watch the backup: %w", err)
	}
	r.report.Last, r.report.Seconds.Backup = &last, r.Now().Sub(began).Seconds()
	if last.Status != backup.Done {
		return &FailedError{last}
	}
	return nil
}

func (r *run) download(ctx context.Context) error {
	began := r.Now()
	dir := filepath.Join(r.dir, "downloads")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, f := range r.report.Last.Files {
		loaded, err := r.client.Download(ctx, r.report.JobID, f.Name, dir, func(done, total int64) { r.Reporter.Download(f.Name, done, total) })
		if err != nil {
			return err
		}
		r.report.Loaded = append(r.report.Loaded, loaded)
		r.report.Archives = append(r.report.Archives, Archive{
			Provider: f.Name, SizeBytes: loaded.SizeBytes, Parts: f.Progress.TotalParts, CRC64NVME: loaded.CRC64NVME,
		})
	}
	r.report.Seconds.Download = r.Now().Sub(began).Seconds()
	return nil
}

func (r *run) compare(ctx context.Context) (err error) {
	began := r.Now()
	for _, loaded := range r.report.Loaded {
		r.step("Compare: %s against its source", loaded.Provider)
		switch loaded.Provider {
		case filesName:
			r.report.Files, err = CompareTree(ctx, r.SiteDir, loaded.Path)
		case dataName:
			r.report.Database, err = CompareDatabase(ctx, r.Database, loaded.Path, r.dir)
		}
		if err != nil {
			return err
		}
	}
	r.report.Seconds.Compare = r.Now().Sub(began).Seconds()
	return nil
}
