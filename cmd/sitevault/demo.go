package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/api"
	"github.com/sitevault/sitevault/internal/demo"
)

const demoHelp = `Back up real input with an agent and a service of its own, download the backup, and compare every file and the
database with the source. It needs no other service, leaves no process and no folder behind (also when it is
interrupted), and fails if anything differs.

Without --site it backs up the tree of the Go toolchain; without --db a SQLite database that it makes of that tree, with
one row for each file. The work folder lies in $TMPDIR and needs about three times the size of the zipped input.`

const demoExample = `  sitevault demo
  sitevault demo --site /var/www/shop --db /var/lib/shop/shop.db
  SITEVAULT_DEMO_DB='mysql://backup:secret@127.0.0.1/shop' sitevault demo --site /var/www/shop`

func (p *program) demoCommand() *cobra.Command {
	config := demo.Config{}
	cmd := &cobra.Command{
		Use: "demo", Short: "See it work on real input; leaves nothing behind", Long: demoHelp, Example: demoExample, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.demo(cmd, config) },
	}
	cmd.Flags().StringVar(&config.SiteDir, "site", "", "folder to back up (default: the Go toolchain's own tree)")
	cmd.Flags().StringVar(&config.Database, "db", "", "database to back up: path of an SQLite file, or URL (default: made of the site's files)")
	cmd.Flags().BoolVar(&config.Keep, "keep", false, "leave the work folder, with the downloaded archives")
	p.fromEnvironment(cmd, "SITEVAULT_DEMO_")
	return cmd
}

func (p *program) demo(cmd *cobra.Command, c demo.Config) (err error) {
	if c.Executable, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	c.Environ, c.NewToken, c.Now = environmentOf(p.environ()), rand.Text, p.now
	show := &demoShower{program: p, out: p.out}
	if p.explicitJSON() {
		show.out = p.err
	}
	c.Reporter = show
	report, err := demo.Run(cmd.Context(), c)
	show.done()
	if failed, ok := errors.AsType[*demo.FailedError](err); ok && failed.Job.Error != nil {
		fmt.Fprint(p.err, failureReason(failed.Job))
	}
	if err != nil {
		return err
	}
	if p.explicitJSON() {
		return showOne(p, report, nil)
	}
	return p.showProof(report)
}

// explicitJSON asks for JSON by name: a demo is for people, also when its output goes to a file.
func (p *program) explicitJSON() bool { return p.format == formatJSON || p.format == formatLines }

func (p *program) showProof(r demo.Report) error {
	fmt.Fprintf(p.out, "\nProven equal to the source:\n")
	fmt.Fprintf(p.out, "  files      %s (%s), %s, %s: bytes, modes, targets; none missing, none extra\n",
		count(r.Files.Files, "file"), humanize.IBytes(uint64(r.Files.Bytes)), count(r.Files.Directories, "directory"), count(r.Files.Links, "link"))
	if r.Files.Special > 0 {
		fmt.Fprintf(p.out, "             %d pipes, sockets or devices were left out: no archive can hold them\n", r.Files.Special)
	}
	rows := ""
	if r.Database.Tables > 0 {
		rows = fmt.Sprintf(" (%s in %s)", count(int(r.Database.Rows), "row"), count(r.Database.Tables, "table"))
	}
	fmt.Fprintf(p.out, "  database   %s%s: %s\n", humanize.IBytes(uint64(r.Database.Bytes)), rows, r.Database.Proven)
	for _, a := range r.Archives {
		fmt.Fprintf(p.out, "  archive    %-9s %s in %s, CRC64NVME %s\n", a.Provider, humanize.IBytes(uint64(a.SizeBytes)), count(a.Parts, "part"), a.CRC64NVME)
	}
	fmt.Fprintf(p.out, "  time       backup %.1f s, download %.1f s, comparison %.1f s\n", r.Seconds.Backup, r.Seconds.Download, r.Seconds.Compare)
	if r.WorkDir != "" {
		fmt.Fprintf(p.out, "Everything is kept in %s\n", r.WorkDir)
		return nil
	}
	_, err := fmt.Fprintf(p.out, "No process and no folder is left behind.\n")
	return err
}

// count is a number of things, such as "1,234 files".
func count(n int, thing string) string {
	return humanize.Comma(int64(n)) + " " + english.PluralWord(n, thing, "")
}

// demoShower prints the steps, and progress between them.
type demoShower struct {
	program *program
	out     io.Writer
	mu      sync.Mutex
	show    shower // while something is under way
}

func (d *demoShower) Step(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endProgress()
	fmt.Fprintln(d.out, plain(text))
}

func (d *demoShower) Backup(job api.BackupDetail) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress().backup(job)
}

func (d *demoShower) Download(provider string, done, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.progress().download(provider, done, total)
}

func (d *demoShower) progress() shower {
	if d.show == nil {
		d.show = d.program.personShower()
	}
	return d.show
}

func (d *demoShower) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endProgress()
}

func (d *demoShower) endProgress() {
	if d.show != nil {
		_ = d.show.close() // nothing that a person is shown can break
		d.show = nil
	}
}

// environmentOf drops the settings of a user's own service, so that a child uses only what it is told.
func environmentOf(environ []string) []string {
	kept := make([]string, 0, len(environ))
	for _, variable := range environ {
		if !strings.HasPrefix(variable, "SITEVAULT_") && !strings.HasPrefix(variable, "AWS_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// keeperCommand is the process that removes the demo's work folder, whatever happens to the demo.
func (p *program) keeperCommand() *cobra.Command {
	var parent string
	cmd := &cobra.Command{
		Use: demo.KeeperCommand, Short: "Keep the work folder of a demo until standard input ends", Hidden: true, Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) // the folder goes when the demo does, not before
			return demo.KeepFolder(parent, p.in, p.out)
		},
	}
	cmd.Flags().StringVar(&parent, "parent", "", "folder to make it in (default $TMPDIR)")
	return cmd
}
