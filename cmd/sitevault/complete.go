package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/client"
)

const (
	completionTime = 2 * time.Second // then the shell goes without
	completionMost = 50
)

// completing connects for a completion, which stays silent about trouble.
func (p *program) completing(cmd *cobra.Command, args []string) (context.Context, context.CancelFunc, *client.Client) {
	if len(args) > 0 {
		return nil, nil, nil
	}
	c, err := p.connect()
	if err != nil {
		return nil, nil, nil
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionTime)
	return ctx, cancel, c
}

// completeSite offers the ids of the service's sites.
func (p *program) completeSite(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel, c := p.completing(cmd, args)
	if c == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cancel()
	var found []cobra.Completion
	for site, err := range c.Sites(ctx) {
		if err != nil || len(found) == completionMost {
			break
		}
		if strings.HasPrefix(site.SiteID, prefix) {
			found = append(found, cobra.CompletionWithDesc(site.SiteID, schedule(site)))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeJob offers the ids of the newest backups, and SITE@latest for each of their sites.
func (p *program) completeJob(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel, c := p.completing(cmd, args)
	if c == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cancel()
	var found []cobra.Completion
	offered := map[string]bool{}
	offer := func(name, description string) {
		if strings.HasPrefix(name, prefix) && !offered[name] {
			offered[name] = true
			found = append(found, cobra.CompletionWithDesc(name, description))
		}
	}
	read := 0
	for job, err := range c.Backups(ctx, "") {
		if read++; err != nil || read > completionMost {
			break
		}
		offer(job.SiteID+latestSuffix, "the newest backup of "+job.SiteID)
		offer(job.JobID, job.SiteID+" "+string(job.Status)+" "+at(job.CreatedAt))
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
