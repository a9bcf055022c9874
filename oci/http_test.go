package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
)

// answering is a registry that gives one answer to every request, and counts them.
func answering(t *testing.T, answer http.HandlerFunc) (*Registry, *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		n.Add(1)
		answer(w, r)
		return true
	})
	return openRegistry(t, host+"/team/app", RegistryOptions{}), &n
}

// TestWhatARegistrySays: its words are in the error, in one printable line.
func TestWhatARegistrySays(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":[{"code":"DENIED","message":"ask \u001b[31mBob"}]}`:   `403 Forbidden: DENIED: ask`,
		`{"errors":[{"code":"A","message":"b"},{"code":"C","message"}]}`: "403 Forbidden",
		`{"errors":[]}`: "403 Forbidden",
		`<html>`:        "403 Forbidden",
	} {
		r, n := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, body)
		})
		_, err := r.Resolve(t.Context(), "v1")
		if err == nil || !strings.Contains(err.Error(), want) || strings.HasSuffix(err.Error(), ": ") || strings.Contains(err.Error(), "\x1b") || strings.HasSuffix(want, "Forbidden") != strings.HasSuffix(err.Error(), "Forbidden") {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
		if n.Load() != 1 {
			t.Errorf("%s: asked %d times, want once: the answer is final", body, n.Load())
		}
	}
}

// TestAnswersAreBounded: an answer that is too large or breaks off is no answer, and
// what may pass is asked for again.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	u := &url.URL{}
	get := func(r *Registry, max int) (*answer, error) {
		*u = *r.url("x")
		return r.small(t.Context(), http.MethodGet, u, nil, nil, max, http.StatusOK)
	}
	r, n := answering(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "12345") })
	if a, err := get(r, 5); err != nil || string(a.body) != "12345" {
		t.Errorf("the largest answer: got %v, %v", a, err)
	}
	n.Store(0)
	if _, err := get(r, 4); !errors.Is(err, ErrMismatch) || n.Load() != 1 {
		t.Errorf("too large: got %v after %d requests, want one refusal", err, n.Load())
	}
	r, n = answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9")
		io.WriteString(w, "half")
	})
	if _, err := get(r, 9); err == nil || errors.Is(err, ErrMismatch) || n.Load() != reach.Attempts {
		t.Errorf("an answer that breaks off: got %v after %d requests, want %d and an error", err, n.Load(), reach.Attempts)
	}
	r, n = answering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := get(r, 9); err == nil || n.Load() < reach.Attempts {
		t.Errorf("no answer: got %v after %d requests, want at least %d", err, n.Load(), reach.Attempts)
	}
}

// TestMayPass: which failures are worth another try.
func TestMayPass(t *testing.T) {
	status := func(n int) error { return fmt.Errorf("x: %w", &statusError{status: n}) }
	late := &net.DNSError{IsTimeout: true}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true}, {io.ErrUnexpectedEOF, true}, {&net.OpError{Op: "read", Err: errOutage}, true}, {late, true},
		{status(429), true}, {status(500), true}, {status(502), true}, {status(503), true}, {status(504), true},
		{status(403), false}, {status(404), false}, {status(501), false},
		{errOutage, false}, {&net.DNSError{IsNotFound: true}, false}, {fmt.Errorf("%w: %w", io.EOF, ErrMismatch), false},
	} {
		if got := mayPass(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
	}
}

