// Package gateway connects a room to the network and records its traffic. It is an
// HTTP proxy (RFC 9110, absolute-form requests and CONNECT) that connects to the
// hosts that its policy allows, and a read-only registry (OCI distribution 1.1,
// pulls) that serves a mirror on disk and the images of the platform's own registry.
// A room has no other way out.
//
// The gateway sees every byte. It terminates TLS with certificates of its own CA,
// which only its room trusts. It refuses a CONNECT whose content is not TLS for
// the host that the CONNECT named. The room receives an answer's status, some
// headers that clients act on, and the body; the record (builder.Exchange) has all
// three.
//
// If a build may use credentials of the platform, the gateway adds them to the requests in
// their scope (see login).
//
// The gateway removes some HTTP features, so that the same request gets the same
// answer: it asks for bodies without content coding, it drops If-None-Match,
// If-Modified-Since and Cookie, it drops the bodies of redirects and 401
// challenges, and it gives the room placeholders for registries' tokens (see
// tokens).
//
// A session (builder.Session) may keep the bodies in a store on disk, or restrict
// the gateway to the answers that a lock lists. All sessions take downloads whose
// digest is known before the request from the store (see pinned).
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sums"
)

// Settings configure one gateway. Zero fields mean the default.
type Settings struct {
	Session builder.Session `json:"session"`

	Mirror   string `json:"mirror,omitempty"`   // OCI layout that serves pulls addressed to the gateway itself; default none
	Registry string `json:"registry,omitempty"` // origin of the platform's registry, http://host:port, which serves pulls of its images addressed to the gateway itself, as it does to strangers; default none
	Store    string `json:"store,omitempty"`    // directory of stored downloads, which all gateways share; required by sessions that record or have a lock
	Roots    string `json:"roots,omitempty"`    // PEM file of the trusted CAs; default the system's

	// Sums are those of modules that the session's Demands name. Without the sum of a
	// module, the gateway does not take it from the store.
	Sums []sums.Sum `json:"sums,omitempty"`

	Network
	Platform []string `json:"platform,omitempty"` // origins of the platform, http://host:port; denied even if Network allows them

	// Limits of one session.
	Conns    int   `json:"conns,omitempty"`    // connections to the network, and exchanges, at a time; default 256
	Bytes    int64 `json:"bytes,omitempty"`    // bytes of all exchanges, both directions together; default 64 GiB
	Requests int   `json:"requests,omitempty"` // exchanges; default 100000. Further requests are refused, so the record is always complete
}

// Network configures which hosts rooms may reach, and how many bytes are stored for
// replays. It is part of the platform's configuration (build.network,
// docs/configuration.md).
type Network struct {
	StoreSize  int64          `json:"storeSize,omitempty"`  // maximum size of the store, in bytes; default 20 GiB
	Ports      []uint16       `json:"ports,omitempty"`      // allowed ports; default 80 and 443
	Allow      []netip.Prefix `json:"allow,omitempty"`      // ranges that are allowed though they are not public; default none. The provenance names them, and such a build reaches Build L2 at most
	Deny       []netip.Prefix `json:"deny,omitempty"`       // ranges that are denied, even if Allow lists them
	AllowHosts []string       `json:"allowHosts,omitempty"` // the only allowed hosts: example.com, *.example.com; default all
	DenyHosts  []string       `json:"denyHosts,omitempty"`  // hosts that are denied, even if AllowHosts lists them
}

// Reach returns which addresses the settings open, for attest.Isolation.
func (n Network) Reach() string {
	reach := attest.PublicNetwork
	for _, r := range n.Allow {
		reach += " " + r.String()
	}
	return reach
}

// MirrorHost is the host in the record of requests that were addressed to the
// gateway itself:
// http://mirror.invalid/v2/library/golang/manifests/1.26?ns=docker.io. No real host
// can have this name (RFC 2606, section 2).
const MirrorHost = "mirror.invalid"

// Defaults of Settings.
const (
	defaultConns     = 256      // requests at a time
	defaultBytes     = 64 << 30 // bytes of all bodies of one session
	defaultStoreSize = 20 << 30 // bytes
)

