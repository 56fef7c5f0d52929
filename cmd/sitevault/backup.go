package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

const backupHelp = `Create, watch, download and delete backups.

A backup goes by its id, as ` + "`sitevault backup list`" + ` shows it, or by SITE@latest: the site's newest backup, and for
download, keep and delete its newest good one.`

func (p *program) backupCommand() *cobra.Command {
	return groupCommand(&cobra.Command{Use: "backup", Short: "Create, watch, download and delete backups", Long: backupHelp},
		p.backupCreateCommand(), p.backupListCommand(), p.backupGetCommand(), p.backupWatchCommand(), p.backupRetryCommand(),
		p.backupCancelCommand(), p.backupKeepCommand(), p.backupDeleteCommand(), p.backupDownloadCommand(), p.backupTasksCommand())
}

// onJob makes a command about one backup.
func (p *program) onJob(c *cobra.Command, w which, run func(ctx context.Context, c *client.Client, jobID string) error) *cobra.Command {
	c.Args, c.ValidArgsFunction = arguments(1, 1), p.completeJob
	c.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := p.connect()
		if err != nil {
			return err
		}
		id, err := jobID(cmd.Context(), c, args[0], w)
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, id)
	}
	return c
}

const backupCreateExample = `  sitevault backup create shop                     # prints the job and returns
  sitevault backup create shop --wait              # shows progress; exit code 3 if the backup fails
  sitevault backup create shop --keep-days 365
  sitevault backup create shop --idempotency-key deploy-4711`

func (p *program) backupCreateCommand() *cobra.Command {
	var body api.CreateBackupBody
	var deleteAt, key string
	var wait bool
	cmd := &cobra.Command{
		Use: "create SITE", Short: "Back up a site now", Example: backupCreateExample, Args: arguments(1, 1), ValidArgsFunction: p.completeSite,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.SiteID = args[0]
			if deleteAt != "" {
				var err error
				if body.DeleteAt, err = parseTime(deleteAt); err != nil {
					return usage("--delete-at: %w", err)
				}
			}
			return p.backupCreate(cmd.Context(), body, key, wait)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&body.KeepDays, "keep-days", 0, "keep it this many days (default: as the site says)")
	flags.StringVar(&deleteAt, "delete-at", "", "delete it at this time, such as 2027-01-31 or 2027-01-31T12:00:00Z")
	flags.BoolVar(&wait, "wait", false, "watch until it is over")
	flags.StringVar(&key, "idempotency-key", "", "the same key within 48 hours gives the same backup (default: a new one each time)")
	cmd.MarkFlagsMutuallyExclusive("keep-days", "delete-at")
	return cmd
}

func (p *program) backupCreate(ctx context.Context, body api.CreateBackupBody, key string, wait bool) error {
	c, err := p.connect()
	if err != nil {
		return err
	}
	job, err := c.CreateBackup(ctx, body, key)
	if err != nil {
		return err
	}
	return p.started(ctx, c, job, wait)
}

// started shows a job that was just created or retried, and watches it if asked to.
func (p *program) started(ctx context.Context, c *client.Client, job api.Backup, wait bool) error {
	if wait {
		return p.watch(ctx, c, job.JobID)
	}
	if err := showOne(p, job, p.jobFacts(job)); err != nil {
		return err
	}
	if p.outputFormat() == formatTable {
		fmt.Fprintf(p.err, "Watch it with: sitevault backup watch %s\n", job.JobID)
	}
	return nil
}

// parseTime reads a date, which means its start in the user's zone, or an exact time.
func parseTime(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a date such as 2027-01-31 nor a time such as 2027-01-31T12:00:00Z", text)
}

