package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

// recorded runs use in a session that records, and returns the settings of one
// that replays it.
func recorded(t *testing.T, s Settings, use func(*room)) (Settings, *builder.Lock) {
	t.Helper()
	s.Store = filepath.Join(t.TempDir(), "store")
	s.Session = builder.Session{Record: true}
	room := start(t, s)
	use(room)
	return relock(t, s, room.end())
}

func relock(t *testing.T, s Settings, record []builder.Exchange) (Settings, *builder.Lock) {
	t.Helper()
	l, err := builder.LockOf(record)
	if err != nil {
		t.Fatal(err)
	}
	// As it travels.
	raw, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = builder.ParseLock(raw); err != nil {
		t.Fatal(err)
	}
	s.Session = builder.Session{Lock: l, Sealed: true}
	return s, l
}

// replayed is a server whose answers depend on all that a request may differ in. It
// is asked for nothing once live is false.
func replayed(t *testing.T, large string, live *atomic.Bool) (*httptest.Server, Settings) {
	n := 0
	return world(t, func(w http.ResponseWriter, r *http.Request) {
		if !live.Load() {
			t.Errorf("%s was asked for in a sealed session", r.URL)
		}
		w.Header().Set("Content-Type", "text/x")
		switch r.URL.Path {
		case "/large":
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			io.WriteString(w, large)
		case "/counts":
			n++
			fmt.Fprint(w, min(n, 3))
		case "/chosen":
			fmt.Fprint(w, r.Header.Get("Accept"), r.Header.Get("Range"))
		case "/moved":
			http.Redirect(w, r, "/large", http.StatusTemporaryRedirect)
		case "/gone":
			http.Error(w, "it is gone", http.StatusGone)
		case "/broken":
			http.Error(w, "try again", http.StatusServiceUnavailable)
		case "/posted":
			b, _ := io.ReadAll(r.Body)
			fmt.Fprint(w, "you said ", string(b))
		}
	})
}

// sameLock fails where the lock of a record is not the lock want.
func sameLock(t *testing.T, record []builder.Exchange, want *builder.Lock) {
	t.Helper()
	again, err := builder.LockOf(record)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := want.Marshal()
	b, _ := again.Marshal()
	if string(a) != string(b) {
		t.Errorf("the record of the replay is not that of the first run: got\n%s\nwant\n%s", b, a)
	}
}

func TestReplay(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16)
	var live atomic.Bool
	live.Store(true)
	up, s := replayed(t, large, &live)
	post := func(room *room, say string) (int, string) {
		resp, err := room.Post(up.URL+"/posted", "text/plain", strings.NewReader(say))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	both := func(room *room) {
		room.want(200, large, "GET", up.URL+"/large")
		room.want(200, "1", "GET", up.URL+"/counts")
		room.want(200, "2", "GET", up.URL+"/counts")
		room.want(200, "3", "GET", up.URL+"/counts")
		room.want(200, "3", "GET", up.URL+"/counts")
		room.want(200, "a/b", "GET", up.URL+"/chosen", "Accept", "a/b")
		room.want(200, "c/d", "GET", up.URL+"/chosen", "Accept", "c/d")
		room.want(200, "bytes=1-2", "GET", up.URL+"/chosen", "Range", "bytes=1-2")
		room.want(307, "", "GET", up.URL+"/moved")
		room.want(410, "it is gone", "GET", up.URL+"/gone")
		room.want(200, "", "GET", up.URL+"/nothing")
		room.want(200, "", "HEAD", up.URL+"/large")
		if status, body := post(room, "hello"); status != 200 || body != "you said hello" {
			t.Errorf("POST: got %d %q", status, body)
		}
	}
	sealed, lock := recorded(t, s, func(room *room) {
		both(room)
		room.want(503, "try again", "GET", up.URL+"/broken")
	})
	if len(lock.Fetches) != 12 {
		t.Errorf("got %d fetches in the lock, want 12: the last answer of several stands for all, and what failed is none", len(lock.Fetches))
	}
	live.Store(false)
	room := start(t, sealed)
	both(room)
	resp, err := room.Head(up.URL + "/large")
	if err != nil || resp.ContentLength != int64(len(large)) || resp.Header.Get("Content-Type") != "text/x" {
		t.Errorf("HEAD: got %v, %v", resp, err)
	}
	room.want(403, "not in the lock: GET "+up.URL+"/other", "GET", up.URL+"/other")
	room.want(403, "not in the lock: GET "+up.URL+"/broken", "GET", up.URL+"/broken")
	room.want(403, "", "HEAD", up.URL+"/counts")
	room.want(403, "not in the lock", "GET", up.URL+"/chosen")
	room.want(403, "not in the lock", "GET", up.URL+"/chosen", "Accept", "e/f")
	room.want(403, "not in the lock", "GET", up.URL+"/large", "Range", "bytes=0-1")
	room.want(403, "not in the lock", "GET", up.URL+"/large", "Authorization", "Basic eDp5")
	room.want(403, "not in the lock", "GET", up.URL+"/large?x")
	room.want(403, "not in the lock", "GET", strings.Replace(up.URL, "https://", "http://", 1)+"/large")
	if status, _ := post(room, "other"); status != 403 {
		t.Errorf("another POST: got %d, want 403", status)
	}
	record := room.end()
	sameLock(t, record, lock)
	denied := 0
	for _, e := range record {
		if e.Denied != "" {
			denied++
		}
	}
	if denied != 10 {
		t.Errorf("%d exchanges are recorded as denied, want 10", denied)
	}
}

