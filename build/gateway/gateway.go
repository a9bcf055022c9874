// Package gateway is the only way out of a room: an HTTP proxy (RFC 9110
// absolute-form requests and CONNECT) that reaches public addresses only and
// records every exchange, and a read-only registry (OCI distribution 1.1 pulls)
// that answers from a mirror on disk.
//
// CONNECT is a tunnel: of what passes through it host and size are recorded, not
// the content. Whoever terminates TLS here later does it in tunnel.
package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a gateway lets through. Zero fields mean the default.
type Config struct {
	Mirror   *Mirror        // answers pulls addressed to the gateway itself; nil answers none
	Ports    []uint16       // ports that may be reached; default 80 and 443
	Allow    []netip.Prefix // private ranges that builds may reach after all; default none
	Conns    int            // connections out at one time; default 256
	Bytes    int64          // bytes of all exchanges together, both ways; default 64 GiB
	Idle     time.Duration  // a tunnel without traffic ends after it; default 5 min
	Requests int            // exchanges; default 100000. More are refused: the record stays whole
}

// Exchange is one request as the gateway saw it.
type Exchange struct {
	Method string `json:"method"`
	URL    string `json:"url"`              // "host:port" for CONNECT
	Status int    `json:"status"`           // 0 where nothing was answered
	Size   int64  `json:"size"`             // bytes sent to the room
	SHA256 string `json:"sha256,omitempty"` // hex, of the body; only where all of it was seen
	Denied string `json:"denied,omitempty"` // why it was refused
}

// Gateway is one build's. Safe for concurrent use.
type Gateway struct {
	cfg    Config
	server *http.Server
	proxy  *httputil.ReverseProxy
	trans  *http.Transport
	slots  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc

	moved atomic.Int64 // bytes

	mu      sync.Mutex
	record  []*Exchange
	tunnels sync.WaitGroup
}

// New makes a gateway; Serve starts it.
func New(cfg Config) *Gateway {
	if cfg.Ports == nil {
		cfg.Ports = []uint16{80, 443}
	}
	if cfg.Conns == 0 {
		cfg.Conns = 256
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 30
	}
	if cfg.Idle == 0 {
		cfg.Idle = 5 * time.Minute
	}
	if cfg.Requests == 0 {
		cfg.Requests = 100000
	}
	g := &Gateway{cfg: cfg, slots: make(chan struct{}, cfg.Conns)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.trans = &http.Transport{
		Proxy:                  nil, // the environment of the platform is not the build's
		DialContext:            g.dial,
		DisableCompression:     true, // the bytes recorded are the bytes sent
		MaxResponseHeaderBytes: 64 << 10,
		ResponseHeaderTimeout:  2 * time.Minute,
		IdleConnTimeout:        30 * time.Second,
	}
	quiet := log.New(io.Discard, "", 0)
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        func(*httputil.ProxyRequest) {},
		Transport:      g.trans,
		ModifyResponse: g.observe,
		ErrorHandler:   g.failed,
		ErrorLog:       quiet,
	}
	g.server = &http.Server{
		Handler:           http.HandlerFunc(g.serve),
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet,
		BaseContext:       func(net.Listener) context.Context { return g.ctx },
	}
	return g
}

// Serve answers what l accepts until Close.
func (g *Gateway) Serve(l net.Listener) error {
	if err := g.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends every exchange and returns when none is left.
func (g *Gateway) Close() error {
	g.cancel()
	err := g.server.Close()
	g.tunnels.Wait()
	g.trans.CloseIdleConnections()
	return err
}

// Exchanges returns what happened so far, in the order of the requests.
func (g *Gateway) Exchanges() []Exchange {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Exchange, len(g.record))
	for i, e := range g.record {
		out[i] = *e
	}
	return out
}

