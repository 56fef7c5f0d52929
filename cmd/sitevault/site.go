package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/client"
)

const sitePutHelp = `Register a site, or change one: what a change does not name stays as it is. --provider replaces the whole list of
providers.

A provider is one export of the site: a name of your choice, the URL that serves it as a zip archive, and the name of
the secret that opens it, if there is one (see: sitevault secret put).`

const sitePutExample = `  sitevault site put shop --provider files=http://127.0.0.1:8421/files --provider database=http://127.0.0.1:8421/database
  sitevault site put shop --provider files=https://shop.example.com/export/files,secret=shop --keep-days 30
  sitevault site put shop --at 03:30 --time-zone Europe/Berlin
  sitevault site put shop --no-schedule
  sitevault site put shop --max-bytes 50GB --parallelism 8`

func (p *program) siteCommand() *cobra.Command {
	return groupCommand(&cobra.Command{Use: "site", Short: "Register sites and say when they are backed up"},
		p.sitePutCommand(), p.siteGetCommand(), p.siteListCommand(), p.siteDeleteCommand())
}

// siteFlags are what `site put` may change.
type siteFlags struct {
	providers   []string
	keepDays    int
	at          string
	timeZone    string
	noSchedule  bool
	maxBytes    string
	parallelism int
}

func (p *program) sitePutCommand() *cobra.Command {
	f := siteFlags{}
	cmd := &cobra.Command{
		Use: "put SITE", Short: "Register or change a site", Long: sitePutHelp, Example: sitePutExample,
		Args: arguments(1, 1), ValidArgsFunction: p.completeSite,
		RunE: func(cmd *cobra.Command, args []string) error { return p.sitePut(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.providers, "provider", nil, "export as NAME=URL or NAME=URL,secret=SECRET (repeatable; a new site needs one)")
	flags.IntVar(&f.keepDays, "keep-days", 0, fmt.Sprintf("keep a backup this many days (default %d)", backup.DefaultKeepDays))
	flags.StringVar(&f.at, "at", "", "time of the daily backup, HH:MM (default: some minute between 00:00 and 05:59)")
	flags.StringVar(&f.timeZone, "time-zone", "", "time zone of --at, such as Europe/Berlin (default UTC)")
	flags.BoolVar(&f.noSchedule, "no-schedule", false, "no daily backup")
	flags.StringVar(&f.maxBytes, "max-bytes", "", "fail when one export is larger, such as 50GB (default 1TiB)")
	flags.IntVar(&f.parallelism, "parallelism", 0, fmt.Sprintf("ranges pulled at the same time (default %d)", backup.DefaultParallelism))
	cmd.MarkFlagsMutuallyExclusive("at", "no-schedule")
	flags.SortFlags = false
	return cmd
}

func (p *program) sitePut(cmd *cobra.Command, siteID string, f siteFlags) error {
	c, err := p.connect()
	if err != nil {
		return err
	}
	site, etag, err := c.Site(cmd.Context(), siteID)
	if err != nil && !absent(err) {
		return err
	}
	body := api.SiteBody{Providers: site.Providers, Schedule: site.Schedule, KeepDays: site.KeepDays, Limits: site.Limits}
	if err := f.apply(cmd.Flags().Changed, &body); err != nil {
		return err
	}
	if len(body.Providers) == 0 {
		return usage("a new site needs an export: --provider NAME=URL")
	}
	site, err = c.PutSite(cmd.Context(), siteID, body, etag)
	if err != nil {
		return err
	}
	return p.showSite(site)
}

func absent(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return ok && refused.Problem.Status == http.StatusNotFound
}

func (f siteFlags) apply(changed func(string) bool, body *api.SiteBody) error {
	if len(f.providers) > 0 {
		body.Providers = nil
	}
	for _, text := range f.providers {
		provider, err := parseProvider(text)
		if err != nil {
			return err
		}
		body.Providers = append(body.Providers, provider)
	}
	if changed("keep-days") {
		body.KeepDays = f.keepDays
	}
	if changed("parallelism") {
		body.Limits.Parallelism = f.parallelism
	}
	f.applySchedule(changed, &body.Schedule)
	if !changed("max-bytes") {
		return nil
	}
	n, ok := parseSize(f.maxBytes, backup.MaxFileBytes)
	if !ok {
		return usage("--max-bytes is a size such as 50GB, at most %s, not %q", humanize.IBytes(uint64(backup.MaxFileBytes)), f.maxBytes)
	}
	body.Limits.MaxFileBytes = n
	return nil
}

// parseSize reads a size such as 50GB of at least one byte and at most maxBytes.
func parseSize(text string, maxBytes int64) (sizeBytes int64, ok bool) {
	n, err := humanize.ParseBytes(text)
	return int64(n), err == nil && n > 0 && n <= uint64(maxBytes)
}

func (f siteFlags) applySchedule(changed func(string) bool, s *backup.Schedule) {
	if changed("no-schedule") {
		s.Off = f.noSchedule
	}
	if changed("at") {
		s.Off, s.At = false, f.at
	}
	if changed("time-zone") {
		s.TimeZone = f.timeZone
	}
}

// parseProvider reads NAME=URL[,secret=NAME]. A URL may hold commas, so only a last ",secret=" counts.
func parseProvider(text string) (backup.Provider, error) {
	name, address, ok := strings.Cut(text, "=")
	if !ok || name == "" || address == "" {
		return backup.Provider{}, usage("--provider is NAME=URL or NAME=URL,secret=SECRET, not %q", text)
	}
	p := backup.Provider{Name: name, URL: address}
	if i := strings.LastIndex(address, ",secret="); i >= 0 {
		p.URL, p.SecretRef = address[:i], address[i+len(",secret="):]
		if p.SecretRef == "" {
			return backup.Provider{}, usage("--provider %s: the name of the secret is missing after secret=", name)
		}
	}
	return p, nil
}

func (p *program) siteGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get SITE", Short: "Show a site", Args: arguments(1, 1), ValidArgsFunction: p.completeSite,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.connect()
			if err != nil {
				return err
			}
			site, _, err := c.Site(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.showSite(site)
		},
	}
}