// Without the bytes at hand they are fetched again, and nothing that differs
// goes in: not one byte of it.
func TestLockedBytesAreComparedFirst(t *testing.T) {
	first := strings.Repeat("what was recorded ", 30000)
	var now atomic.Pointer[http.HandlerFunc]
	serve := func(f http.HandlerFunc) { now.Store(&f) }
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { (*now.Load())(w, r) })
	honest := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			http.Error(w, "request 4711: gone", 404)
			return
		}
		io.WriteString(w, first)
	}
	serve(honest)
	locked, _ := recorded(t, s, func(room *room) {
		room.want(200, first, "GET", up.URL+"/a")
		room.want(404, "4711", "GET", up.URL+"/gone")
	})
	locked.Session.Sealed = false
	for what, h := range map[string]http.HandlerFunc{
		"another byte": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, first[:len(first)-1]+"!") },
		"shorter":      func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, first[:100]) },
		"longer":       func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, first+first) },
		"another status": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			io.WriteString(w, first)
		},
		"not found": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"moved":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/b", http.StatusFound) },
	} {
		serve(h)
		locked.Store = filepath.Join(t.TempDir(), "store")
		room := start(t, locked)
		status, body := room.fetch("GET", up.URL+"/a")
		if status != 403 || !strings.Contains(body, "differs from the lock") || strings.Contains(body, "recorded ") {
			t.Errorf("%s: got %d %.200q, want 403", what, status, body)
		}
		if e := room.end(); len(e) != 1 || e[0].Denied == "" {
			t.Errorf("%s: got %+v", what, e)
		}
	}
	serve(honest)
	room := start(t, locked)
	room.want(200, first, "GET", up.URL+"/a")
	room.want(404, "4711", "GET", up.URL+"/gone")
	room.want(403, "not in the lock", "GET", up.URL+"/b")
	// Once more from the store, which has them now.
	serve(func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s was fetched twice", r.URL) })
	room.want(200, first, "GET", up.URL+"/a")
	// That there is nothing is what the lock says; the words may differ, and are left out.
	serve(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "request 4712: gone", 404) })
	locked.Store = filepath.Join(t.TempDir(), "store")
	room = start(t, locked)
	if status, body := room.fetch("GET", up.URL+"/gone"); status != 404 || body != "" {
		t.Errorf("other words: got %d %q, want 404 and none", status, body)
	}
	locked.Session.Sealed = true
	start(t, locked).want(403, "not in the store", "GET", up.URL+"/a")
}

