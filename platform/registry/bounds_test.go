package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/distribution"
)

// repeated returns n copies of a descriptor as a JSON list.
func repeated(n int) string {
	d := `{"mediaType":"a/b","digest":"` + sum("sha256", nil) + `","size":0}`
	return "[" + strings.TrimSuffix(strings.Repeat(d+",", n), ",") + "]"
}

// TestKindsOfManifests: the members of a manifest say which of the kinds it is, and never
// two of them.
func TestKindsOfManifests(t *testing.T) {
	const config = `"config":{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}`
	for members, want := range map[string]string{
		config + `,"layers":[]`: typeManifest,
		`"manifests":[]`:        typeIndex,
		`"mediaType":"` + typeManifest + `",` + config + `,"layers":[]`:       typeManifest,
		`"mediaType":"` + typeDockerManifest + `",` + config + `,"layers":[]`: typeDockerManifest,
		`"mediaType":"` + typeIndex + `","manifests":[]`:                      typeIndex,
		`"mediaType":"` + typeDockerList + `","manifests":[]`:                 typeDockerList,

		`"mediaType":"","manifests":[]`:                                                `mediaType ""`,
		`"mediaType":"",` + config + `,"layers":[]`:                                    `mediaType ""`,
		`"mediaType":"` + typeIndex + `"`:                                              "must have manifests",
		`"mediaType":"` + typeIndex + `","manifests":[],` + config:                     "must have manifests",
		`"mediaType":"` + typeIndex + `","manifests":[],"layers":[]`:                   "must have manifests",
		`"mediaType":"` + typeDockerList + `","manifests":[],"layers":[]`:              "must have manifests",
		`"mediaType":"` + typeManifest + `",` + config:                                 "must have config and layers",
		`"mediaType":"` + typeManifest + `","layers":[]`:                               "must have config and layers",
		`"mediaType":"` + typeManifest + `","config":null,"layers":[]`:                 "must have config and layers",
		`"mediaType":"` + typeManifest + `",` + config + `,"layers":[],"manifests":[]`: "must have config and layers",
		`"manifests":[],` + config + `,"layers":[]`:                                    "must have manifests",
		`"mediaType":"text/html",` + config + `,"layers":[]`:                           "not a type of manifest",

		config + `,"layers":` + repeated(limits.Layers):       typeManifest,
		config + `,"layers":` + repeated(limits.Layers+1):     "want at most 512",
		`"manifests":` + repeated(limits.IndexManifests):      typeIndex,
		`"manifests":` + repeated(limits.IndexManifests+1):    "want at most 256",
		config + `,"layers":[],"subject":{"digest":"latest"}`: "subject: ",
	} {
		m, err := parseManifest([]byte(`{"schemaVersion":2,` + members + `}`))
		if err == nil && m.MediaType != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s: got %+v, %v, want %q", members, m, err, want)
		}
	}
}

// TestTagsOfAPush: a push by digest may set some tags, a push by tag only its own, and
// nothing is stored if one of them cannot be set.
func TestTagsOfAPush(t *testing.T) {
	c := start(t, Config{})
	raw := c.image("a", "sha256", "x", nil)
	tags := func(n int) (query string) {
		for i := range n {
			query += fmt.Sprintf("&tag=t%d", i)
		}
		return "?" + strings.TrimPrefix(query, "&")
	}
	d := sum("sha256", raw)
	for _, tt := range []struct {
		path   string
		status int
		code   string
	}{
		{d + tags(maxPutTags+1), 414, distribution.CodeUnsupported},
		{d + "?tag=good&tag=.bad", 400, distribution.CodeManifestInvalid},
		{d + "?tag=", 400, distribution.CodeManifestInvalid},
		{"v1?tag=v2", 400, distribution.CodeUnsupported},
	} {
		if r := c.want(tt.status, "PUT", "/v2/a/manifests/"+tt.path, raw, "Content-Type", typeManifest); r.code() != tt.code {
			t.Errorf("%.80s: got %s, want %s", tt.path, r.body, tt.code)
		}
		c.want(404, "GET", "/v2/a/manifests/"+d, nil)
	}
	c.want(201, "PUT", "/v2/a/manifests/"+d+tags(maxPutTags), raw, "Content-Type", typeManifest)
	c.want(200, "GET", fmt.Sprintf("/v2/a/manifests/t%d", maxPutTags-1), nil)
}

