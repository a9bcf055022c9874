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
	"net/url"
	"slices"
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

// Door lets roles of other hosts in. To the roles behind it it is the role that
// came in: its user is theirs in Users. So a door is for one role.
type Door struct {
	Credentials *Credentials
	From        string            // the role that may come in
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
	if !has(state.PeerCertificates[0], d.From) {
		return fmt.Errorf("its certificate names %v, want the role %s", state.PeerCertificates[0].URIs, d.From)
	}
	// Without a protocol in common TLS goes on without one.
	role, ok := cutPrefix(state.NegotiatedProtocol)
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
	Join(out, in, in)
	return nil
}

func cutPrefix(protocol string) (role string, ok bool) {
	if len(protocol) <= len(alpn) || protocol[:len(alpn)] != alpn {
		return "", false
	}
	return protocol[len(alpn):], true
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

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
	}
}
