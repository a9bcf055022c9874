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

// PathHealth answers every role that a socket knows, while the server runs.
const PathHealth = "/healthz"

type rolesKey struct{}

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
			uid, err := uidOf(c)
			if err != nil {
				return ctx // without a peer every request is refused
			}
			var roles []string
			for role, user := range users {
				if user == uid {
					roles = append(roles, role)
				}
			}
			return context.WithValue(ctx, rolesKey{}, roles)
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("socket %s: %w", l.Addr(), err)
	}
	return nil
}

func rolesOf(r *http.Request) []string {
	roles, _ := r.Context().Value(rolesKey{}).([]string)
	return roles
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
func uidOf(c net.Conn) (int, error) {
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
