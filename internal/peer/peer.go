// Package peer connects the roles of a platform over HTTP. A role listens on a Unix socket
// and recognises other roles of its host by their user, which the kernel reports
// (SO_PEERCRED, unix(7)). Roles of other hosts connect through a Door, over mutual TLS.
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

	"github.com/colophon-build/colophon/internal/logs"
)

// Users maps each role of a platform to the uid that it runs as. Several roles may have the
// same uid.
type Users map[string]int

const (
	// Elsewhere stands for the uid of a role that runs on another host and connects
	// through the door.
	Elsewhere = -1
	// RoleDoor is the role that connects on behalf of roles of other hosts: see Door.
	RoleDoor = "door"
)

// PathHealth is the URL path that answers 200 to every role in Users while a server runs.
const PathHealth = "/healthz"

// PathReady is the URL path that answers 200 to every role in Users while a role can do its
// work: see Ready.
const PathReady = "/readyz"

// Ready passes requests to h, except those for PathReady. It answers them with 200 if try
// returns nil, else with 503 and the error.
func Ready(h http.Handler, try func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != PathReady {
			h.ServeHTTP(w, r)
			return
		}
		if err := try(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "ok\n")
	})
}

// Serve serves connections that l accepts until ctx is done. h gets the requests of all
// roles in users, other users get 403. Use Allow to restrict a handler to some roles. When
// ctx ends, Serve closes l and interrupts running requests.
func Serve(ctx context.Context, l net.Listener, users Users, h http.Handler) error {
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case len(rolesOf(r)) == 0:
				http.Error(w, "your user may not use this socket", http.StatusForbidden)
			case r.Method == http.MethodGet && r.URL.Path == PathHealth:
				io.WriteString(w, "ok\n")
			default:
				h.ServeHTTP(w, logs.Receive(r))
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

// listener finds out which roles connect.
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
		return nil, fmt.Errorf("got a connection of type %T, want a Unix connection", conn)
	}
	c := &caller{UnixConn: unixConn}
	uid, err := uidOf(unixConn)
	if err != nil {
		return c, nil // it has no roles, so Serve refuses its requests
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

// caller is a connection and the roles of the user at its other end. A connection from the
// door gets its role with the first Read.
type caller struct {
	*net.UnixConn
	roles []string
	door  Users // set for a connection from the door until its first line is read
}

const maxRole = 32 // limit of a role's name, in bytes

// Read implements net.Conn. It takes the first line of a connection from the door, the name
// of the role on whose behalf the door connects.
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
				return 0, errors.New("the first line from the door is not the name of a role")
			}
		}
		if c.door[string(name)] != Elsewhere { // a role of this host connects without the door
			return 0, fmt.Errorf("the door connects for %q, which is not a role on another host", name)
		}
		c.roles, c.door = []string{string(name)}, nil
	}
	return c.UnixConn.Read(p)
}

type callerKey struct{}

// headerRole is how a Proxy says which role it is. Where several roles have one user, the requests of strangers
// that it forwards would otherwise count as requests of all of them.
const headerRole = "Colophon-Role"

// rolesOf returns the roles that sent a request. headerRole only takes roles away, so everybody may send it.
func rolesOf(r *http.Request) []string {
	c, ok := r.Context().Value(callerKey{}).(*caller)
	if !ok {
		return nil
	}
	as := r.Header.Values(headerRole)
	if len(as) == 0 {
		return c.roles
	}
	return slices.DeleteFunc(slices.Clone(c.roles), func(role string) bool { return len(as) > 1 || role != as[0] })
}

// From reports whether one of the named roles sent a request that Serve got.
func From(r *http.Request, roles ...string) bool {
	return slices.ContainsFunc(rolesOf(r), func(role string) bool { return slices.Contains(roles, role) })
}

// Allow passes requests of the named roles to h; others get 403.
func Allow(h http.Handler, roles ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if From(r, roles...) {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, fmt.Sprintf("only %v may ask for %s", roles, r.URL.Path), http.StatusForbidden)
	})
}

// Client returns a client that connects to the role at e, whatever scheme and host its URLs
// have.
func (e Endpoint) Client() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dial(ctx) }
	return &http.Client{Transport: transport{&http.Transport{
		DisableCompression:  true,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: 64,
		DialContext:         dial,
		DialTLSContext:      dial,
	}}}
}

// transport tells the other role which request of a client it works for.
type transport struct{ *http.Transport }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	logs.Forward(r)
	return t.Transport.RoundTrip(r)
}

// Proxy returns a proxy of the role as, which forwards requests to the role at e, with path, host and headers
// unchanged. They count as requests of as and of no other role. If the role at e does not answer, the proxy
// answers 503.
func Proxy(as, role string, e Endpoint, log *slog.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", role
			r.Out.Header.Set(headerRole, as) // here no Connection header of the client removes it
		},
		Transport:     e.Client().Transport,
		FlushInterval: -1, // forward events immediately
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				log.ErrorContext(r.Context(), role+" does not answer", "error", err)
			}
			http.Error(w, role+" does not answer; it may be restarting", http.StatusServiceUnavailable)
		},
	}
}

// Listen creates a socket with mode 0660 and group gid; if gid is negative, with our own
// group. It replaces a socket that a killed process left.
func Listen(path string, gid int) (*net.UnixListener, error) {
	l, err := listen(path, gid)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

// listen first creates the socket in a directory that only we can enter and sets its mode,
// so that nobody else can connect in between. Then it renames the socket.
func listen(path string, gid int) (*net.UnixListener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s exists and is not a socket", path)
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

// uidOf returns the uid of the process at the other end.
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
