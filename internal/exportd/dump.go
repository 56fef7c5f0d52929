package exportd

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	// dumpTailBytes is where the end mark is looked for; after it come at most a few short lines.
	dumpTailBytes = 1 << 10
	// dumpStderrBytes bounds what is kept of a tool's complaints.
	dumpStderrBytes = 4 << 10
	// dumpWaitDelay is how long a stopped tool's own children may hold its pipes open.
	dumpWaitDelay = 5 * time.Second
)

// inherited are the variables that a dump tool sees of the agent's environment, which also holds secrets of no concern to it.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT",
	"PGPASSFILE", "PGSERVICEFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY",
}

// dump is the source of a database that its own tool writes as SQL text to standard output.
type dump struct {
	tools    []string // names or paths, the first one found is run
	args     func(tool string) []string
	password string // reaches the tool by variable only, never by argv, and is struck from what it says
	variable string // the environment variable that the tool reads the password from
	entry    string // the archive's one entry
	endMark  string // what the tool writes last; a dump without it was cut short
}

var _ Source = (*dump)(nil)

func (d *dump) Snapshot(ctx context.Context, w io.Writer) (Report, error) {
	tool, err := d.find()
	if err != nil {
		return Report{}, err
	}
	a := newArchive(w)
	h := &zip.FileHeader{Name: d.entry, Modified: timeless, Method: zip.Deflate}
	h.SetMode(0o600)
	entry, err := a.create(h)
	if err != nil {
		return Report{}, err
	}
	out, complaints := &tail{out: entry}, &head{}
	err = d.command(ctx, tool, out, complaints).Run()
	if err := d.judge(ctx, tool, err, out, complaints); err != nil {
		return Report{}, err
	}
	report := Report{Entries: 1}
	if said := d.said(tool, complaints); said != "" {
		report.note("%s: %s", tool, said)
	}
	return report, a.Close()
}

func (d *dump) find() (string, error) {
	for _, name := range d.tools {
		if tool, err := exec.LookPath(name); err == nil {
			return tool, nil
		}
	}
	return "", fmt.Errorf("dump tool not found: install %s on the agent's machine", strings.Join(d.tools, " or "))
}

func (d *dump) command(ctx context.Context, tool string, stdout, stderr io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, tool, d.args(tool)...)
	cmd.Env = []string{"LC_ALL=C"}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if d.password != "" {
		cmd.Env = append(cmd.Env, d.variable+"="+d.password)
	}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, dumpWaitDelay
	return cmd
}

// judge finds the first cause: a spool that took no more bytes makes the tool fail too.
func (d *dump) judge(ctx context.Context, tool string, runErr error, out *tail, complaints *head) error {
	switch {
	case out.err != nil:
		return out.err
	case ctx.Err() != nil:
		return ctx.Err()
	case runErr != nil:
		return fmt.Errorf("%s: %w: %s", tool, runErr, d.said(tool, complaints))
	case !bytes.Contains(out.last, []byte(d.endMark)):
		return fmt.Errorf("%s ended without its mark %q, so the dump was cut short: %s", tool, d.endMark, d.said(tool, complaints))
	}
	return nil
}

// said is the tool's standard error, bounded, without the password, which the bound may have cut.
func (d *dump) said(tool string, complaints *head) string {
	text := redact(string(complaints.first), d.password, strings.Join(append(d.args(tool), tool, d.entry), " "))
	if d.password != "" && len(complaints.first) == dumpStderrBytes {
		text = text[:max(0, len(text)-3*len(d.password))] // thrice: it may be percent-encoded
	}
	return strings.ToValidUTF8(strings.TrimSpace(text), "?")
}

// tail passes everything on and keeps the last bytes.
type tail struct {
	out  io.Writer
	last []byte
	err  error
}

func (t *tail) Write(p []byte) (n int, err error) {
	n, t.err = t.out.Write(p)
	t.last = append(t.last, p[:n]...)
	t.last = slices.Delete(t.last, 0, max(0, len(t.last)-dumpTailBytes))
	return n, t.err
}

// head keeps the first bytes and swallows the rest, so that a tool never blocks on its complaints.
type head struct{ first []byte }

func (h *head) Write(p []byte) (int, error) {
	h.first = append(h.first, p[:min(len(p), dumpStderrBytes-len(h.first))]...)
	return len(p), nil
}

// checkDatabaseName refuses what could pass for an option or a path.
func checkDatabaseName(name string) error {
	switch {
	case name == "":
		return errors.New("the database's name is missing")
	case strings.HasPrefix(name, "-"), strings.ContainsAny(name, "/\\\x00\n\r"):
		return errors.New("the database's name must be one word without slashes and line ends that does not begin with a hyphen")
	}
	return nil
}
