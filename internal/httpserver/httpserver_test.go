package httpserver_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sitevault/sitevault/internal/httpserver"
)

// patience is far more than what any of these tests waits for.
const patience = time.Minute

// serve runs h behind the limits and returns its address.
func serve(t *testing.T, limits httpserver.Limits, h http.HandlerFunc) string {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := httpserver.Listen("127.0.0.1:0", limits, log)
	if err != nil {
		t.Fatal(err)
	}
	server := httpserver.New(h, log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return l.Addr().String()
}

// dial connects from one of this machine's loopback addresses.
func dial(t *testing.T, from, to string) *net.TCPConn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// lastAnswer reads an answer that must be the last one of the connection.
func lastAnswer(t *testing.T, c net.Conn) (status int, body string) {
	t.Helper()
	reader := bufio.NewReader(c)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 || !resp.Close {
		t.Errorf("after %s, close %t: %q, %v", resp.Status, resp.Close, rest, err)
	}
	return resp.StatusCode, string(content)
}

func refuse(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) }

// A client that announces a body and never sends it is answered at once, and its connection ends.
func TestBodyThatNeverComes(t *testing.T) {
	address := serve(t, httpserver.DefaultLimits(), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			_, err := io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusRequestTimeout)
			fmt.Fprint(w, err)
			return
		}
		refuse(w, r)
	})
	for name, header := range map[string]string{
		"POST":                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
		"much":                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n",
		"some of it":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
		"GET":                 "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
		"DELETE":              "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
		"HEAD":                "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
		"chunks":              "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a chunk":             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"it waits to be told": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, "127.0.0.1", address)
			send(t, c, header)
			resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: strings.Fields(header)[0]})
			if err != nil || resp.StatusCode != http.StatusUnauthorized || !resp.Close {
				t.Fatalf("%+v, %v", resp, err)
			}
			if rest, err := io.ReadAll(c); err != nil {
				t.Errorf("the connection stays open: %q, %v", rest, err)
			}
		})
	}
}

// A body that a handler waits for has its time as well.
func TestTimesAreBounded(t *testing.T) {
	server := httpserver.New(http.NotFoundHandler(), slog.Default())
	if server.ReadHeaderTimeout <= 0 || server.ReadTimeout <= 0 || server.IdleTimeout <= 0 || server.WriteTimeout <= 0 {
		t.Errorf("%+v", server)
	}
	body := make(chan error, 1)
	l, err := httpserver.Listen("127.0.0.1:0", httpserver.DefaultLimits(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	server = httpserver.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		body <- err
	}), slog.Default())
	server.ReadTimeout = 100 * time.Millisecond
	go server.Serve(l)
	defer server.Close()
	c := dial(t, "127.0.0.1", l.Addr().String())
	send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
	if err := <-body; err == nil || !err.(net.Error).Timeout() {
		t.Errorf("the handler read: %v", err)
	}
}

