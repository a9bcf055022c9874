package pins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
	"github.com/colophon-build/colophon/test/gittest"
)

// forge has the repository o/action. It returns its address, and a function that runs git in it.
func forge(t testing.TB) (address string, git func(args ...string) string) {
	t.Helper()
	dir := t.TempDir()
	repo := filepath.Join(dir, "o", "action")
	git = func(args ...string) string {
		t.Helper()
		return gittest.Git(t, repo, args...)
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("tag", "v4.2.1")
	git("commit", "-q", "--allow-empty", "-m", "two")
	git("tag", "-a", "-m", "release", "v4.2.2")
	git("tag", "v4")
	git("commit", "-q", "--allow-empty", "-m", "three")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	return "file://" + dir, git
}

func TestRef(t *testing.T) {
	address, git := forge(t)
	r := &Resolver{Server: address}
	two := git("rev-parse", "v4^{commit}")
	for ref, want := range map[string]Target{
		"v4":           {Commit: two, Ref: "refs/tags/v4", Precise: "v4.2.2"},
		"v4.2.2":       {Commit: two, Ref: "refs/tags/v4.2.2", Precise: "v4.2.2"}, // the commit, not the tag object
		"refs/tags/v4": {Commit: two, Ref: "refs/tags/v4"},
		"main":         {Commit: git("rev-parse", "main"), Ref: "refs/heads/main"},
	} {
		got, err := r.Ref(t.Context(), "o/action", ref)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", ref, got, err, want)
		}
	}
	for _, repo := range []string{"o/none", "o/../action", "o", "-o/action", "o/action/x", "o/..", "https://x/y"} {
		if got, err := r.Ref(t.Context(), repo, "v4"); err == nil || errors.Is(err, ErrNotAsked) {
			t.Errorf("%s: got %+v, %v", repo, got, err)
		}
	}
	if _, err := r.Ref(t.Context(), "o/action", "v9"); err == nil || !strings.Contains(err.Error(), `no tag or branch "v9"`) {
		t.Error(err)
	}
}

// The commit of a fork is served by the repository, and belongs to none of its branches and tags.
func TestCommit(t *testing.T) {
	address, git := forge(t)
	git("checkout", "-q", "--detach")
	git("commit", "-q", "--allow-empty", "-m", "of a fork")
	fork := git("rev-parse", "HEAD")
	git("update-ref", "refs/pull/7/head", fork)
	git("checkout", "-q", "main")
	r := &Resolver{Server: address}
	for _, c := range []struct {
		name, id string
		known    bool
		tags     int
	}{{"release", git("rev-parse", "v4^{commit}"), true, 2}, {"no release", git("rev-parse", "main"), true, 0}, {"fork", fork, false, 0}, {"unknown", strings.Repeat("0", 39) + "1", false, 0}} {
		s, err := r.Commit(t.Context(), "o/action", c.id)
		if err != nil || s.Known() != c.known || len(s.Of()) != c.tags {
			t.Errorf("%s: got %+v, %v", c.name, s, err)
		}
	}
}

