// Package freeport gives tests addresses for programs that open their port themselves. A port that a test opens, closes
// and names to a program is not free for it: meanwhile the kernel may give it to any other test that runs.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel takes no port from here for who names none: net.ipv4.ip_local_port_range begins at 32768. Kubernetes has
// those from 30000 on.
const (
	lowest  = 10000
	highest = 29999
)

// Address returns an address of loopback on which nobody listens. It belongs to the test until the test ends: no other
// call returns it meanwhile, in whatever process.
func Address(t testing.TB) string {
	t.Helper()
	// One byte of the file stands for each port.
	f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("colophon-test-ports-%d", os.Getuid())), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for range 10 * (highest - lowest) {
		port := lowest + rand.IntN(highest-lowest+1)
		byte_ := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(port), Len: 1}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &byte_); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
