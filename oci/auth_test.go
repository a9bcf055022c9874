package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestPlainHTTPIsForLoopback(t *testing.T) {
	g := plainGuard{spoken: &spoken{}, inner: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("sent") })}
	for raw, sent := range map[string]bool{
		"http://127.0.0.1:5000/v2/": true, "http://localhost/v2/": true, "http://[::1]:5000/": true, "https://example.com/": true,
		"http://10.0.0.1/v2/": false, "http://192.168.1.2:5000/": false, "http://example.com/": false, "http://localhost.example.com/": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.RoundTrip(&http.Request{URL: u}); (err.Error() == "sent") != sent {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTokenStaysHome: a registry that sends us elsewhere, for a blob or for an
// upload, does not get our token sent there.
func TestTokenStaysHome(t *testing.T) {
	var leaked, authorized atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Add(1)
		}
		w.WriteHeader(http.StatusCreated)
	}))
	defer elsewhere.Close()
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if user, token, _ := r.BasicAuth(); user == "colophon" && token == "secret" {
			authorized.Add(1)
		}
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", elsewhere.URL+"/upload")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodGet:
			http.Redirect(w, r, elsewhere.URL+"/blob", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
		return true
	})
	r := openRegistry(t, host+"/team/app", RegistryOptions{Token: "secret"})
	d := v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1}
	if err := r.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }); err != nil {
		t.Error(err)
	}
	if rc, err := r.Blob(t.Context(), d); err == nil {
		rc.Close()
	}
	if authorized.Load() != 2 || leaked.Load() != 0 {
		t.Errorf("token seen %d times at home (want 2) and %d times elsewhere", authorized.Load(), leaked.Load())
	}
}

// TestCredentialsOfDocker: they are looked up only when a registry asks.
func TestCredentialsOfDocker(t *testing.T) {
	var anonymous, authorized atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if user, pass, _ := r.BasicAuth(); user == "ada" && pass == "secret" {
			authorized.Add(1)
			return false
		}
		anonymous.Add(1)
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	read := func() error {
		_, err := openRegistry(t, host+"/team/app", RegistryOptions{}).Resolve(t.Context(), "v1")
		return err
	}
	if err := read(); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "401") {
		t.Errorf("without credentials: got %v", err)
	}
	config := fmt.Sprintf(`{"auths":{%q:{"username":"ada","password":"secret"}}}`, host)
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	anonymous.Store(0)
	if err := read(); !errors.Is(err, ErrNotFound) {
		t.Errorf("with credentials: got %v, want an answer", err)
	}
	if anonymous.Load() != 2 || authorized.Load() != 1 { // the request, one ping, the request again
		t.Errorf("got %d requests without credentials and %d with", anonymous.Load(), authorized.Load())
	}
}

// TestOneAsksToWrite: of many pushes at once, one finds out that it must log in. One that is
// cancelled, or that the registry does not answer, keeps nobody waiting.
func TestOneAsksToWrite(t *testing.T) {
	var refused, broken atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if user, _, _ := r.BasicAuth(); user == "ada" || r.Method == http.MethodHead {
			return false
		}
		if r.URL.Path != "/v2/" {
			refused.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	push := func(ctx context.Context, r *Registry) error {
		return inParallel(ctx, []string{"a", "b", "c", "d", "e", "f", "g", "h"}, func(ctx context.Context, s string) error {
			d := v1.Descriptor{Digest: digestOf([]byte(s)), Size: 1}
			return r.PushBlob(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil })
		})
	}
	if err := push(t.Context(), openRegistry(t, host+"/team/app", RegistryOptions{Keychain: adasKey{}})); err != nil || refused.Load() != 1 {
		t.Errorf("got %v, and %d requests without credentials, want 1", err, refused.Load())
	}
	open := newServer(t, true, func(_ http.ResponseWriter, r *http.Request) bool {
		if broken.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	if err := push(t.Context(), openRegistry(t, open+"/team/app", RegistryOptions{})); err != nil {
		t.Errorf("a registry that breaks off the first request: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silent := newServer(t, true, func(_ http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body) // until then the server does not see that the client has gone
		cancel()
		<-r.Context().Done()
		return true
	})
	if err := push(ctx, openRegistry(t, silent+"/team/app", RegistryOptions{})); !errors.Is(err, context.Canceled) {
		t.Errorf("a registry that does not answer: got %v, want that it was cancelled", err)
	}
}

type adasKey struct{}

func (adasKey) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "ada", Password: "secret"}), nil
}

