package zone

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"time"
)

// inherited returns the listener that the parent passed as descriptor fd, or nil if it
// passed none.
func inherited(fd uintptr, log *slog.Logger) net.Listener {
	f := os.NewFile(fd, "listener")
	if f == nil {
		return nil
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	return steady{l, log}
}

// steady is a listener whose Accept returns an error only after it is closed. Accept
// fails for many reasons that pass, such as too many open files, no memory, or an error
// of the connection's network (accept(2)). If a role ended then, whoever opens
// connections could end it.
type steady struct {
	net.Listener
	log *slog.Logger
}

// Accept implements net.Listener. It waits before it tries again: 5 ms at first, 1 s at
// most.
func (s steady) Accept() (net.Conn, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		conn, err := s.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		s.log.Warn("cannot accept a connection", "error", err, "again_in", wait)
		time.Sleep(wait)
	}
}
