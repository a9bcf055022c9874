package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/distribution"
)

var algorithms = []string{"sha256", "sha512"}

// What distribution spec 1.1 and its conformance program ask of blobs.
func TestBlobs(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			c := start(t, Config{})
			content := bytes.Repeat([]byte("0123456789abcdef"), 192) // 3072 bytes
			testUploads(c, alg, content)
			testWrongDigests(c, alg, content)
			for _, content := range []string{"", "{}"} {
				d := c.blob("a/b", alg, []byte(content))
				r := c.want(200, "HEAD", "/v2/a/b/blobs/"+d, nil)
				if r.ContentLength != int64(len(content)) || r.Header.Get("Docker-Content-Digest") != d {
					t.Errorf("HEAD of %q: got %v", content, r.Header)
				}
			}
		})
	}
}

// startUpload begins an upload and returns where it goes on.
func (c *client) startUpload() string {
	c.t.Helper()
	return c.want(202, "POST", "/v2/a/b/blobs/uploads/", nil).Header.Get("Location")
}

// testUploads uploads the content in each way that there is.
func testUploads(c *client, alg string, content []byte) {
	t := c.t
	d := sum(alg, content)
	check := func(r *reply) {
		t.Helper()
		if got := r.Header.Get("Docker-Content-Digest"); got != d {
			t.Errorf("got digest %q, want %q", got, d)
		}
		if got := c.want(200, "GET", r.Header.Get("Location"), nil).body; !bytes.Equal(got, content) {
			t.Errorf("got %d bytes, want %d", len(got), len(content))
		}
		c.want(202, "DELETE", "/v2/a/b/blobs/"+d, nil)
		c.want(404, "HEAD", "/v2/a/b/blobs/"+d, nil)
		if r := c.want(404, "DELETE", "/v2/a/b/blobs/"+d, nil); r.code() != distribution.CodeBlobUnknown {
			t.Errorf("got %s, want %s", r.body, distribution.CodeBlobUnknown)
		}
	}
	end := func(loc string, body []byte, header ...string) *reply {
		t.Helper()
		return c.want(201, "PUT", loc+"?digest="+d, body, header...)
	}
	octets := []string{"Content-Type", "application/octet-stream"}

	if r := c.want(404, "GET", "/v2/a/b/blobs/"+d, nil); r.code() != distribution.CodeBlobUnknown {
		t.Errorf("got %s", r.body)
	}
	check(c.want(201, "POST", "/v2/a/b/blobs/uploads/?digest="+d, content, octets...))
	check(end(c.startUpload(), content, octets...))

	loc := c.startUpload() // one chunk
	c.want(202, "PATCH", loc, content, "Content-Range", "0-3071")
	check(end(loc, nil))

	loc = c.startUpload() // chunks, the last one in the PUT, and each time the wrong one first
	if r := c.want(204, "GET", loc, nil); r.Header.Get("Range") != "0-0" || r.Header.Get("Location") == "" {
		t.Errorf("got %v", r.Header)
	}
	c.want(416, "PATCH", loc, content[1024:2048], "Content-Range", "1024-2047")
	r := c.want(202, "PATCH", loc, content[:1024], "Content-Range", "0-1023")
	if got := r.Header.Get("Range"); got != "0-1023" {
		t.Errorf("got Range %q, want 0-1023", got)
	}
	c.want(416, "PATCH", loc, content[:1024], "Content-Range", "0-1023")
	c.want(416, "PUT", loc+"?digest="+d, content[2048:], "Content-Range", "2048-3071")
	if r := c.want(204, "GET", loc+"?digest="+d, nil); r.Header.Get("Range") != "0-1023" {
		t.Errorf("got Range %q, want 0-1023", r.Header.Get("Range"))
	}
	c.want(400, "PATCH", loc, content[1024:2048], "Content-Range", "1024-2000")
	c.want(400, "PATCH", loc, content[1024:2048], "Content-Range", "bytes 1024-2047/*")
	c.want(202, "PATCH", loc, content[1024:2048], "Content-Range", "1024-2047")
	check(end(loc, content[2048:], "Content-Range", "2048-3071"))

	loc = c.startUpload() // a stream: no range, no length
	req, _ := http.NewRequest("PATCH", c.url+loc, struct{ io.Reader }{bytes.NewReader(content)})
	req.SetBasicAuth("x", c.token)
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 202 {
		t.Fatalf("streamed PATCH: got %v, %v", resp, err)
	}
	check(end(loc, nil))

	loc = c.startUpload() // given up
	c.want(204, "DELETE", loc, nil)
	for _, m := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		if r := c.want(404, m, loc+"?digest="+d, nil); r.code() != distribution.CodeBlobUploadUnknown {
			t.Errorf("got %s", r.body)
		}
	}
}