// TestNoPatienceAfterTheEnd: a caller who has given up does not wait for further tries.
func TestNoPatienceAfterTheEnd(t *testing.T) {
	t.Parallel()
	r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	blob := v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1}
	for name, do := range map[string]func(context.Context) error{
		"manifest": func(ctx context.Context) error { _, err := r.Resolve(ctx, "v1"); return err },
		"blob":     func(ctx context.Context) error { _, err := r.Blob(ctx, blob); return err },
		"push": func(ctx context.Context) error {
			return r.PushBlob(ctx, blob, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(40*time.Millisecond, cancel)
		began := time.Now()
		if err := do(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v after %s, want that it was cancelled", name, err, time.Since(began))
		}
	}
}

// TestRedirects: a registry may lead elsewhere, but not in circles, and from HTTPS only
// to HTTPS.
func TestRedirects(t *testing.T) {
	at := func(s string) *http.Request {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: u}
	}
	times := func(n int, r *http.Request) (via []*http.Request) {
		for range n {
			via = append(via, r)
		}
		return via
	}
	secure, plain := at("https://a.example/x"), at("http://127.0.0.1/x")
	for name, test := range map[string]struct {
		to  *http.Request
		via []*http.Request
		ok  bool
	}{
		"to HTTPS":     {secure, times(1, secure), true},
		"to plain":     {plain, times(1, secure), false},
		"on loopback":  {plain, times(1, plain), true},
		"up":           {secure, times(1, plain), true},
		"fourth":       {secure, times(4, secure), true},
		"fifth":        {secure, times(5, secure), false},
		"down by two":  {plain, []*http.Request{secure, plain}, false},
		"plain to TLS": {secure, []*http.Request{plain, secure}, true},
	} {
		if err := (&spoken{}).checkRedirect(test.to, test.via); (err == nil) != test.ok {
			t.Errorf("%s: got %v, want it allowed: %v", name, err, test.ok)
		}
	}
}

// TestSignedAddresses: registries keep blobs in object stores, and lead there, or take uploads,
// with an address whose query is a credential. No error has it.
func TestSignedAddresses(t *testing.T) {
	d := v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
	for what, leads := range map[string]string{
		"an answer of the store": "/store/blob?X-Amz-Signature=s3cret", "plain HTTP": "http://store.example/blob?X-Amz-Signature=s3cret",
		"no host": "http://:1/?s3cret", "a circle": "/v2/again?s3cret",
	} {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			case r.URL.Path == "/store/blob":
				w.WriteHeader(http.StatusForbidden)
			case r.Method == http.MethodPost:
				w.Header().Set("Location", leads)
				w.WriteHeader(http.StatusAccepted)
			default:
				w.Header().Set("Location", leads)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		})
		_, err := r.Blob(t.Context(), d)
		for from, err := range map[string]error{"read": err, "pushed": r.PushBlob(t.Context(), d, open), "listed": func() error { _, err := r.Referrers(t.Context(), d.Digest); return err }()} {
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s, %s: got %v, want an error without the query", what, from, err)
			}
			if what == "a circle" && (strings.Contains(err.Error(), ": :") || strings.HasPrefix(err.Error(), ":") || !strings.Contains(err.Error(), "127.0.0.1")) {
				t.Errorf("%s, %s: got %v, want who leads in a circle", what, from, err)
			}
		}
	}
	r, err := OpenRegistry("registry.example/team/app", RegistryOptions{Transport: redirecting("http://127.0.0.1/?s3cret")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(t.Context(), d); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("from HTTPS to HTTP: got %v, want an error without the query", err)
	}
}

// redirecting is a transport whose every answer leads to an address.
type redirecting string

func (to redirecting) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {string(to)}}, Body: http.NoBody, Request: r}, nil
}

// TestScopeOfALogin: a token that was asked for reading is not one for pushing.
func TestScopeOfALogin(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	var scope atomic.Value
	var home string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			scope.Store(r.URL.Query().Get("scope"))
			io.WriteString(w, `{"token":"t"}`)
		case r.Header.Get("Authorization") == "Bearer t":
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Body", string(body))
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+home+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	home = srv.URL
	for method, want := range map[string]string{"GET": "repository:team/app:pull", "HEAD": "repository:team/app:pull", "PUT": "repository:team/app:push,pull", "POST": "repository:team/app:push,pull", "DELETE": "repository:team/app:push,pull"} {
		r := openRegistry(t, strings.TrimPrefix(home, "http://")+"/team/app", RegistryOptions{})
		for range 2 { // the second time it has logged in
			a, err := r.small(t.Context(), method, r.url("x"), nil, []byte("body"), 10, http.StatusOK)
			if err != nil {
				t.Errorf("%s: %v", method, err)
			} else if method == "PUT" && a.header.Get("X-Body") != "body" {
				t.Errorf("%s: the body that arrived is %q", method, a.header.Get("X-Body"))
			}
		}
		if got := scope.Load(); got != want {
			t.Errorf("%s: got scope %q, want %q", method, got, want)
		}
	}
	// A body that cannot be sent twice is not sent again, and the first answer stands.
	r := openRegistry(t, strings.TrimPrefix(home, "http://")+"/team/app", RegistryOptions{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, home+"/v2/x", io.LimitReader(strings.NewReader("body"), 4))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := r.http.Do(req); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a body that cannot be sent twice: got %v, %v, want 401", resp, err)
	}
	req.Body, req.GetBody = io.NopCloser(strings.NewReader("body")), func() (io.ReadCloser, error) { return nil, errOutage }
	if _, err := r.http.Do(req); !errors.Is(err, errOutage) {
		t.Errorf("a body that is gone: got %v", err)
	}
}

