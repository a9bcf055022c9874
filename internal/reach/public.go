package reach

import (
	"fmt"
	"iter"
	"net/netip"
	"syscall"
)

// special lists the ranges whose addresses are not public: IANA's special-purpose
// address registries (RFC 6890, RFC 8190) as of 2025-10-09, including the ranges that
// are globally reachable, because those lead to the nearest relay or name server and
// never to a server. A range inside of another one of the list is left out, unless its
// name says more. Below them are ranges that other documents keep from the public.
//
// The documentation ranges of IPv4 (RFC 5737) are left out on purpose: the Internet
// carries no packet to them, and laboratories, in which nothing may look like somebody's
// address, give them to their mirrors of public servers. A network that has private
// servers there must deny them, as a builder's gateway can (Network.Deny).
//
// No range needs to be listed to be refused in IPv6: see NotPublic.
var special = []struct {
	prefix netip.Prefix
	name   string
}{
	// iana-ipv4-special-registry
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by carriers (CGNAT)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved for protocols"},
	{netip.MustParsePrefix("192.31.196.0/24"), "the nearest AS112 name server"},
	{netip.MustParsePrefix("192.52.193.0/24"), "the nearest AMT relay"},
	{netip.MustParsePrefix("192.88.99.0/24"), "the nearest 6to4 relay"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private"},
	{netip.MustParsePrefix("192.175.48.0/24"), "the nearest AS112 name server"},
	{netip.MustParsePrefix("198.18.0.0/15"), "reserved for benchmarks"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	// iana-ipv6-special-registry
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("100::/64"), "discard-only"},
	{netip.MustParsePrefix("100:0:0:1::/64"), "a dummy prefix"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("2001::/23"), "reserved for protocols"},
	{netip.MustParsePrefix("2001:db8::/32"), "reserved for documentation"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2620:4f:8000::/48"), "the nearest AS112 name server"},
	{netip.MustParsePrefix("3fff::/20"), "reserved for documentation"},
	{netip.MustParsePrefix("5f00::/16"), "segment routing"},
	{netip.MustParsePrefix("fc00::/7"), "private"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},

	// iana-multicast-addresses; the IPv6 ones are outside of globalUnicast.
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	// Clouds answer their own machines on these public addresses, with secrets or
	// with what only customers may read.
	{netip.MustParsePrefix("168.63.129.16/32"), "the host service of Azure"},
	{netip.MustParsePrefix("161.26.0.0/16"), "a service network of IBM Cloud"},
	{netip.MustParsePrefix("166.8.0.0/14"), "a service network of IBM Cloud"},
}

// globalUnicast is the only range from which IANA assigns public IPv6 addresses
// (ipv6-address-space).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// NotPublic returns why an address is not public, or "" if it is. The address has no
// zone, and is not mapped into IPv6.
func NotPublic(a netip.Addr) string {
	for _, r := range special {
		if r.prefix.Contains(a) {
			return r.name
		}
	}
	if a.Is6() && !globalUnicast.Contains(a) {
		return "outside of " + globalUnicast.String() + ", the public IPv6 addresses"
	}
	return ""
}

// SpecialRanges returns the ranges that NotPublic refuses by name.
func SpecialRanges() iter.Seq2[netip.Prefix, string] {
	return func(yield func(netip.Prefix, string) bool) {
		for _, r := range special {
			if !yield(r.prefix, r.name) {
				return
			}
		}
	}
}

// PrivateError is the reason why an address is not asked.
type PrivateError struct {
	Address string
	Why     string // as NotPublic says it
}

func (e *PrivateError) Error() string {
	return fmt.Sprintf("%s is not a public address: it is %s", e.Address, e.Why)
}

// Public refuses connections to addresses that are not public, as the Control of a net.Dialer. The
// resolver has answered then: the address is the one that is connected to. The error matches
// *PrivateError.
func Public(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	a := to.Addr().Unmap()
	if a.Zone() != "" {
		return &PrivateError{address, "link-local"}
	}
	if why := NotPublic(a); why != "" {
		return &PrivateError{address, why}
	}
	return nil
}
