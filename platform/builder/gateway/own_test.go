package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

// platform is a platform on the loopback of this host, with one image and all that a build
// must not reach.
type platform struct {
	*httptest.Server
	host, manifest string

	mu    sync.Mutex
	asked []string // "METHOD URI" of each request
	odd   []string // headers that no request of a gateway has
	tag   string   // the manifest that v1 names
	fails int      // the status of all answers; 0: none
}

func newPlatform(t *testing.T) *platform {
	p := &platform{manifest: `{"mediaType":"application/x-image"}`}
	p.tag = p.manifest
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked = append(p.asked, r.Method+" "+r.RequestURI)
		for k := range r.Header {
			if k != "Accept" {
				p.odd = append(p.odd, k)
			}
		}
		if r.Host != p.host || r.ContentLength != 0 {
			p.odd = append(p.odd, fmt.Sprintf("host %s with %d bytes", r.Host, r.ContentLength))
		}
		w.Header().Set("Location", "/api/v1/secret")
		w.Header().Set("Www-Authenticate", `Bearer realm="http://`+p.host+`/token"`)
		switch {
		case p.fails != 0:
			w.WriteHeader(p.fails)
		case r.URL.Path == "/v2/team/base/manifests/v1", r.URL.Path == "/v2/team/base/manifests/sha256:"+hexSum(p.tag):
			w.Header().Set("Content-Type", "application/x-image")
			w.Header().Set("Docker-Content-Digest", "sha256:"+hexSum(p.tag))
			io.WriteString(w, p.tag)
		case r.URL.Path == "/v2/team/base/blobs/sha256:"+hexSum("layer"):
			io.WriteString(w, "layer")
		case strings.HasPrefix(r.URL.Path, "/v2/"):
			w.WriteHeader(http.StatusNotFound)
		default:
			io.WriteString(w, "secret")
		}
	}))
	t.Cleanup(p.Close)
	p.host = p.Listener.Addr().String()
	return p
}

// requests returns the requests since the last call, and fails if one had what none may have.
func (p *platform) requests(t *testing.T) []string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	if len(p.odd) > 0 {
		t.Errorf("the platform got what the gateway must keep: %q", p.odd)
	}
	p.asked, p.odd = nil, nil
	return asked
}

// ask sends one request to the gateway's own address, as BuildKit does to a mirror, and
// returns status and body. The target goes out as it is.
func (r *room) ask(method, target, body string) (int, string) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer x\r\nCookie: a=b\r\nRange: bytes=1-2\r\nAccept: application/x-image\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	raw, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatal(err)
	}
	head, content, _ := strings.Cut(string(raw), "\r\n\r\n")
	status := 0
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	if status != http.StatusOK && (strings.Contains(head, "Location") || strings.Contains(head, "realm")) {
		r.t.Errorf("%s %s: got header %q, want nothing that leads elsewhere", method, target, head)
	}
	return status, content
}

// TestPullsFromThePlatform: a room gets manifests and blobs of the platform's registry, by
// requests of the gateway's own, and they are recorded.
func TestPullsFromThePlatform(t *testing.T) {
	p := newPlatform(t)
	r := start(t, Settings{Registry: p.URL, Platform: []string{p.URL}})
	for _, target := range []string{"/v2/team/base/manifests/v1", "/v2/team/base/manifests/sha256:" + hexSum(p.manifest), "/v2/team/base/blobs/sha256:" + hexSum("layer")} {
		want := p.manifest
		if strings.Contains(target, "blobs") {
			want = "layer"
		}
		for _, method := range []string{"GET", "HEAD"} {
			status, body := r.ask(method, target+"?ns="+p.host, "")
			if method == "HEAD" && body != "" || method == "GET" && body != want || status != 200 {
				t.Errorf("%s %s: got %d %q, want %q", method, target, status, body, want)
			}
			if got := p.requests(t); len(got) != 1 || got[0] != method+" "+target {
				t.Errorf("%s %s: the platform got %q", method, target, got)
			}
		}
	}
	for _, e := range r.end() {
		if !strings.HasPrefix(e.URL, "http://"+MirrorHost+"/v2/team/base/") || !strings.HasSuffix(e.URL, "?ns="+p.host) || e.Status != 200 || e.Denied != "" ||
			!strings.Contains(e.URL, "blobs") && e.Header["Docker-Content-Digest"] != "sha256:"+hexSum(p.manifest) {
			t.Errorf("record: %+v", e)
		}
	}
}