// begin records a request, or refuses where the record is full.
func (g *Gateway) begin(method, url string) (*Exchange, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.record) >= g.cfg.Requests {
		return nil, fmt.Errorf("more than %d requests", g.cfg.Requests)
	}
	if len(url) > 8192 {
		return nil, fmt.Errorf("a URL of %d bytes, at most 8192 are taken", len(url))
	}
	e := &Exchange{Method: method, URL: url}
	g.record = append(g.record, e)
	return e, nil
}

func (g *Gateway) update(e *Exchange, f func(*Exchange)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(e)
}

type exchangeKey struct{}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	target := r.Host
	if r.Method != http.MethodConnect && r.URL.IsAbs() {
		u := *r.URL
		u.User = nil // credentials are no part of a record that is published
		target = u.String()
	} else if r.Method != http.MethodConnect {
		target = r.URL.RequestURI()
	}
	e, err := g.begin(r.Method, target)
	if err != nil {
		http.Error(w, "gateway: "+err.Error(), http.StatusTooManyRequests)
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		g.tunnel(w, r, e)
	case r.URL.IsAbs():
		g.forward(w, r, e)
	case g.cfg.Mirror != nil && strings.HasPrefix(r.URL.Path, "/v2/"):
		c := &counter{ResponseWriter: w, sum: sha256.New()}
		g.cfg.Mirror.ServeHTTP(c, r)
		g.update(e, func(e *Exchange) {
			e.Status, e.Size = c.status, c.n
			if r.Method == http.MethodGet && c.status == http.StatusOK {
				e.SHA256 = hex.EncodeToString(c.sum.Sum(nil))
			}
		})
	default:
		g.update(e, func(e *Exchange) { e.Status = http.StatusNotFound })
		http.NotFound(w, r)
	}
}

// forward answers an absolute-form request: plain HTTP.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, e *Exchange) {
	if r.URL.Scheme != "http" {
		g.refuse(w, e, fmt.Errorf("scheme %q, want http (https goes through CONNECT)", r.URL.Scheme))
		return
	}
	if r.Header.Get("Upgrade") != "" {
		g.refuse(w, e, fmt.Errorf("protocol upgrade to %q", r.Header.Get("Upgrade")))
		return
	}
	// The Host header of the request may differ from its target; the target counts.
	r.Host = r.URL.Host
	r.Body = &metered{ReadCloser: r.Body, g: g}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)))
}

// observe counts and hashes a response as it passes.
func (g *Gateway) observe(resp *http.Response) error {
	e := resp.Request.Context().Value(exchangeKey{}).(*Exchange)
	g.update(e, func(e *Exchange) { e.Status = resp.StatusCode })
	sum := sha256.New()
	resp.Body = &metered{ReadCloser: resp.Body, g: g, sum: sum, done: func(n int64, whole bool) {
		g.update(e, func(e *Exchange) {
			e.Size = n
			if whole {
				e.SHA256 = hex.EncodeToString(sum.Sum(nil))
			}
		})
	}}
	return nil
}

func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	e := r.Context().Value(exchangeKey{}).(*Exchange)
	var d *DeniedError
	if errors.As(err, &d) {
		g.refuse(w, e, d)
		return
	}
	g.update(e, func(e *Exchange) { e.Status = http.StatusBadGateway })
	http.Error(w, "gateway: "+err.Error(), http.StatusBadGateway)
}

func (g *Gateway) refuse(w http.ResponseWriter, e *Exchange, err error) {
	g.update(e, func(e *Exchange) { e.Status, e.Denied = http.StatusForbidden, err.Error() })
	http.Error(w, "gateway: "+err.Error(), http.StatusForbidden)
}

