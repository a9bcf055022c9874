package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

const password = "hunter2+hunter2/=&"

var basicValue = "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+password))

// asked is a request that a server got with the platform's credential.
type asked struct {
	mu   sync.Mutex
	list []string
}

func (a *asked) note(r *http.Request) bool {
	with := r.Header.Get("Authorization") == basicValue
	a.mu.Lock()
	defer a.mu.Unlock()
	if with {
		a.list = append(a.list, r.Method+" "+r.Host+r.URL.RequestURI())
	}
	return with
}

// privately gives a gateway a credential for the server's /private, which it gets as
// answer for what only reads there.
func privately(s *Settings, urls ...string) {
	s.Session.Credentials = nil
	for _, u := range urls {
		s.Session.Credentials = append(s.Session.Credentials, builder.Credential{Scope: u, Authorization: basicValue})
	}
	s.Session.Scope = "https://git.example.com/a"
}

func TestCredential(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basicValue {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Header.Get("Range") != "" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("got %v", r.Header)
		}
		io.WriteString(w, r.Method+" private bytes")
	})
	privately(&s, up.URL+"/private")
	room := start(t, s)
	room.want(200, "GET private bytes", "GET", up.URL+"/private/a")
	room.want(200, "GET private bytes", "GET", up.URL+"/private/@scope%2fname", "Range", "bytes=0-1")
	room.want(200, "GET private bytes", "GET", up.URL+"/private/a", "Authorization", "Bearer the build's own")
	room.want(401, "", "GET", up.URL+"/public/a")
	room.want(401, "", "GET", up.URL+"/public/a", "Authorization", "Bearer the build's own")
	for i, e := range room.end() {
		if e.Credential != (i < 3) {
			t.Errorf("%s %s: the record says that a credential was used: %v", e.Method, e.URL, e.Credential)
		}
		if raw, err := json.Marshal(e); err != nil || strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), "Basic eD") {
			t.Errorf("got %s, %v", raw, err)
		}
	}
}

// TestCredentialGoesNowhereElse: a build cannot have the credential sent to another host,
// path or scheme, with another method, or for something else than reading.
func TestCredentialGoesNowhereElse(t *testing.T) {
	var got asked
	var elsewhere string
	answer := func(w http.ResponseWriter, r *http.Request) {
		got.note(r)
		if r.URL.Path == "/private/moved" {
			http.Redirect(w, r, elsewhere+"/stolen", http.StatusTemporaryRedirect)
			return
		}
		io.WriteString(w, "bytes")
	}
	up, s := world(t, answer)
	other, s2 := world(t, answer)
	plain := httptest.NewServer(http.HandlerFunc(answer))
	defer plain.Close()
	rename(plain)
	elsewhere = other.URL
	joinRoots(t, &s, s2)
	s.Ports = append(s.Ports, port(t, plain.URL))
	privately(&s, up.URL+"/private")
	room := start(t, s)
	room.CheckRedirect = nil
	room.want(200, "bytes", "GET", up.URL+"/private/moved")
	if want := []string{"GET " + strings.TrimPrefix(up.URL, "https://") + "/private/moved"}; fmt.Sprint(got.list) != fmt.Sprint(want) {
		t.Fatalf("the credential went to %v, want %v", got.list, want)
	}
	got.list = nil
	host := strings.TrimPrefix(up.URL, "https://")
	for _, path := range []string{
		"/", "/privately/a", "/Private/a", "/%70rivate/a", "/private%2fa", "/private/../public", "/private/%2e%2e/public", "/private/..%2fpublic", "/private/..%5cpublic", "/private/%252e%252e/public",
		"/private/..;/public", "//private/a", "/private//a", "/./private/a", "/private/a%00b", "/private/git/info/refs?service=git-receive-pack", "/private/token?scope=repository:a:push,pull", "/private/token?service=x",
	} {
		raw(t, room, up.URL, "GET", path)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "get"} {
		raw(t, room, up.URL, method, "/private/a")
	}
	raw(t, room, up.URL, "POST", "/private/git/git-upload-pack")
	raw(t, room, up.URL, "POST", "/private/git/git-upload-pack?x=y", "Content-Type: application/x-git-upload-pack-request")
	raw(t, room, up.URL, "POST", "/private/git/git-receive-pack", "Content-Type: application/x-git-receive-pack-request")
	raw(t, room, up.URL, "GET", "/private/a", "Content-Length: 9", "", "_method=x")
	room.fetch("GET", other.URL+"/private/a")
	room.fetch("GET", plain.URL+"/private/a")
	room.fetch("GET", strings.Replace(up.URL, "https://", "https://u:p@", 1)+"/public/a")
	room.fetch("GET", "https://www."+host+"/private/a")
	room.fetch("GET", other.URL+"/private/a", "Host", host, "X-Forwarded-Host", host)
	if len(got.list) > 0 {
		t.Errorf("the credential went to %v", got.list)
	}
	raw(t, room, up.URL, "POST", "/private/git/git-upload-pack", "Content-Type: application/x-git-upload-pack-request", "Content-Length: 4", "", "0000")
	if len(got.list) != 1 {
		t.Errorf("got %v, want the one request of git", got.list)
	}
}