func TestDigest(t *testing.T) {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(os.Stderr, "", 0))))
	defer s.Close()
	image := strings.TrimPrefix(s.URL, "http://") + "/app:v1"
	img, err := random.Image(16, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	want, _ := img.Digest()
	// The repository chooses the host: an address that is not public is not asked.
	if got, err := (&Resolver{}).Digest(t.Context(), image); err == nil || !strings.Contains(err.Error(), "is not a public address: it is loopback") {
		t.Errorf("got %s, %v", got, err)
	}
	r := &Resolver{Known: New(), Private: true}
	if got, err := r.Digest(t.Context(), image); err != nil || got != want.String() {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := r.Digest(t.Context(), image+"2"); err == nil {
		t.Error("an unknown tag has a digest")
	}
	// What was asked is kept, and answers without the server.
	s.Close()
	again := &Resolver{Known: r.Known, Offline: true}
	if got, err := again.Digest(t.Context(), image); err != nil || got != want.String() {
		t.Errorf("from what is known: got %s, %v", got, err)
	}
}

// Who is offline gets an answer that says so, and no clean one.
func TestOffline(t *testing.T) {
	address, _ := forge(t)
	var none *Resolver
	for what, r := range map[string]*Resolver{"offline": {Server: address, Offline: true}, "nil": none} {
		if _, err := r.Ref(t.Context(), "o/action", "v4"); !errors.Is(err, ErrNotAsked) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := r.Commit(t.Context(), "o/action", strings.Repeat("0", 40)); !errors.Is(err, ErrNotAsked) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := r.Digest(t.Context(), "golang:1.26"); !errors.Is(err, ErrNotAsked) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A server that does not answer is not asked for each of a thousand images.
func TestDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	r := &Resolver{Private: true}
	for i := range 20 {
		if _, err := r.Digest(t.Context(), fmt.Sprintf("%s/app:v%d", l.Addr(), i)); err == nil {
			t.Error("no server, and a digest")
		}
	}
	if n := asked.Load(); n > 10 {
		t.Errorf("asked %d times for 20 images", n)
	}
}

func TestManyRefs(t *testing.T) {
	address, git := forge(t)
	id := git("rev-parse", "main")
	var packed strings.Builder
	for i := range maxRefs + 1 {
		fmt.Fprintf(&packed, "%s refs/tags/t%06d\n", id, i)
	}
	file := filepath.Join(strings.TrimPrefix(address, "file://"), "o/action/.git/packed-refs")
	if err := os.WriteFile(file, []byte(packed.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Resolver{Server: address}).Ref(t.Context(), "o/action", "v4"); err == nil || !strings.Contains(err.Error(), "at most 50000") {
		t.Error(err)
	}
}

func TestKnown(t *testing.T) {
	address, git := forge(t)
	path := filepath.Join(t.TempDir(), "a", "b.json")
	empty, err := Cache(path) // there is none
	if err != nil {
		t.Fatal(err)
	}
	r := &Resolver{Server: address, Known: empty}
	want, err := r.Ref(t.Context(), "o/action", "v4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(t.Context(), "o/action", git("rev-parse", "v4.2.1~0")); err != nil {
		t.Fatal(err)
	}
	if err := r.Known.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	known, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (&Resolver{Server: address, Known: known, Offline: true}).Ref(t.Context(), "o/action", "v4"); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	// Of a cache, answers count for an hour; of a file that somebody wrote, always.
	late := func() time.Time { return time.Now().Add(2 * Fresh) }
	cache, err := Cache(path)
	if err != nil {
		t.Fatal(err)
	}
	cache.now, known.now = late, late
	if _, ok := cache.refs(address + "/o/action"); ok {
		t.Error("an old answer of the cache counts")
	}
	if _, ok := known.refs(address + "/o/action"); !ok {
		t.Error("an old answer of a file does not count")
	}
}

func TestKnownRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "version": `{"version": 2, "repositories": {}, "images": {}}`, "unknown member": `{"version": 1, "tokens": {}}`, "twice": `{"version": 1, "version": 1}`,
		"short id":  `{"version": 1, "repositories": {"https://x.example/a/b": {"asked": "2026-01-01T00:00:00Z", "refs": {"refs/tags/v1": "0a"}}}, "images": {}}`,
		"no digest": `{"version": 1, "repositories": {}, "images": {"a/b:v1": {"asked": "2026-01-01T00:00:00Z", "digest": "latest"}}}`,
		"bad seen":  `{"version": 1, "repositories": {"https://x.example/a/b": {"asked": "2026-01-01T00:00:00Z", "refs": {}, "seen": {"v1.0.0": {"commit": "v2", "since": "2026-01-01T00:00:00Z"}}}}, "images": {}}`,
		"null":      `{"version": 1, "repositories": {"x": null}, "images": {}}`, "nothing": `{"version": 1, "repositories": null, "images": null}`, "large": strings.Repeat(" ", maxKnown+1),
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
		if k, err := Cache(path); err == nil || len(k.Repositories)+len(k.Images) > 0 {
			t.Errorf("%s: got the cache %+v, %v", name, k, err)
		}
	}
}

// A pin replaces the ref and nothing else, and its comment comes before one that is there.
func TestPin(t *testing.T) {
	id := strings.Repeat("a", 40)
	for _, c := range []struct{ src, want string }{
		{"uses: a/b@v1\n", "uses: a/b@" + id + " # v1.2.3\n"},
		{"uses: 'a/b@v1'\r\n", "uses: 'a/b@" + id + "' # v1.2.3\r\n"},
		{"uses: \"a/b@v1\"   # keep\n", "uses: \"a/b@" + id + "\" # v1.2.3   # keep\n"},
		{"uses: a/b@v1", "uses: a/b@" + id + " # v1.2.3"},
		{"{uses: a/b@v1, with: {}}\n", ""}, {"uses: >-\n  a/b@v1\n", ""},
	} {
		f := finding.NewFile("f", []byte(c.src))
		roots, err := yamlfile.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		text := yamlfile.Of(f, yamlfile.Get(roots[0], "uses"))
		got := ""
		edits := Pin(text, strings.IndexByte(text.Value, '@')+1, len(text.Value), id, "v1.2.3")
		for i := len(edits) - 1; i >= 0; i-- {
			if got == "" {
				got = c.src
			}
			got = got[:edits[i].Start] + edits[i].New + got[edits[i].End:]
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.src, got, c.want)
		}
	}
	for comment, want := range map[string]string{"# v4.2.2": "v4.2.2", "#v4": "v4", "# tag=v1.0": "v1.0", "# pin@v3": "v3", "# v1 and more": "v1", "# todo": "", "": "", "# ratchet:a/b@v2": "v2"} {
		src := "uses: a/b@" + id + " " + comment + "\n"
		f := finding.NewFile("f", []byte(src))
		roots, _ := yamlfile.Parse(f)
		if got := Comment(yamlfile.Of(f, yamlfile.Get(roots[0], "uses"))); got != want {
			t.Errorf("%q: got %q, want %q", comment, got, want)
		}
	}
}