func (p *program) backupListCommand() *cobra.Command {
	var siteID string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List backups, newest first", Args: arguments(0, 0),
		Example: "  sitevault backup list --site shop\n  sitevault backup list -o jsonl --limit 0",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usage("--limit is 0 for all, or more")
			}
			return p.backupList(cmd.Context(), siteID, limit)
		},
	}
	cmd.Flags().StringVar(&siteID, "site", "", "only backups of this site")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	complete(cmd, "site", p.completeSite)
	return cmd
}

func (p *program) backupList(ctx context.Context, siteID string, limit int) error {
	c, err := p.connect()
	if err != nil {
		return err
	}
	jobs, more := []api.Backup{}, false
	for job, err := range c.Backups(ctx, siteID) {
		if err != nil {
			return err
		}
		if more = limit > 0 && len(jobs) == limit; more {
			break
		}
		jobs = append(jobs, job)
	}
	if err := showAll(p, p.jobColumns(), jobs); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(p.err, "There are more; --limit 0 lists all.\n")
	}
	return nil
}

func (p *program) jobColumns() columns[api.Backup] {
	return columns[api.Backup]{
		{"BACKUP", func(j api.Backup) string { return j.JobID }},
		{"SITE", func(j api.Backup) string { return j.SiteID }},
		{"STATUS", func(j api.Backup) string { return p.status(j.Status) }},
		{"TRIGGER", func(j api.Backup) string { return string(j.Trigger) }},
		{"CREATED", func(j api.Backup) string { return at(j.CreatedAt) }},
		{"TOOK", took},
		{"SIZE", func(j api.Backup) string { return size(j.SizeBytes) }},
		{"KEPT UNTIL", func(j api.Backup) string { return at(j.DeleteAt) }},
	}
}