// raw sends one request through a tunnel without a client that would change it. More lines
// follow the request line and Host; after an empty one they are the body.
func raw(t *testing.T, room *room, base, method, path string, more ...string) {
	t.Helper()
	u := mustURL(t, base)
	c, err := net.Dial("tcp", room.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.Host, u.Host)
	in := bufio.NewReader(c)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("CONNECT: %v, %v", resp, err)
	}
	inside := tls.Client(c, &tls.Config{ServerName: u.Hostname(), RootCAs: room.Transport.(*http.Transport).TLSClientConfig.RootCAs})
	end := "\r\n\r\n"
	if strings.Contains(strings.Join(more, "\n"), "\n\n") {
		end = ""
	}
	fmt.Fprintf(inside, "%s %s HTTP/1.1\r\n%s%s", method, path, strings.Join(append([]string{"Host: " + u.Host, "Connection: close"}, more...), "\r\n"), end)
	io.Copy(io.Discard, inside)
}

func joinRoots(t *testing.T, s *Settings, others ...Settings) {
	t.Helper()
	all, err := os.ReadFile(s.Roots)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range others {
		more, err := os.ReadFile(o.Roots)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, more...)
		s.Ports = append(s.Ports, o.Ports...)
	}
	if err := os.WriteFile(s.Roots, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHeadersThatSteer: a build cannot have the server take another path or method.
func TestHeadersThatSteer(t *testing.T) {
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			switch name {
			case "Accept", "Authorization", "User-Agent", "Git-Protocol", "Accept-Encoding":
			default:
				t.Errorf("the server got %s with the credential", name)
			}
		}
		io.WriteString(w, "bytes")
	})
	privately(&s, up.URL+"/private")
	start(t, s).want(200, "bytes", "GET", up.URL+"/private/a", "X-Original-Url", "/admin", "X-Rewrite-Url", "/admin", "X-Http-Method-Override", "DELETE", "X-Forwarded-Prefix", "/admin",
		"Cookie", "a=b", "If-Range", "x", "Range", "bytes=1-2", "X-Auth-Token", "x", "Accept", "text/html", "Git-Protocol", "version=2", "Te", "trailers", "Destination", "/x", "Forwarded", "host=x")
}

