package httpserver

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/sitevault/sitevault/internal/backup"
)

// LocalOnly is for a listener on the loopback interface that asks for no sign-in. So that no web page in the user's
// browser can speak in the user's name, requests must name a loopback host (a page that binds its own name to 127.0.0.1
// does not), and those that come from another origin are refused.
func LocalOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkLocal(r); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sitevault"`)
			refuse(w, http.StatusUnauthorized, backup.Unauthenticated, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

func checkLocal(r *http.Request) error {
	if !LoopbackHost(r.Host) {
		return fmt.Errorf("without sign-in this is answered on loopback addresses only, such as http://127.0.0.1, not as %q", r.Host)
	}
	// Reading matters as much as writing here, but the library lets every GET pass.
	asWrite := *r
	asWrite.Method = http.MethodPost
	return new(http.CrossOriginProtection).Check(&asWrite)
}

// LoopbackHost tells whether a host, with or without a port, is this machine. A name that only resolves to it is not.
func LoopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || (err == nil && addr.Unmap().IsLoopback())
}
