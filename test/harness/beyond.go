package harness

import (
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
// veth pair. It routes the host's network there. Everything ends with this process.
// Beyond needs root, and only one such host can exist at a time.
func Beyond(host netip.Prefix) (l net.Listener, err error) {
	ns := make(chan string)
	joined := make(chan error, 1)
	done := make(chan struct{})
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
		err = IP("link set lo up", "addr add 198.18.0.2/30 dev outside", "link set outside up", "addr add "+host.Addr().String()+"/32 dev lo")
		if err == nil {
			l, err = net.Listen("tcp", netip.AddrPortFrom(host.Addr(), 80).String())
		}
	}()
	if path := <-ns; path != "" {
		joined <- IP("link add inside type veth peer name outside netns "+path, "addr add 198.18.0.1/30 dev inside", "link set inside up",
			"route add "+host.Masked().String()+" via 198.18.0.2")
	}
	<-done
	return l, err
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