// TestPushAtOnce: a small blob is one request, if the registry takes it so. If not, the registry
// is not asked to again.
func TestPushAtOnce(t *testing.T) {
	t.Parallel()
	content := []byte("content")
	push := func(r *Registry, sent []byte) error {
		d := v1.Descriptor{Digest: digestOf(content), Size: int64(len(content))}
		return r.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil })
	}
	type registry struct {
		at     http.HandlerFunc // answers POST?digest=
		asked  []string
		stored []byte
	}
	open := func(g *registry) *Registry {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			g.asked = append(g.asked, r.Method)
			body, _ := io.ReadAll(r.Body)
			switch {
			case r.URL.Query().Get("digest") == digestOf(content).String() && r.Method == http.MethodPost:
				if r.ContentLength != int64(len(body)) || r.Header.Get("Content-Type") != "application/octet-stream" {
					t.Errorf("got %d bytes of type %q, a length of %d", len(body), r.Header.Get("Content-Type"), r.ContentLength)
				}
				if g.at(w, r); w.Header().Get("Stored") != "" {
					g.stored = body
				}
			case r.Method == http.MethodPost:
				w.Header().Set("Location", "/there")
				w.WriteHeader(http.StatusAccepted)
			case r.Method == http.MethodPut:
				g.stored = body
				w.WriteHeader(http.StatusCreated)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		return r
	}
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if status == http.StatusCreated {
				w.Header().Set("Stored", "yes")
			}
			w.Header().Set("Location", "/unfinished")
			w.WriteHeader(status)
		}
	}
	parts := []string{"POST", "POST", "PUT", "HEAD", "POST", "PUT"}
	for status, want := range map[int][]string{http.StatusCreated: {"POST", "POST"}, http.StatusAccepted: {"POST", "PUT", "HEAD", "POST", "PUT"}, http.StatusBadRequest: parts,
		http.StatusNotFound: parts, http.StatusMethodNotAllowed: parts, http.StatusUnsupportedMediaType: parts, http.StatusNotImplemented: parts} {
		g := &registry{at: answer(status)}
		r := open(g)
		if err := errors.Join(push(r, content), push(r, content)); err != nil || !slices.Equal(g.asked, want) || !bytes.Equal(g.stored, content) {
			t.Errorf("%d: got %v, requests %s, stored %q, want requests %s", status, err, g.asked, g.stored, want)
		}
	}
	for _, status := range []int{http.StatusForbidden, http.StatusConflict} {
		g := &registry{at: answer(status)}
		if err := push(open(g), content); !hasStatus(err, status) || len(g.asked) != 1 {
			t.Errorf("%d: got %v after %s", status, err, g.asked)
		}
	}
	for _, wrong := range []string{"c0ntent", "content and more", "cont"} {
		g := &registry{at: answer(http.StatusCreated)}
		if err := push(open(g), []byte(wrong)); !errors.Is(err, ErrMismatch) || len(g.asked) != 0 {
			t.Errorf("%q: got %v after %s", wrong, err, g.asked)
		}
	}
}