// TestRedirectsKeepTLS: what began with TLS does not end without.
func TestRedirectsKeepTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, digestOf([]byte("x")).String()) {
			fmt.Fprint(w, "x")
			return
		}
		http.Redirect(w, r, plain.URL, http.StatusFound)
	}))
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	r := openRegistry(t, host+"/a", RegistryOptions{TLS: true, Transport: secure.Client().Transport})
	rc, err := r.Blob(t.Context(), v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if _, err := r.Blob(t.Context(), v1.Descriptor{Digest: digestOf([]byte("y")), Size: 1}); err == nil || !strings.Contains(err.Error(), "want https") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestUploadsKeepTLS: a registry elsewhere does not have a client write to a service of its own
// machine.
func TestUploadsKeepTLS(t *testing.T) {
	var reached atomic.Int32
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Add(1)
		w.WriteHeader(http.StatusCreated)
	}))
	defer here.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", here.URL+"/upload")
		w.WriteHeader(map[string]int{http.MethodHead: http.StatusNotFound, http.MethodPost: http.StatusAccepted}[r.Method])
	}))
	defer secure.Close()
	r := openRegistry(t, strings.TrimPrefix(secure.URL, "https://")+"/a", RegistryOptions{TLS: true, Transport: secure.Client().Transport})
	err := r.PushBlob(t.Context(), v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1}, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
	if err == nil || !strings.Contains(err.Error(), "plain HTTP") || reached.Load() != 0 {
		t.Errorf("got %v after %d requests, want a refusal", err, reached.Load())
	}
}

func TestBearerHandshake(t *testing.T) {
	var pings, tokens, plain atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			tokens.Add(1)
			if user, pass, _ := r.BasicAuth(); user != "colophon" || pass != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
			} else {
				fmt.Fprint(w, `{"token":"short-lived"}`)
			}
			return true
		case r.Header.Get("Authorization") == "Bearer short-lived":
			return false
		case r.URL.Path == "/v2/":
			pings.Add(1)
		default:
			plain.Add(1)
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	l := newTestLayout(t)
	top := l.standard()
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), openRegistry(t, host+"/team/app", RegistryOptions{Token: "secret"}), src, top); err != nil {
		t.Fatal(err)
	}
	if pings.Load() > 1 || tokens.Load() > 2 {
		t.Errorf("got %d pings and %d tokens", pings.Load(), tokens.Load())
	}
	if err := Copy(t.Context(), openRegistry(t, host+"/team/app", RegistryOptions{Token: "wrong"}), src, top); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("wrong token: got %v", err)
	}
}

// TestTokenEndsWhilePushing: a registry's token is valid for minutes, and a push may take longer. The request
// that finds out is sent again with a new token, and with its body.
func TestTokenEndsWhilePushing(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var home string
	var given, valid atomic.Int64
	arrived := map[string]string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/token":
			valid.Store(given.Add(1))
			fmt.Fprintf(w, `{"token":"t%d"}`, valid.Load())
		case r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", valid.Load()):
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+home+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodPost:
			valid.Store(0) // before the content
			w.Header().Set("Location", "/v2/upload")
			w.WriteHeader(http.StatusAccepted)
		default:
			arrived[r.URL.Path] = string(body)
			valid.Store(0) // before the next one
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer srv.Close()
	home = srv.URL
	r := openRegistry(t, strings.TrimPrefix(home, "http://")+"/team/app", RegistryOptions{})
	content := strings.Repeat("x", smallBlob+1)
	d := v1.Descriptor{Digest: digestOf([]byte(content)), Size: int64(len(content))}
	if err := r.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }); err != nil || arrived["/v2/upload"] != content {
		t.Errorf("blob: got %v and %d bytes, want %d", err, len(arrived["/v2/upload"]), len(content))
	}
	raw := `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[]}`
	m, err := r.PushManifest(t.Context(), []byte(raw), ociIndex)
	if got := arrived["/v2/team/app/manifests/"+m.Digest.String()]; err != nil || got != raw {
		t.Errorf("manifest: got %v and %q, want %q", err, got, raw)
	}
}
