package gateway

import (
	"fmt"
	"net"
	"net/netip"
)

// Ranges that are no public address though netip has no name for them (IANA
// special-purpose registries). The documentation ranges are not among them:
// nothing of anybody's is there by right, and test networks use them.
var special = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared by carriers (CGNAT)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	// Addresses that carry an IPv4 address inside lead past the checks on it.
	{netip.MustParsePrefix("::/96"), "IPv4-compatible"},
	{netip.MustParsePrefix("64:ff9b::/96"), "NAT64"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "NAT64"},
	{netip.MustParsePrefix("2002::/16"), "6to4"},
	{netip.MustParsePrefix("2001::/32"), "Teredo"},
	{netip.MustParsePrefix("fec0::/10"), "site-local"},
}

// check says why a build must not reach an address, or nil.
func (g *Gateway) check(a netip.Addr) error {
	if a.Zone() != "" {
		return fmt.Errorf("%s is link-local", a)
	}
	a = a.Unmap()
	for _, p := range g.cfg.Allow {
		if p.Contains(a) {
			return nil
		}
	}
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%s is unspecified", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is loopback", a)
	case a.IsPrivate():
		return fmt.Errorf("%s is private", a)
	case a.IsLinkLocalUnicast(), a.IsLinkLocalMulticast(), a.IsInterfaceLocalMulticast():
		return fmt.Errorf("%s is link-local", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is multicast", a)
	}
	for _, s := range special {
		if s.prefix.Contains(a) {
			return fmt.Errorf("%s is %s", a, s.name)
		}
	}
	// The host's own addresses and its neighbours on the link, whatever range they are from.
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("the host's addresses are not known: %w", err)
	}
	for _, o := range own {
		n, ok := o.(*net.IPNet)
		if ok && n.Contains(a.AsSlice()) {
			return fmt.Errorf("%s is in the host's own network %s", a, n)
		}
	}
	return nil
}