// testWrongDigests uploads the content under digests that are not its own, or none at all.
func testWrongDigests(c *client, alg string, content []byte) {
	bad := sum(alg, []byte("other"))
	for name, r := range map[string]*reply{
		"POST":           c.want(400, "POST", "/v2/a/b/blobs/uploads/?digest="+bad, content),
		"POST, no hex":   c.want(400, "POST", "/v2/a/b/blobs/uploads/?digest=sha256:baddigeststring", content),
		"PUT":            c.want(400, "PUT", c.startUpload()+"?digest="+bad, content),
		"PUT, none":      c.want(400, "PUT", c.startUpload(), content),
		"PUT, algorithm": c.want(400, "PUT", c.startUpload()+"?digest=md5:d41d8cd98f00b204e9800998ecf8427e", content),
		"GET":            c.want(400, "GET", "/v2/a/b/blobs/sha256:baddigeststring", nil),
		"DELETE":         c.want(400, "DELETE", "/v2/a/b/blobs/latest", nil),
	} {
		if r.code() != distribution.CodeDigestInvalid {
			c.t.Errorf("%s: got %s, want %s", name, r.body, distribution.CodeDigestInvalid)
		}
	}
	c.want(404, "HEAD", "/v2/a/b/blobs/"+bad, nil)
	c.want(405, "PUT", "/v2/a/b/blobs/"+sum(alg, content), content)
	c.want(405, "POST", "/v2/a/b/tags/list", nil)
}

func TestRanges(t *testing.T) {
	c := start(t, Config{})
	content := make([]byte, 2048)
	for i := range content {
		content[i] = byte(i * 7)
	}
	d := c.blob("a", "sha256", content)
	for _, tc := range []struct {
		ask    string
		status int
		want   []byte
		is     string
	}{
		{"bytes=500-1499", 206, content[500:1500], "bytes 500-1499/2048"},
		{"bytes=500-", 206, content[500:], "bytes 500-2047/2048"},
		{"bytes=-500", 206, content[1548:], "bytes 1548-2047/2048"},
		{"bytes=2000-5000", 206, content[2000:], "bytes 2000-2047/2048"},
		{"bytes=500-0", 416, nil, ""},
		{"bytes=5000-10000", 416, nil, ""},
	} {
		r := c.want(tc.status, "GET", "/v2/a/blobs/"+d, nil, "Range", tc.ask)
		if tc.status == 206 && (!bytes.Equal(r.body, tc.want) || r.Header.Get("Content-Range") != tc.is || r.ContentLength != int64(len(tc.want))) {
			t.Errorf("%s: got %d bytes, %v", tc.ask, len(r.body), r.Header)
		}
	}
	c.want(304, "GET", "/v2/a/blobs/"+d, nil, "If-None-Match", `"`+d+`"`)
}

func TestMount(t *testing.T) {
	c := start(t, Config{})
	d := c.blob("from", "sha512", []byte("mounted"))
	post := func(status int, query string) *reply {
		t.Helper()
		return c.want(status, "POST", "/v2/to/blobs/uploads/?"+query, nil)
	}
	gone := func() { c.want(202, "DELETE", "/v2/to/blobs/"+d, nil) }

	r := post(201, "mount="+d+"&from=from")
	if got := c.want(200, "GET", r.Header.Get("Location"), nil).body; string(got) != "mounted" {
		t.Errorf("got %q", got)
	}
	gone()
	post(201, "mount="+d)
	gone()
	loc := post(202, "mount="+d+"&from=elsewhere").Header.Get("Location")
	c.want(201, "PUT", loc+"?digest="+d, []byte("mounted"))
	gone()
	post(202, "mount="+sum("sha256", []byte("nowhere"))+"&from=from")
	post(202, "mount="+sum("sha256", []byte("nowhere")))
	post(400, "mount=sha256:bad&from=from")
	// What was deleted everywhere does not come back to whom knows its digest.
	c.want(202, "DELETE", "/v2/from/blobs/"+d, nil)
	post(202, "mount="+d)
	c.want(404, "GET", "/v2/to/blobs/"+d, nil)
	d = c.blob("from", "sha512", []byte("mounted"))
	if err := os.Remove(c.reg.store.blob("from", mustDigest(t, d))); err != nil { // as a crash amid a deletion leaves it
		t.Fatal(err)
	}
	post(202, "mount="+d)
}

