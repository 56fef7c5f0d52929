package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
)

// version is set by the linker (see Makefile).
var version string

// program is what the commands share: the world outside, and the settings that all of them know.
type program struct {
	in       *os.File
	out, err *os.File
	getenv   func(string) string
	environ  func() []string
	now      func() time.Time
	version  string

	server    string
	tokenFile string
	format    string // as asked for; "": table on a terminal, json otherwise
}

func newProgram() *program {
	return &program{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, environ: os.Environ, now: time.Now, version: buildVersion(),
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// run is the whole program but for the process around it; it returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.rootCommand()
	root.SetArgs(args)
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	err := root.ExecuteContext(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Canceled // whatever broke when the user interrupted it
	}
	if err != nil {
		p.explain(err)
	}
	return exitCode(err)
}

const rootHelp = `Sitevault backs up websites: it pulls each site's files and database from their export addresses, stores
them in S3, proves that what is stored is what was exported, and deletes it on time.

One program does it all:
  sitevault serve    runs the whole service on this machine
  sitevault agent    exports a site's folder and database to the service
  every other command is the client of a service: this machine's, or the one that --server names.`

const rootExample = `  sitevault demo                                    # see it work on real input; leaves nothing behind

  sitevault serve --allow-host 127.0.0.1:8421       # terminal 1
  sitevault agent --files /var/www/shop             # terminal 2
  sitevault site put shop --provider files=http://127.0.0.1:8421/files
  sitevault backup create shop --wait
  sitevault backup download shop@latest`

const exitHelp = `
Exit codes:
  0    success
  1    failure
  2    the command line or the values on it are not valid
  3    the backup failed
  4    there is no such site, backup or file
  5    conflict: a backup is under way, or its state does not allow this
  6    the service cannot be reached, or the storage that is checked
  130  interrupted

Environment:
  SITEVAULT_SERVER  address of the service, for --server
  SITEVAULT_TOKEN   bearer token for a service with sign-in (or --token-file)
  NO_COLOR          plain output
`

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "sitevault", Short: "Back up websites", Long: rootHelp, Example: rootExample, Version: p.version,
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs, RunE: group,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return p.checkFlags(cmd) }, SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("sitevault {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	root.SetUsageTemplate(root.UsageTemplate() + `{{if not .HasParent}}` + exitHelp + `{{end}}`)
	root.CompletionOptions.HiddenDefaultCmd = false
	flags := root.PersistentFlags()
	flags.StringVar(&p.server, "server", "", "address of the service (default $SITEVAULT_SERVER, else "+defaultServer+")")
	flags.StringVar(&p.tokenFile, "token-file", "", "file with the bearer token for a service with sign-in (default: $SITEVAULT_TOKEN holds the token)")
	flags.StringVarP(&p.format, "output", "o", "", "table, json or jsonl (default: table on a terminal, else json)")
	complete(root, "output", cobra.FixedCompletions([]string{formatTable, formatJSON, formatLines}, cobra.ShellCompDirectiveNoFileComp))
	root.AddGroup(
		&cobra.Group{ID: "client", Title: "Sites and backups:"},
		&cobra.Group{ID: "run", Title: "Run it:"},
	)
	p.add(root, "run", p.serveCommand(), p.agentCommand(), p.secretCommand(), p.userIDCommand(), p.storageCommand(), p.demoCommand())
	p.add(root, "client", p.siteCommand(), p.backupCommand())
	p.add(root, "", p.versionCommand(), p.openapiCommand(), p.keeperCommand())
	return root
}

func (p *program) add(parent *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		parent.AddCommand(c)
	}
}

// group is what a command does that only holds others: it shows them, and refuses a name that none of them has.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usage("%s", text)
}

// groupCommand holds others.
func groupCommand(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args, c.RunE = cobra.ArbitraryArgs, group
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(children...)
	return c
}

// arguments makes a mismatch of the positional arguments a usage error that names them.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("something is missing: %s", cmd.UseLine())
		case len(args) > most:
			return usage("%q is one argument too many: %s", args[most], cmd.UseLine())
		}
		return nil
	}
}

// complete registers the completion of a flag's values.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag does not exist
	}
}

func (p *program) terminal(f io.Writer) bool {
	file, ok := f.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, "sitevault", p.version)
			return err
		},
	}
}
