package gateway

import (
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sums"
	"github.com/colophon-build/colophon/test/needs"
)

// counted is a server that counts its requests and answers with what its function says.
func counted(t *testing.T, h http.HandlerFunc) (*httptest.Server, Settings, *atomic.Int64) {
	var n atomic.Int64
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	})
	s.Store = filepath.Join(t.TempDir(), "store")
	return up, s, &n
}

// moduleZip returns a module's zip and its h1.
func moduleZip(t *testing.T, content string) (raw, h1 string) {
	t.Helper()
	return zipOf(t, "example.com/m@v1.0.0/m.go", content)
}

func zipOf(t *testing.T, name, content string) (raw, h1 string) {
	t.Helper()
	zipped := zipFile(t, map[string]string{name: content})
	file := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(file, zipped, 0o600); err != nil {
		t.Fatal(err)
	}
	h1, err := dirhash.HashZip(file, dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	return string(zipped), h1
}

func h1Mod(t *testing.T, text string) string {
	h1, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return h1
}

func sri(text string) string {
	sum := sha512.Sum512([]byte(text))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

// What a file of the commit or the request itself pins by digest is asked for once; the
// second build gets the same answer, and its record says so.
func TestSecondBuild(t *testing.T) {
	zip, h1 := moduleZip(t, "package m\n")
	layer := strings.Repeat("layer", 100_000)
	content := map[string]string{
		"/example.com/m/@v/v1.0.0.zip":                  zip,
		"/example.com/m/@v/v1.0.0.mod":                  "module example.com/m\n",
		"/left-pad/-/left-pad-1.0.0.tgz":                "tgz",
		"/tool.tar.gz":                                  "tool",
		"/v2/library/x/blobs/sha256:" + hexSum(layer):   layer,
		"/dists/x/by-hash/SHA256/" + hexSum("Packages"): "Packages",
		"/empty.tar": "",
	}
	up, s, asked := counted(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		w.Header().Set("Etag", `"1"`)
		io.WriteString(w, content[r.URL.Path])
	})
	s.Session.Demands = []builder.Demand{
		{URL: "/example.com/m/@v/v1.0.0.zip", Digest: h1},
		{URL: "/example.com/m/@v/v1.0.0.mod", Digest: h1Mod(t, content["/example.com/m/@v/v1.0.0.mod"])},
		{URL: up.URL + "/left-pad/-/left-pad-1.0.0.tgz", Digest: sri("tgz")},
		{URL: up.URL + "/tool.tar.gz", Digest: "sha256:" + hexSum("tool")},
		{URL: up.URL + "/empty.tar", Digest: "sha256:" + hexSum("")},
	}
	s.Sums = []sums.Sum{{SHA256: hexSum(zip), H1: h1}}
	build := func(s Settings, stored bool) []builder.Exchange {
		t.Helper()
		room := start(t, s)
		for path, text := range content {
			room.want(200, text, "GET", up.URL+path)
		}
		record := room.end()
		for _, e := range record {
			if e.Stored != stored || e.Header["Content-Type"] != "text/x" || e.Header["Etag"] != `"1"` {
				t.Errorf("%s: got stored %v and header %q, want %v and those of the server", e.URL, e.Stored, e.Header, stored)
			}
		}
		return record
	}
	first := build(s, false)
	if n := asked.Load(); n != int64(len(content)) {
		t.Fatalf("got %d requests, want one for each of %d files", n, len(content))
	}
	second := build(s, true)
	if n := asked.Load(); n != int64(len(content)) {
		t.Errorf("the second build made %d requests, want none", n-int64(len(content)))
	}
	lock, err := builder.LockOf(first)
	if err != nil {
		t.Fatal(err)
	}
	sameLock(t, second, lock)
	// A session that records takes them from the store, too, and can be replayed.
	s.Session.Record = true
	sealed, _ := relock(t, s, build(s, true))
	build(sealed, false)
	locked := sealed
	locked.Session.Sealed = false // as --locked; it might ask the server
	build(locked, false)
	if n := asked.Load(); n != int64(len(content)) {
		t.Errorf("recording and replay made %d requests, want none", n-int64(len(content)))
	}
}

// What nobody pins is asked for each time, whatever the server says about its age.
func TestUnpinnedIsAskedForEachTime(t *testing.T) {
	version := 0
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		version++
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "public, immutable, max-age=31536000")
		fmt.Fprint(w, "version ", version)
	})
	s.Session.Demands = []builder.Demand{{URL: up.URL + "/other", Digest: sri("version 1")}, {URL: "/m/@v/v1.0.0.zip", Digest: "h1:x"}}
	for n, path := range []string{"/latest", "/latest", "/latest", "/v2/x/manifests/latest", "/v2/x/manifests/latest", "/m/@v/v1.0.0.info", "/m/@v/v1.0.0.info"} {
		room := start(t, s)
		room.want(200, fmt.Sprint("version ", n+1), "GET", up.URL+path)
		room.end()
	}
	if notes, _ := filepath.Glob(s.Store + "/*/*"); len(notes) > 0 {
		t.Errorf("got %q in the store, want nothing that no build demands", notes)
	}
}

