//go:build unix

package exportd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sitevault/sitevault/internal/exportd"
)

const (
	mysqlEnd    = "-- Dump completed\n"
	postgresEnd = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict 3mWb\n\n"
)

// fakeTool makes PATH a folder with little but a shell script, which notes how it was called and then does what body says.
func fakeTool(t *testing.T, name, body string) (path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, name)
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" > '" + path + ".args'\nenv > '" + path + ".env'\n" + body
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, helper := range []string{"env", "head", "tr", "sleep"} {
		real, err := exec.LookPath(helper)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, filepath.Join(dir, helper)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return path
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func database(t *testing.T, url string) exportd.Source {
	t.Helper()
	source, err := exportd.ParseDatabase(url)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// TestDumpCall: the tool gets the connection by arguments, the password by its own variable only, and none of the agent's
// other secrets; its output is the archive's one entry.
func TestDumpCall(t *testing.T) {
	for _, c := range []struct {
		name, tool, url, end string
		args, absent         []string
		variable             string
	}{
		{
			"mysql", "mysqldump", "mysql://site:p%40ss%2Fw0rd@db.example:3307/shop", mysqlEnd,
			[]string{
				"--host=db.example", "--port=3307", "--user=site", "--single-transaction", "--routines", "--triggers", "--events",
				"--hex-blob", "--default-character-set=utf8mb4", "shop",
			},
			nil, "MYSQL_PWD",
		},
		{
			"mariadb by socket", "mariadb-dump", "mariadb://site:p%40ss%2Fw0rd@/shop?socket=/run/db.sock", mysqlEnd,
			[]string{"--socket=/run/db.sock", "--protocol=socket", "shop"},
			[]string{"--host=", "--port=3306"}, "MYSQL_PWD",
		},
		{
			"postgres", "pg_dump", "postgres://site:p%40ss%2Fw0rd@db.example:5433/shop?sslmode=require", postgresEnd,
			[]string{"--format=plain", "--no-password", "--dbname=postgres://site@db.example:5433/shop?sslmode=require"},
			nil, "PGPASSWORD",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("SITEVAULT_TOKEN", "agent-secret")
			tool := fakeTool(t, c.tool, "echo 'CREATE TABLE x;'\nprintf '%s' '"+c.end+"'\necho 'a warning about p@ss/w0rd' >&2\n")
			archive, report := snapshot(t, database(t, c.url))
			z := open(t, archive)
			if len(z.File) != 1 || z.File[0].Name != "shop.sql" || content(t, z.File[0]) != "CREATE TABLE x;\n"+c.end {
				t.Errorf("entries %q", entryNames(z))
			}
			args, env := lines(t, tool+".args"), lines(t, tool+".env")
			for _, arg := range c.args {
				if !slices.Contains(args, arg) {
					t.Errorf("%s is missing in %q", arg, args)
				}
			}
			for _, arg := range append(c.absent, "p@ss/w0rd", "p%40ss") {
				if strings.Contains(strings.Join(args, " "), arg) {
					t.Errorf("%s is in %q", arg, args)
				}
			}
			if !slices.Contains(env, c.variable+"=p@ss/w0rd") || strings.Contains(strings.Join(env, " "), "agent-secret") {
				t.Errorf("environment %q", env)
			}
			if notes := strings.Join(report.Notes, " "); !strings.Contains(notes, "a warning about [password]") {
				t.Errorf("notes %q", notes)
			}
			if again, _ := snapshot(t, database(t, c.url)); !bytes.Equal(again, archive) {
				t.Error("an equal dump gave other bytes")
			}
		})
	}
}

// TestMySQLOptionFiles: a password in the URL keeps option files out, whose own password would outrank it; without one they
// are what identifies the agent.
func TestMySQLOptionFiles(t *testing.T) {
	for url, want := range map[string]bool{"mysql://site:secret@h/shop": true, "mysql://h/shop": false} {
		t.Run(url, func(t *testing.T) {
			tool := fakeTool(t, "mariadb-dump", "printf '%s' '"+mysqlEnd+"'\n")
			snapshot(t, database(t, url))
			if got := lines(t, tool+".args")[0] == "--no-defaults"; got != want {
				t.Errorf("--no-defaults first: %v", got)
			}
		})
	}
}

// TestDumpFailures: a dump that failed or was cut short is never an archive, and the tool's words are told without the password.
func TestDumpFailures(t *testing.T) {
	const mysql, postgres = "mysql://site:s3cret@h/shop", "postgres://site:s3cret@h/shop"
	for _, c := range []struct{ name, tool, url, body, want string }{
		{"mysql exit code", "mariadb-dump", mysql, "echo 'CREATE'; echo 'Access denied for s3cret' >&2; printf '" + mysqlEnd + "'; exit 2\n", "Access denied for [password]"},
		{"postgres exit code", "pg_dump", postgres, "echo 'no password s3cret' >&2; exit 1\n", "no password [password]"},
		{"mysql cut short", "mariadb-dump", mysql, "echo 'INSERT INTO'\n", "cut short"},
		{"postgres cut short", "pg_dump", postgres, "echo 'COPY'\n", "cut short"},
		{"mark inside the data only", "mariadb-dump", mysql, "printf -- '" + mysqlEnd + "'; head -c 5000 /dev/zero\n", "cut short"},
		{"nothing", "pg_dump", postgres, "exit 0\n", "cut short"},
		{"killed", "pg_dump", postgres, "kill -9 $$\n", "killed"},
		{"endless complaints", "pg_dump", postgres, "head -c 10000000 /dev/zero | tr '\\0' x >&2; exit 1\n", "xxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tool := fakeTool(t, c.tool, c.body)
			var out bytes.Buffer
			_, err := database(t, c.url).Snapshot(t.Context(), &out)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if text := err.Error(); strings.Contains(text, "s3cret") || len(text) > 5000 {
				t.Errorf("error of %d bytes: %.200s", len(text), text)
			}
			lines(t, tool+".args") // it did run
		})
	}
	t.Run("tool missing", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := database(t, mysql).Snapshot(t.Context(), new(bytes.Buffer))
		if err == nil || !strings.Contains(err.Error(), "install mariadb-dump or mysqldump") {
			t.Errorf("got %v", err)
		}
	})
}

// fullDisk takes some bytes, then no more.
type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

// TestDumpDiskFull: a full disk is the reason that is told, not the broken pipe that the tool dies of.
func TestDumpDiskFull(t *testing.T) {
	fakeTool(t, "pg_dump", "head -c 20000000 /dev/urandom\n")
	disk := &fullDisk{room: 1 << 20}
	_, err := database(t, "postgres://h/shop").Snapshot(t.Context(), disk)
	if !errors.Is(err, syscall.ENOSPC) || disk.room >= 0 {
		t.Errorf("got %v", err)
	}
}

// TestDumpCancelled: an agent that stops ends the tool.
func TestDumpCancelled(t *testing.T) {
	fakeTool(t, "pg_dump", "head -c 1000000 /dev/urandom\nexec sleep 600\n")
	ctx, cancel := context.WithCancel(t.Context())
	w := &onFirstWrite{do: cancel}
	_, err := database(t, "postgres://h/shop").Snapshot(ctx, w)
	if !errors.Is(err, context.Canceled) || !w.done {
		t.Errorf("got %v", err)
	}
}
