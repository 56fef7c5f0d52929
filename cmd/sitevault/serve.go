package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/identity"
	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/transfer"
)

const serveHelp = `Run the whole service on this machine: the API, the live progress, the daily runs, and the same state machine
that runs on AWS. Jobs lie in a SQLite file; a service that was killed goes on where it was.

Archives go to an S3 server (versitygw) that is started for you on a folder below --data, or to any S3 storage that
--s3-endpoint names. Its keys come from the environment only: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Such a storage
is tried before it is trusted, as "sitevault storage check" does; one that cannot prove or delete is refused at the start.

Exports are fetched from public addresses only. A site on this machine or in your own network is allowed by name,
address or block: --allow-host 127.0.0.1:8421, --allow-host 10.0.0.0/8, --allow-host nas.local.

Without --issuer there is no sign-in, and the service listens on this machine only. With it, every user of that OpenID
Connect issuer has sites and backups of their own.

SIGINT or SIGTERM ends it cleanly; running backups go on at the next start. A second signal ends it at once.`

const serveExample = `  sitevault serve --allow-host 127.0.0.1:8421
  sitevault serve --data /srv/sitevault --listen 127.0.0.1:9000 --log-format json
  AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... sitevault serve \
    --s3-endpoint https://s3.eu-central-1.amazonaws.com --s3-region eu-central-1 --s3-bucket my-backups`

// serveFlags are what only the command line knows.
type serveFlags struct {
	data      string
	limits    limitFlags
	logFormat string
	logLevel  string
	quotas    backup.Quotas // bytes in GiB
}

// quotaFlags limit users who share the service. Whoever has it alone is limited only by what is asked for.
func quotaFlags(cmd *cobra.Command, f *serveFlags) {
	add := func(place *int64, name string, preset int64, what string) {
		cmd.Flags().Int64Var(place, name, preset, what+"; 0: no limit (default without --issuer)")
	}
	preset := backup.DefaultQuotas()
	add(&f.quotas.Sites, quotaPrefix+"sites", preset.Sites, "sites that a user may have")
	add(&f.quotas.ActiveJobs, quotaPrefix+"active", preset.ActiveJobs, "pending and running backups that a user may have")
	add(&f.quotas.StoredBytes, quotaPrefix+"stored-gib", preset.StoredBytes>>30, "GiB that a user's backups may take up in the storage")
	add(&f.quotas.FetchedBytes, quotaPrefix+"fetched-gib", preset.FetchedBytes>>30, "GiB that a user's backups may fetch on one day (UTC)")
	add(&f.quotas.Sockets, quotaPrefix+"sockets", preset.Sockets, "live sockets that a user may have open")
	add(&f.quotas.Requests, quotaPrefix+"requests", preset.Requests, "requests a second that a user may make, twice as many at once")
}

const quotaPrefix = "quota-"

// quotasOf are the quotas in force.
func quotasOf(cmd *cobra.Command, f serveFlags, shared bool) (backup.Quotas, error) {
	q := f.quotas
	for name, place := range map[string]*int64{
		"sites": &q.Sites, "active": &q.ActiveJobs, "stored-gib": &q.StoredBytes, "fetched-gib": &q.FetchedBytes, "sockets": &q.Sockets, "requests": &q.Requests,
	} {
		if !shared && !cmd.Flags().Changed(quotaPrefix+name) {
			*place = 0
		}
		if *place < 0 || *place > maxQuota {
			return q, usage("--%s%s is 0 to %d", quotaPrefix, name, int64(maxQuota))
		}
	}
	q.StoredBytes, q.FetchedBytes = q.StoredBytes<<30, q.FetchedBytes<<30
	return q, nil
}

const maxQuota = 1_000_000_000

func (p *program) serveCommand() *cobra.Command {
	config, f := local.DefaultConfig(""), serveFlags{}
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the whole service on this machine", Long: serveHelp, Example: serveExample, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd, config, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Listen, "listen", config.Listen, "address to listen on; port 0 takes a free one")
	f.limits.register(flags)
	storageFlags(flags, &config.S3)
	flags.StringVar(&config.VersityGW, "versitygw", "", "path of the versitygw program (default: beside this program, in bin/ or in PATH)")
	flags.StringSliceVar(&config.AllowHosts, "allow-host", nil, "address, block or name that exports may come from although it is not public, and that secrets are sent to without TLS (repeatable)")
	flags.StringVar(&config.Issuer, "issuer", "", "https URL of the OpenID Connect issuer whose tokens are accepted (default: no sign-in, one local user)")
	flags.StringVar(&config.Audience, "audience", "", "audience that the tokens of --issuer must have")
	flags.StringVar(&config.MetricsListen, "metrics-listen", "", "loopback address for /metrics (default: with the API, and with --issuer nowhere)")
	flags.DurationVar(&config.Policy.JobTimeout, "job-timeout", config.Policy.JobTimeout, "a backup is given up after this time; at most 6h")
	flags.DurationVar(&config.Policy.FailedKeep, "failed-keep", config.Policy.FailedKeep, "a failed backup is deleted after this time")
	flags.DurationVar(&config.Policy.RetryWindow, "retry-window", config.Policy.RetryWindow, "parts of a failed backup wait this long for a retry")
	flags.IntVar(&config.Executions, "executions", config.Executions, "backups at work at the same time; more wait. One that waits for its provider or for a retry does not count")
	flags.Var((*byteSize)(&config.MemoryBytes), "memory", "memory for bytes on their way to the storage, of all backups together")
	quotaFlags(cmd, &f)
	p.logFlags(cmd, &f)
	p.fromEnvironment(cmd, "SITEVAULT_")
	p.dataFlag(cmd, &f.data)
	flags.SortFlags = false
	return cmd
}

