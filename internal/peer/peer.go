// Package peer serves HTTP on Unix sockets to roles of the platform, told apart
// by their users as the kernel knows them (SO_PEERCRED, unix(7)).
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Users are the roles of a platform and the user that each runs as. Where
// everything runs as one user, all roles have that one.
type Users map[string]int

const (
	// Elsewhere is in place of the user of a role that runs on another host, and
	// comes in through the door.
	Elsewhere = -1
	// RoleDoor is the role that may say for whom it comes: see Door.
	RoleDoor = "door"
)

// PathHealth answers every role that a socket knows, while the server runs.
const PathHealth = "/healthz"

// Serve answers what l accepts until ctx is done: h gets the requests of users'
// roles, others get 403. Which role may ask for what is said with Allow; what
// is not wrapped in it answers all of them. Requests in flight are cut when ctx
// ends; l is closed.
func Serve(ctx context.Context, l net.Listener, users Users, h http.Handler) error {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case len(rolesOf(r)) == 0:
				http.Error(w, "your user may not use this socket", http.StatusForbidden)
			case r.Method == http.MethodGet && r.URL.Path == PathHealth:
				io.WriteString(w, "ok\n")
			default:
				h.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c)
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(listener{l, users}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("socket %s: %w", l.Addr(), err)
	}
	return nil
}

// listener finds out who connects.
type listener struct {
	net.Listener
	users Users
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T is no Unix connection", conn)
	}
	c := &caller{UnixConn: unixConn}
	uid, err := uidOf(unixConn)
	if err != nil {
		return c, nil // without roles every request is refused
	}
	if door, ok := l.users[RoleDoor]; ok && uid == door {
		c.door = l.users
		return c, nil
	}
	for role, user := range l.users {
		if user == uid {
			c.roles = append(c.roles, role)
		}
	}
	return c, nil
}

// caller is a connection and the roles of who is at its other end. From the door
// that is known once something was read.
type caller struct {
	*net.UnixConn
	roles []string
	door  Users // until the door has said for whom it comes
}

const maxRole = 32 // bytes of a role's name

// Read implements net.Conn. Of the door's bytes the first line is for us.
func (c *caller) Read(p []byte) (int, error) {
	if c.door != nil {
		var name []byte
		for b := make([]byte, 1); ; name = append(name, b[0]) {
			if _, err := io.ReadFull(c.UnixConn, b); err != nil {
				return 0, err
			}
			if b[0] == '\n' {
				break
			} else if len(name) == maxRole {
				return 0, errors.New("the door does not say for whom it comes")
			}
		}
		if c.door[string(name)] != Elsewhere { // whoever is here comes without a door
			return 0, fmt.Errorf("the door comes for %q, who is not elsewhere", name)
		}
		c.roles, c.door = []string{string(name)}, nil
	}
	return c.UnixConn.Read(p)
}

type callerKey struct{}

func rolesOf(r *http.Request) []string {
	if c, ok := r.Context().Value(callerKey{}).(*caller); ok {
		return c.roles
	}
	return nil
}

// Allow lets requests of the named roles alone reach h; others get 403.
func Allow(h http.Handler, roles ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, role := range rolesOf(r) {
			if slices.Contains(roles, role) {
				h.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("only %v may ask for %s", roles, r.URL.Path), http.StatusForbidden)
	})
}

// Client talks to the role at e; scheme and host of its URLs are ignored.
func (e Endpoint) Client() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) }
	return &http.Client{Transport: &http.Transport{
		DisableCompression:  true,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: 64,
		DialContext:         dial,
		DialTLSContext:      dial,
	}}
}

// Proxy hands requests on to the role that answers at e; their path,
// host and headers stay. While nobody answers they get 503.
func Proxy(role string, e Endpoint, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", role },
		Transport:     e.Client().Transport,
		FlushInterval: -1, // events as they come
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				log.Error(role+" does not answer", "error", err)
			}
			http.Error(w, role+" does not answer; it may be restarting", http.StatusServiceUnavailable)
		},
	}
}

// Listen makes a socket that the group gid may connect to, and our own group
// where gid is negative: 0660. A socket that a killed process left is replaced.
func Listen(path string, gid int) (*net.UnixListener, error) {
	l, err := listen(path, gid)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

// listen makes the socket under another name in a directory that only we can
// enter, so that at no moment anybody else can connect.
func listen(path string, gid int) (*net.UnixListener, error) {
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
	err = os.Chmod(name, 0o660)
	if err == nil && gid >= 0 {
		err = os.Chown(name, -1, gid)
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

// uidOf is the user at the other end.
func uidOf(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
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