// TestOnlyPullsFromThePlatform: nothing else of the platform can be reached that way, however
// it is spelled, and no other host.
func TestOnlyPullsFromThePlatform(t *testing.T) {
	p := newPlatform(t)
	other := newPlatform(t)
	r := start(t, Settings{Registry: p.URL, Platform: []string{p.URL}})
	ns := "?ns=" + p.host
	manifest := "/v2/team/base/manifests/v1"
	for _, target := range []string{
		"/", "/healthz" + ns, "/api/v1/releases" + ns, "/v2/_catalog" + ns, "/v2/team/base/tags/list" + ns, "/v2/" + ns, "/token" + ns,
		"/v2/team/base/referrers/sha256:" + hexSum("layer") + ns, "/v2/team/base/blobs/uploads" + ns, "/v2/team/base/blobs/uploads/" + ns, "/v2/team/base/blobs/uploads/1" + ns,
		"/v2/team/base/blobs/v1" + ns, "/v2/../api/v1/releases/manifests/v1" + ns, "/v2/team/../../api/manifests/v1" + ns, "/v2/team/base/manifests/.." + ns, "/v2/team/base/manifests/%2e%2e" + ns,
		"/v2/team/base/manifests/..%2f..%2f..%2f..%2fapi" + ns, "/v2/%2e%2e/%2e%2e/manifests/v1" + ns, "/v2/team%5cbase/manifests/v1" + ns, "/v2//manifests/v1" + ns, "//v2/team/base/manifests/v1" + ns,
		manifest + "%3fa=b" + ns, manifest + "%0d%0aX:y" + ns, manifest + ns + "&a=b", manifest + "?ns=" + other.host, manifest + "?ns=user@" + p.host, manifest + "?ns=http://" + p.host,
		manifest + "?ns=" + p.host + "/api", manifest + "?ns=" + p.host + "%23", manifest + "?NS=" + p.host, manifest + "?ns=" + other.host + "&ns=" + p.host, manifest,
		"http://" + MirrorHost + manifest + ns, "http://" + p.host + manifest,
	} {
		if status, body := r.ask("GET", target, ""); status < 400 || strings.Contains(body, "secret") || strings.Contains(body, "x-image") {
			t.Errorf("GET %s: got %d %q", target, status, body)
		}
		if got := append(p.requests(t), other.requests(t)...); len(got) > 0 {
			t.Errorf("GET %s: the platform got %q", target, got)
		}
	}
	for _, method := range []string{"PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"} {
		for _, target := range []string{manifest, "/v2/team/base/blobs/uploads/", "/v2/team/base/blobs/sha256:" + hexSum("layer")} {
			if status, body := r.ask(method, target+ns, "evil"); status < 400 {
				t.Errorf("%s %s: got %d %q", method, target, status, body)
			}
		}
	}
	// A body of a pull stays here.
	if status, _ := r.ask("GET", manifest+ns, "evil"); status != 200 {
		t.Errorf("a pull with a body: got %d", status)
	}
	if got := p.requests(t); !slices.Equal(got, []string{"GET " + manifest}) {
		t.Errorf("the platform got %q, want the one pull", got)
	}
}

// TestPlatformThatRefuses: a registry that wants a token, redirects or fails; and lists of
// hosts without it. The room learns nothing but that.
func TestPlatformThatRefuses(t *testing.T) {
	p := newPlatform(t)
	target := "/v2/team/base/manifests/v1?ns=" + p.host
	for status, want := range map[int]int{401: 403, 403: 403, 404: 404, 302: 502, 206: 502, 500: 502} {
		p.fails = status
		r := start(t, Settings{Registry: p.URL})
		if got, _ := r.ask("GET", target, ""); got != want {
			t.Errorf("status %d: the room got %d, want %d", status, got, want)
		}
		if e := r.end(); (e[0].Denied != "") != (want == 403) || want == 403 && !strings.Contains(e[0].Denied, "nobody pull without a token") {
			t.Errorf("status %d: record %+v", status, e[0])
		}
	}
	p.fails = 0
	p.requests(t)
	for name, n := range map[string]Network{"denied": {DenyHosts: []string{"127.0.0.1"}}, "not listed": {AllowHosts: []string{"example.com"}}} {
		r := start(t, Settings{Registry: p.URL, Network: n})
		if got, _ := r.ask("GET", target, ""); got != 403 {
			t.Errorf("%s: got %d", name, got)
		}
		if got := p.requests(t); len(got) > 0 {
			t.Errorf("%s: the platform got %q", name, got)
		}
	}
	for _, origin := range []string{"127.0.0.1:80", "ftp://a.test", "http://", "http://a.test/x", "http://u@a.test", "http://a.test?x"} {
		if _, err := New(Settings{Registry: origin}); err == nil || !strings.Contains(err.Error(), "origin of the registry") {
			t.Errorf("%s: got %v, want an error", origin, err)
		}
	}
}

