package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// away is a public address. Gateways of tests connect to loopback in its place, where the
// servers of tests listen; their policy sees only away.
var away = netip.MustParseAddr("9.9.9.9")

// reachable makes a gateway resolve all names to away.
func reachable(g *Gateway) {
	g.dialer.lookup = answers(away.String())
	connect := g.dialer.connect
	g.dialer.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		if to := netip.MustParseAddrPort(address); to.Addr() == away {
			address = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port()).String()
		}
		return connect(ctx, network, address)
	}
}

// rename gives a server the name that its certificate has besides its address.
func rename(up *httptest.Server) { up.URL = strings.Replace(up.URL, "127.0.0.1", "example.com", 1) }

// room is what a room has of its gateway.
type room struct {
	t    *testing.T
	g    *Gateway
	addr string
	*http.Client
}

func start(t *testing.T, s Settings) *room {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	reachable(g)
	go g.Serve(l)
	t.Cleanup(func() { g.End() })
	return &room{t, g, l.Addr().String(), client(t, l.Addr().String(), g.CA())}
}

// client uses the gateway as rooms do.
func client(t *testing.T, addr string, ca []byte) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the gateway's CA is no PEM")
	}
	// http.ProxyURL, unlike the environment, is used for loopback too.
	proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: addr})
	return &http.Client{
		Transport:     &http.Transport{Proxy: proxy, TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch is one request: its status and the whole body.
func (r *room) fetch(method, url string, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (r *room) want(status int, body, method, url string, header ...string) {
	r.t.Helper()
	if s, b := r.fetch(method, url, header...); s != status || !strings.Contains(b, body) {
		r.t.Errorf("%s %s: got %d %.300q, want %d %.300q", method, url, s, b, status, body)
	}
}

func (r *room) end() []builder.Exchange {
	r.t.Helper()
	e, err := r.g.End()
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// world is a TLS server, and the settings with which a gateway reaches it.
func world(t *testing.T, h http.HandlerFunc) (*httptest.Server, Settings) {
	t.Helper()
	up := httptest.NewUnstartedServer(h)
	up.EnableHTTP2 = true
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.StartTLS()
	t.Cleanup(up.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	rename(up)
	return up, Settings{Roots: roots, Network: Network{Ports: []uint16{port(t, up.URL)}}}
}

func port(t *testing.T, rawURL string) uint16 {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

func hexSum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestEveryByteIsRecorded(t *testing.T) {
	text := strings.Repeat("colophon ", 10000)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" || r.Header.Get("Cookie") != "" || r.Header.Get("If-None-Match") != "" || r.Header.Get("X-Forwarded-For") != "" {
			t.Errorf("a header went through that must not: %v", r.Header)
		}
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("accept-encoding: got %q", got)
		}
		w.Header().Set("Set-Cookie", "secret=1")
		w.Header().Set("X-Request-Id", "4711")
		w.Header().Set("ETag", `"e"`)
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/x?y=1", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, text+string(b))
	})
	room := start(t, s)
	req, _ := http.NewRequest("GET", up.URL+"/x?y=1&z=a;b#part", nil)
	for k, v := range map[string]string{"Proxy-Authorization": "secret", "Cookie": "secret", "If-None-Match": "x", "Accept": "a/b", "Authorization": "Basic c2VjcmV0"} {
		req.Header.Set(k, v)
	}
	resp, err := room.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	if string(got) != text || resp.ProtoMajor != 2 {
		t.Errorf("got %d bytes by %s, want %d by HTTP/2", len(got), resp.Proto, len(text))
	}
	for _, k := range []string{"Set-Cookie", "X-Request-Id"} {
		if resp.Header.Get(k) != "" {
			t.Errorf("%s came through, and is in no record", k)
		}
	}
	room.want(302, "", "GET", up.URL+"/moved")
	room.want(200, "", "HEAD", up.URL+"/x")
	resp, err = room.Post(up.URL+"/x", "text/plain", strings.NewReader("question"))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != text+"question" {
		t.Errorf("POST: got %d bytes", len(b))
	}
	plain := map[string]string{"Content-Type": "text/plain", "Etag": `"e"`}
	want := []builder.Exchange{
		{Method: "GET", URL: up.URL + "/x?y=1&z=a;b", Accept: "a/b", Authorized: true, Status: 200, Header: plain, Size: int64(len(text)), SHA256: hexSum(text)},
		{Method: "GET", URL: up.URL + "/moved", Status: 302, Header: map[string]string{"Content-Type": "text/html; charset=utf-8", "Etag": `"e"`, "Location": "/x?y=1"}, SHA256: emptySum},
		{Method: "HEAD", URL: up.URL + "/x", Status: 200, Header: plain, SHA256: emptySum},
		{Method: "POST", URL: up.URL + "/x", Request: hexSum("question"), Status: 200, Header: plain, Size: int64(len(text)) + 8, SHA256: hexSum(text + "question")},
	}
	record := room.end()
	for i := range record {
		if i >= len(want) || fmt.Sprint(record[i]) != fmt.Sprint(want[i]) {
			t.Errorf("exchange %d: got %+v", i, record[i])
		}
	}
	if len(record) != len(want) || strings.Contains(fmt.Sprint(record), "c2VjcmV0") {
		t.Errorf("got %d exchanges, want %d, and no secret", len(record), len(want))
	}
}

// TestBodiless: answers that no list of downloads has give the room no bytes that a server chose.
func TestBodiless(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Location", "/200")
		w.Header().Set("Www-Authenticate", `Basic realm="x"`)
		w.WriteHeader(status)
		io.WriteString(w, "hidden")
	})
	room := start(t, s)
	for _, status := range []int{300, 301, 302, 303, 307, 308, 399, 401} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			room.want(status, "", method, fmt.Sprintf("%s/%d", up.URL, status))
		}
	}
	for _, e := range room.end() {
		if e.Size != 0 {
			t.Errorf("%s %s: got %d bytes", e.Method, e.URL, e.Size)
		}
	}
}