// Each kind of content of the conformance program: pushed by digest and tag,
// listed, read, deleted.
func TestManifests(t *testing.T) {
	for _, alg := range algorithms {
		c := start(t, Config{})
		put := func(raw []byte) []byte {
			t.Helper()
			if r := c.put("a/b", sum(alg, raw), raw); r.StatusCode != 201 {
				t.Fatalf("got %d %s, want 201", r.StatusCode, r.body)
			}
			return raw
		}
		index := func(more map[string]any, children ...[]byte) []byte {
			list := []any{}
			for _, m := range children {
				var k struct{ MediaType string }
				json.Unmarshal(m, &k)
				list = append(list, desc(k.MediaType, alg, m))
			}
			m := map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": list}
			maps.Copy(m, more)
			return marshal(m)
		}
		image := func(seed string, more map[string]any) []byte { return c.image("a/b", alg, seed, more) }
		empty := []byte("{}")
		c.blob("a/b", alg, empty)
		artifact := map[string]any{"artifactType": "application/vnd.example.v1",
			"config": desc("application/vnd.oci.empty.v1+json", alg, empty), "layers": []any{desc("application/vnd.oci.empty.v1+json", alg, empty)}}
		foreign := desc("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", alg, []byte("elsewhere"))
		foreign["urls"] = []string{"https://store.example.com/x"}
		withData := desc("application/vnd.oci.empty.v1+json", alg, empty)
		withData["data"] = empty
		large := map[string]string{}
		for i := range 390 {
			large[fmt.Sprint("large-annotation-", i)] = strings.Repeat("A", 10_000)
		}

		inner := put(index(nil, put(image("amd64", nil)), put(image("arm64", nil))))
		for name, raw := range map[string][]byte{
			"image":            image("image", nil),
			"large":            image("large", map[string]any{"annotations": large}),
			"index":            index(nil, inner),
			"empty-index":      index(nil),
			"artifact":         image("", artifact),
			"artifact-index":   index(map[string]any{"artifactType": "application/vnd.example.v1"}),
			"missing-subject":  image("s", map[string]any{"subject": desc(typeManifest, alg, []byte("missing"))}),
			"data-field":       image("d", map[string]any{"config": withData}),
			"nondistributable": image("n", map[string]any{"layers": []any{foreign}}),
			"custom-fields":    image("c", map[string]any{"org.example.custom": map[string]any{"x": 1}}),
			"no-layers":        image("l", map[string]any{"layers": []any{}}),
			"docker":           image("k", map[string]any{"mediaType": typeDockerManifest}),
		} {
			c.testManifest(alg, name, raw)
		}
	}
}

// testManifest pushes, pulls and deletes a manifest by its digest and by tags.
func (c *client) testManifest(alg, name string, raw []byte) {
	c.t.Helper()
	d := sum(alg, raw)
	r := c.put("a/b", d, raw)
	if r.StatusCode != 201 || r.Header.Get("Docker-Content-Digest") != d || r.Header.Get("Location") == "" {
		c.t.Fatalf("%s: got %d %s %v", name, r.StatusCode, r.body, r.Header)
	}
	if want := ""; name == "missing-subject" {
		want = sum(alg, []byte("missing"))
		if got := r.Header.Get("OCI-Subject"); got != want {
			c.t.Errorf("got OCI-Subject %q, want %q", got, want)
		}
	}
	var k struct{ MediaType string }
	json.Unmarshal(raw, &k)
	r = c.want(201, "PUT", "/v2/a/b/manifests/"+d+"?tag="+name+"&tag="+name+"-2", raw, "Content-Type", k.MediaType)
	if got := r.Header.Values("OCI-Tag"); !slices.Equal(got, []string{name, name + "-2"}) {
		c.t.Errorf("got OCI-Tag %q", got)
	}
	for _, ref := range []string{d, name, name + "-2"} {
		for _, m := range []string{"GET", "HEAD"} {
			r := c.want(200, m, "/v2/a/b/manifests/"+ref, nil, "Accept", typeIndex)
			if r.Header.Get("Content-Type") != k.MediaType || r.ContentLength != int64(len(raw)) || r.Header.Get("Docker-Content-Digest") != d {
				c.t.Errorf("%s %s: got %v", m, ref, r.Header)
			}
			if m == "GET" && !bytes.Equal(r.body, raw) {
				c.t.Errorf("%s: other bytes than were pushed", ref)
			}
		}
	}
	c.want(202, "DELETE", "/v2/a/b/manifests/"+name, nil)
	c.want(404, "HEAD", "/v2/a/b/manifests/"+name, nil)
	c.want(200, "HEAD", "/v2/a/b/manifests/"+d, nil)
	c.want(202, "DELETE", "/v2/a/b/manifests/"+d, nil)
	c.want(404, "HEAD", "/v2/a/b/manifests/"+d, nil)
	c.want(404, "HEAD", "/v2/a/b/manifests/"+name+"-2", nil) // went with it
	if r := c.want(404, "DELETE", "/v2/a/b/manifests/"+d, nil); r.code() != distribution.CodeManifestUnknown {
		c.t.Errorf("got %s", r.body)
	}
	if got := c.want(200, "GET", "/v2/a/b/tags/list", nil).body; !bytes.Contains(got, []byte(`"tags":[]`)) {
		c.t.Errorf("got tags %s, want none", got)
	}
}