func TestTamperedStore(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		io.WriteString(w, strings.Repeat("x", n))
	})
	for _, size := range []int{10, small + 1, 3 << 20} {
		path := fmt.Sprintf("/%d", size)
		sealed, lock := recorded(t, s, func(room *room) { room.want(200, "x", "GET", up.URL+path) })
		name := (&store{dir: sealed.Store}).path(lock.Fetches[0].SHA256)
		for what, tamper := range map[string]func(b []byte) []byte{
			"last byte":  func(b []byte) []byte { b[len(b)-1] = 'y'; return b },
			"first byte": func(b []byte) []byte { b[0] = 'y'; return b },
			"cut":        func(b []byte) []byte { return b[:len(b)-1] },
			"longer":     func(b []byte) []byte { return append(b, 'x') },
		} {
			good, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			damage := func() {
				os.Remove(name)
				if err := os.WriteFile(name, tamper(append([]byte{}, good...)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			damage()
			room := start(t, sealed)
			status, body := room.fetch("GET", up.URL+path)
			if status != 403 || !strings.Contains(body, "not in the store") || strings.Contains(body, "xxx") {
				t.Errorf("%d bytes, %s: got %d %.100q, want 403", size, what, status, body)
			}
			if e := room.end(); e[0].SHA256 != "" || e[0].Denied == "" {
				t.Errorf("%d bytes, %s: got %+v", size, what, e[0])
			}
			if _, err := os.Stat(name); err == nil {
				t.Errorf("%d bytes, %s: the wrong file is still there", size, what)
			}
			// With a network, the download is fetched again, and kept.
			damage()
			open := sealed
			open.Session.Sealed = false
			room = start(t, open)
			room.want(200, string(good), "GET", up.URL+path)
			room.end()
			if kept, err := os.ReadFile(name); err != nil || !bytes.Equal(kept, good) {
				t.Errorf("%d bytes, %s: got %d bytes in the store, %v, want those of the lock", size, what, len(kept), err)
			}
		}
	}
}

// A file that changes after it was verified: its last byte is withheld.
func TestStoreChangedWhileRead(t *testing.T) {
	s, err := openStore(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 3<<20)
	name := put(t, s, text)
	body, err := s.open(hexSum(text), int64(len(text)), nil)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(name, 0o600)
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("y"), 2<<20)
	f.Close()
	if b, err := io.ReadAll(body); err == nil || len(b) >= len(text) {
		t.Errorf("got %d bytes of %d and %v, want fewer and an error", len(b), len(text), err)
	}
}

var longAgo = time.Unix(1e9, 0)

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.URL.Path == "/token":
		if r.Method == "POST" {
			g.stolen = append(g.stolen, "POST")
		}
		g.n++
		token := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "secret token %d", g.n))
		g.valid[token] = true
		fmt.Fprintf(w, `{"token":%q,"expires_in":300,"issued_at":"%d"}`, token, g.n)
	case strings.HasPrefix(r.URL.Path, "/v2/"):
		if !g.valid[bearer] {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="x",scope="repository:a:pull"`, g.url))
			http.Error(w, fmt.Sprintf("request %d", g.n), http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/v2/a/blobs/") {
			g.n++
			sig := fmt.Sprintf("sig%d", g.n)
			g.sigs[sig] = true
			http.Redirect(w, r, "/cdn?sig="+sig, http.StatusTemporaryRedirect)
			return
		}
		io.WriteString(w, "manifest")
	case r.URL.Path == "/cdn":
		sig := r.URL.Query().Get("sig")
		if !g.sigs[sig] || g.expired && sig == "sig2" {
			http.Error(w, "expired", http.StatusForbidden)
			return
		}
		io.WriteString(w, "blob")
	}
}

func TestTokensAndSignedAddresses(t *testing.T) {
	reg := &registry{valid: map[string]bool{}, sigs: map[string]bool{}}
	up, s := world(t, reg.ServeHTTP)
	reg.url = up.URL
	thief, s2 := world(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(fmt.Sprint(r.Header, r.URL), base64.StdEncoding.EncodeToString([]byte("secret token"))[:12]) {
			t.Errorf("a token arrived elsewhere: %v", r.Header)
		}
	})
	a, _ := os.ReadFile(s.Roots)
	b, _ := os.ReadFile(s2.Roots)
	os.WriteFile(s.Roots, append(a, b...), 0o600)
	s.Ports = append(s.Ports, s2.Ports...)

	realm := up.URL + "/token?service=x&scope=repository:a:pull"
	pull := func(room *room) {
		room.want(401, "", "GET", up.URL+"/v2/a/manifests/1")
		status, answer := room.fetch("GET", realm)
		if status != 200 || strings.Contains(answer, "c2VjcmV0") || !strings.Contains(answer, "colophon-") {
			t.Fatalf("token: got %d %s, want a placeholder", status, answer)
		}
		token := strings.Split(answer, `"`)[3]
		auth := []string{"Authorization", "Bearer " + token}
		room.want(200, "manifest", "GET", up.URL+"/v2/a/manifests/1", auth...)
		room.CheckRedirect = nil
		room.want(200, "blob", "GET", up.URL+"/v2/a/blobs/1", auth...)
	}
	sealed, lock := recorded(t, s, func(room *room) {
		pull(room)
		room.fetch("GET", thief.URL+"/v2/", "Authorization", "Bearer "+placeholder(mustURL(t, realm)))
		room.want(405, "", "POST", up.URL+"/token")
		if len(reg.stolen) > 0 {
			t.Errorf("a token was had by POST")
		}
	})
	raw, _ := lock.Marshal()
	if strings.Contains(string(raw), "c2VjcmV0") {
		t.Errorf("a token is in the lock: %s", raw)
	}
	filepath.Walk(sealed.Store, func(path string, info os.FileInfo, _ error) error {
		if b, _ := os.ReadFile(path); strings.Contains(string(b), "c2VjcmV0") || strings.Contains(string(b), "issued_at") {
			t.Errorf("a token is in the store: %s", b)
		}
		return nil
	})
	before := reg.n
	pull(start(t, sealed))
	if reg.n != before {
		t.Error("a sealed session asked for a token")
	}
	// Without the store each is asked for anew: another token, another signature.
	reg.expired = true
	open := sealed
	open.Session.Sealed = false
	open.Store = filepath.Join(t.TempDir(), "store")
	pull(start(t, open))
	if reg.n == before {
		t.Error("the session with an empty store did not ask")
	}
}

