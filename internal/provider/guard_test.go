package provider_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sitevault/sitevault/internal/backup"
	"github.com/sitevault/sitevault/internal/backuptest"
	"github.com/sitevault/sitevault/internal/provider"
	"github.com/sitevault/sitevault/internal/step"
)

// Every special block is refused from its first address to its last, and the addresses next to it are not.
func TestGuardBlocks(t *testing.T) {
	forbidden := []string{
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255",
		"127.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255",
		"172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.9", "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.31.196.1",
		"192.52.193.1", "192.88.99.1", "192.168.0.0", "192.168.255.255", "192.175.48.1", "198.18.0.0", "198.19.255.255",
		"198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255",
		"168.63.129.16",
		"::", "::1", "::2", "::7f00:1", "::8.8.8.8", "::ffff:0:0", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254",
		"::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:0:1::8.8.8.8",
		"64:ff9b:1::", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "100::", "100::1", "100:0:0:1::1", "200::1",
		"1fff::1", "2001::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:3::1", "2001:4:112::1",
		"2001:10::1", "2001:20::1", "2001:30::1", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1",
		"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:7f00:1::", "2002:0a00:0001::1", "2002:808:808::1", "2620:4f:8000::1",
		"3fff::", "3fff:fff::1", "4000::1", "5f00::1", "fc00::", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "febf::1",
		"fec0::1", "ff02::1", "ff0e::1", "2a00:1450::1%eth0", "::ffff:8.8.8.8%eth0",
	}
	public := []string{
		"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
		"128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255",
		"192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "168.63.129.17",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1", "2600:1f18::1",
		"2a00:1450:4001:82f::200e", "3ffe::1", "3fff:1000::1",
	}
	guard := &provider.Guard{}
	for _, address := range forbidden {
		err := guard.Check(netip.AddrPortFrom(netip.MustParseAddr(address), 443))
		if !backup.Is(err, backup.AddressForbidden) {
			t.Errorf("%s passed: %v", address, err)
		}
	}
	for _, address := range public {
		if err := guard.Check(netip.AddrPortFrom(netip.MustParseAddr(address), 443)); err != nil {
			t.Errorf("%s is public: %v", address, err)
		}
	}
	if len(forbidden)+len(public) < 100 {
		t.Error("the table has shrunk")
	}
}

// Tenants do not learn where a name leads; the operator's log says it, and what it names helps as an exception.
func TestRefusedAddressIsTheOperatorsAlone(t *testing.T) {
	for _, internal := range []string{"10.1.2.3", "169.254.169.254", "192.168.7.9", "127.0.0.1"} {
		dns := &names{answer: func(int32) string { return internal }}
		var log bytes.Buffer
		c := provider.New(provider.Config{
			Guard: &provider.Guard{Resolver: dns.resolver()}, Log: slog.New(slog.NewJSONHandler(&log, nil)),
		})
		_, err := c.Pin(t.Context(), step.Export{URL: "https://db.corp.example:8443/export"})
		checkKind(t, err, backup.AddressForbidden)
		if said := err.Error(); strings.Contains(said, internal) || !strings.Contains(said, "db.corp.example") || dns.asked.Load() == 0 {
			t.Errorf("after %d look-ups a tenant reads: %s", dns.asked.Load(), said)
		}
		var logged struct {
			Host, Address string
			Port          uint16
		}
		if err := json.Unmarshal(log.Bytes(), &logged); err != nil || logged.Host != "db.corp.example:8443" {
			t.Fatalf("logged %s: %v", log.String(), err)
		}
		addr := netip.MustParseAddrPort(internal + ":8443")
		for _, entry := range []string{logged.Address, fmt.Sprintf("%s:%d", logged.Address, logged.Port)} {
			guard, err := provider.ParseGuard([]string{entry})
			if err != nil {
				t.Fatal(err)
			}
			if err := guard.Check(addr); err != nil {
				t.Errorf("%q does not allow %s: %v", entry, addr, err)
			}
		}
	}
}