// A build demands a digest; the store has other bytes of the same URL. They stay there.
func TestStoreHasOtherBytes(t *testing.T) {
	evil, _ := moduleZip(t, "package evil\n")
	good, h1 := moduleZip(t, "package good\n")
	now := map[string]string{"/m/@v/v1.0.0.zip": evil, "/m/@v/v1.0.0.mod": "module evil\n", "/p.tgz": "evil", "/f": "evil", "/v2/x/blobs/sha256:" + hexSum("good"): "evil"}
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, now[r.URL.Path]) })
	s.Session.Demands = []builder.Demand{
		{URL: "/m/@v/v1.0.0.zip", Digest: h1}, {URL: "/m/@v/v1.0.0.mod", Digest: h1Mod(t, "module good\n")},
		{URL: up.URL + "/p.tgz", Digest: sri("good")}, {URL: up.URL + "/f", Digest: "sha256:" + hexSum("good")},
	}
	_, evilH1 := moduleZip(t, "package evil\n")
	s.Sums = []sums.Sum{{SHA256: hexSum(evil), H1: evilH1}, {SHA256: hexSum(good), H1: h1}}
	for range 2 { // a hostile server fills the store: its bytes reach the builds that ask it, and no others
		room := start(t, s)
		for path, text := range now {
			room.want(200, text, "GET", up.URL+path)
		}
		for _, e := range room.end() {
			if e.Stored {
				t.Errorf("%s came from the store, which has other bytes than the build demands", e.URL)
			}
		}
	}
	now = map[string]string{"/m/@v/v1.0.0.zip": good, "/m/@v/v1.0.0.mod": "module good\n", "/p.tgz": "good", "/f": "good", "/v2/x/blobs/sha256:" + hexSum("good"): "good"}
	for n := range 2 {
		room := start(t, s)
		for path, text := range now {
			room.want(200, text, "GET", up.URL+path)
		}
		for _, e := range room.end() {
			if e.Stored != (n == 1) {
				t.Errorf("build %d: %s: got stored %v", n, e.URL, e.Stored)
			}
		}
	}
}

// The bytes that one URL gave do not answer for another one: the record would say of a
// server what it never served.
func TestStoreNamesNoOtherServer(t *testing.T) {
	zip, h1 := moduleZip(t, "package evil\n")
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/evil/"), strings.HasPrefix(r.URL.Path, "/v2/evil/"):
			io.WriteString(w, zip)
		default:
			http.Error(w, "no such module", http.StatusNotFound)
		}
	})
	s.Session.Demands = []builder.Demand{{URL: "/m/@v/v1.0.0.zip", Digest: h1}}
	s.Sums = []sums.Sum{{SHA256: hexSum(zip), H1: h1}}
	blob := "/blobs/sha256:" + hexSum(zip)
	room := start(t, s)
	room.want(200, zip, "GET", up.URL+"/evil/m/@v/v1.0.0.zip")
	room.want(200, zip, "GET", up.URL+"/v2/evil"+blob)
	room.end()
	room = start(t, s)
	room.want(200, zip, "GET", up.URL+"/evil/m/@v/v1.0.0.zip")
	room.want(404, "no such module", "GET", up.URL+"/good/m/@v/v1.0.0.zip")
	room.want(404, "no such module", "GET", up.URL+"/v2/good"+blob)
	for i, e := range room.end() {
		if e.Stored != (i == 0) {
			t.Errorf("%s: got stored %v", e.URL, e.Stored)
		}
	}
}