func TestMirrorUnderALock(t *testing.T) {
	dir, digest := imageLayout(t)
	get := func(room *room, path string) (int, string) {
		resp, err := http.Get("http://" + room.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	const path = "/v2/library/golang/manifests/1.26?ns=docker.io"
	var manifest string
	sealed, _ := recorded(t, Settings{Mirror: dir}, func(room *room) {
		_, manifest = get(room, path)
		if status, _ := get(room, "/v2/library/other/manifests/1?ns=docker.io"); status != 404 {
			t.Errorf("got %d, want 404", status)
		}
	})
	room := start(t, sealed)
	if status, body := get(room, path); status != 200 || body != manifest {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := get(room, "/v2/library/other/manifests/1?ns=docker.io"); status != 404 {
		t.Errorf("got %d, want 404", status)
	}
	if status, body := get(room, "/v2/library/golang/manifests/"+digest+"?ns=docker.io"); status != 403 || !strings.Contains(body, "not in the lock: GET http://mirror.invalid/v2/library/golang/manifests/"+digest) {
		t.Errorf("a digest outside of the lock: got %d %q", status, body)
	}
	// The tag leads elsewhere now, and its old manifest was replaced under its name.
	name := filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	if err := os.WriteFile(name, []byte(strings.Replace(manifest, "sha256:", "sha256:0", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, body := get(start(t, sealed), path); status == 200 {
		t.Errorf("another manifest was served: %q", body)
	}
}

func TestManyReplaysAtOnce(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat(r.URL.Path, 1000)) })
	all := func(room *room) {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				path := fmt.Sprintf("/%d", i/2)
				room.want(200, strings.Repeat(path, 1000), "GET", up.URL+path)
			})
		}
		wg.Wait()
	}
	sealed, lock := recorded(t, s, all)
	if len(lock.Fetches) != 50 {
		t.Errorf("got %d fetches, want 50", len(lock.Fetches))
	}
	up.Close()
	var wg sync.WaitGroup
	for range 3 {
		room := start(t, sealed)
		wg.Go(func() { all(room) })
	}
	wg.Wait()
}

// A server that answers before it has read the question still has the whole of it hashed.
func TestRequestsAreHashedWhole(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "early") }))
	defer up.Close()
	rename(up)
	room := start(t, Settings{Network: Network{Ports: []uint16{port(t, up.URL)}}})
	text := strings.Repeat("q", 5*spill)
	resp, err := room.Post(up.URL, "text/plain", strings.NewReader(text))
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	if e := room.end(); e[0].Request != hexSum(text) {
		t.Errorf("got %+v", e[0])
	}
}