// Exceptions open what they name and nothing else.
func TestGuardExceptions(t *testing.T) {
	tests := []struct {
		entry, address string
		allowed        bool
	}{
		{"127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1", "127.0.0.2:80", false},
		{"127.0.0.1", "[::ffff:127.0.0.1]:80", true},
		{"127.0.0.1", "[64:ff9b::127.0.0.1]:80", false},
		{"::ffff:127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8081", false},
		{"10.0.0.0/8", "10.9.8.7:1", true},
		{"10.0.0.0/8", "11.9.8.7:1", true},
		{"10.0.0.0/8", "192.168.0.1:1", false},
		{"::1", "[::1]:80", true},
		{"[::1]:80", "[::1]:80", true},
		{"[::1]:80", "[::1]:81", false},
		{"fd00::/8", "[fd12::1]:80", true},
		{"fe80::/10", "[fe80::1%eth0]:80", false},
		{"nas.local", "10.0.0.1:80", false},
	}
	for _, test := range tests {
		guard, err := provider.ParseGuard([]string{test.entry})
		if err != nil {
			t.Fatal(err)
		}
		if err := guard.Check(netip.MustParseAddrPort(test.address)); (err == nil) != test.allowed {
			t.Errorf("with %s allowed, %s gives %v", test.entry, test.address, err)
		}
	}
}

// A mistake in the list is found at start and named.
func TestParseGuardRefuses(t *testing.T) {
	for _, entry := range []string{
		"", " ", "*", "http://nas.local", "nas.local/export", "10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104", "nas.local:0",
		"nas.local:65536", "nas.local:http", "nas..local", "1.2.3", "2130706433", "0x7f.0.0.1.", "fe80::1%eth0", "::1:80:", "näs.local",
		"nas local", strings.Repeat("a", 64),
	} {
		if _, err := provider.ParseGuard([]string{"127.0.0.1", entry}); err == nil {
			t.Errorf("%q was accepted", entry)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", entry)) {
			t.Errorf("the error does not name %q: %v", entry, err)
		}
	}
}

// names is a name server in memory: one answer for every IPv4 question, none for IPv6.
type names struct {
	asked  atomic.Int32
	answer func(question int32) string
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go n.serve(there)
		return here, nil
	}}
}

// serve speaks DNS over a stream (RFC 1035, section 4.2.2): two bytes of length before each message.
func (n *names) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length uint16
		if binary.Read(conn, binary.BigEndian, &length) != nil {
			return
		}
		question := make([]byte, length)
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		reply := n.reply(question)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (n *names) reply(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	const typeA = 1
	isA := binary.BigEndian.Uint16(question[end-4:]) == typeA
	reply := append([]byte{}, question[:2]...)
	reply = append(reply, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	reply = append(reply, question[12:end]...)
	if isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, netip.MustParseAddr(n.answer(n.asked.Add(1))).AsSlice()...)
	}
	return reply
}

func guardedClient(t *testing.T, resolver *net.Resolver, allow ...string) *provider.Client {
	guard, err := provider.ParseGuard(allow)
	if err != nil {
		t.Fatal(err)
	}
	guard.Resolver = resolver
	c := provider.New(provider.Config{Guard: guard, Secrets: storedSecrets{}})
	t.Cleanup(c.Close)
	return c
}