func TestPlainHTTPIsRecorded(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer up.Close()
	rename(up)
	room := start(t, Settings{Network: Network{Ports: []uint16{port(t, up.URL)}}})
	// The Host header must not lead to another target than the one that was checked.
	if got := room.raw("GET http://user:secret@" + strings.TrimPrefix(up.URL, "http://") + "/ HTTP/1.1\r\nHost: other.example\r\n\r\n"); got != 200 {
		t.Fatal(got)
	}
	if e := room.end(); len(e) != 1 || e[0].URL != up.URL+"/" || e[0].SHA256 != hexSum(strings.TrimPrefix(up.URL, "http://")) {
		t.Errorf("got %+v", e)
	}
}

// What does not speak TLS for the named host, and nothing else, gets nowhere.
func TestTunnelsCarryTLSForTheirHost(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s was reached", r.URL) })
	room := start(t, s)
	_, p, _ := net.SplitHostPort(up.Listener.Addr().String())
	target, named := net.JoinHostPort(away.String(), p), "named.example:"+p
	tunnel := func(to string) net.Conn {
		c, err := net.Dial("tcp", room.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("CONNECT %s: %v %v", to, resp, err)
		}
		return c
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(room.g.CA())
	c := tunnel(target)
	io.WriteString(c, "SSH-2.0-OpenSSH_9\r\n")
	if n, _ := io.Copy(io.Discard, c); n != 0 {
		t.Errorf("a tunnel without TLS was answered with %d bytes", n)
	}
	for to, name := range map[string]string{named: "other.example", target: "other.example"} {
		if err := tls.Client(tunnel(to), &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake(); err == nil {
			t.Errorf("TLS for %s inside of a tunnel for %s was answered", name, to)
		}
	}
	// No server name at all, for a host that has a name.
	if err := tls.Client(tunnel(named), &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("TLS without server name was answered")
	}
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n",
		"GET https://other.example/ HTTP/1.1\r\nHost: " + named + "\r\n\r\n",
		"GET http://" + named + "/ HTTP/1.1\r\nHost: " + named + "\r\n\r\n",
		"CONNECT " + named + " HTTP/1.1\r\nHost: " + named + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: " + named + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		c := tls.Client(tunnel(named), &tls.Config{ServerName: "named.example", RootCAs: roots})
		io.WriteString(c, request)
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 403 {
			t.Errorf("%q: got %v, %v, want 403", request, resp, err)
		}
	}
	record := room.end()
	for _, e := range record {
		if e.Denied == "" {
			t.Errorf("%+v is not recorded as denied", e)
		}
	}
	if len(record) != 9 {
		t.Errorf("got %d exchanges, want 9: %+v", len(record), record)
	}
}

func TestUpstreamIsVerified(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { t.Error("the server was trusted") })
	s.Roots = ""
	start(t, s).want(502, "certificate", "GET", up.URL)
	// A certificate of the right CA for another name.
	up, s = world(t, func(w http.ResponseWriter, r *http.Request) { t.Error("the server was trusted") })
	room := start(t, s)
	room.want(502, "certificate", "GET", fmt.Sprintf("https://other.test:%d/", port(t, up.URL)))
}