// TestLargestManifest: the largest manifest is taken, and one byte more is not, whether or
// not the client says its length first.
func TestLargestManifest(t *testing.T) {
	c := start(t, Config{})
	raw := c.image("a", "sha256", "x", map[string]any{"annotations": map[string]string{"x": "y"}})
	pad := func(n int) []byte {
		return bytes.Replace(raw, []byte(`"y"`), []byte(`"`+strings.Repeat("y", n-len(raw)+1)+`"`), 1)
	}
	for size, want := range map[int]int{limits.Manifest: 201, limits.Manifest + 1: 413} {
		body := pad(size)
		if len(body) != size {
			t.Fatalf("got %d bytes, want %d", len(body), size)
		}
		c.want(want, "PUT", "/v2/a/manifests/v1", body, "Content-Type", typeManifest)
		if got := c.stream("PUT", "/v2/a/manifests/v1", body, "Content-Type", typeManifest); got != want {
			t.Errorf("%d bytes, length not said: got %d, want %d", size, got, want)
		}
	}
}

// stream makes a request whose length the server does not know, and returns its status.
func (c *client) stream(method, path string, body []byte, header ...string) int {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, struct{ io.Reader }{bytes.NewReader(body)})
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	req.SetBasicAuth("x", c.token)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestBodiesThatEndEarly: of a connection that breaks amid a body, an upload keeps what
// arrived, and a manifest nothing.
func TestBodiesThatEndEarly(t *testing.T) {
	c := start(t, Config{})
	content := []byte("half of this arrives")
	cut := func(method, path string, body []byte) string {
		t.Helper()
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer boss\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body[:len(body)/2])
		conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		return string(answer)
	}
	loc := c.want(202, "POST", "/v2/a/b/blobs/uploads/", nil).Header.Get("Location")
	if got := cut("PATCH", loc, content); !strings.Contains(got, "400") {
		t.Errorf("a chunk: got %q, want 400", got)
	}
	if r := c.want(204, "GET", loc, nil); r.Header.Get("Range") != "0-9" {
		t.Errorf("got Range %q, want 0-9", r.Header.Get("Range"))
	}
	c.want(202, "PATCH", loc, content[10:], "Content-Range", "10-19")
	c.want(201, "PUT", loc+"?digest="+sum("sha256", content), nil)
	raw := c.image("a/b", "sha256", "x", nil)
	if got := cut("PUT", "/v2/a/b/manifests/v1", raw); !strings.Contains(got, "400") || !strings.Contains(got, "the body ended after") {
		t.Errorf("a manifest: got %q, want 400", got)
	}
	c.want(404, "GET", "/v2/a/b/manifests/v1", nil)
}

// TestChunksThatLie: a chunk has the bytes that its Content-Range says, or the upload ends.
func TestChunksThatLie(t *testing.T) {
	c := start(t, Config{MaxBlob: 100})
	chunk := bytes.Repeat([]byte("x"), 60)
	for name, tt := range map[string]struct {
		contentRange string
		body         []byte
		status       int
		gone         bool
	}{
		"as it says":               {"0-59", chunk, 202, false},
		"a byte fewer":             {"0-59", chunk[1:], 400, true},
		"a byte more":              {"0-58", chunk, 400, true},
		"one byte":                 {"0-0", chunk[:1], 202, false},
		"ends before its start":    {"0-", chunk, 400, false},
		"no bytes":                 {"1-0", nil, 416, false},
		"a start of its own":       {"1-59", chunk[1:], 416, false},
		"more digits than a size":  {"0-9999999999999999999", chunk, 400, false},
		"more than a blob may be":  {"0-100", append(chunk, chunk[:41]...), 413, true},
		"as much as a blob may be": {"0-99", append(chunk[:60:60], chunk[:40]...), 202, false},
	} {
		loc := c.startUpload()
		if got := c.stream("PATCH", loc, tt.body, "Content-Range", tt.contentRange); got != tt.status {
			t.Errorf("%s: got %d, want %d", name, got, tt.status)
		}
		want := 204
		if tt.gone {
			want = 404
		}
		if r := c.do("GET", loc, nil); r.StatusCode != want {
			t.Errorf("%s: the upload: got %d, want %d", name, r.StatusCode, want)
		}
		c.do("DELETE", loc, nil)
	}
	loc := c.startUpload()
	if got := c.stream("PATCH", loc, bytes.Repeat([]byte("x"), 101)); got != 413 {
		t.Errorf("a stream that is too long: got %d, want 413", got)
	}
	c.want(404, "GET", loc, nil)
	// The largest blob, in each way.
	content := bytes.Repeat([]byte("y"), 100)
	d := c.blob("a/b", "sha256", content)
	loc = c.startUpload()
	if got := c.stream("PATCH", loc, content); got != 202 {
		t.Errorf("the largest blob: got %d, want 202", got)
	}
	c.want(201, "PUT", loc+"?digest="+d, nil)
}