func port(t *testing.T, p *backuptest.Provider) string {
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// A name that resolved to a public address when it was looked at, and to loopback when it is dialed, is refused.
func TestRebinding(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	dns := &names{answer: func(question int32) string {
		if question == 1 {
			return "93.184.216.34"
		}
		return "127.0.0.1"
	}}
	resolver := dns.resolver()
	seen, err := resolver.LookupNetIP(t.Context(), "ip4", "rebind.example")
	if err != nil || len(seen) != 1 {
		t.Fatal(seen, err)
	}
	if err := (&provider.Guard{}).Check(netip.AddrPortFrom(seen[0], 80)); err != nil {
		t.Fatalf("the first look must find a public address: %v", err)
	}
	_, err = guardedClient(t, resolver).Pin(t.Context(), exportAt("http://rebind.example:"+port(t, p)+"/export"))
	checkKind(t, err, backup.AddressForbidden)
	if dns.asked.Load() < 2 || len(p.Requests()) != 0 {
		t.Errorf("%d names were looked up, %d requests arrived", dns.asked.Load(), len(p.Requests()))
	}
}

// No way of writing the loopback address reaches it.
func TestOddFormsOfLoopback(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	dns := &names{answer: func(int32) string { return "127.0.0.1" }}
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0",
		"localhost", "LOCALHOST.", "service.internal", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]",
		"[::127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25lo]", "①②⑦.0.0.1", "127。0。0。1", "%31%32%37.0.0.1",
	} {
		_, err := guardedClient(t, dns.resolver()).Pin(t.Context(), exportAt("http://"+host+":"+port(t, p)+"/export"))
		switch kind := backup.KindOf(err); kind {
		case backup.AddressForbidden, backup.ProviderUnavailable, backup.InvalidRequest:
		default:
			t.Errorf("%s gives %s: %v", host, kind, err)
		}
	}
	if len(p.Requests()) != 0 || p.Connections() != 0 {
		t.Errorf("%d connections, %d requests arrived", p.Connections(), len(p.Requests()))
	}
	if dns.asked.Load() == 0 {
		t.Error("no form was taken for a name")
	}
}

// A secret goes unencrypted to nobody but whom the operator has allowed.
func TestSecretOverPlainHTTP(t *testing.T) {
	dns := &names{answer: func(int32) string { return "93.184.216.34" }}
	_, err := guardedClient(t, dns.resolver()).Pin(t.Context(), exportAt("http://shop.example/export"))
	if !backup.Is(err, backup.SecretExposed) {
		t.Errorf("to a public address: %v", err)
	}
	p := backuptest.NewProvider(t, content())
	if _, err := guardedClient(t, nil, "127.0.0.1").Pin(t.Context(), exportAt(p.URL)); err != nil {
		t.Errorf("to an allowed address: %v", err)
	}
	guard, err := provider.ParseGuard([]string{"93.184.216.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]backup.Kind{"93.184.216.34:80": "", "8.8.8.8:80": backup.SecretExposed, "10.0.0.1:80": backup.AddressForbidden} {
		if err := guard.ExceptionsOnly().Check(netip.MustParseAddrPort(address)); (err == nil) != (want == "") || (err != nil && !backup.Is(err, want)) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A host that is allowed by name is reached at whatever address it has; other names of the same address are not.
func TestAllowedName(t *testing.T) {
	p := backuptest.NewProvider(t, content())
	dns := &names{answer: func(int32) string { return "127.0.0.1" }}
	tests := []struct {
		allow, host string
		want        backup.Kind
	}{
		{"nas.example", "nas.example", ""},
		{"NAS.example.", "nas.EXAMPLE", ""},
		{"nas.example:" + port(t, p), "nas.example", ""},
		{"nas.example:1", "nas.example", backup.AddressForbidden},
		{"nas.example", "other.example", backup.AddressForbidden},
		{"nas.example", "evil.nas.example", backup.AddressForbidden},
		{"nas.example", "127.0.0.1", backup.AddressForbidden},
	}
	for _, test := range tests {
		t.Run(test.allow+" "+test.host, func(t *testing.T) {
			c := guardedClient(t, dns.resolver(), test.allow)
			_, err := c.Pin(t.Context(), exportAt("http://"+test.host+":"+port(t, p)+"/export"))
			checkKind(t, err, test.want)
		})
	}
}

// A proxy would dial in the guard's place, where nobody judges the address; the environment cannot bring one in.
func TestNoProxy(t *testing.T) {
	if provider.New(provider.Config{}).HasProxy() {
		t.Error("requests may go through a proxy")
	}
}