// What a registry redirects to, and where it sends for a token, are no way to an address that is not
// public either: each connection is checked.
func TestPrivateBehindName(t *testing.T) {
	asked := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer s.Close()
	port := s.URL[strings.LastIndexByte(s.URL, ':'):]
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254"} {
		if _, err := (&Resolver{}).Digest(t.Context(), host+port+"/app:v1"); err == nil || asked {
			t.Errorf("%s: asked %v, %v", host, asked, err)
		}
	}
	inside := httptest.NewTLSServer(s.Config.Handler)
	defer inside.Close()
	for what, lead := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				http.Redirect(w, r, inside.URL+r.URL.Path, http.StatusTemporaryRedirect)
			}
		},
		"a token": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://localhost`+port+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		outside := httptest.NewTLSServer(lead)
		r := &Resolver{}
		tr := r.transport().(*http.Transport)
		tr.TLSClientConfig = outside.Client().Transport.(*http.Transport).TLSClientConfig
		dial := tr.DialContext
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "example.com:443" { // a public address
				return net.Dial(network, outside.Listener.Addr().String())
			}
			return dial(ctx, network, address)
		}
		if _, err := r.Digest(t.Context(), "example.com/app:v1"); err == nil || asked || !strings.Contains(err.Error(), "is not a public address") {
			t.Errorf("%s: asked %v, %v", what, asked, err)
		}
		outside.Close()
	}
}

// When a tag was first seen is kept while the tag stays, and begins again when it moves.
func TestSeen(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	k := New()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k.now = func() time.Time { return at }
	r := &Resolver{Known: k, Server: "https://x.example"}
	see := func(id string) Seen {
		t.Helper()
		at = at.Add(24 * time.Hour)
		k.addRefs("https://x.example/o/r", map[string]string{"refs/tags/v1.2.3": id, "refs/tags/v1": id, "refs/heads/v1.2.4": id})
		s, ok := r.Seen("o/r", "v1.2.3")
		if _, moves := r.Seen("o/r", "v1"); !ok || moves {
			t.Fatalf("got %v, %v", ok, moves)
		}
		return s
	}
	first := see(a)
	if again := see(a); again != first || first.Before != "" || first.Since.Day() != 2 {
		t.Errorf("got %+v, then %+v", first, again)
	}
	moved := see(b)
	if moved.Before != a || moved.Commit != b || moved.Since.Day() != 4 {
		t.Errorf("got %+v", moved)
	}
	if again := see(b); again != moved {
		t.Errorf("the alarm is over: got %+v", again)
	}
}