// TestReflectedCredential: a server that echoes the credential, whole or in pieces, in
// headers or the body, in any usual form, does not make it reach the build.
func TestReflectedCredential(t *testing.T) {
	b64 := strings.TrimPrefix(basicValue, "Basic ")
	var how atomic.Value
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		how.Load().(func(http.ResponseWriter))(w)
	})
	privately(&s, up.URL+"/private")
	room := start(t, s)
	quoted, _ := json.Marshal(password)
	forms := map[string]string{
		"header": basicValue, "base64": b64, "password": password, "percent": url.QueryEscape(password), "lower percent": strings.ToLower(url.QueryEscape(password)), "path": url.PathEscape(password),
		"hex": hex.EncodeToString([]byte(password)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(password))), "html": html.EscapeString(password), "json": string(quoted),
		"base64 1": base64.StdEncoding.EncodeToString([]byte("a" + password + "b")), "base64 2": base64.StdEncoding.EncodeToString([]byte("ab" + password)), "base64 3": base64.URLEncoding.EncodeToString([]byte("abc" + password + "cd")),
		"twice": base64.StdEncoding.EncodeToString([]byte("abcd" + b64)), "escaped base64": url.QueryEscape(b64), "base64 of all": base64.StdEncoding.EncodeToString([]byte("Authorization: " + basicValue + "\r\n")),
	}
	for name, form := range forms {
		for where, write := range map[string]func(http.ResponseWriter){
			"body":  func(w http.ResponseWriter) { io.WriteString(w, "before "+form+" after") },
			"late":  func(w http.ResponseWriter) { io.WriteString(w, strings.Repeat("x", 100000)+form) },
			"piece": func(w http.ResponseWriter) { pieces(w, strings.Repeat("x", 32<<10-7)+form) },
			"Etag":  func(w http.ResponseWriter) { w.Header().Set("Etag", `"`+form+`"`) },
			"Location": func(w http.ResponseWriter) {
				w.Header().Set("Location", "https://x.example/?"+form)
				w.WriteHeader(302)
			},
			"error":      func(w http.ResponseWriter) { w.WriteHeader(404); io.WriteString(w, form) },
			"slow":       func(w http.ResponseWriter) { pieces(w, form) },
			"no length":  func(w http.ResponseWriter) { w.(http.Flusher).Flush(); io.WriteString(w, form) },
			"challenged": func(w http.ResponseWriter) { w.Header().Set("Www-Authenticate", form); w.WriteHeader(401) },
		} {
			if strings.ContainsAny(form, "\r\n") {
				continue
			}
			how.Store(write)
			req, err := http.NewRequest("GET", up.URL+"/private/echo", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := room.Do(req)
			if err != nil { // it broke off before its headers
				continue
			}
			got, readErr := io.ReadAll(resp.Body)
			resp.Body.Close()
			text := fmt.Sprint(resp.Header, string(got))
			if strings.Contains(text, form) || resp.StatusCode != 403 && readErr == nil {
				t.Errorf("%s in %s: got %d (%v), %d bytes; want a refusal", name, where, resp.StatusCode, readErr, len(got))
			}
		}
	}
	how.Store(func(w http.ResponseWriter) { w.Header().Set("Content-Encoding", "gzip"); io.WriteString(w, "x") })
	room.want(403, "content coding", "GET", up.URL+"/private/echo")
	how.Store(func(w http.ResponseWriter) { io.WriteString(w, strings.Repeat("hunter2+hunter", 10000)) })
	room.want(200, "hunter2+hunter", "GET", up.URL+"/private/echo")
	for i, e := range room.end() {
		if i < len(forms)*9 && (e.Denied == "" || e.SHA256 != "") {
			t.Errorf("got %+v, want it denied", e)
		}
	}
}

// pieces sends a text in pieces of three bytes.
func pieces(w http.ResponseWriter, text string) {
	for i := 0; i < len(text); i += 3 {
		if i > len(text)-200 {
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, text[i:min(i+3, len(text))])
	}
}

// TestGuardedBodiesAreWhole: what is no credential passes, byte for byte.
func TestGuardedBodiesAreWhole(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32 << 10, 32<<10 + 1, 1 << 20} {
		text := strings.Repeat("hunter2+", n/8+1)[:n]
		b := &guarded{ReadCloser: io.NopCloser(strings.NewReader(text)), needles: formsOf([]string{password})}
		got, err := io.ReadAll(struct{ io.Reader }{b})
		if err != nil || string(got) != text {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
	b := &guarded{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("abc"), breaksOff{})), needles: formsOf([]string{password})}
	if got, err := io.ReadAll(b); err != io.ErrUnexpectedEOF {
		t.Errorf("got %q, %v, want the error", got, err)
	}
}

