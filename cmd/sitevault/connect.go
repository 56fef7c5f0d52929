package main

import (
	"bytes"
	"context"
	"strings"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
	"github.com/sitevault/sitevault/internal/secretfile"
)

const defaultServer = "http://127.0.0.1:8420"

func (p *program) serverURL() string {
	for _, s := range []string{p.server, p.getenv("SITEVAULT_SERVER")} {
		if s != "" {
			return s
		}
	}
	return defaultServer
}

func (p *program) connect() (*client.Client, error) {
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Server: p.serverURL(), Token: token, UserAgent: "sitevault/" + p.version})
	if err != nil {
		return nil, usage("%w", err)
	}
	return c, nil
}

func (p *program) token() (string, error) {
	if p.tokenFile == "" {
		return strings.TrimSpace(p.getenv("SITEVAULT_TOKEN")), nil
	}
	content, err := secretfile.Read(p.tokenFile, maxTokenBytes)
	if err != nil {
		return "", usage("--token-file: %w", err)
	}
	token := string(bytes.TrimSpace(content))
	if token == "" {
		return "", usage("--token-file: %s is empty", p.tokenFile)
	}
	return token, nil
}

const maxTokenBytes = 64 << 10

// latestSuffix asks for a site's newest backup instead of naming it.
const latestSuffix = "@latest"

// which says what SITE@latest means to a command.
type which int

const (
	newestGood which = iota // the newest done backup
	newestAny               // the newest backup in whatever state
)

// jobID resolves what the user wrote: a job's id, or SITE@latest.
func jobID(ctx context.Context, c *client.Client, name string, w which) (string, error) {
	siteID, latest := strings.CutSuffix(name, latestSuffix)
	if !latest {
		if id := strings.ToUpper(name); backup.ValidJobID(id) {
			return id, nil
		}
		return "", usage("%q is not a backup: give its id, as `sitevault backup list` shows it, or SITE%s", name, latestSuffix)
	}
	if !backup.ValidSiteID(siteID) {
		return "", usage("%q is not a site id; write SITE%s, such as shop%s", siteID, latestSuffix, latestSuffix)
	}
	for job, err := range c.Backups(ctx, siteID) {
		if err != nil {
			return "", err
		}
		if w == newestAny || job.Status == backup.Done {
			return job.JobID, nil
		}
	}
	if w == newestAny {
		return "", &notFoundError{"site " + siteID + " has no backup; create one with: sitevault backup create " + siteID + " --wait"}
	}
	return "", &notFoundError{"site " + siteID + " has no good backup; create one with: sitevault backup create " + siteID + " --wait"}
}

// fileNames are the names of a backup's files.
func fileNames(job api.BackupDetail) []string {
	names := make([]string, len(job.Files))
	for i, f := range job.Files {
		names[i] = f.Name
	}
	return names
}
