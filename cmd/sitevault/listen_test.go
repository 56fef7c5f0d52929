package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/versitygw"
)

// patience is far more than a client is given.
const patience = 2 * time.Minute

var listening = regexp.MustCompile(`listens on http://(127\.0\.0\.1:[0-9]+)`)

// startListening runs a command of the program as a process, and returns where it listens.
func startListening(t *testing.T, args ...string) (address string) {
	t.Helper()
	gateway, err := versitygw.Find("")
	if err != nil {
		t.Skipf("SKIPPED, nothing was started: %v", err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable, append(args, "--listen", "127.0.0.1:0")...)
	cmd.Env = []string{asProgram + "=1", "HOME=" + t.TempDir(), "PATH=" + filepath.Dir(gateway) + ":" + os.Getenv("PATH")}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // or it has ended
		_ = cmd.Wait()                          // how it ended is no matter of these tests
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	found := listening.FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("it says %q, %v", line, err)
	}
	return found[1]
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// answerOf sends a header and reads the answer.
func answerOf(t *testing.T, c net.Conn, lines ...string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	return resp
}

// A client that announces a body and sends nothing, or a header that never ends, holds no connection of the service or the agent.
func TestSilentClients(t *testing.T) {
	site := t.TempDir()
	token := filepath.Join(site, "token")
	if err := os.WriteFile(token, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ args, routes []string }{
		"serve": {[]string{"serve"}, []string{
			"GET /v1/site", "DELETE /v1/site/shop", "PUT /v1/site/shop", "POST /v1/backup", "POST /v1/ticket", "PUT /v1/ticket", "GET /none", "POST /none",
			"GET /v1/openapi.json", "GET /metrics", "POST /metrics", "GET /ws", "POST /ws", "OPTIONS /v1/site",
		}},
		"agent":          {[]string{"agent", "--files", site, "--allow-empty"}, []string{"GET /files", "POST /files", "DELETE /none", "GET /healthz"}},
		"agent, a token": {[]string{"agent", "--files", site, "--token-file", token}, []string{"GET /files", "POST /files", "DELETE /none", "GET /healthz"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := startListening(t, c.args...)
			conns := map[string]net.Conn{}
			for _, route := range append(c.routes, "GET /foreign") {
				host := address
				if route == "GET /foreign" {
					host = "evil.example"
				}
				conns[route] = connect(t, address)
				resp := answerOf(t, conns[route], route+" HTTP/1.1", "Host: "+host, "Content-Type: application/json", "Content-Length: 100")
				if !resp.Close {
					t.Errorf("%s: %s, and the connection is kept", route, resp.Status)
				}
			}
			conns["a header that never ends"] = connect(t, address)
			go drip(conns["a header that never ends"])
			for what, conn := range conns {
				if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
					t.Errorf("%s: the connection stays open", what)
				}
			}
		})
	}
}

// drip sends a header line by line until the connection ends.
func drip(conn net.Conn) {
	_, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n")
	for i := 0; err == nil; i++ {
		_, err = fmt.Fprintf(conn, "X-%d: x\r\n", i)
		time.Sleep(100 * time.Millisecond)
	}
}

// More connections than allowed are refused with a reason, and are served when others have gone.
func TestConnectionLimits(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		path string
	}{
		"serve": {[]string{"serve"}, "/v1/site"},
		"agent": {[]string{"agent", "--files", t.TempDir(), "--allow-empty"}, "/healthz"},
	} {
		for limit, flags := range map[string][]string{
			"of one address": {"--max-connections-per-address", "3"},
			"in all":         {"--max-connections", "3", "--max-connections-per-address", "100"},
			"behind a proxy": {"--max-connections", "3", "--max-connections-per-address", "1", "--trusted-proxy", "127.0.0.1"},
		} {
			t.Run(name+" "+limit, func(t *testing.T) {
				t.Parallel()
				address := startListening(t, append(c.args, flags...)...)
				lines := []string{"GET " + c.path + " HTTP/1.1", "Host: " + address}
				var open []net.Conn
				for range 3 {
					conn := connect(t, address)
					if resp := answerOf(t, conn, lines...); resp.StatusCode != http.StatusOK {
						t.Errorf("within the limit: %s", resp.Status)
					}
					open = append(open, conn)
				}
				resp := answerOf(t, connect(t, address), lines...)
				body, err := io.ReadAll(resp.Body)
				if resp.StatusCode != http.StatusServiceUnavailable || !resp.Close || !strings.Contains(string(body), "--max-connections") || err != nil {
					t.Errorf("over the limit: %s %s, %v", resp.Status, body, err)
				}
				open[0].Close()
				for deadline := time.Now().Add(patience); answerOf(t, connect(t, address), lines...).StatusCode != http.StatusOK; {
					if time.Now().After(deadline) {
						t.Fatal("a place that has become free is not given to the next")
					}
				}
			})
		}
	}
}