func TestManifestsRefused(t *testing.T) {
	c := start(t, Config{})
	image := func(more map[string]any) []byte { return c.image("a", "sha256", "x", more) }
	good := image(nil)
	layer := desc("application/vnd.oci.image.layer.v1.tar", "sha256", []byte("layer x"))
	wrongSize := maps.Clone(layer)
	wrongSize["size"] = 8
	for name, tc := range map[string]struct {
		ref, contentType string
		raw              []byte
		status           int
		code             string
	}{
		"other digest":        {sum("sha256", nil), typeManifest, good, 400, distribution.CodeDigestInvalid},
		"no digest":           {"sha256:baddigeststring", typeManifest, good, 400, distribution.CodeDigestInvalid},
		"no tag":              {".dot", typeManifest, good, 400, distribution.CodeManifestInvalid},
		"long tag":            {strings.Repeat("a", 129), typeManifest, good, 400, distribution.CodeManifestInvalid},
		"missing layer":       {"t", typeManifest, image(map[string]any{"layers": []any{desc("x/y", "sha256", []byte("?"))}}), 404, distribution.CodeManifestBlobUnknown},
		"missing config":      {"t", typeManifest, image(map[string]any{"config": desc("x/y", "sha256", []byte("?"))}), 404, distribution.CodeManifestBlobUnknown},
		"missing child":       {"t", typeIndex, marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{desc(typeManifest, "sha256", []byte("?"))}}), 404, distribution.CodeManifestBlobUnknown},
		"wrong size":          {"t", typeManifest, image(map[string]any{"layers": []any{wrongSize}}), 400, distribution.CodeSizeInvalid},
		"not JSON":            {"t", typeManifest, []byte("manifest"), 400, distribution.CodeManifestInvalid},
		"trailing data":       {"t", typeManifest, append(slices.Clone(good), "{}"...), 400, distribution.CodeManifestInvalid},
		"a name twice":        {"t", typeManifest, append([]byte(`{"schemaVersion":2,`), good[1:]...), 400, distribution.CodeManifestInvalid},
		"empty":               {"t", typeManifest, nil, 400, distribution.CodeManifestInvalid},
		"too large":           {"t", typeManifest, append(slices.Clone(good), bytes.Repeat([]byte(" "), 4<<20)...), 413, distribution.CodeSizeInvalid},
		"no config":           {"t", typeManifest, image(map[string]any{"config": nil}), 400, distribution.CodeManifestInvalid},
		"version 1":           {"t", typeManifest, image(map[string]any{"schemaVersion": 1}), 400, distribution.CodeManifestInvalid},
		"unknown type":        {"t", "application/json", image(map[string]any{"mediaType": "application/json"}), 400, distribution.CodeManifestInvalid},
		"page":                {"t", "text/html", image(map[string]any{"mediaType": "text/html"}), 400, distribution.CodeManifestInvalid},
		"type says otherwise": {"t", typeIndex, good, 400, distribution.CodeManifestInvalid},
		// CVE-2021-41190: one digest, an image to the one, an index to the other.
		"both kinds":             {"t", typeManifest, image(map[string]any{"manifests": []any{}}), 400, distribution.CodeManifestInvalid},
		"both kinds, as index":   {"t", typeIndex, image(map[string]any{"manifests": []any{}, "mediaType": typeIndex}), 400, distribution.CodeManifestInvalid},
		"index by its type only": {"t", typeIndex, image(map[string]any{"mediaType": nil}), 400, distribution.CodeManifestInvalid},
		"bad subject":            {"t", typeManifest, image(map[string]any{"subject": map[string]any{"mediaType": typeManifest, "digest": "../../x", "size": 1}}), 400, distribution.CodeManifestInvalid},
	} {
		r := c.do("PUT", "/v2/a/manifests/"+tc.ref, tc.raw, "Content-Type", tc.contentType)
		if r.StatusCode != tc.status || r.code() != tc.code {
			t.Errorf("%s: got %d %s, want %d %s", name, r.StatusCode, r.body, tc.status, tc.code)
		}
	}
	for ref, status := range map[string]int{"sha256:baddigeststring": 400, "missing": 404, ".INVALID_MANIFEST_NAME": 404, sum("sha256", nil): 404} {
		c.want(status, "GET", "/v2/a/manifests/"+ref, nil)
		c.want(status, "DELETE", "/v2/a/manifests/"+ref, nil)
	}
	if e, _ := os.ReadDir(c.reg.store.repo("a", "manifests")); len(e) != 0 {
		t.Errorf("refused manifests left %v", e)
	}
	// Types are told from the bytes where the client says none.
	c.want(201, "PUT", "/v2/a/manifests/untyped", image(map[string]any{"mediaType": nil}))
	if got := c.want(200, "GET", "/v2/a/manifests/untyped", nil).Header.Get("Content-Type"); got != typeManifest {
		t.Errorf("got type %q, want %q", got, typeManifest)
	}
}

