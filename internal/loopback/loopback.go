// Package loopback decides whether a host is the loopback interface of this machine
// (RFC 1122, 3.2.1.3(g), RFC 4291, 2.5.3, and RFC 6761, 6.3).
//
// Callers that permit something on loopback, such as plain HTTP, use Is, Addr and OrTLS:
// in doubt these return false. Callers that refuse loopback use Possible: in doubt it
// returns true.
//
// The package resolves no names. A name may resolve to a loopback address: check the
// address with Addr after resolving it.
package loopback

import (
	"net/netip"
	"net/url"
	"strings"
)

// Is reports whether host is certainly loopback: "localhost" in lower case, or
// an address for which Addr returns true. host has no port and no brackets, as
// url.URL.Hostname returns it. Is refuses subdomains of localhost, a final dot and
// zones, because resolvers treat them differently.
func Is(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && Addr(a)
}

// Addr reports whether a is in 127.0.0.0/8, possibly mapped into IPv6
// (::ffff:127.0.0.1), or is ::1, and has no zone.
func Addr(a netip.Addr) bool { return a.Zone() == "" && a.Unmap().IsLoopback() }

// OrTLS reports whether nobody on the network can read what is sent to u: u is an https
// URL, or an http URL whose host is certainly loopback.
func OrTLS(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Is(u.Hostname())
}

// Possible reports whether a connection to host, which is HOST or HOST:PORT, could reach
// loopback. This holds for everything that Is accepts, and also for localhost and its
// subdomains in any case and with final dots, for addresses with zones, for the
// unspecified addresses (Linux connects them to loopback), and for hosts that end in a
// number but are not an address: C libraries read 127.1, 0x7f000001 and 2130706433 as
// 127.0.0.1.
func Possible(host string) bool {
	host = host[strings.LastIndexByte(host, '@')+1:]
	if _, err := netip.ParseAddr(host); err != nil { // an address without brackets has no port
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			host = host[:i]
		}
	}
	host = strings.ToLower(strings.TrimRight(strings.Trim(host, "[]"), "."))
	if a, err := netip.ParseAddr(host); err == nil {
		a = a.WithZone("").Unmap()
		return a.IsLoopback() || a.IsUnspecified()
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	return last == "localhost" || last != "" && strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == ""
}
