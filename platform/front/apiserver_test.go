package front

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
)

// front is the API in front of an attestor that the test provides.
type front struct {
	t   *testing.T
	mux *http.ServeMux
}

func newFront(t *testing.T, local bool, attestor http.HandlerFunc) *front {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	if attestor != nil {
		l, err := peer.Listen(socket, -1)
		if err != nil {
			t.Fatal(err)
		}
		await.Background(t, func(ctx context.Context) error {
			return peer.Serve(ctx, l, peer.Users{"api": os.Getuid()}, attestor)
		})
	}
	f := &front{t: t, mux: http.NewServeMux()}
	New(Config{
		Version:  "v1.2.3",
		Attestor: peer.Proxy("api", "attestor", peer.At(socket), slog.New(slog.DiscardHandler)), LocalSources: local,
		MayRelease: func(token string) bool { return token == "push" || token == "admin" },
	}).Register(f.mux)
	return f
}

// ask sends one request as if from the given address.
func (f *front) ask(method, path, from, body string, header map[string]string) (status int, answer string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = from
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	f.mux.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		http.Error(w, "the token came along", 500)
		return
	}
	io.Copy(w, r.Body)
}

const near, far = "127.0.0.1:1234", "192.0.2.7:1234"

func TestWhoMayRelease(t *testing.T) {
	f := newFront(t, true, echo)
	const good = `{"source":"https://git.example.com/a","ref":"v1","image":"r.example.com/a","recipe":{"builder":""}}`
	token := map[string]string{"Authorization": "Bearer push"}
	for name, test := range map[string]struct {
		body   string
		header map[string]string
		want   int
	}{
		"good":                {good, token, 200},
		"admin":               {good, map[string]string{"Authorization": "Bearer admin"}, 200},
		"no token":            {good, nil, 401},
		"wrong token":         {good, map[string]string{"Authorization": "Bearer pus"}, 401},
		"empty token":         {good, map[string]string{"Authorization": "Bearer "}, 401},
		"token as basic auth": {good, map[string]string{"Authorization": "Basic push"}, 401},
		"too large":           {`{"ref":"` + strings.Repeat("a", 1<<20) + `"}`, token, 400},
		"unknown member":      {strings.Replace(good, `"ref"`, `"reff"`, 1), token, 400},
		"unknown in recipe":   {strings.Replace(good, `"builder":""`, `"privileged":true`, 1), token, 400},
		"duplicate":           {strings.Replace(good, `"ref"`, `"ref":"x","ref"`, 1), token, 400},
		"other case":          {strings.Replace(good, `"ref"`, `"Ref"`, 1), token, 400},
		"no source":           {`{"ref":"v1"}`, token, 400},
		"a source of git's":   {strings.Replace(good, "https://git.example.com/a", "ext::sh -c id", 1), token, 400},
		"a path":              {strings.Replace(good, "https://git.example.com/a", "/root", 1), token, 400},
	} {
		for _, path := range []string{api.PathReleases, api.PathDeclared} {
			status, answer := f.ask(http.MethodPost, path, far, test.body, test.header)
			if status != test.want {
				t.Errorf("%s, %s: got %d %q, want %d", path, name, status, answer, test.want)
			}
			if status == 200 && answer != test.body {
				t.Errorf("%s, %s: the attestor got %q", path, name, answer)
			}
		}
	}
	id := "/" + strings.Repeat("1", 32)
	for path, method := range map[string]string{
		api.PathReleases: http.MethodGet, api.PathReleases + id: http.MethodGet, api.PathReleases + id + "/log": http.MethodGet, api.PathLogs + "/sha256:" + strings.Repeat("a", 64): http.MethodGet,
		api.PathReleases + id + "/cancel": http.MethodPost,
	} {
		for _, header := range []map[string]string{nil, {"Authorization": "Bearer pull"}} {
			if status, _ := f.ask(method, path, near, "", header); status != 401 {
				t.Errorf("%s with %v: got %d, want 401", path, header, status)
			}
		}
		if status, _ := f.ask(method, path, near, "", token); status != 200 {
			t.Errorf("%s: got %d, want 200", path, status)
		}
	}
}

// The invocationId of a provenance leads a browser to a page, and a client to the API.
func TestInvocationInABrowser(t *testing.T) {
	f := newFront(t, true, echo)
	path := api.PathReleases + "/" + strings.Repeat("1", 32)
	browser := map[string]string{"Accept": "text/html,application/xhtml+xml;q=0.9"}
	if status, answer := f.ask(http.MethodGet, path, far, "", browser); status != http.StatusSeeOther || !strings.Contains(answer, `href="/releases/1111`) {
		t.Errorf("got %d %s, want 303", status, answer)
	}
	browser["Authorization"] = "Bearer push"
	if status, _ := f.ask(http.MethodGet, path, far, "", browser); status != 200 {
		t.Errorf("with a token: got %d, want 200", status)
	}
	if status, _ := f.ask(http.MethodGet, path+"/log", far, "", map[string]string{"Accept": "text/html"}); status != 401 {
		t.Errorf("log: got %d, want 401", status)
	}
}

