package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/distribution"
)

// TestPathsNearTheAPI: a path that is nearly one of the API's is none of them.
func TestPathsNearTheAPI(t *testing.T) {
	c := start(t, Config{})
	c.image("a", "sha256", "x", nil)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2", 200, ""}, {"GET", "/v2/", 200, ""}, {"POST", "/v2/", 405, distribution.CodeUnsupported},
		{"GET", "/v2/tags/list", 404, distribution.CodeUnsupported}, {"GET", "/v2/a/tags/other", 404, distribution.CodeUnsupported}, {"GET", "/v2/a/other/list", 404, distribution.CodeUnsupported},
		{"GET", "/v2/manifests/v1", 404, distribution.CodeUnsupported}, {"GET", "/v2/referrers/v1", 404, distribution.CodeUnsupported}, {"GET", "/v2/list", 404, distribution.CodeUnsupported},
		{"POST", "/v2/blobs/uploads/", 404, distribution.CodeUnsupported}, {"POST", "/v2/blobs/uploads", 404, distribution.CodeUnsupported},
		{"POST", "/v2/a/blobs/uploads", 202, ""}, {"POST", "/v2/a/blobs/uploads/", 202, ""}, {"POST", "/v2/a/blobs/uploads/x", 405, distribution.CodeUnsupported},
		{"GET", "/v2/a/blobs/uploads/", 405, distribution.CodeUnsupported}, {"PUT", "/v2/a/blobs/uploads/x", 404, distribution.CodeBlobUploadUnknown},
		{"POST", "/v2/a/blobs/uploads/?digest=latest", 400, distribution.CodeDigestInvalid}, {"GET", "/v2/A/tags/list", 400, distribution.CodeNameInvalid},
		{"GET", "/v2/a/tags/list", 200, ""},
	} {
		r := c.want(tt.status, tt.method, tt.path, nil)
		if r.code() != tt.code {
			t.Errorf("%s %s: got %s, want %s", tt.method, tt.path, r.body, tt.code)
		}
		// Whatever the answer, a browser must not run what strangers pushed.
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox", "Docker-Distribution-API-Version": "registry/2.0"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s %s: %s: got %q, want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
	if r := c.want(200, "GET", "/v2/", nil); r.Header.Get("Content-Type") != "application/json" || string(r.body) != "{}" {
		t.Errorf("got %v %s", r.Header, r.body)
	}
	if r := c.want(200, "GET", "/v2/a/tags/list", nil); !bytes.Contains(r.body, []byte(`"tags":[]`)) {
		t.Errorf("a repository without tags: got %s", r.body)
	}
	if r := c.want(400, "POST", "/v2/a/blobs/uploads/?digest=latest", nil); !bytes.Contains(r.body, []byte(`got digest \"latest\"`)) {
		t.Errorf("got %s", r.body)
	}
}

// TestCopies: what may replace a file is a whole copy, and what is compared is all of it.
func TestCopies(t *testing.T) {
	s := start(t, Config{}).reg.store
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 256<<10/16*2)
	a, missingFile := file("a", large), filepath.Join(dir, "missing")
	for name, tt := range map[string]struct {
		b    string
		same bool
		err  bool
	}{
		"the same":       {file("same", large), true, false},
		"a byte more":    {file("more", append(large[:len(large):len(large)], 'x')), false, false},
		"a buffer less":  {file("less", large[:256<<10]), false, false},
		"another byte":   {file("other", append(large[:len(large)-1:len(large)-1], 'x')), false, false},
		"nothing":        {file("nothing", nil), false, false},
		"a missing file": {missingFile, false, true},
		"a directory":    {dir, false, true},
	} {
		for _, pair := range [][2]string{{a, tt.b}, {tt.b, a}} {
			if same, err := sameContent(pair[0], pair[1]); same != tt.same || (err != nil) != tt.err {
				t.Errorf("%s: got %v, %v, want %v", name, same, err, tt.same)
			}
		}
	}
	if same, err := sameContent(file("empty", nil), file("nothing", nil)); !same || err != nil {
		t.Errorf("two empty files: got %v, %v", same, err)
	}

	for _, bad := range [][2]string{{missingFile, filepath.Join(dir, "copy")}, {a, a}, {a, filepath.Join(missingFile, "x")}} {
		if err := copyFile(bad[0], bad[1]); err == nil {
			t.Errorf("%s is copied to %s", bad[0], bad[1])
		}
	}
	if err := copyFile(a, filepath.Join(dir, "copy")); err != nil {
		t.Error(err)
	}
	if same, err := sameContent(a, filepath.Join(dir, "copy")); !same || err != nil {
		t.Errorf("a copy: got %v, %v", same, err)
	}

	dst := file("dst", []byte("old"))
	if err := s.replace(missingFile, dst); err == nil {
		t.Error("a missing file replaces one")
	}
	if err := s.replace(a, missingFile); err == nil {
		t.Error("a file that was deleted comes back")
	}
	if got, err := os.ReadFile(dst); string(got) != "old" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := os.Stat(missingFile); err == nil {
		t.Error("a file that was deleted is back")
	}
	if e, _ := os.ReadDir(s.path("tmp")); len(e) != 0 {
		t.Errorf("got %d left-over files, want none", len(e))
	}
}