// A tag that was deleted and comes back as another commit has moved, whoever looked meanwhile. Tags without end
// do not make those forgotten that were seen before.
func TestSeenAgain(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	k := New()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k.now = func() time.Time { return at }
	r := &Resolver{Known: k, Server: "https://x.example"}
	see := func(refs map[string]string) Seen {
		at = at.Add(24 * time.Hour)
		k.addRefs("https://x.example/o/r", refs)
		s, _ := r.Seen("o/r", "v1.2.3")
		return s
	}
	many := func(n int) map[string]string {
		refs := map[string]string{}
		for i := range maxRefs {
			refs[fmt.Sprintf("refs/tags/v%d.%d.0", n, i)] = a
		}
		return refs
	}
	first := see(map[string]string{"refs/tags/v1.2.3": a})
	see(map[string]string{"refs/heads/main": a})
	see(many(2))
	see(many(3))
	see(many(4))
	if again := see(map[string]string{"refs/tags/v1.2.3": a}); again != first {
		t.Errorf("the same commit: got %+v, want %+v", again, first)
	}
	see(nil)
	if moved := see(map[string]string{"refs/tags/v1.2.3": b}); moved.Before != a {
		t.Errorf("another commit: got %+v, want that it has moved", moved)
	}
	if n := len(k.Repositories["https://x.example/o/r"].Seen); n > 2*maxRefs {
		t.Errorf("got %d tags", n)
	}
}

// A file that would be too large to be read again is not written: that would lose all alarms.
func TestSaveWhatCanBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolutions.json")
	a, k := strings.Repeat("a", 40), New()
	k.addRefs("https://x.example/o/r", map[string]string{"refs/tags/v1.2.3": a})
	if err := k.Save(file); err != nil {
		t.Fatal(err)
	}
	refs := map[string]string{"refs/heads/" + strings.Repeat("x", maxKnown): a}
	k.addRefs("https://x.example/o/large", refs)
	saved := k.Save(file)
	again, err := Cache(file)
	if err != nil || again.Repositories["https://x.example/o/r"] == nil {
		t.Errorf("got %v, want the answers from before", err)
	}
	if saved == nil {
		t.Error("got no error")
	}
}

func TestVersions(t *testing.T) {
	tags := map[string]string{}
	for _, tag := range []string{"v4", "v4.2.9", "v4.2.10", "4.2.11", "v5.0.0", "v5.1.0-rc.1", "v4.2", "release-4.9.9", "v4.2.12+x", "v04.9.9"} {
		tags[tag] = ""
	}
	if got := strings.Join(Releases(tags, "v4"), " "); got != "v4.2.12+x 4.2.11 v4.2.10 v4.2.9" {
		t.Error(got)
	}
	if got := Releases(tags, ""); got[0] != "v5.0.0" {
		t.Error(got)
	}
	for tag, exact := range map[string]bool{"v4": false, "v4.2": false, "v4.2.1": true, "4.2.1": true, "v4.2.1-rc.1": true, "": false, "v": false, "main": false} {
		if Exact(tag) != exact {
			t.Errorf("%q: got %v", tag, !exact)
		}
	}
	if got := Precise([]string{"latest", "v4", "v4.2.1", "v4.2.0"}); got != "v4.2.1" {
		t.Error(got)
	}
}

func TestRepin(t *testing.T) {
	from, to := strings.Repeat("a", 40), strings.Repeat("b", 40)
	for comment, want := range map[string]string{" # v1.2": " # v1.2.4", "  #  tag=v1.2 and why": "  #  tag=v1.2.4 and why", " # ratchet:v1/b@v1": " # ratchet:v1/b@v1.2.4", "": " # v1.2.4", " # why": " # v1.2.4 # why"} {
		src := "uses: v1/b@" + from + comment + "\r\n"
		f := finding.NewFile("f", []byte(src))
		roots, err := yamlfile.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		text := yamlfile.Of(f, yamlfile.Get(roots[0], "uses"))
		got := src
		edits := Repin(text, strings.IndexByte(text.Value, '@')+1, len(text.Value), to, "v1.2.4")
		for i := len(edits) - 1; i >= 0; i-- {
			got = got[:edits[i].Start] + edits[i].New + got[edits[i].End:]
		}
		if got != "uses: v1/b@"+to+want+"\r\n" {
			t.Errorf("%q: got %q", comment, got)
		}
	}
}
