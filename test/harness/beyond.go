package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Beyond listens on port 80 of another host, which is a network namespace behind a
// veth pair. It routes the host's network, an IPv4 network, there. Everything ends with
// this process. Beyond needs root. If another process has such a host, the new one is in
// one of the networks that follow: the listener has its address.
func Beyond(host netip.Prefix) (net.Listener, error) {
	all, err := BeyondAt(80, host, 1)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// BeyondAt is Beyond at a port of several addresses: the host's, and those that follow.
func BeyondAt(port uint16, host netip.Prefix, addresses int) (all []net.Listener, err error) {
	ns := make(chan string)
	joined := make(chan error, 1)
	done := make(chan struct{})
	var n uint32
	go func() {
		defer close(done)
		// Never unlock the thread: it ends with this goroutine. The listener keeps the namespace.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			close(ns)
			return
		}
		ns <- fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		if err = <-joined; err != nil {
			return
		}
		err = IP("link set lo up", "addr add "+inNetwork(farEnd, n).String()+" dev outside", "link set outside up")
		for address := inNetwork(host, n).Addr(); err == nil && len(all) < addresses; address = address.Next() {
			if err = IP("addr add " + address.String() + "/32 dev lo"); err != nil {
				break
			}
			var l net.Listener
			if l, err = net.Listen("tcp", netip.AddrPortFrom(address, port).String()); err == nil {
				all = append(all, l)
			}
		}
	}()
	if path := <-ns; path != "" {
		var failed error
		n, failed = link(path)
		if inside := fmt.Sprint(" dev inside", n); failed == nil {
			failed = IP("addr add "+inNetwork(nearEnd, n).String()+inside, "link set"+inside+" up",
				"route add "+inNetwork(host, n).Masked().String()+" via "+inNetwork(farEnd, n).Addr().String())
		}
		joined <- failed
	}
	<-done
	return all, err
}

// The ends of the first veth pair.
var nearEnd, farEnd = netip.MustParsePrefix("198.18.0.1/30"), netip.MustParsePrefix("198.18.0.2/30")

// link makes a veth pair to a network namespace. The name of its near end has the first
// number n that no other process has taken: the kernel lets one of them have it.
func link(path string) (n uint32, err error) {
	for ; n < 64; n++ {
		if err = IP(fmt.Sprintf("link add inside%d type veth peer name outside netns %s", n, path)); err == nil || !strings.Contains(err.Error(), "File exists") {
			return n, err
		}
	}
	return n, errors.New("too many hosts beyond this one")
}

// inNetwork returns the same address in the nth network after the one of p.
func inNetwork(p netip.Prefix, n uint32) netip.Prefix {
	address := p.Addr().As4()
	binary.BigEndian.PutUint32(address[:], binary.BigEndian.Uint32(address[:])+n<<(32-p.Bits()))
	return netip.PrefixFrom(netip.AddrFrom4(address), p.Bits())
}

// IP runs commands of ip(8) and stops at the first error.
func IP(commands ...string) error {
	for _, args := range commands {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}