// TestFailures: what a client is told of each kind of failure. It never learns what failed
// inside.
func TestFailures(t *testing.T) {
	d := mustDigest(t, sum("sha256", nil))
	for name, tt := range map[string]struct {
		method string
		err    error
		status int
		code   string
		says   string
	}{
		"the client's":           {"GET", distribution.Failed(400, distribution.CodeSizeInvalid, "got %d", 1), 400, distribution.CodeSizeInvalid, "got 1"},
		"the client's, wrapped":  {"GET", fmt.Errorf("secret: %w", distribution.Failed(404, distribution.CodeBlobUnknown, "no blob")), 404, distribution.CodeBlobUnknown, "no blob"},
		"too many":               {"PUT", distribution.Failed(429, distribution.CodeTooManyRequests, "wait"), 429, distribution.CodeTooManyRequests, "wait"},
		"ours":                   {"GET", errors.New("secret"), 500, distribution.CodeUnknown, "its log has the reason"},
		"disk full":              {"PUT", &os.PathError{Op: "write", Path: "secret", Err: syscall.ENOSPC}, 507, distribution.CodeUnknown, "disk is full"},
		"quota used up":          {"PUT", &os.PathError{Op: "write", Path: "secret", Err: syscall.EDQUOT}, 507, distribution.CodeUnknown, "disk is full"},
		"damaged":                {"GET", &damagedError{"secret", d, "other"}, 500, distribution.CodeUnknown, "damaged"},
		"damaged, asked by HEAD": {"HEAD", &damagedError{"secret", d, "other"}, 404, "", ""},
	} {
		metrics := prometheus.NewRegistry()
		c := start(t, Config{Registerer: metrics})
		w := httptest.NewRecorder()
		for _, h := range []string{"Docker-Content-Digest", "Etag", "Content-Length", "Cache-Control"} {
			w.Header().Set(h, "of the answer that failed")
		}
		c.reg.fail(&logs.Answer{ResponseWriter: w}, &request{Request: httptest.NewRequest(tt.method, "/v2/a/blobs/x", nil), name: "a", ref: "x"}, tt.err)
		r := &reply{w.Result(), w.Body.Bytes()}
		if w.Code != tt.status || r.code() != tt.code || !strings.Contains(w.Body.String(), tt.says) || strings.Contains(w.Body.String(), "secret") || (tt.says == "") != (w.Body.Len() == 0) {
			t.Errorf("%s: got %d %s, want %d %s that says %q", name, w.Code, w.Body, tt.status, tt.code, tt.says)
		}
		if h := w.Header(); len(h) > 3 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || (h.Get("Retry-After") != "") != (tt.status == 429) {
			t.Errorf("%s: got %v", name, h)
		}
		if n := count(t, metrics, "colophon_registry_damaged_total"); (n == 1) != damaged(tt.err) {
			t.Errorf("%s: got %v alarms", name, n)
		}
		// An answer that has begun cannot become an error.
		w = httptest.NewRecorder()
		begun := &logs.Answer{ResponseWriter: w}
		begun.Write([]byte("half"))
		c.reg.fail(begun, &request{Request: httptest.NewRequest("GET", "/", nil)}, tt.err)
		if w.Body.String() != "half" || w.Code != 200 {
			t.Errorf("%s, amid an answer: got %d %q", name, w.Code, w.Body)
		}
	}
}