// What a request with anything like a credential got is not in the shared store, and such a
// request is not answered from it.
func TestSecretsAreNotShared(t *testing.T) {
	layer := "a private layer"
	blob := "/v2/x/blobs/sha256:" + hexSum(layer)
	up, s, asked := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization")+r.Header.Get("Private-Token")+r.Header.Get("X-Unheard-Of")+r.URL.Query().Get("sig") == "" {
			http.Error(w, "who are you?", http.StatusForbidden)
			return
		}
		io.WriteString(w, layer)
	})
	secrets := [][]string{{"Authorization", "Basic czpz"}, {"Authorization", "Bearer colophon-0123"}, {"Private-Token", "s"}, {"X-Unheard-Of", "s"}}
	for range 2 {
		room := start(t, s)
		for _, header := range secrets {
			room.want(200, layer, "GET", up.URL+blob, header...)
		}
		room.want(200, layer, "GET", up.URL+blob+"?sig=s")
		room.end()
	}
	if n := asked.Load(); n != 10 {
		t.Errorf("got %d requests, want all 10 at the server", n)
	}
	if stored, _ := filepath.Glob(s.Store + "/*/*"); len(stored) > 0 {
		t.Errorf("got %q in the store", stored)
	}
	room := start(t, s)
	room.want(403, "who are you?", "GET", up.URL+blob)
	room.end()

	// A replay needs them; only one of the same repository gets them, and no lock that
	// anybody has written by hand.
	s.Session = builder.Session{Record: true, Scope: "https://git.example.com/a"}
	room = start(t, s)
	room.want(200, layer, "GET", up.URL+blob, secrets[0]...)
	sealed, lock := relock(t, s, room.end())
	try := func(status int, text, scope string, authorized bool) {
		t.Helper()
		lock.Fetches[0].Authorized = authorized
		sealed.Session = builder.Session{Lock: lock, Sealed: true, Scope: scope}
		var header []string
		if authorized {
			header = secrets[0]
		}
		room := start(t, sealed)
		room.want(status, text, "GET", up.URL+blob, header...)
		room.end()
	}
	try(200, layer, "https://git.example.com/a", true)
	try(403, "are not in the store", "https://git.example.com/b", true)
	try(403, "are not in the store", "", true)
	try(403, "are not in the store", "https://git.example.com/b", false)
}

// A registry's token that anybody gets, and the signed address that it then names, are no
// secrets: its layers are shared. One that a password got is.
func TestLayersBehindATokenAndARedirect(t *testing.T) {
	layer := strings.Repeat("layer", 1000)
	blob := "/v2/x/blobs/sha256:" + hexSum(layer)
	var up *httptest.Server
	up, s, asked := counted(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			io.WriteString(w, `{"token":"t"}`)
		case r.URL.Path == "/data" && r.URL.Query().Get("sig") == "s":
			io.WriteString(w, layer)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("Www-Authenticate", `Bearer realm="`+up.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			http.Redirect(w, r, "/data?sig=s", http.StatusTemporaryRedirect)
		}
	})
	pull := func(s Settings, password ...string) (stored bool) {
		t.Helper()
		room := start(t, s)
		room.want(401, "", "GET", up.URL+"/v2/")
		_, token := room.fetch("GET", up.URL+"/token?service=x", password...)
		_, rest, _ := strings.Cut(token, `"token":"`)
		placeholder, _, _ := strings.Cut(rest, `"`)
		if status, _ := room.fetch("GET", up.URL+blob, "Authorization", "Bearer "+placeholder); status == 307 {
			room.want(200, layer, "GET", up.URL+"/data?sig=s")
		}
		for _, e := range room.end() {
			stored = stored || e.Stored
		}
		return stored
	}
	if pull(s, "Authorization", "Basic czpz") || pull(s) {
		t.Error("a layer was taken from the store that only a request with a password had got, or none")
	}
	before := asked.Load()
	if !pull(s) || asked.Load() != before+2 {
		t.Errorf("got %d requests for the second pull, want 2: for the challenge and the token", asked.Load()-before)
	}
	if pull(s, "Authorization", "Basic czpz") {
		t.Error("a token that a password got was answered from the store")
	}
	s.Session.Record = true // the lock needs the redirect
	if pull(s) {
		t.Error("a session that records skipped the redirect")
	}
}

