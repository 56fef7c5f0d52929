package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitevault/sitevault/internal/exportd"
	"github.com/sitevault/sitevault/internal/httpserver"
	"github.com/sitevault/sitevault/internal/secretfile"
)

const agentHelp = `Export a site to the service: its folder as "files" and its database as "database", each as one zip archive.
Every backup reads one snapshot that does not change under it, kept in --dir until the backup is over.

Databases: MySQL and MariaDB (mysqldump or mariadb-dump must be installed), PostgreSQL (pg_dump), SQLite (built in).
A URL with a password belongs into $SITEVAULT_AGENT_DATABASE rather than on the command line, where other users of the
machine can read it. A token file that others can read is refused.

Without --token-file anybody who reaches the agent can read the site, so it then listens on this machine only and refuses
requests that a web page could make: those that name another host or come from another origin. The agent speaks plain HTTP: let a web server with a certificate stand before it where others can listen on the way. The service
sends a secret unencrypted only to hosts that it was told to allow.`

const agentExample = `  sitevault agent --files /var/www/shop
  sitevault agent --files /var/www/shop --database /var/lib/shop/shop.db --exclude '*.log' --exclude wp-content/cache/
  (umask 077; openssl rand -hex 32 > token)
  SITEVAULT_AGENT_DATABASE='mysql://backup:secret@127.0.0.1/shop' \
    sitevault agent --files /var/www/shop --listen 0.0.0.0:8421 --token-file token`

type agentFlags struct {
	files     string
	database  string
	listen    string
	dir       string
	tokenFile string
	limits    limitFlags
	exclude   []string
	empty     bool
	keep      time.Duration
	maxBytes  string
	log       serveFlags
}

func (p *program) agentCommand() *cobra.Command {
	f := agentFlags{}
	cmd := &cobra.Command{
		Use: "agent", Short: "Export a site's folder and database to the service", Long: agentHelp, Example: agentExample, Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.agent(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.files, "files", "", "folder to export")
	flags.StringVar(&f.database, "database", "", "database to export: path of an SQLite file, or mysql:// or postgres:// URL")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8421", "address to listen on; port 0 takes a free one")
	flags.StringVar(&f.dir, "dir", p.defaultSnapshots(), "folder for snapshots, private to this agent and outside of --files")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token that the service must send")
	flags.StringArrayVar(&f.exclude, "exclude", nil, "pattern of names to leave out, such as '*.log' or 'wp-content/cache/' (repeatable)")
	flags.BoolVar(&f.empty, "allow-empty", false, "export --files also when it holds nothing, which may mean that its disk is not mounted")
	flags.DurationVar(&f.keep, "keep", exportd.DefaultKeepFor, "drop a snapshot this long after its last use")
	flags.StringVar(&f.maxBytes, "max-bytes", "", "most that all snapshots together may take, such as 50GB (default: what the disk has)")
	f.limits.register(flags)
	p.logFlags(cmd, &f.log)
	p.fromEnvironment(cmd, "SITEVAULT_AGENT_")
	flags.SortFlags = false
	return cmd
}

// defaultSnapshots is a cache: what is lost of it, the next backup takes anew.
func (p *program) defaultSnapshots() string {
	if dir := p.below("XDG_CACHE_HOME", "sitevault-agent"); dir != "" {
		return dir
	}
	return p.below("HOME", ".cache", "sitevault-agent")
}

func (p *program) agent(ctx context.Context, f agentFlags) (err error) {
	config, err := p.exportConfig(f)
	if err != nil {
		return err
	}
	limits, err := f.limits.limits()
	if err != nil {
		return err
	}
	listener, err := httpserver.Listen(f.listen, limits, config.Log)
	if err != nil {
		return err
	}
	defer listener.Close()
	if config.Token == "" && !listener.Loopback() {
		return usage("--listen %s: without --token-file anybody who reaches it could read the site; set one, or listen on 127.0.0.1", f.listen)
	}
	exports, err := exportd.New(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, exports.Close()) }()
	p.announceAgent(p.out, reachable(listener.Addr()), config, f)
	return serveHTTP(ctx, listener, exports, config.Log)
}

// reachable is the address under which others find a listener: one on all addresses goes by the machine's name.
func reachable(a net.Addr) string {
	addr, err := netip.ParseAddrPort(a.String())
	if err != nil || !addr.Addr().IsUnspecified() {
		return a.String()
	}
	host, err := os.Hostname()
	if err != nil {
		return a.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(addr.Port())))
}

func (p *program) exportConfig(f agentFlags) (c exportd.Config, err error) {
	if c.Log, err = p.logger(f.log); err != nil {
		return c, err
	}
	if f.keep <= 0 {
		return c, usage("--keep is more than 0")
	}
	if f.dir == "" {
		return c, usage("no folder for snapshots: give --dir, since neither XDG_CACHE_HOME nor HOME is set")
	}
	if f.maxBytes != "" {
		var ok bool
		if c.MaxBytes, ok = parseSize(f.maxBytes, math.MaxInt64); !ok {
			return c, usage("--max-bytes is a size such as 50GB, not %q", f.maxBytes)
		}
	}
	c.Dir, c.KeepFor, c.Now = f.dir, f.keep, p.now
	if c.Exports, err = exportsOf(f); err != nil {
		return c, err
	}
	if f.tokenFile == "" {
		return c, nil
	}
	content, err := secretfile.Read(f.tokenFile, maxTokenBytes)
	if err != nil {
		return c, usage("--token-file: %w", err)
	}
	if c.Token = strings.TrimSpace(string(content)); c.Token == "" {
		return c, usage("--token-file: %s is empty", f.tokenFile)
	}
	return c, nil
}

func exportsOf(f agentFlags) (map[string]exportd.Source, error) {
	exports := map[string]exportd.Source{}
	if f.files != "" {
		folder, err := exportd.Folder(f.files, exportd.FolderOptions{Exclude: f.exclude, AllowEmpty: f.empty})
		if err != nil {
			return nil, usage("--files: %w", err)
		}
		exports["files"] = folder
	}
	if f.database != "" {
		database, err := exportd.ParseDatabase(f.database)
		if err != nil {
			return nil, usage("--database: %w", err)
		}
		exports["database"] = database
	}
	if len(exports) == 0 {
		return nil, usage("nothing to export: give --files FOLDER, --database DATABASE or both")
	}
	return exports, nil
}

func (p *program) announceAgent(w io.Writer, address string, c exportd.Config, f agentFlags) {
	fmt.Fprintf(w, "The agent listens on http://%s and keeps snapshots in %s\n", address, c.Dir)
	fmt.Fprintf(w, "Next, with a service that may call this address (sitevault serve --allow-host %s):\n", address)
	secret := ""
	if c.Token != "" {
		secret = ",secret=my-site"
		fmt.Fprintf(w, "  sitevault secret put my-site --file %s\n", f.tokenFile)
	}
	fmt.Fprint(w, "  sitevault site put my-site")
	for _, name := range slices.Sorted(maps.Keys(c.Exports)) {
		fmt.Fprintf(w, " --provider %s=http://%s/%s%s", name, address, name, secret)
	}
	fmt.Fprintln(w)
}

// serveHTTP serves until ctx ends and then lets running answers end for a while.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := httpserver.New(h, log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(ending) != nil {
		return server.Close()
	}
	return nil
}