const (
	maxUpload = 1 << 30          // bytes of a request's body
	spill     = 64 << 10         // bytes of a request's body that are kept in memory; a larger body goes to a file
	handshake = 30 * time.Second // time limit of a tunnel's TLS handshake
	maxIn     = 512              // connections from a room at a time
)

// Gateway is the gateway of one session. It is safe for concurrent use.
type Gateway struct {
	set    Settings
	policy *policy
	ca     *authority
	mirror *Mirror
	own    *ownRegistry // nil if there is none
	store  *store       // nil if there is none, which only sessions that neither record nor have a lock may lack
	// private has the bodies that were fetched with a credential, of the session's scope alone.
	private *store
	demands demands
	sums    map[string]string // of modules: h1 by sha256
	led     redirects
	lock    *locked // nil if the session has none
	tokens  *tokens
	logins  logins // the credentials that the build may use

	front  *http.Server // serves the room's connections
	inside *http.Server // serves the TLS connections inside tunnels
	tls    chan net.Conn
	proxy  *httputil.ReverseProxy
	trans  *http.Transport
	dialer *dialer

	ctx    context.Context
	cancel context.CancelFunc
	moved  atomic.Int64 // bytes of all exchanges so far
	busy   chan struct{}

	mu      sync.Mutex
	closed  bool
	begun   int                                    // number of exchanges
	written int                                    // bytes of the record
	emit    func(n int, e *builder.Exchange) error // writes an exchange to the record
	broken  error                                  // the first error of emit
	record  map[int]builder.Exchange
	running sync.WaitGroup // exchanges and tunnels
}

// New creates a gateway; Serve starts it.
func New(s Settings) (_ *Gateway, err error) {
	if s.Ports == nil {
		s.Ports = []uint16{80, 443}
	}
	setDefault(&s.Conns, defaultConns)
	setDefault(&s.Bytes, defaultBytes)
	setDefault(&s.Requests, limits.LockFetches)
	setDefault(&s.StoreSize, defaultStoreSize)
	g := &Gateway{
		set: s, tokens: newTokens(), tls: make(chan net.Conn), busy: make(chan struct{}, s.Conns),
		record: map[int]builder.Exchange{}, demands: newDemands(s.Session.Demands), sums: map[string]string{}, led: redirects{to: map[string]*pinned{}},
	}
	g.emit = func(n int, e *builder.Exchange) error {
		g.record[n] = *e
		return nil
	}
	if g.policy, err = newPolicy(s); err != nil {
		return nil, err
	}
	if g.logins, err = newLogins(s.Session.Credentials); err != nil {
		return nil, err
	}
	if g.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	if err := g.openSession(); err != nil {
		return nil, err
	}
	roots, err := readRoots(s.Roots)
	if err != nil {
		return nil, err
	}
	if g.own, err = newOwnRegistry(s.Registry, roots); err != nil {
		return nil, err
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.dialer = &dialer{
		policy: g.policy, slots: make(chan struct{}, s.Conns), lookup: net.DefaultResolver.LookupNetIP,
		connect: (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
	}
	g.trans = &http.Transport{
		Proxy:                  nil, // ignore the proxy in the platform's environment
		DialContext:            g.dialer.dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // the bytes recorded are the bytes sent
		MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout:    30 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
	}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:      func(*httputil.ProxyRequest) {},
		Transport:    roundTripper(g.answer),
		ErrorHandler: g.failed,
		ErrorLog:     quiet,
		BufferPool:   buffers,
	}
	for _, sum := range s.Sums {
		g.sums[sum.SHA256] = sum.H1
	}
	g.front, g.inside = g.server(g.serve), g.server(g.serveInside)
	g.inside.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, tunnelKey{}, c.(*tls.Conn).NetConn().(*tunnel).to)
	}
	return g, nil
}

// openSession opens the mirror and the store, and loads the session's lock.
func (g *Gateway) openSession() (err error) {
	s := g.set
	if s.Mirror != "" {
		if g.mirror, err = OpenMirror(s.Mirror); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
	}
	if len(g.logins) > 0 && s.Session.Scope == "" {
		return errors.New("a session with credentials needs a scope, of which its store is")
	}
	needed := s.Session.Record || s.Session.Lock != nil
	if needed && s.Store == "" {
		return errors.New("a session that records or has a lock needs a store")
	}
	if s.Store != "" {
		switch store, err := openStore(s.Store, s.StoreSize); {
		case err == nil:
			g.store, g.private = store, store.of(s.Session.Scope)
		case needed:
			return fmt.Errorf("store: %w", err)
		} // else the build downloads everything
	}
	if s.Session.Sealed && s.Session.Lock == nil {
		return errors.New("a sealed session needs a lock")
	}
	if s.Session.Lock != nil {
		g.lock, err = newLocked(s.Session.Lock, g.tokens)
	}
	return err
}

