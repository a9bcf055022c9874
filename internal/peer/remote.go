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

// Endpoint is where a role answers: at a Unix socket of this host, or behind the door of
// another host.
type Endpoint struct {
	Socket string `json:"socket,omitempty"` // path

	Address     string       `json:"address,omitempty"` // host:port of a door, if Socket is empty
	Role        string       `json:"role,omitempty"`    // the role behind the door
	Credentials *Credentials `json:"credentials,omitempty"`
}

// At returns the endpoint at a Unix socket.
func At(path string) Endpoint { return Endpoint{Socket: path} }

// Credentials authenticate a role to roles of the same platform on other hosts, with mutual
// TLS.
type Credentials struct {
	CA   []byte `json:"ca"`   // PEM: certificate of the platform's enrolment authority, the only trust root
	Cert []byte `json:"cert"` // PEM: certificate that names the role (RoleURI)
	Key  []byte `json:"key"`  // PEM: private key of Cert
}

const (
	// The client names the role that it wants in the TLS handshake (ALPN, RFC 7301), so
	// the door need not parse the bytes that it forwards.
	alpn = "colophon/"

	joinTimeout = 10 * time.Second // for connecting and the TLS handshake
)

// RoleURI returns the name of a role in a certificate (URI SAN): colophon:role:NAME.
func RoleURI(role string) *url.URL { return &url.URL{Scheme: "colophon", Opaque: "role:" + role} }

func (c *Credentials) config() (*tls.Config, error) {
	if c == nil {
		return nil, errors.New("this host has no credentials for other hosts; colophond enrol makes them")
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("the certificate of the enrolment authority is not valid PEM")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// Dial connects to the role at e. On another host it checks that the certificate is the
// role's.
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
	// The enrolment authority certifies all roles, so check that this is the right one.
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if !namesRole(leaf, e.Role) {
		conn.Close()
		return nil, fmt.Errorf("certificate of %s: got names %v, want the role %s", e.Address, leaf.URIs, e.Role)
	}
	return conn, nil
}

func namesRole(leaf *x509.Certificate, role string) bool {
	return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == RoleURI(role).String() })
}

// Door accepts connections from roles of other hosts and forwards them to roles of this
// host. It runs as a user of its own, RoleDoor in Users. It starts each connection to a role
// with a line that names the role in the client's certificate.
type Door struct {
	Credentials *Credentials
	From        []string          // roles that may connect
	To          map[string]string // role to the path of its socket
	Log         *slog.Logger
}

// Serve forwards connections that l accepts until ctx is done.
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
			if err := d.forward(ctx, tls.Server(conn, cfg)); err != nil {
				d.Log.Warn("connection refused", "from", conn.RemoteAddr(), "reason", err)
			}
		})
	}
}

func (d Door) forward(ctx context.Context, in *tls.Conn) error {
	shake, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := in.HandshakeContext(shake); err != nil {
		return err
	}
	state := in.ConnectionState()
	leaf := state.PeerCertificates[0]
	from := slices.IndexFunc(d.From, func(role string) bool { return namesRole(leaf, role) })
	if from < 0 {
		return fmt.Errorf("client certificate: got names %v, want one of the roles %v", leaf.URIs, d.From)
	}
	// If client and server have no ALPN protocol in common, NegotiatedProtocol may be empty.
	role, ok := strings.CutPrefix(state.NegotiatedProtocol, alpn)
	socket := d.To[role]
	if !ok || socket == "" {
		return fmt.Errorf("the client asks for %q, which is not a role of this host", state.NegotiatedProtocol)
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

// Join copies bytes in both directions until both sides have ended, and closes down. from
// reads what down receives; it may hold bytes that were read ahead.
func Join(up, down net.Conn, from io.Reader) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(up, from)
		closeWrite(up)
	}()
	io.Copy(down, up)
	closeWrite(down)
	down.Close() // up has ended, so nothing more can reach down
	<-done
}

// Upgrade switches the connection of a request to protocol (RFC 9110, 7.8). Read the
// client's bytes from the reader, which may hold some already. If Upgrade fails, it has
// answered the request.
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