func TestPortsSchemesAndUpgradesAreDenied(t *testing.T) {
	room := start(t, Settings{})
	for _, target := range []string{"9.9.9.9:22", "9.9.9.9:0", "9.9.9.9:http", "9.9.9.9", "9.9.9.9:65979", "a b.test:443", MirrorHost + ":443"} {
		if got := room.connect(target); got != http.StatusForbidden && got != http.StatusBadRequest {
			t.Errorf("CONNECT %s: got %d, want 403", target, got)
		}
	}
	for _, line := range []string{"GET https://9.9.9.9/ HTTP/1.1", "GET ftp://9.9.9.9/ HTTP/1.1", "GET http:9.9.9.9/ HTTP/1.1", "GET http://" + MirrorHost + "/v2/ HTTP/1.1",
		"GET http://9.9.9.9/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade", "GET http://9.9.9.9/ HTTP/1.1\r\nAccept: \xff", "GET http://9.9.9.9/" + strings.Repeat("a", 9000) + " HTTP/1.1"} {
		if got := room.raw(line + "\r\nHost: x\r\n\r\n"); got != http.StatusForbidden {
			t.Errorf("%q: got %d, want 403", line, got)
		}
	}
	room.want(403, "port: got 8080", "GET", "http://9.9.9.9:8080/")
}

func TestBudgetEndsTheExchange(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 1000 {
			if _, err := w.Write(make([]byte, 10000)); err != nil {
				return
			}
		}
	}))
	defer up.Close()
	rename(up)
	room := start(t, Settings{Bytes: 100000, Requests: 1, Network: Network{Ports: []uint16{port(t, up.URL)}}})
	resp, err := room.Get(up.URL)
	if err == nil {
		n, cerr := io.Copy(io.Discard, resp.Body)
		if cerr == nil || n > 200000 {
			t.Errorf("got %d bytes and %v, want an error near 100000", n, cerr)
		}
	}
	room.want(429, "limit of 1 requests", "GET", up.URL)
	if e := room.end(); len(e) != 1 || e[0].SHA256 != "" {
		t.Errorf("a body that was cut has a digest: %+v", e)
	}
}

// An answer that breaks off must not look whole in the room, whatever its framing.
func TestCutAnswersAreCut(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "1000")
		}
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	room := start(t, s)
	for _, h2 := range []bool{true, false} {
		room.Client = client(t, room.addr, room.g.CA())
		room.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		for _, path := range []string{"/sized", "/chunked"} {
			if status, body := room.fetch("GET", up.URL+path); status != 0 {
				t.Errorf("%s: got %d %q, want an error", path, status, body)
			}
		}
	}
	for _, e := range room.end() {
		if e.SHA256 != "" || e.Status != 200 {
			t.Errorf("got %+v, want no digest", e)
		}
	}
}