// TestPushRefuses: blobs of no possible size, and a registry that does not say where an
// upload goes.
func TestPushRefuses(t *testing.T) {
	content := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil }
	good := v1.Descriptor{Digest: digestOf([]byte("content")), Size: 7}
	push := func(d v1.Descriptor, open func() (io.ReadCloser, error), answers map[string]http.HandlerFunc) error {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if answer := answers[r.Method]; answer != nil {
				answer(w, r)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		})
		return r.PushBlob(t.Context(), d, open)
	}
	location := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusAccepted)
		}
	}
	put := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || digestOf(body).String() != r.URL.Query().Get("digest") || r.Header.Get("Content-Type") != "application/octet-stream" || r.ContentLength != int64(len(body)) || r.URL.Query().Get("state") != "1" {
			t.Errorf("PUT: got %q, %v as %+v", body, err, r)
		}
		w.WriteHeader(http.StatusCreated)
	}
	var path string
	ok := map[string]http.HandlerFunc{"PUT": put, "POST": func(w http.ResponseWriter, r *http.Request) { path = r.URL.Path; location("/there?state=1")(w, r) }}
	if err := push(good, content, ok); err != nil || path != "/v2/team/app/blobs/uploads/" {
		t.Errorf("got %v, POST to %s", err, path)
	}
	if err := push(v1.Descriptor{Digest: digestOf(nil)}, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }, ok); err != nil {
		t.Errorf("an empty blob: %v", err)
	}
	there := map[string]http.HandlerFunc{"HEAD": func(http.ResponseWriter, *http.Request) {}}
	if err := push(v1.Descriptor{Digest: good.Digest, Size: limits.LayerPacked}, nil, there); err != nil {
		t.Errorf("the largest blob, which is there: %v", err)
	}
	if err := push(v1.Descriptor{Digest: good.Digest, Size: limits.LayerPacked}, nil, map[string]http.HandlerFunc{"HEAD": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }}); !hasStatus(err, http.StatusForbidden) {
		t.Errorf("a registry that does not say whether it has the blob: got %v", err)
	}
	for name, size := range map[string]int64{"negative": -1, "too large": limits.LayerPacked + 1} {
		if err := push(v1.Descriptor{Digest: good.Digest, Size: size}, content, ok); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	for name, test := range map[string]struct {
		location, want string
	}{"no location": {"", `got ""`}, "no URL": {"http://[", "want a URL"}, "plain HTTP elsewhere": {"http://192.0.2.1/x", "plain HTTP"}} {
		if err := push(good, content, map[string]http.HandlerFunc{"PUT": put, "POST": location(test.location)}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	refused := map[string]http.HandlerFunc{"POST": location("/there?state=1"), "PUT": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadRequest) }}
	if err := push(good, content, refused); !hasStatus(err, http.StatusBadRequest) {
		t.Errorf("a PUT that is refused: got %v", err)
	}
	if err := push(good, func() (io.ReadCloser, error) { return nil, errOutage }, ok); !errors.Is(err, errOutage) {
		t.Errorf("content that is gone: got %v", err)
	}
	if err := push(v1.Descriptor{Digest: v1.Hash{Algorithm: "sha384", Hex: "00"}, Size: 7}, content, ok); !errors.Is(err, ErrMismatch) {
		t.Errorf("an unknown algorithm: got %v", err)
	}
	changed := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("c0ntent")), nil }
	if err := push(good, changed, map[string]http.HandlerFunc{"POST": location("/there?state=1"), "PUT": func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); w.WriteHeader(201) }}); !errors.Is(err, ErrMismatch) {
		t.Errorf("content that changed: got %v, want a refusal", err)
	}
	// An upload that may pass is begun again, with the content from its start.
	tries := 0
	again := map[string]http.HandlerFunc{"POST": location("/there?state=1"), "PUT": func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		put(w, r)
	}}
	if err := push(good, content, again); err != nil || tries != 2 {
		t.Errorf("an upload that may pass: got %v after %d tries", err, tries)
	}
}

