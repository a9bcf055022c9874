package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
)

// tunnel is the connection inside a room's CONNECT.
type tunnel struct {
	net.Conn
	r  *bufio.Reader // may hold bytes that the client sent directly after its request
	to endpoint      // the host that the CONNECT named
}

func (t *tunnel) Read(p []byte) (int, error) { return t.r.Read(p) }

type tunnelKey struct{}

// connect answers CONNECT: the gateway terminates TLS with a certificate for the host
// that the request names.
func (g *Gateway) connect(w http.ResponseWriter, r *http.Request) {
	to, err := parseEndpoint(r.Host, 0)
	if err != nil {
		g.refuseConnect(w, r.Host, err)
		return
	}
	if err := g.policy.admit(to); err != nil {
		g.refuseConnect(w, to.authority("https"), err)
		return
	}
	leaf, err := g.ca.leaf(to.host)
	if err != nil {
		http.Error(w, "gateway: "+err.Error(), http.StatusInternalServerError)
		return
	}
	if !g.enter() {
		return
	}
	defer g.running.Done()
	down, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	stop := context.AfterFunc(g.ctx, func() { down.Close() })
	defer stop()
	down.SetDeadline(time.Now().Add(handshake))
	if _, err := io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		down.Close()
		return
	}
	t := &tunnel{Conn: down, r: buf.Reader, to: to}
	if c, err := g.terminate(t, leaf); err != nil {
		down.Close()
		if g.ctx.Err() == nil {
			g.recordConnect(to.authority("https"), err)
		}
	} else if c != nil {
		down.SetDeadline(time.Time{})
		select {
		case g.tls <- c:
		case <-g.ctx.Done():
			down.Close()
		}
	}
}

// terminate runs the TLS handshake of a tunnel and returns the decrypted connection.
// Both results are nil if the client disconnected.
func (g *Gateway) terminate(t *tunnel, leaf *tls.Certificate) (net.Conn, error) {
	var fronted error
	c := tls.Server(t, &tls.Config{
		NextProtos:             []string{"h2", "http/1.1"},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		Certificates:           []tls.Certificate{*leaf},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			// An address has no server name (RFC 6066, section 3).
			name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
			if name != t.to.host && (name != "" || net.ParseIP(t.to.host) == nil) {
				fronted = fmt.Errorf("server name in the TLS handshake: got %.300q, want %s, which the CONNECT named", name, t.to.host)
				return nil, fronted
			}
			return nil, nil
		},
	})
	ctx, cancel := context.WithTimeout(g.ctx, handshake)
	defer cancel()
	err := c.HandshakeContext(ctx)
	_, other := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case err == nil:
		return c, nil
	case fronted != nil:
		return nil, fronted
	case other:
		return nil, errors.New("the tunnel carries another protocol than TLS; only TLS is allowed")
	case errors.Is(err, io.EOF):
		t.Close()
		return nil, nil
	}
	return nil, fmt.Errorf("TLS: %w (the client must trust the room's CA bundle)", err)
}

func (g *Gateway) refuseConnect(w http.ResponseWriter, host string, err error) {
	if !printable.IsASCII(host) || len(host) > 300 {
		host = MirrorHost
	}
	g.recordConnect(host, err)
	http.Error(w, "gateway: "+(&DeniedError{host, err.Error()}).Error(), http.StatusForbidden)
}

func (g *Gateway) recordConnect(host string, err error) {
	e, berr := g.begin(http.MethodConnect, "https://"+host+"/")
	if berr != nil {
		return
	}
	e.Status, e.Denied = http.StatusForbidden, clip(err.Error())
	g.finish(e)
}

// serveInside answers a request that came through a tunnel.
func (g *Gateway) serveInside(w http.ResponseWriter, r *http.Request) {
	to := r.Context().Value(tunnelKey{}).(endpoint)
	u := *r.URL
	host, err := parseEndpoint(r.Host, 443)
	switch {
	case r.Method == http.MethodConnect:
		err = errors.New("CONNECT inside a tunnel is not allowed")
	case u.Host != "" && u.Scheme != "https":
		err = fmt.Errorf("scheme inside TLS: got %.40q, want https", u.Scheme)
	case err == nil && host != to:
		err = fmt.Errorf("host of the request in the tunnel: got %.300q, want %s, which the CONNECT named", r.Host, to)
	}
	u.Scheme, u.Host = "https", to.authority("https")
	g.handle(w, r, &u, err)
}

// tlsListener accepts the tunnels whose TLS handshake has succeeded.
type tlsListener struct {
	g    *Gateway
	addr net.Addr
}

func (l tlsListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.g.tls:
		return c, nil
	case <-l.g.ctx.Done():
		return nil, http.ErrServerClosed
	}
}

func (l tlsListener) Close() error   { return nil }
func (l tlsListener) Addr() net.Addr { return l.addr }