// An answer is not cut off by the time of a request.
func TestLongAnswer(t *testing.T) {
	l, err := httpserver.Listen("127.0.0.1:0", httpserver.DefaultLimits(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	server := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		for range 10 {
			fmt.Fprint(w, "x")
			controller.Flush()
			select {
			case <-time.After(30 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	}), slog.Default())
	server.ReadTimeout = 50 * time.Millisecond
	go server.Serve(l)
	defer server.Close()
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "xxxxxxxxxx" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

// A socket has no time limits of a request or an answer.
func TestSocket(t *testing.T) {
	l, err := httpserver.Listen("127.0.0.1:0", httpserver.DefaultLimits(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	overdue := make(chan struct{})
	server := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		time.Sleep(100 * time.Millisecond)
		close(overdue)
		if _, err := io.CopyN(conn, conn, 4); err != nil {
			t.Error(err)
		}
	}), slog.Default())
	server.ReadTimeout, server.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	go server.Serve(l)
	defer server.Close()
	c := dial(t, "127.0.0.1", l.Addr().String())
	send(t, c, "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	<-overdue
	send(t, c, "ping")
	if echoed, err := io.ReadAll(c); string(echoed) != "ping" || err != nil {
		t.Errorf("%q, %v", echoed, err)
	}
}

// A client that sends everything before it reads still finds the answer, which came long before: it is not lost to a reset.
func TestAnswerIsNotLost(t *testing.T) {
	answered := make(chan struct{}, 1)
	address := serve(t, httpserver.DefaultLimits(), func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		answered <- struct{}{}
	})
	const sizeBytes = 16 << 20
	body := bytes.Repeat([]byte("x"), sizeBytes/2)
	for range 20 {
		c := dial(t, "127.0.0.1", address)
		send(t, c, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", sizeBytes))
		if _, err := c.Write(body); err != nil {
			t.Fatal(err)
		}
		<-answered // and net/http is about to close
		if _, err := c.Write(body); err != nil {
			t.Fatal(err)
		}
		if status, _ := lastAnswer(t, c); status != http.StatusRequestEntityTooLarge {
			t.Errorf("answered %d", status)
		}
		c.Close()
	}
}

// Nothing that follows a request with both lengths is taken for another request.
func TestTwoLengths(t *testing.T) {
	requests := make(chan string, 10)
	address := serve(t, httpserver.DefaultLimits(), func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		requests <- fmt.Sprintf("%s %q %v", r.URL.Path, body, err)
	})
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	c := dial(t, "127.0.0.1", address)
	send(t, c, fmt.Sprintf("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(smuggled), smuggled))
	lastAnswer(t, c)
	if got := <-requests; got != `/first "" <nil>` || len(requests) > 0 {
		t.Errorf("%s, then %d more", got, len(requests))
	}
}

// What was read to its end keeps the connection.
func TestConnectionIsKept(t *testing.T) {
	address := serve(t, httpserver.DefaultLimits(), func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, r.Body)
		if err != nil {
			t.Error(err)
		}
	})
	c := dial(t, "127.0.0.1", address)
	reader := bufio.NewReader(c)
	for range 3 {
		send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "abc" || err != nil || resp.Close {
			t.Errorf("%q, %v, close %t", body, err, resp.Close)
		}
	}
}

// get is a request that is answered when the connection is within the limits.
func get(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// One address that takes all it can leaves room for others; a proxy is bound only by the limit for all. What is over is told so.
func TestLimits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED, only Linux has more than one loopback address without being told")
	}
	limits := httpserver.Limits{Connections: 5, ConnectionsPerAddress: 2, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.8/30")}}
	address := serve(t, limits, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })
	var open []net.Conn
	for _, step := range []struct {
		from string
		over string // names the limit
	}{
		{"127.0.0.1", ""}, {"127.0.0.1", ""}, {"127.0.0.1", "--trusted-proxy"},
		{"127.0.0.9", ""}, {"127.0.0.9", ""}, {"127.0.0.9", ""},
		{"127.0.0.9", "--max-connections)"}, {"127.0.0.2", "--max-connections)"},
	} {
		c := dial(t, step.from, address)
		if step.over == "" {
			if resp := get(t, c); resp.StatusCode != http.StatusOK || resp.Close {
				t.Errorf("from %s: %+v", step.from, resp)
			}
			open = append(open, c)
			continue
		}
		send(t, c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n")
		if status, body := lastAnswer(t, c); status != http.StatusServiceUnavailable || !strings.Contains(body, step.over) {
			t.Errorf("from %s: %d %s", step.from, status, body)
		}
	}
	for _, c := range open {
		c.Close()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if resp := get(t, dial(t, "127.0.0.1", address)); resp.StatusCode == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the places of closed connections are not given back")
		}
	}
}

// A client that connects anew for each request is told of the limit by its library as well.
func TestLimitByLibrary(t *testing.T) {
	address := serve(t, httpserver.Limits{Connections: 1, ConnectionsPerAddress: 1}, refuse)
	get(t, dial(t, "127.0.0.1", address))
	for range 50 {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + address)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Fatalf("%+v", resp)
		}
	}
}

// Proxies are addresses and blocks.
func TestParseProxies(t *testing.T) {
	for entry, want := range map[string]string{
		"127.0.0.1": "127.0.0.1/32", "10.0.0.0/8": "10.0.0.0/8", "::1": "::1/128", "fd00::/8": "fd00::/8", "::ffff:10.0.0.1": "10.0.0.1/32",
		"": "", "nginx": "", "10.0.0.0/33": "", "127.0.0.1:80": "",
	} {
		got, err := httpserver.ParseProxies([]string{entry})
		if (err == nil) != (want != "") || (err == nil && got[0].String() != want) {
			t.Errorf("%q: %v, %v", entry, got, err)
		}
	}
}
