package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/local"
	"github.com/sitevault/sitevault/internal/storagecheck"
)

const storageCheckHelp = `Try whether a bucket can hold backups: whether what is stored in it can be proven and deleted. It takes some thirty
requests and 5 MiB, and nothing of it stays. "sitevault serve" does the same at its start, and remembers it for a week.

The bucket is named as for "sitevault serve", by flags or by the same variables; the keys come from AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY. docs/storage.md tells what is known of the storages that there are.

Exit codes: 0 the storage can be used, 1 it is refused, 2 the command line is not valid, 6 it does not answer.`

const storageCheckExample = `  AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... sitevault storage check \
    --s3-endpoint https://minio.example.org --s3-bucket backups --s3-path-style`

func storageFlags(flags *pflag.FlagSet, c *local.S3) {
	flags.StringVar(&c.Endpoint, "s3-endpoint", "", "URL of an S3 storage (default: an S3 server on a folder, started for you)")
	flags.StringVar(&c.Bucket, "s3-bucket", "", "bucket for the archives; must exist at --s3-endpoint")
	flags.StringVar(&c.Region, "s3-region", "us-east-1", "region of --s3-endpoint")
	flags.BoolVar(&c.PathStyle, "s3-path-style", false, "put the bucket into the path instead of the host name, as most storages but Amazon's want it")
}

// checkS3 checks what --s3-endpoint needs. The AWS SDK reads the keys itself, with a session token where there is one.
func (p *program) checkS3(c local.S3) error {
	if u, err := url.Parse(c.Endpoint); err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return usage("--s3-endpoint is a URL such as https://s3.eu-central-1.amazonaws.com")
	}
	if c.Bucket == "" || p.getenv("AWS_ACCESS_KEY_ID") == "" || p.getenv("AWS_SECRET_ACCESS_KEY") == "" {
		return usage("--s3-endpoint needs --s3-bucket, and the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return nil
}

func (p *program) storageCommand() *cobra.Command {
	return groupCommand(&cobra.Command{Use: "storage", Short: "Try a storage before it is used"}, p.storageCheckCommand())
}

func (p *program) storageCheckCommand() *cobra.Command {
	var c local.S3
	cmd := &cobra.Command{
		Use: "check", Short: "Try whether a bucket can hold backups", Long: storageCheckHelp, Example: storageCheckExample, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.checkStorage(cmd, c) },
	}
	storageFlags(cmd.Flags(), &c)
	p.fromEnvironment(cmd, "SITEVAULT_")
	return cmd
}

// storageSilent ends a check of a storage that does not answer.
type storageSilent struct{ error }

func (e *storageSilent) Unwrap() error { return e.error }

func (p *program) checkStorage(cmd *cobra.Command, c local.S3) error {
	if err := p.checkS3(c); err != nil {
		return err
	}
	done := func(storagecheck.Step) {}
	if p.outputFormat() == formatTable {
		done = p.printStep
	}
	report, err := local.CheckStorage(cmd.Context(), c, done)
	if p.outputFormat() != formatTable {
		if printed := showOne(p, report, nil); printed != nil {
			return printed
		}
	} else if err == nil {
		fmt.Fprintf(p.out, "Bucket %s at %s can be used.\n", c.Bucket, c.Endpoint)
	}
	if backup.Is(err, backup.StorageUnavailable) {
		return &storageSilent{err}
	}
	return err
}

func (p *program) printStep(s storagecheck.Step) {
	mark := "✓"
	if !s.OK {
		mark = "✗"
	}
	line := fmt.Sprintf("%s %6d ms  %s", mark, s.Milliseconds, s.Name)
	if s.Note != "" {
		line += " (" + plain(s.Note) + ")"
	}
	fmt.Fprintln(p.out, line)
}
