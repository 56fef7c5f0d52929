package provider_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/provider"
)

// pipeClient talks over memory to serve, which gets each connection after its first request.
func pipeClient(t *testing.T, serve func(conn net.Conn)) *provider.Client {
	c := provider.New(provider.Config{Secrets: storedSecrets{}})
	var serving sync.WaitGroup
	c.DialWith(func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		serving.Go(func() {
			defer there.Close()
			if _, err := http.ReadRequest(bufio.NewReader(there)); err != nil {
				_, _ = io.Copy(io.Discard, there) // a TLS handshake: let it wait
				return
			}
			serve(there)
		})
		return here, nil
	})
	t.Cleanup(func() { c.Close(); serving.Wait() })
	return c
}

const rangeHeader = "HTTP/1.1 206 Partial Content\r\nETag: \"version-1\"\r\nContent-Range: bytes 0-9/1048576\r\nContent-Length: 10\r\n\r\n"

// Every wait for the provider ends after its own bound, exactly.
func TestTimeouts(t *testing.T) {
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	tests := map[string]struct {
		url   string
		serve func(net.Conn)
		want  time.Duration
	}{
		"no header":    {"http://export.example/", silent, provider.DefaultResponseHeaderTimeout},
		"no handshake": {"https://export.example/", silent, provider.DefaultTLSHandshakeTimeout},
		"header byte by byte": {"http://export.example/", func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, "H"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, provider.DefaultResponseHeaderTimeout},
		"no body": {"http://export.example/", func(conn net.Conn) {
			_, _ = io.WriteString(conn, rangeHeader)
			silent(conn)
		}, provider.DefaultBodyIdleTimeout},
		"half a body": {"http://export.example/", func(conn net.Conn) {
			_, _ = io.WriteString(conn, rangeHeader)
			time.Sleep(20 * time.Second)
			_, _ = io.WriteString(conn, "12345")
			silent(conn)
		}, 20*time.Second + provider.DefaultBodyIdleTimeout},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := readRange(t.Context(), pipeClient(t, test.serve), exportAt(test.url), 0, 10)
				checkKind(t, err, backup.ProviderTimeout)
				if took := time.Since(began); took != test.want {
					t.Errorf("gave up after %s, want %s", took, test.want)
				}
			})
		})
	}
}

// A name lookup that never ends is bounded like a connection that never opens.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := &provider.Guard{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}}
		c := provider.New(provider.Config{Guard: guard, Secrets: storedSecrets{}})
		began := time.Now()
		_, err := readRange(t.Context(), c, exportAt("http://export.example"), 0, 10)
		checkKind(t, err, backup.ProviderTimeout)
		if took := time.Since(began); took != provider.DefaultDialTimeout {
			t.Errorf("gave up after %s, want %s", took, provider.DefaultDialTimeout)
		}
	})
}

// A refusal whose short body drips is a refusal, and not waited for.
func TestDrippingRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeClient(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 200\r\n\r\n")
			for {
				time.Sleep(time.Second / 2)
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
			}
		})
		began := time.Now()
		_, err := readRange(t.Context(), c, exportAt("http://export.example"), 0, 10)
		checkKind(t, err, backup.ProviderNotFound)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("waited %s for the rest", took)
		}
	})
}

// What users read of a connection that fails names the other side only.
func TestErrorsNameNoneOfOurAddresses(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", closed.LocalAddr().String())
	}}
	c := provider.New(provider.Config{Guard: &provider.Guard{Resolver: resolver}, Secrets: storedSecrets{}})
	_, err = readRange(t.Context(), c, exportAt("https://export.example"), 0, 10)
	checkKind(t, err, backup.ProviderUnavailable)
	if said := err.Error(); !strings.Contains(said, "lookup export.example") || strings.Contains(said, "127.0.0.1") {
		t.Errorf("%s", said)
	}

	p := backuptest.NewProvider(t, content())
	p.Misbehave(func(backuptest.ProviderRequest) backuptest.Answer { return backuptest.AnswerReset(100) })
	_, err = readRange(t.Context(), newClient(t, provider.Timeouts{}), exportAt(p.URL), 0, exportBytes)
	checkKind(t, err, backup.ProviderUnavailable)
	if strings.Contains(err.Error(), "->") {
		t.Errorf("%v", err)
	}
}

