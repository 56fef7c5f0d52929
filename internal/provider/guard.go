package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sitevault/sitevault/internal/backup"
)

// Guard dials public addresses only, so that no export's URL can make the service talk to itself or to its network.
// It judges the address of each connection at the moment of dialing: what a name resolved to before, or how an
// address is written in the URL, does not matter. Any port is allowed; exports live on many.
//
// The zero value allows nothing but public addresses. A Guard is safe for concurrent use and not changed once used.
type Guard struct {
	Resolver *net.Resolver // nil: the system's

	log        *slog.Logger // nil: none
	prefixes   []allowedPrefix
	hosts      []allowedHost
	onlyExcept bool // not even public addresses
}

// logging is the guard with a log, which hears each address that is refused. No error names one: errors are read by
// tenants, who must not learn where the names of the service's own network lead.
func (g *Guard) logging(log *slog.Logger) *Guard {
	logged := *g
	logged.log = log
	return &logged
}

// exceptionsOnly is for requests that everybody on the way can read.
func (g *Guard) exceptionsOnly() *Guard {
	strict := *g
	strict.onlyExcept = true
	return &strict
}

// allowedPrefix and allowedHost are exceptions; port 0 means any.
type allowedPrefix struct {
	prefix netip.Prefix
	port   uint16
}

type allowedHost struct {
	name string // as canonicalHost writes it
	port uint16
}

// ParseGuard makes a Guard with exceptions, for people who run the service in their own network. Each entry is an IP
// address ("127.0.0.1", "::1"), a block ("10.0.0.0/8") or a host name ("nas.local"); an address or name may carry a
// port ("nas.local:8443", "[::1]:8080"), and without one all its ports are allowed. A name is trusted with whatever
// address it resolves to.
func ParseGuard(allow []string) (*Guard, error) {
	g := &Guard{}
	for _, entry := range allow {
		if err := g.allow(entry); err != nil {
			return nil, fmt.Errorf("allowed address %q: %w", entry, err)
		}
	}
	return g, nil
}

func (g *Guard) allow(entry string) error {
	if strings.Contains(entry, "/") {
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			return errors.New("write a block as 10.0.0.0/8, or a host without scheme and path")
		}
		if prefix.Addr().Is4In6() {
			return errors.New("write an IPv4 block as 10.0.0.0/8")
		}
		if prefix != prefix.Masked() {
			return fmt.Errorf("the block is %s; write it so", prefix.Masked())
		}
		g.prefixes = append(g.prefixes, allowedPrefix{prefix: prefix})
		return nil
	}
	host, port, err := splitEntry(entry)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return g.allowAddr(ip, port)
	}
	host = canonicalHost(host)
	if !hostName(host) {
		return errors.New("neither an IP address nor a block nor a host name")
	}
	g.hosts = append(g.hosts, allowedHost{name: host, port: port})
	return nil
}

func (g *Guard) allowAddr(ip netip.Addr, port uint16) error {
	if ip.Zone() != "" {
		return errors.New("an address with a zone cannot be allowed")
	}
	ip = ip.Unmap()
	g.prefixes = append(g.prefixes, allowedPrefix{prefix: netip.PrefixFrom(ip, ip.BitLen()), port: port})
	return nil
}

// splitEntry takes the port off; 0: there is none.
func splitEntry(entry string) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(entry); err == nil || !strings.Contains(entry, ":") {
		return entry, 0, nil
	}
	host, digits, err := net.SplitHostPort(entry)
	if err != nil {
		return "", 0, errors.New("write a port as nas.local:8443 or [::1]:8443")
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("the port is a number from 1 to 65535")
	}
	return host, uint16(n), nil
}

func canonicalHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// hostName tells whether s can be a name, not a number in some form: its last label starts with a letter (RFC 3696, section 2).
func hostName(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		other := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, other) {
			return false
		}
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return last[0] >= 'a' && last[0] <= 'z'
}

// DialContext dials address ("host:port") if the guard allows it; AddressForbidden otherwise.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Resolver: g.Resolver}
	if !g.namesHost(address) {
		dialer.ControlContext = func(ctx context.Context, _, resolved string, _ syscall.RawConn) error {
			return g.control(ctx, address, resolved)
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// namesHost tells whether an exception names the host itself.
func (g *Guard) namesHost(address string) bool {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(g.hosts, func(h allowedHost) bool {
		return h.name == canonicalHost(host) && (h.port == 0 || h.port == uint16(port))
	})
}

// control sees each address after name lookup and before the connection; named is what the URL says.
func (g *Guard) control(ctx context.Context, named, resolved string) error {
	addr, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return backup.E(backup.AddressForbidden, "the host does not lead to an IP address with a port")
	}
	if err = g.Check(addr); err != nil && g.log != nil {
		found, _ := specialUse(addr.Addr())
		g.log.WarnContext(ctx, "an export's address is refused; to allow it, add it to the allowed addresses", "kind", backup.KindOf(err),
			"host", named, "address", addr.Addr().Unmap(), "use", found.use, "port", addr.Port())
	}
	return err
}

// Check fails with AddressForbidden if the address is neither public nor an exception, or with SecretExposed if it is
// public and only exceptions are allowed.
func (g *Guard) Check(addr netip.AddrPort) error {
	ip, zoned := addr.Addr().Unmap(), addr.Addr().Zone() != "" // a zone is a link of the service's own network
	if !zoned && g.excepts(ip, addr.Port()) {
		return nil
	}
	switch _, isSpecial := specialUse(ip); {
	case isSpecial || zoned:
		return backup.E(backup.AddressForbidden,
			"the host leads to an address that is not public; whoever runs the service finds the address in its log and can allow it")
	case g.onlyExcept:
		return backup.E(backup.SecretExposed, "the secret would travel unencrypted: use an https URL")
	}
	return nil
}

func (g *Guard) excepts(ip netip.Addr, port uint16) bool {
	return slices.ContainsFunc(g.prefixes, func(p allowedPrefix) bool {
		return p.prefix.Contains(ip) && (p.port == 0 || p.port == port)
	})
}
