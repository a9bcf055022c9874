package zone

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/test/await"
)

// The listener of a role that has no descriptors left accepts again later.
func TestAcceptGoesOn(t *testing.T) {
	parent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	file, err := parent.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	l := inherited(uintptr(fd), slog.New(slog.DiscardHandler))
	if l == nil {
		t.Fatal("no listener")
	}
	accepted := make(chan error, 1)
	accept := func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		accepted <- err
	}

	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	var held []*os.File
	defer func() {
		for _, f := range held {
			f.Close()
		}
	}()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	for {
		f, err := os.Open("/dev/null")
		if errors.Is(err, unix.EMFILE) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	at := l.Addr().(*net.TCPAddr)
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if c, err := parent.Accept(); !errors.Is(err, unix.EMFILE) {
		t.Fatalf("the listener itself: got %v, %v, want EMFILE", c, err)
	}
	go accept()
	select {
	case err := <-accepted:
		t.Fatalf("without descriptors: got %v, want it to wait", err)
	case <-time.After(100 * time.Millisecond):
	}
	for _, f := range held {
		f.Close()
	}
	held = nil
	if err := await.Value(t, "it accepts again", accepted); err != nil {
		t.Errorf("with descriptors again: %v", err)
	}

	// Only closing it ends it.
	go accept()
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}