// A gateway that was taken over exchanges a file of the store while another gateway compares
// it: for its sha256 the file has other bytes than for the digest that the commit demands.
func TestStoreSwappedWhileCompared(t *testing.T) {
	good, evil := strings.Repeat("good", 20_000), strings.Repeat("evil", 20_000)
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, good) })
	s.Session.Demands = []builder.Demand{{URL: up.URL + "/p.tgz", Digest: sri(good)}}
	first := start(t, s)
	first.want(200, good, "GET", up.URL+"/p.tgz")
	first.end()

	name := first.g.store.path(hexSum(evil))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), first.g.store.remember(&download{URL: up.URL + "/p.tgz", SHA256: hexSum(evil), Size: int64(len(evil))})); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				next := filepath.Join(s.Store, "tmp-next")
				os.WriteFile(next, []byte([]string{good, evil}[n%2]), 0o600)
				os.Rename(next, name)
			}
		}
	}()
	room, tries := start(t, s), 200
	if needs.AskedForLong() {
		tries = 2000
	}
	for range tries {
		if _, got := room.fetch("GET", up.URL+"/p.tgz"); got == evil {
			t.Error("the build got bytes that the commit does not demand")
			break
		}
		first.g.store.remember(&download{URL: up.URL + "/p.tgz", SHA256: hexSum(evil), Size: int64(len(evil))}) // the download that failed has its place
	}
	close(stop)
	<-stopped
}

// The gateway takes a module from the store only if it is told the sum of these bytes, and for
// the address of a zip: a zip that has nothing but a go.mod has the h1 of that go.mod.
func TestModulesNeedTheirSums(t *testing.T) {
	zip, h1 := moduleZip(t, "package m\n")
	other, otherH1 := moduleZip(t, "package other\n")
	mod := "module example.com/m\n"
	bare, bareH1 := zipOf(t, "go.mod", mod)
	if bareH1 != h1Mod(t, mod) {
		t.Fatalf("got h1 %s of a zip of a go.mod, want that of the go.mod", bareH1)
	}
	now := map[string]string{"/m/@v/v1.0.0.zip": zip, "/m/@v/v1.0.0.mod": bare}
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, now[r.URL.Path]) })
	s.Session.Demands = []builder.Demand{{URL: "/m/@v/v1.0.0.zip", Digest: h1}, {URL: "/m/@v/v1.0.0.mod", Digest: bareH1}}
	for what, tt := range map[string]struct {
		told   []sums.Sum
		stored bool
	}{
		"nothing":                      {nil, false},
		"the sum of other bytes":       {[]sums.Sum{{SHA256: hexSum(other), H1: h1}, {SHA256: hexSum(bare), H1: h1}}, false},
		"another sum of these bytes":   {[]sums.Sum{{SHA256: hexSum(zip), H1: otherH1}, {SHA256: hexSum(bare), H1: bareH1}}, false},
		"the sum":                      {[]sums.Sum{{SHA256: hexSum(zip), H1: h1}}, true},
		"the sum, and one of a go.mod": {[]sums.Sum{{SHA256: hexSum(zip), H1: h1}, {SHA256: hexSum(bare), H1: bareH1}}, true},
	} {
		s.Store, s.Sums = filepath.Join(t.TempDir(), "store"), tt.told
		for n := range 2 {
			room := start(t, s)
			for path, text := range now {
				room.want(200, text, "GET", up.URL+path)
			}
			for _, e := range room.end() {
				if want := n == 1 && tt.stored && strings.HasSuffix(e.URL, ".zip"); e.Stored != want {
					t.Errorf("told %s, build %d: %s: got stored %v, want %v", what, n, e.URL, e.Stored, want)
				}
			}
		}
	}
}