// TestWholeWithoutThePool: a repository is complete without the pool. A copy that cannot
// be repaired is not served.
func TestWholeWithoutThePool(t *testing.T) {
	metrics := prometheus.NewRegistry()
	c := start(t, Config{Registerer: metrics})
	s := c.reg.store
	raw := c.image("a", "sha256", "x", nil)
	config, layer := mustDigest(t, sum("sha256", []byte(`{"seed":"x"}`))), mustDigest(t, sum("sha256", []byte("layer x")))
	for _, d := range []digest{config, layer} {
		if err := os.Remove(s.pool(d)); err != nil {
			t.Fatal(err)
		}
		c.want(200, "GET", "/v2/a/blobs/"+d.String(), nil)
	}
	c.want(202, "DELETE", "/v2/a/blobs/"+layer.String(), nil)
	c.blob("a", "sha256", []byte("layer x"))
	damage(t, s.blob("a", config), damages["a flipped bit"])
	if r := c.put("a", "v1", raw); r.StatusCode != 404 || r.code() != distribution.CodeManifestBlobUnknown {
		t.Errorf("a manifest with a damaged config: got %d %s", r.StatusCode, r.body)
	}
	if n := count(t, metrics, "colophon_registry_damaged_total"); n != 1 {
		t.Errorf("got %v alarms, want 1", n)
	}
	c.want(202, "POST", "/v2/b/blobs/uploads/?from=a&mount="+config.String(), nil)
	if n := count(t, metrics, "colophon_registry_damaged_total"); n != 2 {
		t.Errorf("got %v alarms, want 2", n)
	}
	// A copy that could be repaired, but cannot be written.
	if err := os.Remove(s.blob("a", layer)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.blob("a", layer), []byte("other x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		t.Fatal(err)
	}
	c.want(404, "HEAD", "/v2/a/blobs/"+layer.String(), nil)
	if f, err := s.openBlob(t.Context(), "a", layer); err == nil {
		t.Errorf("got %s, want an error", f.Name())
	}
	if err := os.Mkdir(s.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	// addBlob says what it repaired.
	tmp := s.path("tmp", "x")
	if err := os.WriteFile(tmp, []byte("layer x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if repaired, err := s.addBlob("a", layer, tmp); err != nil || len(repaired) != 1 || repaired[0] != s.blob("a", layer) {
		t.Errorf("got %q, %v", repaired, err)
	}
}

// TestDescriptors: a descriptor beside a manifest counts only if it is whole and that
// manifest's; what a manifest lists must have a digest.
func TestDescriptors(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	one, two := c.image("a", "sha256", "one", nil), c.image("a", "sha256", "two", map[string]any{"mediaType": typeDockerManifest})
	for _, raw := range [][]byte{one, two} {
		if r := c.put("a", sum("sha256", raw), raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	d1, d2 := mustDigest(t, sum("sha256", one)), mustDigest(t, sum("sha256", two))
	other, err := os.ReadFile(s.manifest("a", d2) + ".json")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"of another manifest": other, "sealed, but no JSON": sealed([]byte("text")), "nothing": nil, "not sealed": bytes.SplitAfter(other, []byte("\n"))[0],
	} {
		if err := os.WriteFile(s.manifest("a", d1)+".json", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.readDescriptor("a", d1); err != nil || got.Digest != d1.String() || got.MediaType != typeManifest || got.Size != int64(len(one)) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	// Bytes with the right digest that are no manifest, as an older version may have taken.
	text := []byte("no manifest")
	d := mustDigest(t, sum("sha256", text))
	if err := os.WriteFile(s.manifest("a", d), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.want(500, "GET", "/v2/a/manifests/"+d.String(), nil); r.code() != distribution.CodeUnknown {
		t.Errorf("bytes that are no manifest: got %s", r.body)
	}
	if err := errors.Join(os.Remove(s.manifest("a", d2)+".json"), os.Mkdir(s.manifest("a", d2)+".json", 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.readDescriptor("a", d2); err == nil {
		t.Error("a directory in the place of a descriptor: want an error")
	}

	for _, bad := range []*manifestFile{{Config: &descriptor{Digest: "latest"}}, {Layers: []descriptor{{Digest: "latest"}}}, {Manifests: []descriptor{{Digest: "latest"}}}} {
		for _, err := range []error{s.checkContent("a", bad), c.reg.checkIntact(t.Context(), "a", bad)} {
			if f, ok := errors.AsType[*distribution.Failure](err); !ok || f.Code != distribution.CodeDigestInvalid {
				t.Errorf("%+v: got %v", bad, err)
			}
		}
	}
	// BuildKit's cache lists layers in an index.
	layer := []byte("layer one")
	cache := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{desc("application/vnd.oci.image.layer.v1.tar", "sha256", layer)}})
	if r := c.put("a", "cache", cache); r.StatusCode != 201 {
		t.Errorf("a cache: got %d %s", r.StatusCode, r.body)
	}
	wrong := desc("application/vnd.oci.image.layer.v1.tar", "sha256", layer)
	wrong["size"] = 1
	if r := c.put("a", "cache2", marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{wrong}})); r.StatusCode != 400 || r.code() != distribution.CodeSizeInvalid {
		t.Errorf("a cache with a wrong size: got %d %s", r.StatusCode, r.body)
	}
	// A length that is too much is refused before a byte is read.
	req := httptest.NewRequest("PUT", "/v2/a/manifests/v1", unread{t})
	req.ContentLength = limits.Manifest + 1
	req.SetBasicAuth("x", "boss")
	w := httptest.NewRecorder()
	c.reg.ServeHTTP(w, req)
	if w.Code != 413 {
		t.Errorf("got %d, want 413", w.Code)
	}
}

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (r unread) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, io.EOF
}

// TestReferrerLists: a list shows what was pushed after it was first read, its links keep
// the filter, and names that this registry did not write are errors.
func TestReferrerLists(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	subject := desc(typeManifest, "sha256", []byte("subject"))
	to := mustDigest(t, subject["digest"].(string))
	path := "/v2/a/referrers/" + to.String()
	for i := range 3 {
		raw := c.image("a", "sha256", fmt.Sprint(i), map[string]any{"subject": subject, "artifactType": "application/x"})
		if r := c.put("a", sum("sha256", raw), raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
		if l, r := c.referrers(path); len(l.Manifests) != i+1 || next(r) != "" {
			t.Errorf("got %d referrers, want %d", len(l.Manifests), i+1)
		}
	}
	// Names whose manifests were not written before a crash are examined, too.
	dir := filepath.Dir(s.referrer("a", to, to))
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxExamined {
		if err := os.Link(empty, filepath.Join(dir, fmt.Sprintf("sha256-%064x", i))); err != nil { // which is faster than to write each
			t.Fatal(err)
		}
	}
	s.lists.mu.Lock()
	clear(s.lists.dirs)
	s.lists.total = 0
	s.lists.mu.Unlock()
	found := 0
	for _, query := range []string{"", "?artifactType=application%2Fx"} {
		pages := 0
		for p := path + query; p != ""; pages++ {
			l, r := c.referrers(p)
			found += len(l.Manifests)
			p = next(r)
			if p != "" && strings.Contains(p, "artifactType=application%2Fx") != (query != "") {
				t.Errorf("got link %q to the rest of %q", p, query)
			}
		}
		if pages != 2 {
			t.Errorf("got %d pages, want 2", pages)
		}
	}
	if found != 6 {
		t.Errorf("got %d referrers in two lists, want 6", found)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256-0stranger"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.lists.changed(filepath.Join(dir, "sha256-0stranger"), true)
	var last *reply
	for p := path; p != ""; p = next(last) {
		if last = c.do("GET", p, nil); last.StatusCode != 200 {
			break
		}
	}
	if last.StatusCode != 500 {
		t.Errorf("a stranger among the referrers: got %d %s, want 500", last.StatusCode, last.body)
	}
}

// TestWeights: the lists in memory weigh what they hold, and the one that is needed stays,
// however long it is.
func TestWeights(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := newLists()
	for range 2 {
		if names, err := l.names(t.Context(), dir); len(names) != 10 || err != nil {
			t.Fatalf("got %q, %v", names, err)
		}
		if l.total != 10+64 {
			t.Errorf("got weight %d, want %d", l.total, 10+64)
		}
	}
	put := func(name string, weight int) {
		e := &nameList{names: make([]string, weight-64)}
		l.dirs[name] = e
		l.keep(name, e)
	}
	put("rest", maxListed-l.total)
	if len(l.dirs) != 2 || l.total != maxListed {
		t.Errorf("as much as fits: got %d lists of weight %d", len(l.dirs), l.total)
	}
	put("large", 2*maxListed)
	if len(l.dirs) != 1 || l.dirs["large"] == nil || l.total != 2*maxListed {
		t.Errorf("more than fits: got %d lists of weight %d", len(l.dirs), l.total)
	}
}

// TestDurableDirectories: a directory counts as durable only when it and its parents were
// synced, and the registry remembers a bounded number of them.
func TestDurableDirectories(t *testing.T) {
	s := start(t, Config{}).reg.store
	deep := s.path("repositories/a/b/_/tags")
	clear(s.synced)
	if err := s.mkdirs(deep); err != nil {
		t.Fatal(err)
	}
	for d := deep; d != s.dir; d = filepath.Dir(d) {
		if !s.synced[d] {
			t.Errorf("%s is not known to be durable", d)
		}
	}
	if n := len(s.synced); n != 5 || s.synced[s.dir] {
		t.Errorf("got %v", s.synced)
	}
	for i := len(s.synced); i < maxSynced; i++ {
		s.synced[fmt.Sprint(i)] = true
	}
	if err := s.mkdirs(s.path("repositories/b")); err != nil || len(s.synced) > 2 {
		t.Errorf("past the limit: got %d directories, %v", len(s.synced), err)
	}
}

// TestComparedAgain: a comparison counts until a day is over, of a file that was not
// written within the last tenth of a second.
func TestComparedAgain(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	content := []byte("content")
	d := mustDigest(t, c.blob("a", "sha256", content))
	now := time.Now().Truncate(time.Second)
	s.checked.now = func() time.Time { return now }
	read := func() error {
		f, err := s.openIntact(t.Context(), s.pool(d), d)
		if err != nil {
			return err
		}
		defer f.Close()
		if got, err := io.ReadAll(f); !bytes.Equal(got, content) || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		return nil
	}
	written := func(ago time.Duration) {
		t.Helper()
		if err := os.Chtimes(s.pool(d), now, now.Add(-ago)); err != nil {
			t.Fatal(err)
		}
	}
	for ago, remembered := range map[time.Duration]int{100*time.Millisecond - 1: 0, 100 * time.Millisecond: 1} {
		clear(s.checked.done)
		written(ago)
		if err := read(); err != nil || len(s.checked.done) != remembered {
			t.Errorf("written %s ago: got %d remembered, %v, want %d", ago, len(s.checked.done), err, remembered)
		}
	}
	clear(s.checked.done)
	written(100 * time.Millisecond)
	if err := read(); err != nil {
		t.Fatal(err)
	}
	mtime := now.Add(-100 * time.Millisecond)
	if err := os.WriteFile(s.pool(d), []byte("cOntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.pool(d), now, mtime); err != nil {
		t.Fatal(err)
	}
	start := now
	now = start.Add(recheck - 1)
	if f, err := s.openIntact(t.Context(), s.pool(d), d); err != nil {
		t.Errorf("within the day: %v", err)
	} else {
		f.Close()
	}
	now = start.Add(recheck)
	if err := read(); !damaged(err) {
		t.Errorf("after a day: got %v, want it damaged", err)
	}
	if _, err := s.openIntact(t.Context(), s.path("blobs"), d); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a directory: got %v", err)
	}
	f, err := os.Open(s.pool(d))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := s.checked.digest(t.Context(), f, d); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed file: got %v", err)
	}
	clear(s.checked.done)
	for i := range maxChecked {
		s.checked.done[fileState{ino: uint64(i), size: -1}] = check{}
	}
	_ = read()
	if n := len(s.checked.done); n != 1 {
		t.Errorf("got %d files remembered past the limit, want them forgotten", n)
	}
}

// TestDamagedTagStays: a tag that cannot be read is not free. It neither moves, nor does
// its manifest go: nobody can say whether the tag points at it.
func TestDamagedTagStays(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	one, two := c.image("a", "sha256", "one", nil), c.image("a", "sha256", "two", nil)
	if r := c.put("a", "v1", one); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	if err := os.WriteFile(s.tag("a", "v1"), []byte("sha256:"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.want(500, "PUT", "/v2/a/manifests/v1", two)
	c.want(404, "GET", "/v2/a/manifests/"+sum("sha256", two), nil)
	c.want(500, "DELETE", "/v2/a/manifests/"+sum("sha256", one), nil)
	c.want(200, "GET", "/v2/a/manifests/"+sum("sha256", one), nil)
	if got, err := os.ReadFile(s.tag("a", "v1")); string(got) != "sha256:" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c.want(202, "DELETE", "/v2/a/manifests/v1", nil) // an admin can free it
	c.want(201, "PUT", "/v2/a/manifests/v1", two)
}

// TestDeletedManifestLeavesNothing: neither its descriptor, nor its tags, nor its place
// among the referrers.
func TestDeletedManifestLeavesNothing(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	subject := desc(typeManifest, "sha256", []byte("subject"))
	raw := c.image("a", "sha256", "x", map[string]any{"subject": subject})
	d := sum("sha256", raw)
	c.want(201, "PUT", "/v2/a/manifests/"+d+"?tag=v1&tag=v2", raw)
	c.want(202, "DELETE", "/v2/a/manifests/"+d, nil)
	for _, dir := range []string{s.repo("a", "manifests/sha256"), s.repo("a", "tags"), filepath.Dir(s.referrer("a", mustDigest(t, subject["digest"].(string)), mustDigest(t, d)))} {
		if e, err := os.ReadDir(dir); len(e) != 0 || err != nil {
			t.Errorf("%s: got %v, %v, want nothing", dir, e, err)
		}
	}
}

// TestScrubOfManifests: a manifest that nothing can repair is named once; one that was
// repaired is compared with what is derived from it.
func TestScrubOfManifests(t *testing.T) {
	c := start(t, Config{})
	s := c.reg.store
	raw := c.image("a", "sha256", "x", nil)
	d := mustDigest(t, sum("sha256", raw))
	c.want(201, "PUT", "/v2/a/manifests/v1", raw)
	damage(t, s.manifest("a", d), damages["a truncated file"])
	if found, r := scrub(t, c.reg.cfg.Dir); r.Damaged != 1 || r.Repaired != 0 || len(found) != 1 || !strings.Contains(found[0], d.String()) {
		t.Errorf("alone: got %+v: %q, want it named once", r, found)
	}
	c.image("b", "sha256", "x", nil)
	c.want(201, "PUT", "/v2/b/manifests/v1", raw)
	if err := os.Remove(s.manifest("a", d) + ".json"); err != nil {
		t.Fatal(err)
	}
	if found, r := scrub(t, c.reg.cfg.Dir); r.Damaged != 0 || r.Repaired != 2 {
		t.Errorf("with a copy: got %+v: %q, want manifest and descriptor repaired", r, found)
	}
	if found, _ := scrub(t, c.reg.cfg.Dir); len(found) != 0 {
		t.Errorf("afterwards: got %q", found)
	}
}