// readRoots reads the CAs in a PEM file. If file is empty it returns nil, which means
// the system's CAs.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("roots: %s contains no certificate", file)
	}
	return roots, nil
}

var quiet = log.New(io.Discard, "", 0)

// server returns a server for h whose requests are cancelled when the session ends.
func (g *Gateway) server(h http.HandlerFunc) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet,
		BaseContext:       func(net.Listener) context.Context { return g.ctx },
	}
}

func setDefault[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// CA returns the certificate, in PEM, of the CA that the room must trust.
func (g *Gateway) CA() []byte { return g.ca.pem }

// Serve serves the connections that l accepts until End.
func (g *Gateway) Serve(l net.Listener) error {
	if !g.enter() {
		return nil
	}
	go func() {
		defer g.running.Done()
		g.inside.Serve(tlsListener{g, l.Addr()})
	}()
	if err := g.front.Serve(netutil.LimitListener(l, maxIn)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// End stops the gateway and returns the record: all exchanges in the order of their
// requests. It cuts off exchanges that are still running; these have no sha256.
func (g *Gateway) End() ([]builder.Exchange, error) {
	err := g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]builder.Exchange, g.begun)
	for n := range out {
		out[n] = g.record[n]
	}
	return out, err
}

func (g *Gateway) stop() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	var err error
	for _, s := range []*http.Server{g.front, g.inside} {
		// A room that ends closes its listener too, and may be first.
		if cerr := s.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	g.running.Wait()
	g.trans.CloseIdleConnections()
	return err
}

// enter registers a task that End waits for; it returns false if the gateway has
// ended. The caller calls g.running.Done after the task.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Add(1)
	return true
}

// exchange is a running exchange.
type exchange struct {
	builder.Exchange
	n   int // its number in the record, from 0
	url *url.URL

	open   bool    // anybody may have the answer
	pinned *pinned // nil if nobody says the digest of the answer before it is there
}

type exchangeKey struct{}

// begin reserves a place in the record for a request. It returns an error if the
// record can take no more.
func (g *Gateway) begin(method, url string) (*exchange, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return nil, errors.New("the session has ended")
	case g.broken != nil:
		return nil, errors.New("the record cannot be written")
	case g.begun >= g.set.Requests:
		return nil, fmt.Errorf("the session's limit of %d requests is reached", g.set.Requests)
	case g.written >= maxRecord:
		return nil, fmt.Errorf("the session's limit of %d bytes for its record is reached", maxRecord)
	}
	e := &exchange{Exchange: builder.Exchange{Method: method, URL: url}, n: g.begun}
	g.begun++
	g.running.Add(1)
	return e, nil
}

// finish writes an exchange to the record.
func (g *Gateway) finish(e *exchange) {
	defer g.running.Done()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written += len(e.URL) + len(e.Accept) + len(e.Range) + len(e.Denied) + len(e.Failed) + 256
	for k, v := range e.Header {
		g.written += len(k) + len(v)
	}
	if g.broken == nil {
		if g.broken = g.emit(e.n, &e.Exchange); g.broken != nil {
			g.cancel() // no traffic may pass unrecorded
		}
	}
}

// serve answers the room's requests to the gateway's address: CONNECT, proxy requests,
// and requests for the gateway's own registry.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		g.connect(w, r)
		return
	}
	u := *r.URL
	if !u.IsAbs() {
		u.Scheme, u.Host = "http", MirrorHost
		var err error
		if g.own.named(&u) {
			err = g.own.admit(g.policy)
		}
		g.handle(w, r, &u, err)
		return
	}
	if u.Scheme != "http" {
		g.handle(w, r, &u, fmt.Errorf("scheme: got %q, want http (use CONNECT for https)", u.Scheme))
		return
	}
	to, err := parseEndpoint(u.Host, 80)
	if err == nil {
		u.Host = to.authority("http")
		err = g.policy.admit(to)
	}
	g.handle(w, r, &u, err)
}