// Damage costs a download, and nothing else.
func TestDamagedSharedStore(t *testing.T) {
	file := strings.Repeat("f", small+1)
	up, s, asked := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, file) })
	s.Session.Demands = []builder.Demand{{URL: up.URL + "/f", Digest: sri(file)}}
	build := func(want int64) {
		t.Helper()
		before := asked.Load()
		room := start(t, s)
		room.want(200, file, "GET", up.URL+"/f")
		room.end()
		if n := asked.Load() - before; n != want {
			t.Errorf("got %d requests, want %d", n, want)
		}
	}
	build(1)
	build(0)
	files, err := filepath.Glob(s.Store + "/*/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %q, %v, want a body and a note", files, err)
	}
	for _, f := range files {
		if err := errors.Join(os.Chmod(f, 0o600), os.WriteFile(f, []byte("damaged"), 0o600)); err != nil {
			t.Fatal(err)
		}
		build(1)
		build(0)
	}
	if err := os.RemoveAll(s.Store); err != nil {
		t.Fatal(err)
	}
	build(1)
}

// A store that takes nothing, as on a full disk, fails no build that does not need it.
func TestBrokenStoreFailsNoBuild(t *testing.T) {
	file := strings.Repeat("f", 10_000)
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, file) })
	s.Session.Demands = []builder.Demand{{URL: up.URL + "/f", Digest: sri(file)}}
	build := func() {
		t.Helper()
		room := start(t, s)
		room.want(200, file, "GET", up.URL+"/f")
		if e := room.end(); e[0].SHA256 != hexSum(file) || e[0].Stored {
			t.Errorf("got %+v, want a complete download", e[0])
		}
	}
	s.StoreSize = 5000 // less than the file
	build()
	s.Store = filepath.Join(t.TempDir(), "file", "store") // cannot be made
	if err := os.WriteFile(filepath.Dir(s.Store), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	build()
	s.Store = filepath.Join(t.TempDir(), "gone")
	room := start(t, s)
	if err := os.RemoveAll(s.Store); err != nil {
		t.Fatal(err)
	}
	room.want(200, file, "GET", up.URL+"/f")
	room.end()
}

// TestFullStoreIsSaid: a session that records needs the store, so a download that does not fit is
// denied, and the record says why.
func TestFullStoreIsSaid(t *testing.T) {
	up, s, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("f", 10_000)) })
	s.Session.Record, s.StoreSize = true, 5000
	room := start(t, s)
	if status, body := room.fetch("GET", up.URL+"/f"); status == http.StatusOK {
		t.Errorf("got %d bytes, want no whole answer: the lock will not have it", len(body))
	}
	if e := room.end(); len(e) != 1 || !strings.Contains(e[0].Denied, "larger than the whole store of 5000 bytes; see build.network.storeSize") || e[0].SHA256 != "" {
		t.Errorf("got %+v, want the reason", e)
	}
}

// What a server makes a gateway remember has a limit: redirects, and headers of a download.
func TestMemoryOfDownloadsIsBounded(t *testing.T) {
	l := redirects{to: map[string]*pinned{}}
	l.put("https://p.example/"+strings.Repeat("x", limits.FetchURL), &pinned{})
	for n := range maxLed + 1 {
		l.put(fmt.Sprint("https://p.example/", n), &pinned{})
	}
	if len(l.to) != maxLed || l.get(fmt.Sprint("https://p.example/", maxLed-1)) == nil {
		t.Errorf("got %d redirects, want the first %d of a usual length", len(l.to), maxLed)
	}
	s, err := openStore(t.TempDir(), defaultStoreSize)
	if err != nil {
		t.Fatal(err)
	}
	for size, fits := range map[int]bool{100: true, maxDownload: false} {
		d := &download{URL: fmt.Sprint("https://p.example/", size), SHA256: hexSum("x"), Size: 1, Header: map[string]string{"Content-Type": strings.Repeat("x", size)}}
		if err := s.remember(d); err != nil {
			t.Fatal(err)
		}
		if got, err := s.recall(d.URL); (err == nil) != fits {
			t.Errorf("a note with a header of %d bytes: got %v, %v", size, got, err)
		}
	}
}