// longHeader answers a range of the whole export.
var longHeader = fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: \"version-1\"\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n",
	exportBytes-1, exportBytes, exportBytes)

// drip sends n bytes at each interval until the client has had enough.
func drip(conn net.Conn, every time.Duration, n int) {
	for {
		time.Sleep(every)
		if _, err := conn.Write(make([]byte, n)); err != nil {
			return
		}
	}
}

// A body that brings less than the least rate over a minute is given up, with the rate and the limit.
func TestLeastRate(t *testing.T) {
	tests := map[string]struct {
		serve func(net.Conn)
		want  time.Duration
		said  string
	}{
		"a byte in 20 s":    {func(conn net.Conn) { drip(conn, 20*time.Second, 1) }, time.Minute, "3 bytes came within 1m0s, the least is 1024 a second"},
		"20 bytes a second": {func(conn net.Conn) { drip(conn, 50*time.Millisecond, 1) }, time.Minute, "1200 bytes came within 1m0s"},
		"just too slow":     {func(conn net.Conn) { drip(conn, time.Second, 1023) }, time.Minute, "61380 bytes came within 1m0s"},
		"slow after a while": {func(conn net.Conn) {
			_, _ = conn.Write(make([]byte, 90<<10))
			drip(conn, time.Second, 100)
		}, 2 * time.Minute, "6000 bytes came within 1m0s"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := pipeClient(t, func(conn net.Conn) {
					_, _ = io.WriteString(conn, longHeader)
					test.serve(conn)
				})
				began := time.Now()
				_, err := readRange(t.Context(), c, exportAt("http://export.example/"), 0, exportBytes)
				checkKind(t, err, backup.ProviderTimeout)
				if took := time.Since(began); took != test.want || !strings.Contains(err.Error(), test.said) {
					t.Errorf("gave up after %s, want %s: %v", took, test.want, err)
				}
			})
		})
	}
}

// While the caller is busy elsewhere the provider is not to blame: what it then sends is read at once.
func TestCallersPausesDoNotCountAsSlowness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := pipeClient(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, longHeader)
			for range exportBytes / 1024 { // 1 KiB a second, as long as somebody reads
				time.Sleep(time.Second)
				_, _ = conn.Write(make([]byte, 1024))
			}
		})
		body, err := c.Range(t.Context(), exportAt("http://export.example"), backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}, 0, exportBytes)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		began, buffer := time.Now(), make([]byte, 1024)
		for err == nil {
			time.Sleep(10 * time.Minute) // a hundredth of the least rate, all of it our own doing
			_, err = body.Read(buffer)
		}
		if err != io.EOF || time.Since(began) < 24*time.Hour {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// A provider may be slow for as long as it keeps the least rate, and the caller may pause for as long as it likes.
func TestSlowIsNotStalled(t *testing.T) {
	t.Run("provider", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			const pause = provider.DefaultBodyIdleTimeout - time.Second
			c := pipeClient(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, longHeader)
				drip(conn, pause, int(pause.Seconds())*provider.DefaultBodyLeastRate)
			})
			if got, err := readRange(t.Context(), c, exportAt("http://export.example"), 0, exportBytes); len(got) != exportBytes || err != nil {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	})
	t.Run("caller", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := pipeClient(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, rangeHeader)
				for i := range 10 {
					_, _ = fmt.Fprint(conn, i) // blocks until the client reads it
				}
			})
			body, err := c.Range(t.Context(), exportAt("http://export.example"), backup.Pin{ETag: `"version-1"`, SizeBytes: exportBytes}, 0, 10)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			for want := range 10 {
				time.Sleep(time.Hour)
				var b [1]byte
				if n, err := body.Read(b[:]); n != 1 || b[0] != byte('0'+want) || (err != nil && err != io.EOF) {
					t.Fatalf("byte %d: %d bytes, %q, %v", want, n, b, err)
				}
			}
		})
	})
}
