package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Endpoint is where a role answers: at a Unix socket of this host, or behind the
// door of another one.
type Endpoint struct {
	Socket string `json:"socket,omitempty"` // path

	Address     string       `json:"address,omitempty"` // host:port of a door, where Socket is empty
	Role        string       `json:"role,omitempty"`    // whom the door leads to
	Credentials *Credentials `json:"credentials,omitempty"`
}

// At is the endpoint at a Unix socket.
func At(path string) Endpoint { return Endpoint{Socket: path} }

// Credentials say who a role of a platform is to the roles on other hosts.
type Credentials struct {
	CA   []byte `json:"ca"`   // PEM: the platform's enrolment authority, which alone is believed
	Cert []byte `json:"cert"` // PEM; names the role, see RoleURI
	Key  []byte `json:"key"`  // PEM
}

const (
	// A door is told whom it is for in TLS itself (ALPN, RFC 7301), so that it
	// looks into nothing that passes.
	alpn = "colophon/"

	joinTimeout = 10 * time.Second // to become sure of each other
)

// RoleURI is the name of a role in a certificate (URI SAN).
func RoleURI(role string) *url.URL { return &url.URL{Scheme: "colophon", Opaque: "role:" + role} }

func (c *Credentials) config() (*tls.Config, error) {
	if c == nil {
		return nil, errors.New("no credentials for other hosts (colophond enrol makes them)")
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("the enrolment authority's certificate cannot be read")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// Dial connects to the role.
func (e Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	if e.Socket != "" {
		return new(net.Dialer).DialContext(ctx, "unix", e.Socket)
	}
	cfg, err := e.Credentials.config()
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = []string{alpn + e.Role}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", e.Address)
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", e.Role, e.Address, err)
	}
	// A certificate of the same authority is not enough: it must be the role's.
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if !has(leaf, e.Role) {
		conn.Close()
		return nil, fmt.Errorf("%s: its certificate is not for the role %s", e.Address, e.Role)
	}
	return conn, nil
}

func has(leaf *x509.Certificate, role string) bool {
	return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == RoleURI(role).String() })
}

// Door lets roles of other hosts in. It has a user of its own, RoleDoor in
// Users, and tells the roles behind it whose certificate it saw.
type Door struct {
	Credentials *Credentials
	From        []string          // roles that may come in
	To          map[string]string // sockets by the role behind them
	Log         *slog.Logger
}

// Serve joins connections until ctx is done.
func (d Door) Serve(ctx context.Context, l net.Listener) error {
	cfg, err := d.Credentials.config()
	if err != nil {
		return err
	}
	for role := range d.To {
		cfg.NextProtos = append(cfg.NextProtos, alpn+role)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		running.Go(func() {
			defer conn.Close()
			if err := d.let(ctx, tls.Server(conn, cfg)); err != nil {
				d.Log.Warn("not let in", "from", conn.RemoteAddr(), "reason", err)
			}
		})
	}
}

func (d Door) let(ctx context.Context, in *tls.Conn) error {
	shake, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := in.HandshakeContext(shake); err != nil {
		return err
	}
	state := in.ConnectionState()
	leaf := state.PeerCertificates[0]
	from := slices.IndexFunc(d.From, func(role string) bool { return has(leaf, role) })
	if from < 0 {
		return fmt.Errorf("its certificate names %v, want one of the roles %v", leaf.URIs, d.From)
	}
	// Without a protocol in common TLS goes on without one.
	role, ok := strings.CutPrefix(state.NegotiatedProtocol, alpn)
	socket := d.To[role]
	if !ok || socket == "" {
		return fmt.Errorf("asked for %q, which is not here", state.NegotiatedProtocol)
	}
	out, err := At(socket).Dial(shake)
	if err != nil {
		return err
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	if _, err := io.WriteString(out, d.From[from]+"\n"); err != nil {
		return err
	}
	Join(out, in, in)
	return nil
}

// Join copies both ways until both sides have said all, and closes down. What
// from has read ahead of down goes first.
func Join(up, down net.Conn, from io.Reader) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, from)
		closeWrite(up)
	}()
	io.Copy(down, up)
	closeWrite(down)
	down.Close() // who has ended hears nothing more
	<-done
}

// Upgrade makes the connection of a request one that speaks protocol (RFC 9110,
// 7.8). What the client says is read from the reader: some of it may have come
// already. Where that fails, the request is answered.
func Upgrade(w http.ResponseWriter, protocol string) (net.Conn, io.Reader, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, nil, err
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, buf.Reader, nil
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
	}
}