// TestLockedPullsFromThePlatform: they are replayed from the store without a network, or
// fetched again, and a tag that moved is refused.
func TestLockedPullsFromThePlatform(t *testing.T) {
	p := newPlatform(t)
	store := t.TempDir()
	targets := []string{"/v2/team/base/manifests/v1?ns=" + p.host, "/v2/team/base/blobs/sha256:" + hexSum("layer") + "?ns=" + p.host}
	first := start(t, Settings{Registry: p.URL, Store: store, Session: builder.Session{Record: true}})
	for _, target := range targets {
		first.ask("GET", target, "")
	}
	lock, err := builder.LockOf(first.end())
	if err != nil || len(lock.Fetches) != 2 {
		t.Fatalf("got lock %+v, %v", lock, err)
	}
	p.requests(t)
	for name, s := range map[string]Settings{
		"sealed": {Store: store, Session: builder.Session{Lock: lock, Sealed: true}},
		"stored": {Store: store, Session: builder.Session{Lock: lock}},
		"empty":  {Store: t.TempDir(), Session: builder.Session{Lock: lock}},
	} {
		s.Registry = p.URL
		r := start(t, s)
		for i, want := range []string{p.manifest, "layer"} {
			if status, body := r.ask("GET", targets[i], ""); status != 200 || body != want {
				t.Errorf("%s: got %d %q, want %q", name, status, body, want)
			}
		}
		if got := p.requests(t); (len(got) > 0) != (name == "empty") {
			t.Errorf("%s: the platform got %q", name, got)
		}
	}
	p.tag = `{"mediaType":"application/x-moved"}`
	r := start(t, Settings{Registry: p.URL, Store: t.TempDir(), Session: builder.Session{Lock: lock}})
	if status, body := r.ask("GET", targets[0], ""); status != 403 || !strings.Contains(body, "differs from the lock") {
		t.Errorf("a tag that moved: got %d %q", status, body)
	}
	if status, _ := r.ask("GET", "/v2/team/base/manifests/v2?ns="+p.host, ""); status != 403 {
		t.Errorf("a tag that is not in the lock: got %d", status)
	}
	sealed := start(t, Settings{Registry: p.URL, Store: t.TempDir(), Session: builder.Session{Lock: lock, Sealed: true}})
	if status, _ := sealed.ask("GET", targets[1], ""); status != 403 {
		t.Errorf("sealed without a store: got %d", status)
	}
}

// TestOwnRegistrySaysLittle: of an answer, the room gets what a pull needs. No answer, or
// an address that is none, is an error.
func TestOwnRegistrySaysLittle(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "a/b")
		w.Header().Set("Etag", `"x"`)
	}))
	s, err := newOwnRegistry(srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	pull := func() (*http.Response, error) {
		return s.answer(t.Context(), httptest.NewRequest(http.MethodGet, "/v2/team/app/manifests/v1", nil))
	}
	if resp, err := pull(); err != nil || resp.Header.Get("Content-Type") != "a/b" || resp.Header.Get("Etag") != "" {
		t.Errorf("got %+v, %v, want the media type alone", resp, err)
	}
	srv.Close()
	if _, err := pull(); err == nil {
		t.Error("a registry that does not answer: got no error")
	}
	s.origin.Host = "a b"
	if err := s.admit(&policy{}); err == nil {
		t.Error("an address that is none was admitted")
	}
}
