package main

import (
	"github.com/spf13/pflag"

	"github.com/sitevault/sitevault/internal/httpserver"
)

// limitFlags bound the connections to a command that listens.
type limitFlags struct {
	connections int
	perAddress  int
	proxies     []string
}

func (f *limitFlags) register(flags *pflag.FlagSet) {
	flags.IntVar(&f.connections, "max-connections", httpserver.DefaultConnections, "connections at the same time; more are refused with 503")
	flags.IntVar(&f.perAddress, "max-connections-per-address", httpserver.DefaultConnectionsPerAddress, "the same for one address")
	flags.StringSliceVar(&f.proxies, "trusted-proxy", nil, "address or block of a reverse proxy, to which --max-connections-per-address does not apply (repeatable)")
}

func (f *limitFlags) limits() (httpserver.Limits, error) {
	if f.connections < 1 || f.perAddress < 1 {
		return httpserver.Limits{}, usage("--max-connections and --max-connections-per-address are at least 1")
	}
	proxies, err := httpserver.ParseProxies(f.proxies)
	if err != nil {
		return httpserver.Limits{}, usage("--trusted-proxy: %w", err)
	}
	return httpserver.Limits{Connections: f.connections, ConnectionsPerAddress: f.perAddress, TrustedProxies: proxies}, nil
}