type list struct {
	SchemaVersion int
	MediaType     string
	Manifests     []descriptor
}

func (c *client) referrers(path string) (l list, r *reply) {
	c.t.Helper()
	r = c.want(200, "GET", path, nil)
	if err := json.Unmarshal(r.body, &l); err != nil || l.SchemaVersion != 2 || l.MediaType != typeIndex || l.Manifests == nil || r.Header.Get("Content-Type") != typeIndex {
		c.t.Fatalf("%s: got %s (%v), want an index", path, r.body, err)
	}
	return l, r
}

func TestReferrers(t *testing.T) {
	for _, alg := range algorithms {
		dir := t.TempDir()
		c := start(t, Config{Dir: dir})
		if l, _ := c.referrers("/v2/unknown/referrers/" + sum(alg, nil)); len(l.Manifests) != 0 {
			t.Error("an unknown repository has referrers")
		}
		c.want(400, "GET", "/v2/unknown/referrers/latest", nil)
		subject := c.image("a", alg, "subject", nil)
		to := desc(typeManifest, alg, subject)
		push := func(raw []byte) string {
			t.Helper()
			d := sum(alg, raw)
			if r := c.put("a", d, raw); r.StatusCode != 201 || r.Header.Get("OCI-Subject") != sum(alg, subject) {
				t.Fatalf("got %d %s %v", r.StatusCode, r.body, r.Header)
			}
			return d
		}
		notes := map[string]string{"org.example": "hello"}
		byConfig := push(c.image("a", alg, "1", map[string]any{"subject": to}))
		byType := push(c.image("a", alg, "2", map[string]any{"subject": to, "artifactType": "application/vnd.a", "annotations": notes}))
		index := push(marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{}, "subject": to, "artifactType": "application/vnd.b"}))
		c.put("a", sum(alg, subject), subject) // after its referrers, which is allowed

		path := "/v2/a/referrers/" + sum(alg, subject)
		check := func() {
			t.Helper()
			l, _ := c.referrers(path)
			got := map[string]descriptor{}
			for _, d := range l.Manifests {
				got[d.Digest] = d
			}
			if len(l.Manifests) != 3 || got[byConfig].ArtifactType != "application/vnd.oci.image.config.v1+json" ||
				got[byType].ArtifactType != "application/vnd.a" || !maps.Equal(got[byType].Annotations, notes) || got[byType].MediaType != typeManifest || got[byType].Size == 0 ||
				got[index].ArtifactType != "application/vnd.b" || got[index].MediaType != typeIndex {
				t.Fatalf("got %+v", l.Manifests)
			}
		}
		check()
		l, r := c.referrers(path + "?artifactType=application%2Fvnd.a")
		if len(l.Manifests) != 1 || l.Manifests[0].Digest != byType || r.Header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("got %+v, %v", l.Manifests, r.Header)
		}
		if l, _ := c.referrers("/v2/b/referrers/" + sum(alg, subject)); len(l.Manifests) != 0 {
			t.Error("referrers show in another repository")
		}

		// A descriptor that a power cut broke is no descriptor.
		for _, broken := range []string{"", `{"mediaType":"text/html","digest":"sha256:0"}`} {
			if err := os.WriteFile(c.reg.store.manifest("a", mustDigest(t, byType))+".json", []byte(broken), 0o600); err != nil {
				t.Fatal(err)
			}
			check()
			if got := c.want(200, "GET", "/v2/a/manifests/"+byType, nil).Header.Get("Content-Type"); got != typeManifest {
				t.Errorf("got type %q, want %q", got, typeManifest)
			}
		}

		// All of it can be told from the manifests alone.
		if err := os.RemoveAll(c.reg.store.repo("a", "referrers")); err != nil {
			t.Fatal(err)
		}
		os.Remove(c.reg.store.manifest("a", mustDigest(t, byType)) + ".json")
		scrub(t, c.reg.cfg.Dir)
		check()

		c.want(202, "DELETE", "/v2/a/manifests/"+byType, nil)
		if l, _ := c.referrers(path); len(l.Manifests) != 2 {
			t.Errorf("got %d referrers after one was deleted, want 2", len(l.Manifests))
		}
	}
}

