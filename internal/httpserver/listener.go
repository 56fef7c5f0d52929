package httpserver

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// DefaultConnections is far below the open files that current systems allow a process, and its memory small.
	DefaultConnections = 1024
	// DefaultConnectionsPerAddress leaves most of the connections to others than the one who takes all he can.
	DefaultConnectionsPerAddress = 256

	refusalsLogged = time.Minute // at most one line in this time
)

// Limits bound the connections that are open at the same time.
type Limits struct {
	Connections           int // in all
	ConnectionsPerAddress int // of one IPv4 address or one IPv6 network of 64 bits
	// TrustedProxies are bound by Connections only: what they pass on comes from many.
	TrustedProxies []netip.Prefix
}

// DefaultLimits trust no proxy.
func DefaultLimits() Limits {
	return Limits{Connections: DefaultConnections, ConnectionsPerAddress: DefaultConnectionsPerAddress}
}

// ParseProxies reads addresses and blocks, such as 127.0.0.1 or 10.0.0.0/8.
func ParseProxies(entries []string) ([]netip.Prefix, error) {
	proxies := make([]netip.Prefix, len(entries))
	for i, entry := range entries {
		var err error
		if proxies[i], err = parseProxy(entry); err != nil {
			return nil, fmt.Errorf("trusted proxy %q: write an address or a block, such as 127.0.0.1 or 10.0.0.0/8", entry)
		}
	}
	return proxies, nil
}

func parseProxy(entry string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		addr = addr.Unmap()
		return addr.Prefix(addr.BitLen())
	}
	return netip.ParsePrefix(entry)
}

// Listener refuses connections beyond its limits with 503 and closes them.
type Listener struct {
	*net.TCPListener
	limits Limits
	log    *slog.Logger
	logged rate.Sometimes

	mu        sync.Mutex
	open      int
	ofAddress map[netip.Prefix]int
	refusing  int
}

// Listen listens on host:port.
func Listen(address string, limits Limits, log *slog.Logger) (*Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &Listener{
		TCPListener: l.(*net.TCPListener), limits: limits, log: log,
		logged: rate.Sometimes{Interval: refusalsLogged}, ofAddress: map[netip.Prefix]int{},
	}, nil
}

// Loopback tells whether only this machine can connect.
func (l *Listener) Loopback() bool { return addressOf(l.Addr()).IsLoopback() }

func addressOf(a net.Addr) netip.Addr {
	addr, _ := netip.ParseAddrPort(a.String()) // what is no address is not loopback
	return addr.Addr().Unmap()
}

// Accept waits for a connection within the limits.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		from := l.network(addressOf(c.RemoteAddr()))
		over := l.take(from)
		if over == "" {
			return &conn{TCPConn: c, released: func() { l.release(from) }}, nil
		}
		l.refuse(c, over)
	}
}

// network is what counts as one address; the zero Prefix is a proxy.
func (l *Listener) network(addr netip.Addr) netip.Prefix {
	addr = addr.WithZone("")
	if slices.ContainsFunc(l.limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return netip.Prefix{}
	}
	network, _ := addr.Prefix(min(addr.BitLen(), 64)) // an address has so many bits
	return network
}

// take counts a connection, or says which limit it is over.
func (l *Listener) take(from netip.Prefix) (over string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.limits.Connections {
		return fmt.Sprintf("%d connections are open, which is the limit (--max-connections)", l.open)
	}
	if n := l.ofAddress[from]; from.IsValid() && n >= l.limits.ConnectionsPerAddress {
		return fmt.Sprintf("%d connections are open from %s, which is the limit (--max-connections-per-address; for a reverse proxy --trusted-proxy)", n, from.Addr())
	}
	l.open++
	l.ofAddress[from]++
	return ""
}

func (l *Listener) release(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.ofAddress[from]--; l.ofAddress[from] == 0 {
		delete(l.ofAddress, from)
	}
}

var _ net.Listener = (*Listener)(nil)
