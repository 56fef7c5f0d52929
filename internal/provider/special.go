package provider

import "net/netip"

// special is a block that no export can live in.
type special struct {
	prefix netip.Prefix
	use    string
}

func block(prefix, use string) special {
	return special{prefix: netip.MustParsePrefix(prefix), use: use}
}

// specialIPv4 holds every block of the IANA IPv4 Special-Purpose Address Registry
// (https://www.iana.org/assignments/iana-ipv4-special-registry, read 2026-11), the ones called globally reachable
// included, since they are anycast services of the network itself; then multicast and one cloud's own address.
// Narrower blocks stand before wider ones, so that messages are precise.
var specialIPv4 = []special{
	block("0.0.0.0/8", "this network (RFC 791)"),
	block("10.0.0.0/8", "private use (RFC 1918)"),
	block("100.64.0.0/10", "shared address space (RFC 6598)"),
	block("127.0.0.0/8", "loopback (RFC 1122)"),
	block("169.254.0.0/16", "link-local, cloud metadata (RFC 3927)"),
	block("172.16.0.0/12", "private use (RFC 1918)"),
	block("192.0.0.0/24", "IETF protocol assignments (RFC 6890)"),
	block("192.0.2.0/24", "documentation (RFC 5737)"),
	block("192.31.196.0/24", "AS112 (RFC 7535)"),
	block("192.52.193.0/24", "AMT (RFC 7450)"),
	block("192.88.99.0/24", "6to4 relay anycast (RFC 7526)"),
	block("192.168.0.0/16", "private use (RFC 1918)"),
	block("192.175.48.0/24", "AS112 (RFC 7534)"),
	block("198.18.0.0/15", "benchmarking (RFC 2544)"),
	block("198.51.100.0/24", "documentation (RFC 5737)"),
	block("203.0.113.0/24", "documentation (RFC 5737)"),
	block("255.255.255.255/32", "limited broadcast (RFC 919)"),
	block("224.0.0.0/4", "multicast (RFC 5771)"),
	block("240.0.0.0/4", "reserved (RFC 1112)"),
	block("168.63.129.16/32", "Azure host services (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16)"),
}

// specialIPv6 holds the blocks of the IANA IPv6 Special-Purpose Address Registry
// (https://www.iana.org/assignments/iana-ipv6-special-registry, read 2026-11). What lies outside globalUnicastIPv6
// is refused anyway; it is listed for its name. The deprecated tunnels (6to4, Teredo, IPv4-compatible) wrap an IPv4
// address that need not be public, and no export lives behind one: they are refused whole. So is 64:ff9b:1::/48, whose
// users choose where in it the IPv4 address stands.
var specialIPv6 = []special{
	block("::/128", "unspecified (RFC 4291)"),
	block("::1/128", "loopback (RFC 4291)"),
	block("::/96", "IPv4-compatible (RFC 4291)"),
	block("64:ff9b:1::/48", "local-use translation (RFC 8215)"),
	block("100::/64", "discard only (RFC 6666)"),
	block("100:0:0:1::/64", "dummy prefix (RFC 9780)"),
	block("2001::/32", "Teredo (RFC 4380)"),
	block("2001:2::/48", "benchmarking (RFC 5180)"),
	block("2001:10::/28", "ORCHID (RFC 4843)"),
	block("2001:20::/28", "ORCHIDv2 (RFC 7343)"),
	block("2001:30::/28", "drone remote identification (RFC 9374)"),
	block("2001::/23", "IETF protocol assignments (RFC 2928)"),
	block("2001:db8::/32", "documentation (RFC 3849)"),
	block("2002::/16", "6to4 (RFC 3056)"),
	block("2620:4f:8000::/48", "AS112 (RFC 7534)"),
	block("3fff::/20", "documentation (RFC 9637)"),
	block("5f00::/16", "segment routing identifiers (RFC 9602)"),
	block("fc00::/7", "unique local (RFC 4193)"),
	block("fe80::/10", "link-local (RFC 4291)"),
	block("fec0::/10", "site-local (RFC 3879)"),
	block("ff00::/8", "multicast (RFC 4291)"),
}

var (
	// globalUnicastIPv6 is all that IANA hands out to the public
	// (https://www.iana.org/assignments/ipv6-address-space, read 2026-11).
	globalUnicastIPv6 = netip.MustParsePrefix("2000::/3")
	// nat64 is how a network without IPv4 writes a public IPv4 address (RFC 6052): its last 32 bits are judged.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// specialUse is the special block that ip lies in and what for; false: ip is public.
func specialUse(ip netip.Addr) (special, bool) {
	ip = ip.Unmap()
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	blocks := specialIPv6
	if ip.Is4() {
		blocks = specialIPv4
	}
	for _, s := range blocks {
		if s.prefix.Contains(ip) {
			return s, true
		}
	}
	if ip.Is6() && !globalUnicastIPv6.Contains(ip) {
		return special{use: "outside global unicast (RFC 4291)"}, true
	}
	return special{}, false
}