func mustDigest(t testing.TB, s string) digest {
	t.Helper()
	d, err := parseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Lists longer than an answer are followed by their links to the end.
func TestPages(t *testing.T) {
	c := start(t, Config{})
	subject := desc(typeManifest, "sha256", []byte("subject"))
	want := map[string]bool{}
	for i := range 6 {
		raw := c.image("a", "sha256", fmt.Sprint(i), map[string]any{"subject": subject, "annotations": map[string]string{"x": strings.Repeat("A", 1<<20)}})
		if r := c.put("a", fmt.Sprint("tag", i), raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
		want[sum("sha256", raw)] = true
	}
	for _, query := range []string{"", "?artifactType=application%2Fvnd.oci.image.config.v1%2Bjson"} {
		left, pages := maps.Clone(want), 0
		for path := "/v2/a/referrers/" + sum("sha256", []byte("subject")) + query; path != ""; pages++ {
			l, r := c.referrers(path)
			if len(r.body) > 4<<20 {
				t.Errorf("got a page of %d bytes, want at most 4 MiB", len(r.body))
			}
			for _, d := range l.Manifests {
				delete(left, d.Digest)
			}
			path = next(r)
		}
		if pages != 2 || len(left) != 0 {
			t.Errorf("got %d pages and %d referrers not listed, want 2 and none", pages, len(left))
		}
	}

	tags := func(query string) (got []string, r *reply) {
		var l struct{ Tags []string }
		r = c.want(200, "GET", "/v2/a/tags/list"+query, nil)
		if err := json.Unmarshal(r.body, &l); err != nil || l.Tags == nil {
			t.Fatalf("got %s", r.body)
		}
		return l.Tags, r
	}
	for _, tc := range []struct {
		query string
		want  string
		next  string
	}{
		{"", "[tag0 tag1 tag2 tag3 tag4 tag5]", ""},
		{"?n=2", "[tag0 tag1]", "/v2/a/tags/list?last=tag1&n=2"},
		{"?last=tag1&n=2", "[tag2 tag3]", "/v2/a/tags/list?last=tag3&n=2"},
		{"?last=tag3&n=2", "[tag4 tag5]", ""},
		{"?last=tag3", "[tag4 tag5]", ""},
		{"?last=tag22", "[tag3 tag4 tag5]", ""},
		{"?n=0", "[]", ""},
		{"?n=100", "[tag0 tag1 tag2 tag3 tag4 tag5]", ""},
	} {
		if got, r := tags(tc.query); fmt.Sprint(got) != tc.want || next(r) != tc.next {
			t.Errorf("%s: got %v, next %q, want %s, %q", tc.query, got, next(r), tc.want, tc.next)
		}
	}
	c.want(400, "GET", "/v2/a/tags/list?n=-1", nil)
	if r := c.want(404, "GET", "/v2/unknown/tags/list", nil); r.code() != distribution.CodeNameUnknown {
		t.Errorf("got %s", r.body)
	}
}

func next(r *reply) string {
	s := r.Header.Get("Link")
	path, ok := strings.CutSuffix(s, `>; rel="next"`)
	if s == "" || !ok {
		return s
	}
	return strings.TrimPrefix(path, "<")
}