// took is how long the last attempt ran.
func took(j api.Backup) string {
	if j.StartedAt == nil || j.FinishedAt == nil {
		return ""
	}
	d := j.FinishedAt.Sub(*j.StartedAt)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (p *program) jobFacts(j api.Backup) []fact {
	facts := []fact{
		{"Backup", j.JobID}, {"Site", j.SiteID}, {"Status", p.status(j.Status)}, {"Trigger", string(j.Trigger)},
		{"Attempt", strconv.Itoa(j.Attempt)}, {"Created", at(j.CreatedAt)}, {"Started", atPointer(j.StartedAt)},
		{"Finished", atPointer(j.FinishedAt)}, {"Took", took(j)}, {"Size", size(j.SizeBytes)}, {"Kept until", at(j.DeleteAt)},
	}
	if j.Status == backup.Pending || j.Status == backup.Running {
		facts = append(facts, fact{"Given up at", at(j.DeadlineAt)})
	}
	if next := nextTry(j); next != "" {
		facts = append(facts, fact{"Waits", next})
	}
	if text := failingCleanup(j); text != "" {
		facts = append(facts, fact{"Cleanup", text})
	}
	if j.Waiting != nil {
		facts = append(facts, fact{"Waits for", j.Waiting.For + " since " + at(j.Waiting.Since)})
	}
	return facts
}

func (p *program) backupGetCommand() *cobra.Command {
	return p.onJob(&cobra.Command{
		Use: "get BACKUP", Short: "Show a backup and how far it has come", Example: "  sitevault backup get shop@latest",
	}, newestAny, func(ctx context.Context, c *client.Client, id string) error {
		job, _, err := c.Backup(ctx, id)
		if err != nil {
			return err
		}
		if p.outputFormat() != formatTable {
			return showOne(p, job, nil)
		}
		if err := showOne(p, job, p.jobFacts(job.Backup)); err != nil {
			return err
		}
		fmt.Fprintln(p.out)
		if err := printTable(p, fileColumns, job.Files); err != nil {
			return err
		}
		for _, line := range (lastErrors{}).news(job) {
			fmt.Fprintln(p.out, "\n"+line)
		}
		if job.Status == backup.Failed {
			fmt.Fprint(p.out, "\n"+failureText(job))
		}
		return nil
	})
}

var fileColumns = columns[api.File]{
	{"FILE", func(f api.File) string { return f.Name }},
	{"STATUS", func(f api.File) string { return f.Status }},
	{"SIZE", func(f api.File) string { return size(f.SizeBytes) }},
	{"PARTS", func(f api.File) string {
		if f.Progress.TotalParts == 0 {
			return ""
		}
		return fmt.Sprintf("%d of %d", f.Progress.Parts, f.Progress.TotalParts)
	}},
	{"ENTRIES", func(f api.File) string {
		if f.Archive == nil {
			return ""
		}
		return strconv.FormatInt(f.Archive.Entries, 10)
	}},
	{"CRC64NVME", func(f api.File) string { return f.CRC64NVME }},
}

func (p *program) backupRetryCommand() *cobra.Command {
	var wait bool
	cmd := p.onJob(&cobra.Command{
		Use: "retry BACKUP", Short: "Try a failed backup again; finished work is kept",
	}, newestAny, func(ctx context.Context, c *client.Client, id string) error {
		job, err := c.RetryBackup(ctx, id)
		if err != nil {
			return err
		}
		return p.started(ctx, c, job, wait)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "watch until it is over")
	return cmd
}

func (p *program) backupCancelCommand() *cobra.Command {
	return p.onJob(&cobra.Command{
		Use: "cancel BACKUP", Short: "Cancel a pending or running backup and remove what it has stored",
	}, newestAny, func(ctx context.Context, c *client.Client, id string) error {
		job, err := c.CancelBackup(ctx, id)
		if err != nil {
			return err
		}
		return showOne(p, job, p.jobFacts(job))
	})
}

func (p *program) backupKeepCommand() *cobra.Command {
	var until string
	var days int
	cmd := p.onJob(&cobra.Command{
		Use: "keep BACKUP", Short: "Change until when a good backup is kept",
		Example: "  sitevault backup keep shop@latest --days 365\n  sitevault backup keep 01JD3Z8Q7V5X2M4N6P8R0S1T2V --until 2027-12-31",
	}, newestGood, func(ctx context.Context, c *client.Client, id string) error {
		deleteAt := p.now().AddDate(0, 0, days)
		if until != "" {
			var err error
			if deleteAt, err = parseTime(until); err != nil {
				return usage("--until: %w", err)
			}
		}
		job, err := c.KeepBackup(ctx, id, deleteAt)
		if err != nil {
			return err
		}
		return showOne(p, job, p.jobFacts(job))
	})
	cmd.Flags().StringVar(&until, "until", "", "date or time, such as 2027-12-31 or 2027-12-31T12:00:00Z")
	cmd.Flags().IntVar(&days, "days", 0, "this many days from now")
	cmd.MarkFlagsOneRequired("until", "days")
	cmd.MarkFlagsMutuallyExclusive("until", "days")
	return cmd
}

func (p *program) backupDeleteCommand() *cobra.Command {
	var yes bool
	cmd := p.onJob(&cobra.Command{
		Use: "delete BACKUP", Short: "Delete a backup",
	}, newestGood, func(ctx context.Context, c *client.Client, id string) error {
		job, _, err := c.Backup(ctx, id)
		if err != nil {
			return err
		}
		question := fmt.Sprintf("Delete the %s backup of %s from %s (%s, %s)? It cannot be had back", job.Status, job.SiteID, at(job.CreatedAt), size(job.SizeBytes), id)
		if err := p.confirm(yes, question); err != nil {
			return err
		}
		deleted, err := c.DeleteBackup(ctx, id)
		if err != nil {
			return err
		}
		return showOne(p, deleted, p.jobFacts(deleted))
	})
	yesFlag(cmd, &yes)
	return cmd
}

func (p *program) backupTasksCommand() *cobra.Command {
	return p.onJob(&cobra.Command{
		Use: "tasks BACKUP", Short: "List the tasks of a backup",
	}, newestAny, func(ctx context.Context, c *client.Client, id string) error {
		tasks := []api.Task{}
		for task, err := range c.Tasks(ctx, id) {
			if err != nil {
				return err
			}
			tasks = append(tasks, task)
		}
		return showAll(p, taskColumns, tasks)
	})
}

var taskColumns = columns[api.Task]{
	{"TASK", func(t api.Task) string { return t.TaskID }},
	{"TYPE", func(t api.Task) string { return string(t.Type) }},
	{"STATUS", func(t api.Task) string { return string(t.Status) }},
	{"FILE", func(t api.Task) string { return t.Params.File }},
	{"PARTS", func(t api.Task) string {
		if t.Params.FirstPart == 0 {
			return ""
		}
		return fmt.Sprintf("%d-%d", t.Params.FirstPart, t.Params.LastPart)
	}},
	{"ERROR", func(t api.Task) string {
		if t.Error == nil {
			return ""
		}
		return t.Error.Message
	}},
}

// failureText says why a backup failed and what to do, a line each.
func failureText(job api.BackupDetail) string {
	if job.Error == nil {
		return fmt.Sprintf("Backup %s of site %s failed.\n", job.JobID, job.SiteID)
	}
	return failureReason(job) + "Earlier backups and the site itself are untouched.\n" + remedy(job)
}

// failureReason is what the job's Error says.
func failureReason(job api.BackupDetail) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Backup %s of site %s failed", job.JobID, job.SiteID)
	f := job.Error
	fmt.Fprintf(&b, ": %s\n", plain(f.Message))
	if f.File != "" {
		fmt.Fprintf(&b, "  export:  %s\n", plain(f.File))
	}
	if f.Detail != "" {
		fmt.Fprintf(&b, "  detail:  %s\n", plain(f.Detail))
	}
	for _, file := range job.Files {
		if file.Error != nil && file.Name != f.File {
			fmt.Fprintf(&b, "  also:    %s: %s %s\n", plain(file.Name), plain(file.Error.Message), plain(file.Error.Detail))
		}
	}
	return b.String()
}

// remedy is what helps against a failure, with the exact next command.
func remedy(job api.BackupDetail) string {
	create := "sitevault backup create " + job.SiteID + " --wait"
	change := "sitevault site put " + job.SiteID
	switch job.Error.Kind {
	case backup.Cancelled:
		return "Next: " + create + "\n"
	case backup.ProviderRefused, backup.SecretMissing:
		return "A retry cannot help before the secret is right.\nNext: sitevault secret put NAME, as in the site's exports (sitevault site get " + job.SiteID + "), then " + create + "\n"
	case backup.AddressForbidden:
		return "A retry cannot help before the address is allowed.\nNext: let whoever runs the service allow it (--allow-host ADDRESS; on AWS the setting allowHosts), or use a public https URL, then " + create + "\n"
	case backup.SecretExposed:
		return "A retry cannot help before the URL is an https one.\nNext: " + change + " --provider NAME=URL,secret=SECRET, then " + create + "\n"
	case backup.ExportTooLarge:
		return "A retry cannot help before the limit is raised.\nNext: " + change + " --max-bytes SIZE, then " + create + "\n"
	case backup.ProviderNotFound, backup.ProviderRedirected:
		return "A retry cannot help before the URL is right.\nNext: " + change + " --provider NAME=URL, then " + create + "\n"
	}
	if job.Error.Retryable && job.Retries < backup.MaxRetries {
		kept := "what is finished is kept"
		if job.Error.Kind == backup.TimedOut {
			kept = "exports that were finished are kept, others begin anew"
		}
		return "A retry can help; " + kept + ".\nNext: sitevault backup retry " + job.JobID + " --wait\n"
	}
	if job.Error.Retryable {
		return "It was tried " + strconv.Itoa(job.Attempt) + " times.\nNext: " + create + "\n"
	}
	return "A retry cannot help before the cause is mended.\nNext: mend it, then " + create + "\n"
}
