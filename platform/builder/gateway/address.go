package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/loopback"
)

// isHosts reports whether this host itself receives what is sent to an address. It
// knows addresses of interfaces, and others that only a local route gives to the host.
func isHosts(a netip.Addr) (bool, error) {
	if a.IsUnspecified() || loopback.Addr(a) {
		return true, nil
	}
	kind, err := routeType(a)
	if err != nil {
		return false, fmt.Errorf("asking the kernel for its route to %s: %w", a, err)
	}
	return kind != unix.RTN_UNICAST && kind != unix.RTN_UNREACHABLE, nil
}

// routeType asks the kernel (rtnetlink(7), RTM_GETROUTE) for its route to an address,
// and returns the route's type. An address without a route is RTN_UNREACHABLE.
func routeType(a netip.Addr) (uint8, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	to := a.AsSlice()
	family := byte(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	// struct nlmsghdr, struct rtmsg, and the attribute RTA_DST.
	order := binary.NativeEndian
	m := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+unix.SizeofRtMsg+unix.SizeofRtAttr+len(to)))
	m = order.AppendUint16(m, unix.RTM_GETROUTE)
	m = order.AppendUint16(m, unix.NLM_F_REQUEST)
	m = append(m, make([]byte, 8)...)
	m = append(m, family, byte(8*len(to)))
	m = append(m, make([]byte, unix.SizeofRtMsg-2)...)
	m = order.AppendUint16(m, uint16(unix.SizeofRtAttr+len(to)))
	m = order.AppendUint16(m, unix.RTA_DST)
	if err := unix.Sendto(s, append(m, to...), 0, kernel); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, answer, 0)
	if err != nil {
		return 0, err
	}
	body := answer[min(n, unix.SizeofNlMsghdr):n]
	switch kind := order.Uint16(answer[4:]); {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		err := unix.Errno(-int32(order.Uint32(body)))
		if err == unix.ENETUNREACH || err == unix.EHOSTUNREACH {
			return unix.RTN_UNREACHABLE, nil
		}
		return 0, err
	case kind == unix.RTM_NEWROUTE && len(body) >= unix.SizeofRtMsg:
		return body[7], nil // rtm_type
	}
	return 0, errors.New("the kernel's answer is no route")
}