type breaksOff struct{}

func (breaksOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestPrivateStore: what a build with credentials downloaded, builds of other sources do
// not get from the store, with whatever lock; those of the same source do. That holds for
// what it was redirected to too.
func TestPrivateStore(t *testing.T) {
	var live atomic.Bool
	live.Store(true)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !live.Load():
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/private/moved" && r.Header.Get("Authorization") == basicValue:
			w.Header().Set("Location", "/signed")
			w.WriteHeader(http.StatusFound)
		case r.URL.Path == "/signed" || r.Header.Get("Authorization") == basicValue:
			io.WriteString(w, "private bytes of "+r.URL.Path)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	s.Store = filepath.Join(t.TempDir(), "store")
	use := func(room *room) {
		room.want(200, "private bytes of /private/a", "GET", up.URL+"/private/a")
		room.want(302, "", "GET", up.URL+"/private/moved")
		room.want(200, "private bytes of /signed", "GET", up.URL+"/signed")
	}
	privately(&s, up.URL+"/private")
	s.Session.Record = true
	room := start(t, s)
	use(room)
	sealed, lock := relock(t, s, room.end())
	live.Store(false)
	if lock.Fetches[0].Credential == false {
		t.Errorf("got %+v, want that a credential was used", lock.Fetches[0])
	}
	// Somebody else, who has the lock, which is public.
	for name, change := range map[string]func(*Settings){
		"without a credential": func(*Settings) {},
		"of another source":    func(s *Settings) { privately(s, up.URL+"/private"); s.Session.Scope = "https://git.example.com/b" },
		"not sealed":           func(s *Settings) { s.Session.Sealed = false },
	} {
		stranger := sealed
		change(&stranger)
		room := start(t, stranger)
		for _, path := range []string{"/private/a", "/signed"} {
			if status, body := room.fetch("GET", up.URL+path); status == 200 || strings.Contains(body, "private bytes of") {
				t.Errorf("%s: got %d %s", name, status, body)
			}
		}
	}
	own := sealed
	privately(&own, up.URL+"/private")
	room = start(t, own)
	use(room)
	if e := room.end(); !e[0].Credential || e[2].Credential {
		t.Errorf("got %+v", e)
	}
	bad := s
	bad.Session.Scope = ""
	if _, err := New(bad); err == nil {
		t.Error("a session with credentials uses the store of all")
	}
}

// TestCredentialOfARegistry: the realm alone gets the credential, for pulls in the scope.
// The token counts for reading in the scope, and the build has a placeholder.
func TestCredentialOfARegistry(t *testing.T) {
	var tokens, uses []string
	var mu sync.Mutex
	var realm string
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		with := r.Header.Get("Authorization") == basicValue
		switch {
		case r.URL.Path == "/auth/token":
			if !with {
				fmt.Fprint(w, `{"token":"anonymous"}`)
				return
			}
			tokens = append(tokens, r.URL.RawQuery)
			fmt.Fprint(w, `{"token":"secret-token-of-the-realm"}`)
		case with:
			t.Errorf("the credential went to %s", r.URL)
		case r.Header.Get("Authorization") == "Bearer secret-token-of-the-realm":
			uses = append(uses, r.Method+" "+r.URL.Path)
			if strings.HasSuffix(r.URL.Path, "echo") {
				io.WriteString(w, "secret-token-of-the-realm")
			}
			io.WriteString(w, "manifest")
		default:
			w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	realm = up.URL + "/auth/token"
	s.Session.Credentials = []builder.Credential{{Scope: up.URL + "/v2/org", Realm: realm, Authorization: basicValue}}
	s.Session.Scope = "https://git.example.com/a"
	room := start(t, s)
	room.fetch("GET", realm+"?service=x&scope=repository:org/app:pull") // nobody has named it yet
	if len(tokens) > 0 {
		t.Errorf("the credential went to a realm that no registry named: %v", tokens)
	}
	room.want(401, "", "GET", up.URL+"/v2/org/app/manifests/1")
	for _, scope := range []string{
		"repository:other/app:pull", "repository:org/app:push,pull", "repository:org/app:pull,push", "repository:org/app:*", "repository:org/app:pull&scope=repository:other/app:pull", "repository:org/app:pull%20repository:other:pull",
		"registry:catalog:*", "repository:org/../other:pull", "repository:org/%252e%252e/other:pull", "repository:organisation:pull", "", "repository:org/app:pull&offline_token=true", "repository:org/app:pull&account=x", "repository(plugin):org/app:pull",
	} {
		room.fetch("GET", realm+"?service=x&scope="+scope)
	}
	if len(tokens) > 0 {
		t.Errorf("tokens were made for %v", tokens)
	}
	status, answer := room.fetch("GET", realm+"?service=x&scope=repository:org/app:pull")
	if status != 200 || strings.Contains(answer, "secret-token") || len(tokens) != 1 {
		t.Fatalf("got %d %s, %v", status, answer, tokens)
	}
	auth := []string{"Authorization", "Bearer " + strings.Split(answer, `"`)[3]}
	room.want(200, "manifest", "GET", up.URL+"/v2/org/app/manifests/1", auth...)
	room.want(401, "", "GET", up.URL+"/v2/other/manifests/1", auth...)
	room.want(401, "", "PUT", up.URL+"/v2/org/app/manifests/1", auth...)
	room.want(401, "", "POST", up.URL+"/v2/org/app/blobs/uploads/", auth...)
	if status, body := room.fetch("GET", up.URL+"/v2/org/app/manifests/echo", auth...); strings.Contains(body, "secret-token") {
		t.Errorf("got %d %s", status, body)
	}
	if fmt.Sprint(uses) != "[GET /v2/org/app/manifests/1 GET /v2/org/app/manifests/echo]" {
		t.Errorf("the token was used for %v", uses)
	}
	for _, e := range room.end() {
		if raw, _ := json.Marshal(e); strings.Contains(string(raw), "secret-token") || strings.Contains(string(raw), "hunter2") {
			t.Errorf("got %s", raw)
		}
	}
}

// A token that was got with one credential does not go to a host that another credential is for, and
// that names the same realm.
func TestTokenOfAnotherCredential(t *testing.T) {
	var mu sync.Mutex
	var realm string
	var stolen []string
	used := 0
	good, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/auth/token" && r.Header.Get("Authorization") == basicValue {
			fmt.Fprint(w, `{"token":"secret-token-of-the-realm"}`)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.Header.Get("Authorization"), "secret-token-of-the-realm") {
			used++
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	evil, s2 := world(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.Header.Get("Authorization"), "secret-token-of-the-realm") {
			stolen = append(stolen, r.Method+" "+r.URL.Path)
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	joinRoots(t, &s, s2)
	realm = good.URL + "/auth/token"
	s.Session.Credentials = []builder.Credential{
		{Scope: good.URL + "/v2/org", Realm: realm, Authorization: basicValue},
		{Scope: evil.URL + "/v2/mine", Authorization: "Bearer another-credential-of-the-platform"},
	}
	s.Session.Scope = "https://git.example.com/a"
	room := start(t, s)
	room.want(401, "", "GET", good.URL+"/v2/org/app/manifests/1")
	room.want(401, "", "GET", evil.URL+"/v2/mine/x/manifests/1")
	_, answer := room.fetch("GET", realm+"?service=x&scope=repository:org/app:pull")
	auth := []string{"Authorization", "Bearer " + strings.Split(answer, `"`)[3]}
	room.fetch("GET", evil.URL+"/v2/mine/x/manifests/1", auth...)
	room.fetch("GET", good.URL+"/v2/org/app/manifests/1", auth...)
	mu.Lock()
	defer mu.Unlock()
	if used == 0 {
		t.Error("the token did not reach its own registry")
	}
	if len(stolen) > 0 {
		t.Errorf("the token of %s went to %s: %v", realm, evil.URL, stolen)
	}
}