// A client that leaves does not keep the record from having the whole.
func TestAbandonedAnswersAreReadToTheEnd(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<16)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
	room := start(t, s)
	resp, err := room.Get(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Read(make([]byte, 10))
	resp.Body.Close()
	room.CloseIdleConnections()
	await.True(t, "the exchange is recorded", func() bool { return room.g.recorded() > 0 })
	if e := room.end(); len(e) != 1 || e[0].SHA256 != hexSum(text) {
		t.Errorf("got %+v", e)
	}
}

func (g *Gateway) recorded() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.record)
}

func TestManyAtOnce(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat(r.URL.Path, 1000)) })
	s.Conns = 4
	room := start(t, s)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			path := fmt.Sprintf("/%d", i)
			room.want(200, strings.Repeat(path, 1000), "GET", up.URL+path)
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, e := range room.end() {
		if e.SHA256 != hexSum(strings.Repeat(strings.TrimPrefix(e.URL, up.URL), 1000)) {
			t.Errorf("got %+v", e)
		}
		seen[e.URL] = true
	}
	if len(seen) != 200 {
		t.Errorf("got %d exchanges, want 200", len(seen))
	}
}

func TestMirror(t *testing.T) {
	dir, want := imageLayout(t)
	// A file beside the blobs that must never be served.
	os.WriteFile(filepath.Join(dir, "blobs", "secret"), []byte("secret"), 0o644)
	room := start(t, Settings{Mirror: dir})
	base := "http://" + room.addr
	resp, err := http.Get(base + "/v2/library/golang/manifests/1.26?ns=docker.io")
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Docker-Content-Digest") != want {
		t.Fatalf("got %v, %v", resp, err)
	}
	b, _ := io.ReadAll(resp.Body)
	if got := "sha256:" + hexSum(string(b)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, path := range []string{"/v2/library/golang/manifests/1.26", "/v2/library/golang/manifests/1.26?ns=gcr.io", "/v2/library/golang/manifests/9?ns=docker.io",
		"/v2/x/blobs/..%2fsecret", "/v2/x/blobs/sha256:..%2f..%2fsecret", "/v2/../secret", "/", "/index.json"} {
		if resp, err := http.Get(base + path); err != nil || resp.StatusCode != 404 {
			t.Errorf("%s: got %v, %v, want 404", path, resp, err)
		}
	}
	if resp, err := http.Post(base+"/v2/library/golang/blobs/uploads/", "", nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("a push: got %v, %v, want 405", resp, err)
	}
	if e := room.end()[0]; e.URL != "http://mirror.invalid/v2/library/golang/manifests/1.26?ns=docker.io" || "sha256:"+e.SHA256 != want || e.Header["Docker-Content-Digest"] != want {
		t.Errorf("got %+v", e)
	}
}

// imageLayout is an OCI layout with one image, and the image's digest.
func imageLayout(t *testing.T) (dir, digest string) {
	t.Helper()
	dir = t.TempDir()
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{refName: "docker.io/library/golang:1.26"})); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dir, d.String()
}

func TestTheCAIsForItsRoomAlone(t *testing.T) {
	a, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.pem, b.pem) || a.cert.NotAfter.After(time.Now().Add(26*time.Hour)) || !a.cert.MaxPathLenZero {
		t.Errorf("got %+v", a.cert)
	}
	for i := range maxLeaves + 10 {
		if _, err := a.leaf(fmt.Sprintf("h%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.leaves) > maxLeaves {
		t.Errorf("%d certificates are kept, want at most %d", len(a.leaves), maxLeaves)
	}
}

func (r *room) connect(target string) int {
	r.t.Helper()
	return r.raw("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
}

func (r *room) raw(request string) int {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK && strings.HasPrefix(request, "CONNECT") {
		return resp.StatusCode
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
