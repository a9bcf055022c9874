package gateway

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

func start(t *testing.T, cfg Config) (*Gateway, *http.Client, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := New(cfg)
	go g.Serve(l)
	t.Cleanup(func() { g.Close() })
	u := &url.URL{Scheme: "http", Host: l.Addr().String()}
	// http.ProxyURL, unlike the environment, is used for loopback too.
	tr := &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}
	return g, &http.Client{Transport: tr}, u.Host
}

func port(t *testing.T, rawURL string) uint16 {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(u.Host).Port()
}

func TestForwardRecordsTheBytes(t *testing.T) {
	body := strings.Repeat("colophon ", 10000)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("a hop-by-hop header went through")
		}
		io.WriteString(w, body)
	}))
	defer up.Close()
	g, c, _ := start(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{port(t, up.URL)}})
	req, _ := http.NewRequest("GET", up.URL+"/x?y=1", nil)
	req.Header.Set("Proxy-Authorization", "secret")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	if string(got) != body {
		t.Fatalf("got %d bytes, want %d", len(got), len(body))
	}
	sum := sha256.Sum256([]byte(body))
	want := Exchange{Method: "GET", URL: up.URL + "/x?y=1", Status: 200, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
	if e := g.Exchanges(); len(e) != 1 || e[0] != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
}

func TestConnectTunnels(t *testing.T) {
	up := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "over tls") }))
	defer up.Close()
	g, c, _ := start(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{port(t, up.URL)}})
	c.Transport.(*http.Transport).TLSClientConfig = up.Client().Transport.(*http.Transport).TLSClientConfig
	resp, err := c.Get(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != "over tls" {
		t.Errorf("got %q", b)
	}
	g.Close()
	if e := g.Exchanges(); len(e) != 1 || e[0].Method != "CONNECT" || e[0].Size == 0 || "https://"+e[0].URL != up.URL {
		t.Errorf("got %+v", e)
	}
}

func TestPrivateAddressesAreDenied(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("a private service was reached") }))
	defer inner.Close()
	p := port(t, inner.URL)
	g, c, addr := start(t, Config{Ports: []uint16{p, 80}})
	hosts := []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
		"100.64.0.1", "[fd00::1]", "[fe80::1]", "224.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "[::7f00:1]", "255.255.255.255"}
	own, _ := net.InterfaceAddrs()
	for _, o := range own {
		if n := o.(*net.IPNet); n.IP.To4() != nil {
			hosts = append(hosts, n.IP.String())
		}
	}
	for _, h := range hosts {
		resp, err := c.Get(fmt.Sprintf("http://%s:%d/", h, p))
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("GET %s: got %v, %v, want 403", h, resp, err)
		}
		if got := connect(t, addr, fmt.Sprintf("%s:%d", h, p)); got != http.StatusForbidden {
			t.Errorf("CONNECT %s: got %d, want 403", h, got)
		}
	}
	for _, e := range g.Exchanges() {
		if e.Denied == "" {
			t.Errorf("%s is not recorded as denied", e.URL)
		}
	}
}

func TestDocumentationRangesArePublic(t *testing.T) {
	g := New(Config{})
	for _, a := range []string{"203.0.113.7", "198.51.100.7", "8.8.8.8", "2606:4700::1111"} {
		if err := g.check(netip.MustParseAddr(a)); err != nil {
			t.Error(err)
		}
	}
}

func TestPortsSchemesAndUpgradesAreDenied(t *testing.T) {
	_, c, addr := start(t, Config{})
	for _, target := range []string{"203.0.113.1:22", "203.0.113.1:0", "203.0.113.1:http", "203.0.113.1", "203.0.113.1:65979"} {
		if got := connect(t, addr, target); got != http.StatusForbidden && got != http.StatusBadRequest {
			t.Errorf("CONNECT %s: got %d, want 403", target, got)
		}
	}
	for _, line := range []string{"GET https://203.0.113.1/ HTTP/1.1", "GET ftp://203.0.113.1/ HTTP/1.1", "GET http://203.0.113.1/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade"} {
		if got := raw(t, addr, line+"\r\nHost: x\r\n\r\n"); got != http.StatusForbidden {
			t.Errorf("%q: got %d, want 403", line, got)
		}
	}
	if resp, err := c.Get("http://203.0.113.1:8080/"); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("port 8080: %v, %v", resp, err)
	}
}

// The Host header must not lead to another target than the one that was checked.
func TestHostHeaderDoesNotMatter(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	defer up.Close()
	g, _, addr := start(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{port(t, up.URL)}})
	if got := raw(t, addr, "GET "+up.URL+"/ HTTP/1.1\r\nHost: other.example\r\n\r\n"); got != 200 {
		t.Fatal(got)
	}
	if e := g.Exchanges(); e[0].URL != up.URL+"/" {
		t.Errorf("recorded %q", e[0].URL)
	}
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
	g, c, _ := start(t, Config{Bytes: 100000, Requests: 1, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{port(t, up.URL)}})
	resp, err := c.Get(up.URL)
	if err == nil {
		n, cerr := io.Copy(io.Discard, resp.Body)
		if cerr == nil || n > 200000 {
			t.Errorf("got %d bytes and %v, want an error near 100000", n, cerr)
		}
	}
	if e := g.Exchanges(); e[0].SHA256 != "" {
		t.Error("a body that was cut has a digest")
	}
	if resp, err := c.Get(up.URL); err != nil || resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("beyond the number of requests: %v %v", resp, err)
	}
}

func TestMirror(t *testing.T) {
	dir := t.TempDir()
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
	// A file beside the blobs that must never be served.
	os.WriteFile(filepath.Join(dir, "blobs", "secret"), []byte("secret"), 0o644)
	m, err := OpenMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, _, addr := start(t, Config{Mirror: m})
	want, _ := img.Digest()
	base := "http://" + addr
	resp, err := http.Get(base + "/v2/library/golang/manifests/1.26?ns=docker.io")
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Docker-Content-Digest") != want.String() {
		t.Fatalf("got %v, %v", resp, err)
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
}

func connect(t *testing.T, addr, target string) int {
	t.Helper()
	return raw(t, addr, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
}

func raw(t *testing.T, addr, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