func TestDemandsThatContradict(t *testing.T) {
	d := newDemands([]builder.Demand{
		{URL: "/m/@v/v1.0.0.zip", Digest: "h1:a"}, {URL: "/m/@v/v1.0.0.zip", Digest: "h1:b"}, {URL: "/m/@v/v1.0.0.zip", Digest: "h1:b"}, {URL: "/n/@v/v1.0.0.zip", Digest: "h1:a"}, {URL: "/n/@v/v1.0.0.zip", Digest: "h1:a"},
		{URL: "/pad/-/pad-1.0.0.tgz", Digest: "sha512-p"}, {URL: "/@left/pad/-/pad-1.0.0.tgz", Digest: "sha512-l"},
		{URL: "pkg:pypi/flask@3.0.0", Digest: "sha256:wheel"}, {URL: "pkg:pypi/flask@3.0.0", Digest: "sha256:source"},
	})
	for url, want := range map[string]string{
		"https://p.example/m/@v/v1.0.0.zip":                         "",
		"https://p.example/n/@v/v1.0.0.zip":                         "h1:a",
		"https://p.example/prefix/n/@v/v1.0.0.zip":                  "h1:a",
		"https://p.example/n/@v/v1.0.0.zip?x":                       "",
		"https://p.example/xn/@v/v1.0.0.zip":                        "",
		"https://p.example/n/@v/v1.0.0.zip/x":                       "",
		"https://p.example/npm/pad/-/pad-1.0.0.tgz":                 "sha512-p",
		"https://p.example/npm/@left/pad/-/pad-1.0.0.tgz":           "sha512-l",
		"https://p.example/npm/@left%2Fpad/-/pad-1.0.0.tgz":         "sha512-l",
		"https://p.example/npm/@right/pad/-/pad-1.0.0.tgz":          "", // another package
		"https://p.example/ab/cd/flask-3.0.0-py3-none-any.whl":      "sha256:source sha256:wheel",
		"https://p.example/ab/cd/Flask-3.0.0.tar.gz":                "sha256:source sha256:wheel",
		"https://p.example/ab/cd/flask-3.0.1-py3-none-any.whl":      "",
		"https://p.example/flask-3.0.0-py3-none-any.whl.metadata":   "",
		"https://p.example/ab/cd/flask-3.0.0-py3-none-any.whl?sig=": "",
		"https://p.example":                                         "",
	} {
		got := strings.Join(slices.Sorted(maps.Keys(d.of(mustURL(t, url)))), " ")
		if got != want {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
	}
}

// An archive of Python comes from the store if the commit pins its digest for this package and version,
// and not if it pins that of another one: whoever wrote the note of the URL chose among the pinned.
func TestArchivesOfOneVersion(t *testing.T) {
	content := map[string]string{"/a/flask-3.0.0-py3-none-any.whl": "wheel", "/b/flask-3.0.0.tar.gz": "source", "/c/flask-2.0.0.tar.gz": "old"}
	up, s, asked := counted(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, content[r.URL.Path]) })
	demand := func(version, text string) builder.Demand {
		return builder.Demand{URL: "pkg:pypi/flask@" + version, Digest: "sha256:" + hexSum(text)}
	}
	s.Session.Demands = []builder.Demand{demand("3.0.0", "wheel"), demand("3.0.0", "source"), demand("2.0.0", "old")}
	build := func() {
		t.Helper()
		room := start(t, s)
		for path, text := range content {
			room.want(200, text, "GET", up.URL+path)
		}
		room.end()
	}
	build()
	before := asked.Load()
	build()
	if n := asked.Load() - before; n != 0 {
		t.Errorf("the second build made %d requests, want none", n)
	}
	store, err := openStore(s.Store, defaultStoreSize)
	if err != nil {
		t.Fatal(err)
	}
	note, err := store.recall(up.URL + "/a/flask-3.0.0-py3-none-any.whl")
	if err != nil {
		t.Fatal(err)
	}
	note.SHA256, note.Size = hexSum("old"), 3
	if err := store.remember(note); err != nil {
		t.Fatal(err)
	}
	build()
	if n := asked.Load() - before; n != 1 {
		t.Errorf("with the note of another version: %d requests, want one", n)
	}
	s.Session.Demands = []builder.Demand{demand("3.0.0", "another wheel"), demand("3.0.0", "another source")}
	build()
	if n := asked.Load() - before; n != 4 {
		t.Errorf("with other digests: %d requests, want three", n-1)
	}
}
