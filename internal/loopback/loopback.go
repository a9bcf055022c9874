// Package loopback decides whether a host is the loopback of the machine that
// asks (RFC 1122, 3.2.1.3(g), RFC 4291, 2.5.3, and RFC 6761, 6.3).
//
// There are two questions, and each errs on the safe side for its callers. Is,
// Addr and OrTLS answer callers who permit something on loopback, such as plain
// HTTP: they say yes only where there is no doubt. Possible answers callers who
// refuse loopback: it says no only where there is no doubt.
//
// Nothing here resolves names. A name that a resolver maps to loopback has to
// be checked after it was resolved, with Addr.
package loopback

import (
	"net/netip"
	"net/url"
	"strings"
)

// Is reports whether host is certainly loopback: "localhost" in lower case, or
// an address for which Addr holds. host is as url.URL.Hostname returns it,
// without port and brackets. Subdomains of localhost, a final dot and zones are
// not accepted, because resolvers differ in what they make of them.
func Is(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && Addr(a)
}

// Addr reports whether a is in 127.0.0.0/8, as such or mapped into IPv6
// (::ffff:127.0.0.1), or ::1, and has no zone.
func Addr(a netip.Addr) bool { return a.Zone() == "" && a.Unmap().IsLoopback() }

// OrTLS reports whether what is sent to u cannot be read on the way: u is an
// https URL, or an http URL whose host is certainly loopback.
func OrTLS(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && Is(u.Hostname())
}

// Possible reports whether a connection to host, HOST or HOST:PORT, could reach
// loopback. Besides all that Is accepts, that is localhost and its subdomains in
// any case and with final dots, addresses with zones, the unspecified addresses
// (Linux connects them to loopback), and hosts that end in a number but are no
// address: a C library takes 127.1, 0x7f000001 and 2130706433 for 127.0.0.1.
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