// TestManifestsAreKept: by digest, each once, and no more than 16 MiB of them.
func TestManifestsAreKept(t *testing.T) {
	host := newServer(t, true, nil)
	pushedBy, top := pushed(t, host)
	if err := pushedBy.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	for name, first := range map[string]func(r *Registry) error{
		"Resolve":  func(r *Registry) error { _, err := r.Resolve(t.Context(), "v1"); return err },
		"Manifest": func(r *Registry) error { _, _, err := r.Manifest(t.Context(), top.Digest); return err },
	} {
		r := openRegistry(t, host+"/team/app", RegistryOptions{})
		if err := first(r); err != nil {
			t.Fatal(err)
		}
		r.base.Host = "127.0.0.1:1" // nobody is there
		if raw, _, err := r.Manifest(t.Context(), top.Digest); err != nil || digestOf(raw) != top.Digest {
			t.Errorf("after %s: got %v, want it from memory", name, err)
		}
	}
	pushedBy.base.Host = "127.0.0.1:1"
	if _, _, err := pushedBy.Manifest(t.Context(), top.Digest); err != nil {
		t.Errorf("after PushManifest: got %v, want it from memory", err)
	}
	r := openRegistry(t, host+"/team/app", RegistryOptions{})
	a, b := digestOf([]byte("a")), digestOf([]byte("b"))
	for range 2 {
		r.remember(a, make([]byte, maxCached-3), "x")
	}
	r.remember(b, make([]byte, 4), "x")
	if _, ok := r.cache[b]; ok || r.cached != maxCached-3 {
		t.Errorf("got %d bytes in memory, want %d", r.cached, maxCached-3)
	}
	if r.remember(b, make([]byte, 3), "x"); r.cached != maxCached || len(r.cache) != 2 {
		t.Errorf("got %d bytes in memory, want all %d", r.cached, maxCached)
	}
	for _, bad := range []string{"", "a b", "../x", "sha256:zz"} {
		if _, err := r.Resolve(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "want a tag or digest") {
			t.Errorf("reference %q: got %v", bad, err)
		}
		if err := r.Tag(t.Context(), bad, top); err == nil || !strings.Contains(err.Error(), "is not a tag") {
			t.Errorf("tag %q: got %v", bad, err)
		}
	}
	for _, bad := range []string{"", "app", "a.example/", "a.example/A"} {
		if _, err := OpenRegistry(bad, RegistryOptions{}); err == nil {
			t.Errorf("repository %q was opened", bad)
		}
	}
	if err := r.Tag(t.Context(), "v2", v1.Descriptor{Digest: digestOf([]byte("none"))}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag of nothing: got %v, want ErrNotFound", err)
	}
}

// TestSizeOfABlob: a registry that announces another size than the descriptor's has
// other content.
func TestSizeOfABlob(t *testing.T) {
	for length, ok := range map[int]bool{7: true, 6: false, 0: false} {
		r, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(length))
			io.WriteString(w, "content"[:length])
		})
		_, err := r.Blob(t.Context(), v1.Descriptor{Digest: digestOf([]byte("content")), Size: 7})
		if (err == nil) != ok || !ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%d bytes: got %v, want them accepted: %v", length, err, ok)
		}
	}
}

// TestStalls: a transfer that stands still is cut off; one that moves is not.
func TestStalls(t *testing.T) {
	for _, sending := range []bool{false, true} {
		guard := guardReceiving
		if sending {
			guard = guardSending
		}
		stopped := false
		c := &stallClock{}
		g := guard(io.NopCloser(c), func(error) { stopped = true }).(*stallGuard)
		c.running = func() bool { return g.timer.Stop() }
		if _, err := g.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		// While receiving, the clock runs during a Read; while sending, between two.
		if c.during == sending {
			t.Errorf("sending %v: the clock ran during the Read: %v", sending, c.during)
		}
		if after := g.timer.Stop(); after != sending {
			t.Errorf("sending %v: the clock ran after the Read: %v", sending, after)
		}
		g.timer.Reset(time.Hour)
		if err := g.Close(); err != nil || stopped == sending || g.timer.Stop() {
			t.Errorf("sending %v: Close stopped the request: %v, %v", sending, stopped, err)
		}
	}
}

// TestBrokenOff: a blob that stalls or breaks off fails in our words, and not in those of package http.
func TestBrokenOff(t *testing.T) {
	d := v1.Descriptor{Digest: digestOf([]byte("xy")), Size: 2}
	gone := make(chan struct{})
	for want, answer := range map[string]http.HandlerFunc{
		"nothing was transferred": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); close(gone) },
		"the connection broke":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "2")
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			answer(w, r)
		})
		body, err := r.openBlob(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(want, "nothing") {
			body.(*stallGuard).timer.Reset(0)
			<-gone
		}
		if _, err = io.ReadAll(body); !errors.Is(err, ErrFailing) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want ErrFailing, %q", err, want)
		}
		body.Close()
	}
}

// stallClock is a body that looks whether the clock of its guard runs.
type stallClock struct {
	running func() bool
	during  bool
}

func (c *stallClock) Read(p []byte) (int, error) {
	c.during = c.running()
	return len(p), nil
}