// tunnel answers CONNECT: bytes both ways until one side is silent too long.
func (g *Gateway) tunnel(w http.ResponseWriter, r *http.Request, e *Exchange) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	up, err := g.dial(ctx, "tcp", r.Host)
	cancel()
	if err != nil {
		var d *DeniedError
		if errors.As(err, &d) {
			g.refuse(w, e, d)
			return
		}
		g.update(e, func(e *Exchange) { e.Status = http.StatusBadGateway })
		http.Error(w, "gateway: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	g.tunnels.Add(1)
	defer g.tunnels.Done()
	down, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	stop := context.AfterFunc(g.ctx, func() { down.Close(); up.Close() })
	defer stop()
	if _, err := io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	g.update(e, func(e *Exchange) { e.Status = http.StatusOK })
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What the client sent right behind its request is in the buffer.
		g.pipe(up, buf.Reader, down)
		if c, ok := up.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	}()
	n := g.pipe(down, up, up)
	down.Close()
	<-done
	g.update(e, func(e *Exchange) { e.Size = n })
}

// pipe copies src to dst; conn is what src reads from, for its deadline.
func (g *Gateway) pipe(dst io.Writer, src io.Reader, conn net.Conn) (n int64) {
	buf := make([]byte, 32<<10)
	for {
		conn.SetReadDeadline(time.Now().Add(g.cfg.Idle))
		k, err := src.Read(buf)
		if g.spend(k) != nil {
			return n
		}
		if k > 0 {
			if _, werr := dst.Write(buf[:k]); werr != nil {
				return n
			}
			n += int64(k)
		}
		if err != nil {
			return n
		}
	}
}

// spend takes n bytes from the budget of the build.
func (g *Gateway) spend(n int) error {
	if g.moved.Add(int64(n)) > g.cfg.Bytes {
		return &DeniedError{Reason: fmt.Sprintf("more than %d bytes in one build", g.cfg.Bytes)}
	}
	return nil
}

// metered is a body that is counted, hashed and held to the budget.
type metered struct {
	io.ReadCloser
	g    *Gateway
	sum  hash.Hash
	n    int64
	done func(n int64, whole bool)
}

func (m *metered) Read(p []byte) (int, error) {
	k, err := m.ReadCloser.Read(p)
	m.n += int64(k)
	if m.sum != nil {
		m.sum.Write(p[:k])
	}
	if serr := m.g.spend(k); serr != nil {
		err = serr
	}
	if err != nil && m.done != nil {
		m.done(m.n, err == io.EOF)
		m.done = nil
	}
	return k, err
}

func (m *metered) Close() error {
	if m.done != nil {
		m.done(m.n, false)
		m.done = nil
	}
	return m.ReadCloser.Close()
}

// counter is a ResponseWriter that remembers what went through it.
type counter struct {
	http.ResponseWriter
	status int
	n      int64
	sum    hash.Hash
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	k, err := c.ResponseWriter.Write(p)
	c.n += int64(k)
	c.sum.Write(p[:k])
	return k, err
}

// DeniedError says why the gateway does not connect.
type DeniedError struct{ Target, Reason string }

func (e *DeniedError) Error() string {
	if e.Target == "" {
		return "denied: " + e.Reason
	}
	return fmt.Sprintf("denied: %s: %s", e.Target, e.Reason)
}

// dial resolves a name once, and connects to an address it has checked: a name
// cannot change its mind between the check and the connection.
func (g *Gateway) dial(ctx context.Context, _, target string) (net.Conn, error) {
	host, p, err := net.SplitHostPort(target)
	if err != nil {
		return nil, &DeniedError{target, "want host:port"}
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || !slices.Contains(g.cfg.Ports, uint16(port)) {
		return nil, &DeniedError{target, fmt.Sprintf("port %s, want one of %d", p, g.cfg.Ports)}
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("more than %d connections at one time", g.cfg.Conns)
	}
	release := sync.OnceFunc(func() { <-g.slots })
	var last error
	for _, a := range addrs {
		if err := g.check(a); err != nil {
			last = &DeniedError{target, err.Error()}
			continue
		}
		d := net.Dialer{Timeout: 30 * time.Second}
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a.Unmap(), uint16(port)).String())
		if err == nil {
			return &conn{Conn: c, release: release}, nil
		}
		last = err
	}
	release()
	if last == nil {
		last = fmt.Errorf("%s has no address", host)
	}
	return nil, last
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	release func()
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}

func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}