// handle answers one request for u. If refused is not nil, it refuses the request for
// that reason.
func (g *Gateway) handle(w http.ResponseWriter, r *http.Request, u *url.URL, refused error) {
	if !strings.HasPrefix(u.Path, "/") {
		u.Path, u.RawPath = "/", ""
	}
	text := credential.URL(u.String()) // the record is published, so it must not contain credentials
	if len(text) > limits.FetchURL || !printable.IsASCII(text) {
		refused = fmt.Errorf("URL: got %d bytes, want at most %d bytes of printable ASCII", len(text), limits.FetchURL)
		text = u.Scheme + "://" + MirrorHost + "/"
	}
	select {
	case g.busy <- struct{}{}:
		defer func() { <-g.busy }()
	case <-r.Context().Done():
		return
	}
	e, err := g.begin(r.Method, text)
	if err != nil {
		http.Error(w, "gateway: "+err.Error(), http.StatusTooManyRequests)
		return
	}
	defer g.finish(e)
	e.url = u
	e.Accept, e.Range = strings.Join(r.Header.Values("Accept"), ", "), strings.Join(r.Header.Values("Range"), ", ")
	e.Authorized = r.Header.Get("Authorization") != ""
	switch {
	case refused != nil:
	case r.Header.Get("Upgrade") != "":
		refused = fmt.Errorf("protocol upgrade to %.40q is not supported", r.Header.Get("Upgrade"))
	case len(e.Accept) > limits.FetchHeader || !printable.IsASCII(e.Accept) || len(e.Range) > limits.FetchHeader || !printable.IsASCII(e.Range):
		refused = fmt.Errorf("header: want Accept and Range in printable ASCII, at most %d bytes each", limits.FetchHeader)
		e.Accept, e.Range = "", ""
	}
	if refused != nil {
		g.refuse(w, e, &DeniedError{u.Host, refused.Error()})
		return
	}
	body, err := g.upload(r)
	if err != nil {
		g.refuse(w, e, &DeniedError{u.Host, err.Error()})
		return
	}
	defer body.Close()
	e.Request = body.sum
	// The exchange continues if the room disconnects, so that the record is complete.
	ctx := context.WithValue(g.ctx, exchangeKey{}, e)
	// If an answer breaks off, ReverseProxy aborts the room's connection, so that the
	// answer does not look complete. It does so only if the context has a server.
	ctx = context.WithValue(ctx, http.ServerContextKey, g.front)
	out := r.WithContext(ctx)
	out.Body, out.ContentLength, out.TransferEncoding = http.NoBody, 0, nil
	if body.sum != "" {
		out.Body, out.ContentLength, out.GetBody = body.reader(), body.size, func() (io.ReadCloser, error) { return body.reader(), nil }
	}
	g.proxy.ServeHTTP(w, out)
}

// failed answers a request whose answer could not be got because of err.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	e := r.Context().Value(exchangeKey{}).(*exchange)
	if d, ok := errors.AsType[*DeniedError](err); ok {
		g.refuse(w, e, d)
		return
	}
	e.Status, e.Header, e.Size, e.SHA256, e.Failed = http.StatusBadGateway, nil, 0, "", clip(err.Error())
	http.Error(w, "gateway: "+err.Error(), http.StatusBadGateway)
}

func (g *Gateway) refuse(w http.ResponseWriter, e *exchange, err error) {
	e.Status, e.Header, e.Size, e.SHA256, e.Denied = http.StatusForbidden, nil, 0, "", clip(err.Error())
	http.Error(w, "gateway: "+err.Error(), http.StatusForbidden)
}

// clip shortens a text for the record and makes it valid UTF-8.
func clip(s string) string {
	if len(s) > 1000 {
		s = s[:1000] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// spend subtracts n bytes from the session's budget; it returns an error if the budget
// is used up.
func (g *Gateway) spend(n int) error {
	if g.moved.Add(int64(n)) > g.set.Bytes {
		return &DeniedError{Reason: fmt.Sprintf("the build transferred more than %d bytes", g.set.Bytes)}
	}
	return nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