func TestLocalSources(t *testing.T) {
	for _, test := range []struct {
		source, from, proxy string
		allowed             bool // by the platform's configuration
		want                int
	}{
		{"file:///srv/a", near, "", true, 200},
		{"file:///srv/a", "[::1]:99", "", true, 200},
		{"file:///srv/a", "[::ffff:127.0.0.1]:99", "", true, 200},
		{"file:///srv/a", near, "", false, 403},
		{"file:///srv/a", far, "", true, 403},
		{"FILE:///srv/a", far, "", true, 403},
		{"file:///srv/a", near, "X-Forwarded-For", true, 403},
		{"file:///srv/a", near, "Forwarded", true, 403},
		{"http://127.0.0.1:3000/a", far, "", true, 403},
		{"http://localhost/a", near, "X-Forwarded-For", true, 403},
		{"http://127.0.0.1:3000/a", near, "", true, 200},
		{"ssh://git@git.example.com/a", far, "", false, 200},
		{"git@git.example.com:a", far, "", false, 200},
		{"git.example.com/a", far, "", false, 200},
	} {
		header := map[string]string{"Authorization": "Bearer push"}
		if test.proxy != "" {
			header[test.proxy] = "for=192.0.2.7"
		}
		f := newFront(t, test.allowed, echo)
		for _, path := range []string{api.PathReleases, api.PathDeclared} {
			status, answer := f.ask(http.MethodPost, path, test.from, `{"source":"`+test.source+`","ref":"v1","image":"r.example.com/a","recipe":{"builder":""}}`, header)
			if status != test.want {
				t.Errorf("%s, %+v: got %d %q", path, test, status, answer)
			}
		}
	}
}

// TestProxiedClients: a client on another host does not pass for one of this host with headers of its own. Some proxies
// put their own below those.
func TestProxiedClients(t *testing.T) {
	f := newFront(t, true, echo)
	for name, header := range map[string]http.Header{
		"an empty header of the client's first": {"X-Forwarded-For": {"", "192.0.2.7"}},
		"the same, as RFC 7239 has it":          {"Forwarded": {"", "for=192.0.2.7"}},
		"an empty header alone":                 {"X-Forwarded-For": {""}},
		"a proxy that adds only Via":            {"Via": {"1.1 proxy"}},
		"a proxy that adds only X-Real-Ip":      {"X-Real-Ip": {"192.0.2.7"}},
		"a proxy that adds only the host":       {"X-Forwarded-Host": {"builds.example.com"}},
		"a proxy that adds only the scheme":     {"X-Forwarded-Proto": {"https"}},
	} {
		r := httptest.NewRequest(http.MethodPost, api.PathReleases, strings.NewReader(`{"source":"file:///srv/a","ref":"v1","image":"r.example.com/a","recipe":{"builder":""}}`))
		r.RemoteAddr, r.Header = near, header
		r.Header.Set("Authorization", "Bearer push")
		w := httptest.NewRecorder()
		f.mux.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", name, w.Code)
		}
	}
}

func TestAttestorIsAway(t *testing.T) {
	f := newFront(t, true, nil)
	status, answer := f.ask(http.MethodGet, api.PathReleases+"/x", near, "", map[string]string{"Authorization": "Bearer push"})
	if status != http.StatusServiceUnavailable || !strings.Contains(answer, "restarting") {
		t.Errorf("got %d %q, want 503", status, answer)
	}
}

// TestVersion: everybody may ask which program this is, without a token.
func TestVersion(t *testing.T) {
	if status, answer := newFront(t, false, nil).ask("GET", api.PathVersion, "192.0.2.1:1", "", nil); status != http.StatusOK || answer != `{"version":"v1.2.3"}`+"\n" {
		t.Errorf("got %d %q", status, answer)
	}
}

// TestWhoMayDistrust: only an account that may administer the platform adds to its list of what is no longer
// trusted, under its own name. A token that may release does not, whatever the request says about itself.
func TestWhoMayDistrust(t *testing.T) {
	account := func(token string) string { return map[string]string{"admin": "root@shop"}[token] }
	h := Administering(account, "Colophon-Account", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "the token came along", 500)
			return
		}
		io.WriteString(w, strings.Join(r.Header["Colophon-Account"], ","))
	}))
	for name, tt := range map[string]struct {
		token, claimed string
		want           int
	}{
		"admin": {"Bearer admin", "", 200}, "admin as somebody else": {"Bearer admin", "ada", 200}, "may release": {"Bearer push", "", 401},
		"may release, and says more": {"Bearer push", "root@shop", 401}, "nobody": {"", "root@shop", 401}, "basic auth": {"Basic admin", "", 401},
	} {
		r := httptest.NewRequest(http.MethodPost, "/distrust", nil)
		r.Header.Set("Authorization", tt.token)
		r.Header["Colophon-Account"] = []string{tt.claimed, "x"}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want || tt.want == 200 && w.Body.String() != "root@shop" {
			t.Errorf("%s: got %d, %q, want %d", name, w.Code, w.Body, tt.want)
		}
	}
}