func (p *program) dataFlag(cmd *cobra.Command, data *string) {
	cmd.Flags().StringVar(data, "data", p.defaultData(), "data folder of the service [$SITEVAULT_DATA]")
	if err := cmd.MarkFlagDirname("data"); err != nil {
		panic(err)
	}
}

func (p *program) logFlags(cmd *cobra.Command, f *serveFlags) {
	cmd.Flags().StringVar(&f.logFormat, "log-format", "text", "text or json; the log goes to standard error")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	complete(cmd, "log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
}

// defaultData is where the environment or the XDG Base Directory Specification wants it.
func (p *program) defaultData() string {
	if data := p.getenv("SITEVAULT_DATA"); data != "" {
		return data
	}
	if data := p.below("XDG_DATA_HOME", "sitevault"); data != "" {
		return data
	}
	return p.below("HOME", ".local", "share", "sitevault")
}

// below is a path below the folder that a variable names; "" without one, since no other place is meant.
func (p *program) below(variable string, elements ...string) string {
	base := p.getenv(variable)
	if !filepath.IsAbs(base) {
		return ""
	}
	return filepath.Join(append([]string{base}, elements...)...)
}

func (p *program) logger(f serveFlags) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, usage("--log-level is debug, info, warn or error, not %q", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(p.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(p.err, options)), nil
	}
	return nil, usage("--log-format is text or json, not %q", f.logFormat)
}

// gcPercent keeps the peak of the memory near what is in use. A transfer of any length works on the same few buffers
// and makes little garbage, so that collecting it sooner costs next to nothing.
const gcPercent = 40

func (p *program) serve(cmd *cobra.Command, c local.Config, f serveFlags) (err error) {
	if c.Log, err = p.logger(f); err != nil {
		return err
	}
	if f.data == "" {
		return usage("no data folder: give --data, since neither XDG_DATA_HOME nor HOME is set")
	}
	if c.DataDir, err = filepath.Abs(f.data); err != nil {
		return err
	}
	if c.Limits, err = f.limits.limits(); err != nil {
		return err
	}
	c.Version, c.Now = p.version, p.now
	if p.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := p.completeServe(&c); err != nil {
		return err
	}
	if c.Quotas, err = quotasOf(cmd, f, c.Issuer != ""); err != nil {
		return err
	}
	service, err := local.Open(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	p.announceService(p.out, service.URL(), service.MetricsURL(), c)
	return service.Serve(cmd.Context())
}

// completeServe checks what belongs together and takes the storage's keys from the environment.
func (p *program) completeServe(c *local.Config) error {
	if c.Executions < 1 {
		return usage("--executions is at least 1")
	}
	if least := byteSize(transfer.LeastBudgetBytes); c.MemoryBytes < int64(least) {
		return usage("--memory is at least %s", least.String())
	}
	if c.Policy.JobTimeout > backup.DefaultJobTimeout {
		return usage("--job-timeout is at most %s, after which the state machine ends an attempt", backup.DefaultJobTimeout)
	}
	if c.Policy.JobTimeout <= 0 || c.Policy.FailedKeep <= 0 || c.Policy.RetryWindow < 0 {
		return usage("--job-timeout and --failed-keep are more than 0, --retry-window is not less")
	}
	if (c.Issuer == "") != (c.Audience == "") {
		return usage("--issuer and --audience belong together")
	}
	if err := checkIssuer(c.Issuer); err != nil {
		return err
	}
	if c.S3.Endpoint == "" {
		if c.S3.Bucket == "" {
			c.S3.Bucket = "sitevault"
		}
		return nil
	}
	return p.checkS3(c.S3)
}

func checkIssuer(issuer string) error {
	if issuer == "" {
		return nil
	}
	if err := identity.CheckIssuer(issuer); err != nil {
		return usage("--issuer: %w", err)
	}
	return nil
}

func (p *program) announceService(w io.Writer, address, metrics string, c local.Config) {
	fmt.Fprintf(w, "Sitevault %s listens on %s\n", p.version, address)
	if metrics != "" {
		fmt.Fprintf(w, "Metrics are at %s/metrics\n", metrics)
	}
	fmt.Fprintf(w, "Data lies in %s\n", c.DataDir)
	if c.S3.Endpoint != "" {
		fmt.Fprintf(w, "Archives lie in bucket %s at %s\n", c.S3.Bucket, c.S3.Endpoint)
	}
	server := ""
	if address != defaultServer {
		server = " --server " + address
	}
	fmt.Fprintf(w, "Next: sitevault%s site put my-site --provider files=URL-OF-AN-EXPORT\n", server)
	fmt.Fprintf(w, "      (sitevault agent --files FOLDER exports a folder of this machine and prints its URL)\n")
}

const shutdownTime = 10 * time.Second
