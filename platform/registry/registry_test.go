package registry

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/test/await"
)

func roles(token string) (string, Role) {
	return token, map[string]Role{"puller": Pull, "pusher": Push, "attestor": Push, "boss": Admin}[token]
}

// A client talks to one registry with one token.
type client struct {
	t     testing.TB
	url   string
	token string
	reg   *Registry
}

func start(t testing.TB, cfg Config) *client {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Authorize = roles
	srv := httptest.NewUnstartedServer(nil)
	cfg.URL = "http://" + srv.Listener.Addr().String()
	reg, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = reg
	srv.Start()
	t.Cleanup(func() { srv.Close(); reg.Close() })
	return &client{t: t, url: srv.URL, token: "boss", reg: reg}
}

func (c *client) as(token string) *client { d := *c; d.token = token; return &d }

type reply struct {
	*http.Response
	body []byte
}

// code is the first code of an OCI error body.
func (r *reply) code() string {
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(r.body, &e) != nil || len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Code
}

func (c *client) try(method, path string, body []byte, header ...string) (*reply, error) {
	target := path
	if strings.HasPrefix(path, "/") {
		target = c.url + path
	}
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if c.token != "" {
		req.SetBasicAuth("anybody", c.token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return &reply{resp, got}, err
}

func (c *client) do(method, path string, body []byte, header ...string) *reply {
	c.t.Helper()
	r, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

// want makes a request that is to end in status.
func (c *client) want(status int, method, path string, body []byte, header ...string) *reply {
	c.t.Helper()
	r := c.do(method, path, body, header...)
	if r.StatusCode != status {
		c.t.Fatalf("%s %s: got %d %s, want %d", method, path, r.StatusCode, r.body, status)
	}
	return r
}

func sum(alg string, b []byte) string {
	if alg == "sha512" {
		s := sha512.Sum512(b)
		return "sha512:" + hex.EncodeToString(s[:])
	}
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func (c *client) blob(repo, alg string, content []byte) string {
	c.t.Helper()
	d := sum(alg, content)
	c.want(201, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, content)
	return d
}

func desc(mediaType, alg string, b []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": sum(alg, b), "size": len(b)}
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// image pushes the blobs of an image and returns its manifest, unpushed.
func (c *client) image(repo, alg, seed string, more map[string]any) []byte {
	c.t.Helper()
	config, layer := []byte(`{"seed":"`+seed+`"}`), []byte("layer "+seed)
	c.blob(repo, alg, config)
	c.blob(repo, alg, layer)
	m := map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": desc("application/vnd.oci.image.config.v1+json", alg, config),
		"layers": []any{desc("application/vnd.oci.image.layer.v1.tar", alg, layer)},
	}
	for k, v := range more {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	return marshal(m)
}

func (c *client) put(repo, ref string, raw []byte) *reply {
	c.t.Helper()
	var m struct{ MediaType string }
	json.Unmarshal(raw, &m)
	return c.do("PUT", "/v2/"+repo+"/manifests/"+ref, raw, "Content-Type", m.MediaType)
}

func TestTagsNeverMove(t *testing.T) {
	c := start(t, Config{Mutable: []string{"scratch/*"}})
	one, two := c.image("team/app", "sha256", "one", nil), c.image("team/app", "sha256", "two", nil)
	p := c.as("pusher")
	for range 2 { // the same digest again is no overwrite
		if r := p.put("team/app", "v1", one); r.StatusCode != 201 {
			t.Fatalf("got %d %s, want 201", r.StatusCode, r.body)
		}
	}
	for _, token := range []string{"pusher", "boss"} {
		r := c.as(token).put("team/app", "v1", two)
		if r.StatusCode != 409 || r.code() != distribution.CodeDenied {
			t.Fatalf("overwrite as %s: got %d %s, want 409", token, r.StatusCode, r.body)
		}
		for _, part := range []string{`"v1\"`, "team/app", sum("sha256", one), sum("sha256", two)} {
			if !strings.Contains(string(r.body), strings.Trim(part, `"\`)) {
				t.Errorf("the refusal %s does not name %s", r.body, part)
			}
		}
	}
	// Nothing of the refused push stays, by digest either.
	c.want(404, "GET", "/v2/team/app/manifests/"+sum("sha256", two), nil)
	// A tag parameter is no way around, and the tags beside it are not set.
	c.want(409, "PUT", "/v2/team/app/manifests/"+sum("sha256", two)+"?tag=v2&tag=v1", two, "Content-Type", typeManifest)
	c.want(404, "GET", "/v2/team/app/manifests/v2", nil)
	if got := c.want(200, "GET", "/v2/team/app/manifests/v1", nil).body; !bytes.Equal(got, one) {
		t.Errorf("got %s, want the first", got)
	}

	p.want(403, "DELETE", "/v2/team/app/manifests/v1", nil)
	p.want(403, "DELETE", "/v2/team/app/manifests/"+sum("sha256", one), nil)
	c.want(202, "DELETE", "/v2/team/app/manifests/v1", nil)
	if r := p.put("team/app", "v1", two); r.StatusCode != 201 {
		t.Errorf("after an admin's deletion: got %d, want 201", r.StatusCode)
	}

	for repo, want := range map[string]int{"scratch/a": 201, "scratch/a/b": 409, "scratchy/a": 409} {
		x, y := c.image(repo, "sha256", "x", nil), c.image(repo, "sha256", "y", nil)
		p.put(repo, "t", x)
		if r := p.put(repo, "t", y); r.StatusCode != want {
			t.Errorf("overwrite in %s: got %d, want %d", repo, r.StatusCode, want)
		}
	}
}

func TestAttachmentTagsMove(t *testing.T) {
	c := start(t, Config{})
	index := func(seed string) []byte {
		return marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{}, "annotations": map[string]string{"seed": seed}})
	}
	hex := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		tag  string
		raw  func(string) []byte
		want int
	}{
		{"sha256-" + hex, index, 201},
		{"sha512-" + hex, index, 201},
		{"sha256-" + hex + ".sig", func(s string) []byte { return c.image("a", "sha256", s, nil) }, 201},
		{"sha256-" + hex + ".att", func(s string) []byte { return c.image("a", "sha256", s, nil) }, 201},
		// No loophole for what is pulled to be run, or merely looks alike.
		{"sha256-" + strings.Repeat("cd", 32), func(s string) []byte { return c.image("a", "sha256", s, nil) }, 409},
		{"sha256-" + hex + ".sbom", index, 409},
		{"sha256-" + hex + ".v1", index, 409},
		{"sha256-abc", index, 409},
		{"md5-" + hex, index, 409},
	} {
		if r := c.put("a", tc.tag, tc.raw("1")); r.StatusCode != 201 {
			t.Fatalf("%s: got %d %s", tc.tag, r.StatusCode, r.body)
		}
		if r := c.put("a", tc.tag, tc.raw("2")); r.StatusCode != tc.want {
			t.Errorf("%s overwritten: got %d, want %d", tc.tag, r.StatusCode, tc.want)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, open := range []bool{true, false} {
		c := start(t, Config{AnonymousPull: open})
		raw := c.image("a", "sha256", "x", nil)
		c.put("a", "t", raw)
		anonymous := 401
		if open {
			anonymous = 200
		}
		for _, tc := range []struct {
			token, method, path string
			want                int
		}{
			{"", "GET", "/v2/", 401}, // Docker and skopeo learn here how to log in
			{"", "GET", "/v2/a/manifests/t", anonymous},
			{"", "HEAD", "/v2/a/manifests/t", anonymous},
			{"", "GET", "/v2/a/tags/list", anonymous},
			{"", "GET", "/v2/a/referrers/" + sum("sha256", raw), anonymous},
			{"wrong", "GET", "/v2/a/manifests/t", 401},
			{"puller", "GET", "/v2/a/manifests/t", 200},
			{"puller", "POST", "/v2/a/blobs/uploads/", 403},
			{"puller", "GET", "/v2/a/blobs/uploads/x", 403},
			{"", "POST", "/v2/a/blobs/uploads/", 401},
			{"", "PUT", "/v2/a/manifests/t2", 401},
			{"wrong", "PUT", "/v2/a/manifests/t2", 401},
			{"", "DELETE", "/v2/a/manifests/t", 401},
			{"pusher", "POST", "/v2/a/blobs/uploads/", 202},
			{"pusher", "DELETE", "/v2/a/blobs/" + sum("sha256", []byte("layer x")), 403},
		} {
			r := c.as(tc.token).want(tc.want, tc.method, tc.path, nil)
			if challenge := r.Header.Get("WWW-Authenticate"); (tc.want == 401) != strings.HasPrefix(challenge, "Bearer realm=\""+c.url+"/v2/token\",service=") {
				t.Errorf("%s %s: got challenge %q", tc.method, tc.path, challenge)
			}
		}
		c.as("").want(200, "GET", "/v2/a/manifests/t", nil, "Authorization", "Bearer puller")
		c.as("").want(401, "GET", "/v2/a/manifests/t", nil, "Authorization", "Bearer wrong")
		c.as("").want(401, "GET", "/v2/a/manifests/t", nil, "Authorization", "Bearer")
	}
}

// Paths that try to leave the repository, in each encoding a server might undo.
func TestHostilePaths(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Config{Dir: filepath.Join(dir, "registry"), AnonymousPull: true})
	d := c.blob("a/b", "sha256", []byte("here"))
	os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600)
	for _, path := range []string{
		"/v2/../secret", "/v2/a/../b/tags/list", "/v2/a/b/../b/blobs/" + d, "/v2/./a/b/blobs/" + d, "/v2//a/b/blobs/" + d,
		"/v2/a%2fb/blobs/" + d, "/v2/a%2Fb/blobs/" + d, "/v2/%2e%2e/%2e%2e/secret/tags/list", "/v2/..%2f..%2fsecret/manifests/t",
		"/v2/a/b/manifests/..%2f..%2f..%2flock", "/v2/a/b/manifests/..", "/v2/a/b/manifests/.", "/v2/a/b/manifests/%00",
		"/v2/a/b/blobs/sha256:..%2f..%2f..%2f..%2flock", "/v2/a/b/blobs/sha256:" + strings.Repeat(".", 64), "/v2/a/b/blobs/sha256:" + strings.Repeat("A", 64),
		"/v2/a/b/blobs/sha512:" + strings.Repeat("a", 64), "/v2/a/b/blobs/md5:" + strings.Repeat("a", 32),
		"/v2/A/b/blobs/" + d, "/v2/_/b/blobs/" + d, "/v2/a/_/blobs/" + d, "/v2/a/b/_/blobs/" + d, "/v2/a b/blobs/" + d, "/v2/a\\b/blobs/" + d, "/v2/a/b%00/blobs/" + d, "/v2/a/b%0a/blobs/" + d,
		"/v2/a/b./blobs/" + d, "/v2/a/.b/blobs/" + d, "/v2/a/b--/blobs/" + d, "/v2/a/b___c/blobs/" + d, "/v2/a/é/blobs/" + d, "/v2/" + strings.Repeat("a/", 128) + "b/blobs/" + d,
		"/v2/blobs/" + d, "/v2/a/b/blobs/" + d + "/x", "/v2/_catalog/", "/v2/_catalog/x", "/v2/a/_catalog", "/v2x/", "/v2/a",
	} {
		// Not through net/http's client, which would clean the path.
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "http://registry/", nil)
		raw := strings.NewReplacer(" ", "%20", "\\", "%5c", "é", "%c3%a9").Replace(path)
		u, err := req.URL.Parse("http://registry" + raw)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		u.Path, _ = unescape(raw)
		req.URL = u
		c.reg.ServeHTTP(rec, req)
		if rec.Code != 404 && rec.Code != 400 {
			t.Errorf("GET %s: got %d %s, want 400 or 404", path, rec.Code, rec.Body)
		}
	}
	c.want(200, "GET", "/v2/a/b/blobs/"+d, nil)
	c.want(200, "GET", "/v2/a/b/blobs/"+strings.Replace(d, ":", "%3A", 1), nil) // some clients do encode the colon
	c.want(404, "GET", "/v2/a/c/blobs/"+d, nil)                                 // in another repository, so not here
	c.want(400, "POST", "/v2/a/b/blobs/uploads/?mount="+d+"&from=../../x", nil)
	for _, name := range []string{"blobs/uploads", "tags/list", "manifests", "a/tags/list/b", "a.b_c__d---e/f0"} {
		d := c.blob(name, "sha256", []byte("odd name"))
		c.want(200, "GET", "/v2/"+name+"/blobs/"+d, nil)
	}
}

func unescape(raw string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' {
			c, err := hex.DecodeString(raw[i+1 : i+3])
			if err != nil {
				return "", err
			}
			b.Write(c)
			i += 2
			continue
		}
		b.WriteByte(raw[i])
	}
	return b.String(), nil
}

// Sixteen clients race for one tag, each with its own image: one wins, and
// the tag is the winner's.
func TestRaceForATag(t *testing.T) {
	c := start(t, Config{})
	for round := range 3 {
		path := fmt.Sprintf("/v2/a/manifests/v%d", round)
		images := make([][]byte, 16)
		for i := range images {
			images[i] = c.image("a", "sha256", fmt.Sprintf("%d-%d", round, i), nil)
		}
		var mu sync.Mutex
		var winners []string
		var wg sync.WaitGroup
		for _, raw := range images {
			wg.Go(func() {
				r, err := c.try("PUT", path, raw, "Content-Type", typeManifest)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case r.StatusCode == 201:
					winners = append(winners, sum("sha256", raw))
				case r.StatusCode != 409:
					t.Errorf("got %d %s", r.StatusCode, r.body)
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("got %d winners, want 1", len(winners))
		}
		if got := c.want(200, "HEAD", path, nil).Header.Get("Docker-Content-Digest"); got != winners[0] {
			t.Errorf("got %s, want the winner's %s", got, winners[0])
		}
	}
}

// The same blob comes and goes in many repositories at once: each has it from
// its push to its deletion, and with the last the bytes go too.
func TestBlobRaces(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	content := []byte("shared")
	d := mustDigest(t, sum("sha256", content))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			repo := fmt.Sprintf("r%d", i)
			tmp := s.path("tmp", repo)
			for range 60 {
				if err := os.WriteFile(tmp, content, 0o600); err != nil {
					t.Error(err)
				}
				if _, err := s.addBlob(repo, d, tmp); err != nil {
					t.Error(err)
					return
				}
				if _, err := os.ReadFile(s.blob(repo, d)); err != nil {
					t.Errorf("after its push: %v", err)
				}
				if ok, err := s.deleteBlob(repo, d); !ok || err != nil {
					t.Errorf("deletion: got %v, %v", ok, err)
				}
			}
		})
	}
	wg.Wait()
	if e, _ := os.ReadDir(s.path("blobs/sha256")); len(e) != 0 {
		t.Errorf("got %d blobs after all were deleted, want none", len(e))
	}
}

func TestUploadsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := start(t, Config{MaxUploads: 3, MaxBlob: 100, UploadIdle: 2 * time.Second, Registerer: reg})
	big := bytes.Repeat([]byte("x"), 101)
	if r := c.want(413, "POST", "/v2/a/blobs/uploads/?digest="+sum("sha256", big), big); r.code() != distribution.CodeSizeInvalid {
		t.Errorf("got %s", r.body)
	}
	loc := c.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	c.want(202, "PATCH", loc, big[:60])
	c.want(413, "PATCH", loc, big[:60]) // the sum counts
	c.want(404, "GET", loc, nil)

	for range 3 {
		loc = c.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	}
	if r := c.want(429, "POST", "/v2/a/blobs/uploads/", nil); r.code() != distribution.CodeTooManyRequests {
		t.Errorf("got %s", r.body)
	}
	c.want(404, "PATCH", strings.Replace(loc, "/a/", "/b/", 1), nil) // another repository's
	await.True(t, "an idle upload is gone", func() bool { return c.do("GET", loc, nil).StatusCode == 404 })
	await.True(t, "no file of a dropped upload is left", func() bool {
		e, err := os.ReadDir(c.reg.store.path("tmp"))
		return err == nil && len(e) == 0
	})
	c.want(202, "POST", "/v2/a/blobs/uploads/", nil) // there is room again
	if m, err := reg.Gather(); err != nil || len(m) != 3 {
		t.Errorf("got %d metrics (%v), want 3", len(m), err)
	}
}

// A long push does not keep uploads of the same token that were left alone from giving way.
func TestIdleUploadsBesideALongPush(t *testing.T) {
	c := start(t, Config{MaxUploads: 4})
	p := c.as("pusher")
	begin := func() (location string, u *upload) {
		location = p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
		c.reg.mu.Lock()
		defer c.reg.mu.Unlock()
		return location, c.reg.uploads[location[strings.LastIndex(location, "/")+1:]]
	}
	long, pushed := begin()
	body, w := io.Pipe()
	defer w.Close()
	req, err := http.NewRequest("PATCH", c.url+long, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer pusher")
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the push goes on", func() bool {
		free := pushed.busy.TryLock()
		if free {
			pushed.busy.Unlock()
		}
		return !free
	})
	idle := []*upload{pushed}
	for range 3 {
		_, u := begin()
		idle = append(idle, u)
	}
	for i, u := range idle {
		u.used.Store(time.Now().Add(time.Duration(i)*time.Minute - time.Hour).UnixNano())
	}
	for range 3 {
		p.want(202, "POST", "/v2/a/blobs/uploads/", nil)
	}
	p.want(429, "POST", "/v2/a/blobs/uploads/", nil)
	if pushed.gone {
		t.Error("the push that goes on was dropped")
	}
}

// Uploads that are started and left alone do not keep others out: not those with another
// token, and not those with the same.
func TestIdleUploads(t *testing.T) {
	c := start(t, Config{MaxUploads: 4})
	c.reg.mayEvict = time.Hour
	p := c.as("pusher")
	var locs []string
	for i := range 4 {
		loc := p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
		if i > 0 {
			p.want(202, "PATCH", loc, []byte("x")) // not empty
		}
		locs = append(locs, loc)
	}
	c.as("attestor").want(202, "POST", "/v2/a/blobs/uploads/", nil)
	c.as("attestor").blob("a", "sha256", []byte("released"))
	p.want(429, "POST", "/v2/a/blobs/uploads/", nil)
	for _, loc := range locs { // two hours later
		c.reg.uploads[loc[strings.LastIndex(loc, "/")+1:]].used.Store(time.Now().Add(-2 * time.Hour).UnixNano())
	}
	p.want(202, "PATCH", locs[1], []byte("y"))
	for range 3 { // each takes the place of one that is idle
		p.want(202, "POST", "/v2/a/blobs/uploads/", nil)
	}
	for i, want := range []int{404, 204, 404, 404} {
		p.want(want, "GET", locs[i], nil)
	}
	p.want(429, "POST", "/v2/a/blobs/uploads/", nil)

	if u := (&upload{}); c.reg.mayIdle(u) != time.Minute {
		t.Errorf("an empty upload is kept for %v, want a minute", c.reg.mayIdle(u))
	}
}

// The bytes of unfinished uploads are bounded for each token.
func TestUnfinishedBytes(t *testing.T) {
	c := start(t, Config{MaxUnfinished: 100})
	p := c.as("pusher")
	chunk := bytes.Repeat([]byte("x"), 60)
	one := p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	p.want(202, "PATCH", one, chunk)
	two := p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	if r := p.want(429, "PATCH", two, chunk); r.code() != distribution.CodeTooManyRequests {
		t.Errorf("got %s", r.body)
	}
	c.as("attestor").blob("a", "sha256", bytes.Repeat([]byte("y"), 90))
	p.want(201, "PUT", one+"?digest="+sum("sha256", chunk), nil) // finished: its bytes count no longer
	p.blob("a", "sha256", bytes.Repeat([]byte("z"), 90))
	for range 3 {
		two = p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
		p.want(202, "PATCH", two, bytes.Repeat([]byte("z"), 90))
		p.want(204, "DELETE", two, nil)
	}
	if n := c.reg.account("pusher").bytes.Load(); n != 0 {
		t.Errorf("got %d bytes in unfinished uploads, want 0", n)
	}
	one = p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	p.want(202, "PATCH", one, chunk)
	c.reg.uploads[one[strings.LastIndex(one, "/")+1:]].used.Store(time.Now().Add(-time.Hour).UnixNano())
	two = p.want(202, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
	p.want(202, "PATCH", two, chunk) // the idle upload is dropped for it
	p.want(404, "GET", one, nil)
	p.want(429, "PATCH", two, chunk)
}

// Slow pushes of manifests with one token do not keep those with another out.
func TestSlowManifests(t *testing.T) {
	c := start(t, Config{})
	raw := c.image("a", "sha256", "x", nil)
	a := c.reg.account("pusher")
	for range cap(a.pushing) {
		a.pushing <- struct{}{}
	}
	if r := c.as("attestor").put("a", "v1", raw); r.StatusCode != 201 {
		t.Errorf("got %d %s, want 201", r.StatusCode, r.body)
	}
}

func TestOneProcessADirectory(t *testing.T) {
	c := start(t, Config{})
	if _, err := New(Config{URL: "http://registry.test", Dir: c.reg.cfg.Dir, Authorize: roles}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second registry on the directory: got %v, want an error", err)
	}
	if _, err := New(Config{URL: "http://registry.test", Dir: t.TempDir()}); err == nil {
		t.Error("New without Authorize: want an error")
	}
	if _, err := New(Config{URL: "http://registry.test", Dir: t.TempDir(), Authorize: roles, Mutable: []string{"["}}); err == nil {
		t.Error("New with a broken pattern: want an error")
	}
}
