//go:build unix

package exportd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const realPassword = `it's "a" p@ss/w#rd %`

// realPasswordEncoded is realPassword as a URL has it.
const realPasswordEncoded = "it%27s%20%22a%22%20p%40ss%2Fw%23rd%20%25"

// toolsOrSkip returns the paths of programs, some of which distributions keep out of PATH.
func toolsOrSkip(t *testing.T, names ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
			installed = append(installed, "/usr/sbin/"+name)
			path = installed[0]
		}
		if _, err := os.Stat(path); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so the real database was not tried", name)
		}
		found[name] = path
	}
	return found
}

// home makes a folder for a server and says as whom to run it: as root they refuse to.
func home(t *testing.T) (dir string, as *syscall.SysProcAttr) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 {
		return dir, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	return dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// run executes a tool with stdin and returns what it printed.
func run(t *testing.T, as *syscall.SysProcAttr, env []string, stdin string, tool string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.SysProcAttr, cmd.Stdin = as, strings.NewReader(stdin)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", filepath.Base(tool), err, out)
	}
	return string(out)
}

// daemon runs a server until the test ends, once ready answers.
func daemon(t *testing.T, as *syscall.SysProcAttr, dir string, ready func() error, tool string, args ...string) {
	t.Helper()
	cmd := exec.Command(tool, args...) // ended by the signal below, so that it shuts down in order
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.SysProcAttr, cmd.Dir, cmd.Stdout, cmd.Stderr = as, dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ready() != nil {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("%s did not start: %s", filepath.Base(tool), said)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// dumpOf archives the database and returns the SQL text.
func dumpOf(t *testing.T, url, entry string) string {
	t.Helper()
	archive, report := snapshot(t, database(t, url))
	z := open(t, archive)
	if len(z.File) != 1 || z.File[0].Name != entry {
		t.Fatalf("entries %q", entryNames(z))
	}
	t.Logf("notes: %q", report.Notes)
	return content(t, z.File[0])
}

// TestRealMariaDB: a dump of a real server, read with the least rights, restores to the same rows, routine, trigger, event
// and view.
func TestRealMariaDB(t *testing.T) {
	tools := toolsOrSkip(t, "mariadbd", "mariadb-install-db", "mariadb", "mariadb-admin", "mariadb-dump")
	dir, as := home(t)
	data, socket, port := filepath.Join(dir, "data"), filepath.Join(dir, "s"), strconv.Itoa(freePort(t))
	run(t, as, nil, "", tools["mariadb-install-db"], "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	asRoot := []string{"--no-defaults", "--protocol=socket", "--socket=" + socket, "--user=root"}
	daemon(t, as, dir, func() error {
		return exec.CommandContext(t.Context(), tools["mariadb-admin"], append(asRoot, "ping")...).Run()
	}, tools["mariadbd"], "--no-defaults", "--datadir="+data, "--socket="+socket, "--port="+port, "--bind-address=127.0.0.1", "--event-scheduler=OFF")
	client := func(database, input string) string {
		args := append(asRoot, "--batch", "--skip-column-names", "--default-character-set=utf8mb4")
		return run(t, nil, nil, input, tools["mariadb"], append(args, database)...)
	}
	client("mysql", `CREATE DATABASE shop; CREATE DATABASE copy;
		CREATE USER site@'127.0.0.1' IDENTIFIED BY '`+strings.ReplaceAll(realPassword, `'`, `''`)+`';
		GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON shop.* TO site@'127.0.0.1'; GRANT SELECT ON mysql.proc TO site@'127.0.0.1';`)
	client("shop", `CREATE TABLE item(id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(99), data BLOB) CHARACTER SET utf8mb4;
		CREATE TABLE log(n INT); CREATE VIEW names AS SELECT name FROM item;
		CREATE TRIGGER note AFTER INSERT ON item FOR EACH ROW INSERT INTO log VALUES (NEW.id);
		CREATE PROCEDURE answer() SELECT 42; CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM log;
		INSERT INTO item(name, data) VALUES ('naïve 🦉', x'00ff27225c'), ('-- Dump completed', NULL);
		INSERT INTO item(name, data) SELECT CONCAT('n', seq), REPEAT(CHAR(seq % 256), 2000) FROM seq_1_to_2000;`)

	url := fmt.Sprintf("mysql://site:%s@127.0.0.1:%s/shop", realPasswordEncoded, port)
	text := dumpOf(t, url, "shop.sql")
	client("copy", text)
	const look = "CHECKSUM TABLE item, log; SELECT * FROM names LIMIT 2; CALL answer(); SHOW TRIGGERS; SELECT HEX(data) FROM item WHERE id = 1;" +
		"SELECT EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE();"
	before, after := client("shop", look), strings.ReplaceAll(client("copy", look), "copy.", "shop.")
	// SHOW TRIGGERS tells the second of creation, which differs.
	if cut(before) != cut(after) || !strings.Contains(before, "🦉") || !strings.Contains(before, "00FF27225C") || !strings.Contains(before, "nightly") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if dumpOf(t, url, "shop.sql") != text {
		t.Error("an unchanged database gave another dump")
	}
	wrong := strings.Replace(url, realPasswordEncoded, "wr0ng", 1)
	if _, err := database(t, wrong).Snapshot(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "Access denied") {
		t.Errorf("a wrong password: %v", err)
	}
}

// cut drops the lines of SHOW TRIGGERS from their creation time on.
func cut(listing string) string {
	var kept []string
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "note\t") {
			line = strings.Join(strings.Split(line, "\t")[:5], "\t")
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

// TestRealPostgres: a dump of a real server restores to the same rows, function and view.
func TestRealPostgres(t *testing.T) {
	tools := toolsOrSkip(t, "postgres", "initdb", "psql", "pg_isready", "pg_dump")
	dir, as := home(t)
	data, port := filepath.Join(dir, "data"), strconv.Itoa(freePort(t))
	write(t, filepath.Join(dir, "pw"), realPassword+"\n")
	run(t, as, nil, "", tools["initdb"], "--pgdata="+data, "--username=site", "--pwfile="+filepath.Join(dir, "pw"), "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync")
	daemon(t, as, dir, func() error {
		return exec.CommandContext(t.Context(), tools["pg_isready"], "-h", "127.0.0.1", "-p", port).Run()
	}, tools["postgres"], "-D", data, "-h", "127.0.0.1", "-p", port, "-k", dir)
	client := func(database, input string) string {
		env := []string{"PGPASSWORD=" + realPassword}
		return run(t, nil, env, input, tools["psql"], "-h", "127.0.0.1", "-p", port, "-U", "site", "-v", "ON_ERROR_STOP=1", "-At", "-q", database)
	}
	client("postgres", "CREATE DATABASE shop; CREATE DATABASE copy;")
	client("shop", `CREATE TABLE item(id serial PRIMARY KEY, name text, data bytea, at timestamptz DEFAULT '2024-02-29 12:00Z');
		CREATE VIEW names AS SELECT name FROM item; CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
		INSERT INTO item(name, data) VALUES ('naïve 🦉', '\x00ff27225c'), (E'tab\t\\N', NULL);
		INSERT INTO item(name, data) SELECT 'n' || i, repeat(chr(65 + i % 26), 2000)::bytea FROM generate_series(1, 2000) i;`)

	url := fmt.Sprintf("postgres://site:%s@127.0.0.1:%s/shop?sslmode=disable", realPasswordEncoded, port)
	client("copy", dumpOf(t, url, "shop.sql"))
	const look = "SELECT md5(string_agg(item::text, '|' ORDER BY id)) FROM item; SELECT * FROM names LIMIT 2; SELECT answer(); SELECT last_value FROM item_id_seq;"
	if before, after := client("shop", look), client("copy", look); before != after || !strings.Contains(before, "🦉") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	wrong := strings.Replace(url, realPasswordEncoded, "wr0ng", 1)
	if _, err := database(t, wrong).Snapshot(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "authentication failed") {
		t.Errorf("a wrong password: %v", err)
	}
}