func (p *program) showSite(site api.Site) error {
	facts := []fact{{"Site", site.SiteID}}
	for _, provider := range site.Providers {
		facts = append(facts, fact{"Export", provider.Name + "  " + provider.URL + secretNote(provider)})
	}
	return showOne(p, site, append(facts,
		fact{"Daily backup", schedule(site)}, fact{"Next backup", atPointer(site.NextRunAt)},
		fact{"Kept", strconv.Itoa(site.KeepDays) + " days"}, fact{"Largest export", size(site.Limits.MaxFileBytes)},
		fact{"Parallelism", strconv.Itoa(site.Limits.Parallelism)}, fact{"Registered", at(site.CreatedAt)}))
}

func secretNote(p backup.Provider) string {
	if p.SecretRef == "" {
		return ""
	}
	return "  (secret " + p.SecretRef + ")"
}

func schedule(site api.Site) string {
	if site.Schedule.Off {
		return "off"
	}
	zone := site.Schedule.TimeZone
	if zone == "" {
		zone = "UTC"
	}
	return site.Schedule.At + " " + zone
}

func (p *program) siteListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List sites", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.connect()
			if err != nil {
				return err
			}
			sites := []api.Site{}
			for site, err := range c.Sites(cmd.Context()) {
				if err != nil {
					return err
				}
				sites = append(sites, site)
			}
			if err := showAll(p, siteColumns, sites); err != nil || len(sites) > 0 || p.outputFormat() != formatTable {
				return err
			}
			fmt.Fprintln(p.err, "No site yet. Register one with: sitevault site put my-site --provider files=URL")
			return nil
		},
	}
}

var siteColumns = columns[api.Site]{
	{"SITE", func(s api.Site) string { return s.SiteID }},
	{"EXPORTS", func(s api.Site) string {
		names := make([]string, len(s.Providers))
		for i, provider := range s.Providers {
			names[i] = provider.Name
		}
		slices.Sort(names)
		return strings.Join(names, ", ")
	}},
	{"DAILY", schedule},
	{"NEXT BACKUP", func(s api.Site) string { return atPointer(s.NextRunAt) }},
	{"KEPT", func(s api.Site) string { return strconv.Itoa(s.KeepDays) + " days" }},
}

func (p *program) siteDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete SITE", Short: "Remove a site; its backups stay until their time is over", Args: arguments(1, 1), ValidArgsFunction: p.completeSite,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.connect()
			if err != nil {
				return err
			}
			if err := p.confirm(yes, "Remove site "+args[0]+"? It will not be backed up any more"); err != nil {
				return err
			}
			return c.DeleteSite(cmd.Context(), args[0])
		},
	}
	yesFlag(cmd, &yes)
	return cmd
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask")
}

// confirm asks a person. Without one to ask, only --yes goes on.
func (p *program) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !p.terminal(p.in) || !p.terminal(p.err) {
		return usage("nobody is here to confirm this; add --yes")
	}
	fmt.Fprintf(p.err, "%s. Continue? [y/N] ", question)
	answer, err := bufio.NewReader(p.in).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}