// TestScrubNamesStrangers: files that do not belong into a registry, or that point at
// nothing, are named and left as they are.
func TestScrubNamesStrangers(t *testing.T) {
	c := start(t, Config{})
	s, dir := c.reg.store, c.reg.cfg.Dir
	raw := c.image("a", "sha256", "x", nil)
	if r := c.put("a", "v1", raw); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	text := []byte("no manifest")
	lost := sum("sha256", []byte("lost"))
	hex := strings.TrimPrefix(sum("sha256", text), "sha256:")
	strangers := map[string]string{
		s.path("blobs/sha256/stranger"):          "its name is not a digest",
		s.path("blobs/sha512", hex):              "its name is not a digest",
		s.repo("a", "blobs/sha256/stranger"):     "its name is not a digest",
		s.repo("a", "manifests/sha256/stranger"): "its name is not a digest",
		s.repo("a", "manifests/sha256/x.json"):   "its name is not a digest",
		s.repo("a", "manifests/sha256", hex):     "stored manifest sha256:" + hex,
		s.tag("a", "broken"):                     "holds no digest",
		s.tag("a", "lost"):                       "points at " + lost + ", which is missing",
		s.repo("a", "manifests/sha256/"+strings.TrimPrefix(lost, "sha256:")+".json"): "",
	}
	for path := range strangers {
		content := text
		if path == s.tag("a", "lost") {
			content = []byte(lost + "\n")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, r := scrub(t, dir)
	for path, what := range strangers {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if named := slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "DAMAGED "+path+": ") && strings.Contains(f, what) }); named != (what != "") {
			t.Errorf("%s: got %q, want %q", path, found, what)
		}
	}
	if r.Damaged != len(strangers)-1 || r.Repaired != 0 {
		t.Errorf("got %+v: %q", r, found)
	}
	// Two blobs in the pool and in a repository, two manifests, three tags.
	if r.Files != 9 || r.Bytes == 0 {
		t.Errorf("got %d files of %d bytes, want 9", r.Files, r.Bytes)
	}
}

