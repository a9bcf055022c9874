// Package peercred serves HTTP on Unix sockets to processes of named users
// alone, as the kernel knows them (SO_PEERCRED, unix(7)).
package peercred

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

type uidKey struct{}

// Serve answers on a socket at path until ctx is done: requests of uids reach
// h, others get 403. The socket is 0600; where uids begins with another user
// than ours, it is given to that one. A socket that a killed process left is
// replaced. Requests in flight are cut when ctx ends.
func Serve(ctx context.Context, path string, uids []int, h http.Handler) error {
	if len(uids) == 0 {
		return errors.New("socket " + path + ": no user may use it")
	}
	l, err := listen(path, uids[0])
	if err != nil {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	defer os.Remove(path)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			uid, ok := r.Context().Value(uidKey{}).(int)
			if !ok || !slices.Contains(uids, uid) {
				http.Error(w, fmt.Sprintf("user %d may not use this socket", uid), http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			uid, err := peer(c)
			if err != nil {
				return ctx // without a peer every request is refused
			}
			return context.WithValue(ctx, uidKey{}, uid)
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return nil
}

// Client talks to a socket that Serve listens on; the host in its URLs is ignored.
func Client(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableCompression: true,
		IdleConnTimeout:    30 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// listen makes the socket under another name in a directory that only we can
// enter, so that at no moment anybody else can connect.
func listen(path string, uid int) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and no socket", path)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".sock-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	name := filepath.Join(tmp, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(name, 0o600)
	if err == nil && uid != os.Geteuid() {
		err = os.Chown(name, uid, -1)
	}
	if err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// peer is the user at the other end.
func peer(c net.Conn) (int, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no Unix connection", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}