// TestRemembered: a file counts as compared only if a later write would show, and only
// with the digest that it was compared with.
func TestRemembered(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	d := mustDigest(t, c.blob("a", "sha256", []byte("content")))
	read := func() {
		t.Helper()
		c.want(200, "GET", "/v2/a/blobs/"+d.String(), nil)
	}
	age := func(by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		if err := os.Chtimes(s.pool(d), at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	s.checked.now = func() time.Time { return now }
	clear(s.checked.done) // what the push has added
	age(time.Since(now))
	read()
	if n := len(s.checked.done); n != 0 {
		t.Errorf("a file that was written just now is remembered")
	}
	age(time.Hour)
	read()
	read()
	if n := len(s.checked.done); n != 1 {
		t.Errorf("got %d files remembered, want 1", n)
	}
	// With the same name, but another digest.
	if f, err := s.openIntact(t.Context(), s.pool(d), mustDigest(t, sum("sha512", []byte("content")))); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if _, err := s.openIntact(t.Context(), s.pool(d), mustDigest(t, sum("sha256", []byte("other")))); !damaged(err) {
		t.Errorf("got %v, want it damaged", err)
	}
}

// TestSettings: New refuses settings that cannot work, and leaves nothing locked.
func TestSettings(t *testing.T) {
	metrics, dir := prometheus.NewRegistry(), t.TempDir()
	first, err := New(Config{URL: "http://registry.test", Dir: t.TempDir(), Authorize: roles, Registerer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := New(Config{URL: "http://registry.test", Dir: dir, Authorize: roles, Registerer: metrics}); err == nil {
		t.Error("the same metrics twice: want an error")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{URL: "http://registry.test", Dir: file, Authorize: roles}); err == nil {
		t.Error("a file in the place of the directory: want an error")
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first failure released the lock
		if _, err := New(Config{URL: "http://registry.test", Dir: dir, Authorize: roles}); err == nil || strings.Contains(err.Error(), "in use") {
			t.Errorf("a file in the place of blobs: got %v", err)
		}
	}
	if first.cfg.MaxBlob != limits.LayerPacked || first.cfg.MaxUploads != 256 || first.cfg.MaxUnfinished != 4*limits.LayerPacked || first.cfg.UploadIdle != time.Hour {
		t.Errorf("defaults: got %+v", first.cfg)
	}
	if got := first.mayIdle(&upload{}); got != time.Minute {
		t.Errorf("an empty upload is kept for %v", got)
	}
	used := &upload{}
	used.size.Store(1)
	if got := first.mayIdle(used); got != time.Hour {
		t.Errorf("an upload with bytes is kept for %v", got)
	}
}

// TestMethodsInMetrics: methods that clients make up are one series.
func TestMethodsInMetrics(t *testing.T) {
	metrics := prometheus.NewRegistry()
	c := start(t, Config{Registerer: metrics})
	for i := range 5 {
		c.want(405, fmt.Sprintf("EVIL%d", i), "/v2/a/tags/list", nil)
	}
	c.want(200, "GET", "/v2/", nil)
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "colophon_registry_requests_total" && len(f.GetMetric()) != 2 {
			t.Errorf("got %v, want two series", f.GetMetric())
		}
	}
}

// TestBrokenDirectories: what the registry cannot read is not what it does not have, and
// what it could not write it does not acknowledge. A file in the place of a directory
// makes each access fail.
func TestBrokenDirectories(t *testing.T) {
	c := start(t, Config{})
	s, dir := c.reg.store, c.reg.cfg.Dir
	subject := desc(typeManifest, "sha256", []byte("subject"))
	to := mustDigest(t, subject["digest"].(string))
	raw := c.image("a", "sha256", "x", map[string]any{"subject": subject})
	index := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{desc(typeManifest, "sha256", raw)}})
	d, layer, fresh := sum("sha256", raw), sum("sha256", []byte("layer x")), []byte("a new blob")
	for _, repo := range []string{"a", "b"} {
		c.image(repo, "sha256", "x", nil)
		if r := c.put(repo, "v1", raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	type ask struct {
		method, path string
		body         []byte
	}
	read, write := ask{"GET", "/v2/a/manifests/v1", nil}, ask{"PUT", "/v2/a/manifests/v1", raw}
	push := ask{"POST", "/v2/a/blobs/uploads/?digest=" + sum("sha256", fresh), fresh}
	remove := ask{"DELETE", "/v2/a/manifests/" + d, nil}
	tags, referrers := ask{"GET", "/v2/a/tags/list", nil}, ask{"GET", "/v2/a/referrers/" + to.String(), nil}
	for _, tt := range []struct {
		broken string
		asks   []ask
		scrub  bool // a scrub fails, too
	}{
		{s.path("repositories/a"), []ask{read, write, push, remove, tags, referrers, {"GET", "/v2/a/blobs/" + layer, nil}}, false},
		{s.repo("a"), []ask{read, write, push, remove, referrers}, false},
		{s.repo("a", "tags"), []ask{read, write, remove, tags, {"DELETE", "/v2/a/manifests/v1", nil}}, true},
		{s.repo("a", "manifests"), []ask{read, write, remove, referrers, {"GET", "/v2/a/manifests/" + d, nil}, {"PUT", "/v2/a/manifests/all", index}}, true},
		{s.repo("a", "manifests/sha256"), []ask{read, write, remove, referrers, {"PUT", "/v2/a/manifests/all", index}}, true},
		{s.repo("a", "blobs"), []ask{write, push, {"GET", "/v2/a/blobs/" + layer, nil}, {"DELETE", "/v2/a/blobs/" + layer, nil}, {"POST", "/v2/c/blobs/uploads/?from=a&mount=" + layer, nil}}, true},
		{s.repo("a", "referrers"), []ask{write, referrers}, true},
		{s.repo("a", "referrers/sha256"), []ask{write, referrers}, true},
		{filepath.Dir(s.referrer("a", to, mustDigest(t, d))), []ask{write, referrers}, true},
		{s.path("blobs"), []ask{push, {"POST", "/v2/c/blobs/uploads/?mount=" + layer, nil}}, true},
		{s.path("blobs/sha256"), []ask{push, {"POST", "/v2/c/blobs/uploads/?mount=" + layer, nil}}, true},
		{s.path("tmp"), []ask{push, write, {"POST", "/v2/a/blobs/uploads/", nil}}, false},
	} {
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(tt.broken, aside); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(tt.broken, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(tt.broken, dir+"/")
		for _, a := range tt.asks {
			s.lists.mu.Lock()
			clear(s.lists.dirs) // what is in memory needs no disk
			s.lists.total = 0
			s.lists.mu.Unlock()
			if r := c.do(a.method, a.path, a.body); r.StatusCode != 500 || r.code() != distribution.CodeUnknown || r.Header.Get("Etag") != "" {
				t.Errorf("%s broken: %s %.60s: got %d %.200s, want 500", name, a.method, a.path, r.StatusCode, r.body)
			}
		}
		if err := Scrub(t.Context(), new(intact.Report), dir); tt.scrub && err == nil {
			t.Errorf("%s broken: a scrub finds all well", name)
		}
		if err := os.Remove(tt.broken); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(aside, tt.broken); err != nil {
			t.Fatal(err)
		}
		if got := c.want(200, "GET", "/v2/a/manifests/v1", nil).body; !bytes.Equal(got, raw) {
			t.Errorf("%s repaired: got %s", name, got)
		}
		c.want(404, "GET", "/v2/a/blobs/"+sum("sha256", fresh), nil)
		c.want(200, "GET", "/v2/a/blobs/"+layer, nil)
		c.want(404, "GET", "/v2/c/blobs/"+layer, nil)
	}
	if e, _ := os.ReadDir(s.path("tmp")); len(e) != 0 {
		t.Errorf("got %d left-over files, want none", len(e))
	}
	if found, r := scrub(t, dir); len(found) != 0 || r.Damaged != 0 {
		t.Errorf("afterwards: got %q", found)
	}
}

// TestMostLinks: a blob whose file has as many links as the file system allows is pushed,
// repaired and mounted like any other. The repository then has a copy.
func TestMostLinks(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short makes no 65,000 links")
	}
	c := start(t, Config{})
	s := c.reg.store
	content := []byte("everybody's base image")
	d := mustDigest(t, c.blob("a", "sha256", content))
	links := t.TempDir()
	for i := 0; ; i++ {
		if err := os.Link(s.pool(d), filepath.Join(links, fmt.Sprint(i))); errors.Is(err, syscall.EMLINK) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if i == 70_000 {
			t.Skip("NOT HERE: this file system has no such limit")
		}
	}
	get := func(repo string, status int) {
		t.Helper()
		if r := c.want(status, "GET", "/v2/"+repo+"/blobs/"+d.String(), nil); status == 200 && !bytes.Equal(r.body, content) {
			t.Errorf("%s: got %q", repo, r.body)
		}
	}
	c.want(202, "POST", "/v2/b/blobs/uploads/?mount="+d.String()+"&from=a", nil) // the client pushes it
	get("b", 404)
	c.blob("b", "sha256", content)
	get("b", 200)
	// b's copy breaks: a read repairs it from the pool, and a push does.
	for _, repair := range []func(){func() {}, func() { c.blob("b", "sha256", content) }} {
		damage(t, s.blob("b", d), damages["a flipped bit"])
		repair()
		get("b", 200)
		get("a", 200)
	}
	if e, _ := os.ReadDir(s.path("tmp")); len(e) > 1 { // the upload that was not mounted
		t.Errorf("got %d left-over files, want none", len(e)-1)
	}
	// The pool's own file breaks, and with it all of its links.
	damage(t, s.pool(d), damages["a truncated file"])
	get("a", 500)
	get("b", 200)
	c.blob("c", "sha256", content)
	get("c", 200)
	c.blob("a", "sha256", content)
	get("a", 200)
}
