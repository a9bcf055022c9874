package gate_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
	"github.com/colophon-build/colophon/verify"
)

// TestPull: an accepted image is served by tag, then its children by digest, config and layers.
func TestPull(t *testing.T) {
	c := newScene(t, nil)
	r := c.want(200, "", manifests("v1.2.0"))
	if got := r.Header.Get("Docker-Content-Digest"); got != c.good.Digest.String() || fmt.Sprintf("sha256:%x", sha256.Sum256(r.body)) != got {
		t.Errorf("got digest %s, want %s", got, c.good.Digest)
	}
	index := c.parts(r.body)
	for _, m := range index.Manifests {
		child := c.parts(c.want(200, "", manifests(m.Digest.String())).body)
		for _, b := range append(child.Layers, child.Config) {
			r := c.want(200, "", blobs(b))
			if fmt.Sprintf("sha256:%x", sha256.Sum256(r.body)) != b.Digest.String() {
				t.Errorf("blob %s: got other bytes", b.Digest)
			}
			if h := c.do(http.MethodHead, blobs(b)); h.StatusCode != 200 || h.ContentLength != b.Size {
				t.Errorf("HEAD of a blob: got %d, %d bytes", h.StatusCode, h.ContentLength)
			}
		}
	}
	if h := c.do(http.MethodHead, manifests("v1.2.0")); h.StatusCode != 200 || h.Header.Get("Docker-Content-Digest") != c.good.Digest.String() || len(h.body) != 0 {
		t.Errorf("HEAD: got %d %v", h.StatusCode, h.Header)
	}
	c.want(200, "", manifests(c.good.Digest.String()))
	for _, words := range []string{`"outcome":"accepted"`, `"admitted":true`, `"commit":"381e42a`, c.good.Digest.String()} {
		if !strings.Contains(c.log.Text(), words) {
			t.Errorf("the record lacks %s: %s", words, c.log.Text())
		}
	}
}

// TestRefused: a rejected image is not served by tag, by digest, by HEAD, through its children or
// its blobs.
func TestRefused(t *testing.T) {
	c := newScene(t, nil)
	index := c.upstreamParts(c.bad.Digest)
	child := index.Manifests[0]
	in := c.upstreamParts(child.Digest)
	for _, path := range []string{manifests("bad"), manifests(c.bad.Digest.String()), manifests(child.Digest.String())} {
		c.want(403, `"code":"DENIED"`, path)
		c.want(403, "the image carries no signature", path)
		if h := c.do(http.MethodHead, path); h.StatusCode != 403 || h.Header.Get("Docker-Content-Digest") != "" {
			t.Errorf("HEAD %s: got %d %v", path, h.StatusCode, h.Header)
		}
	}
	for _, b := range append(in.Layers, in.Config) {
		c.want(403, "DENIED", blobs(b))
	}
	c.want(404, "MANIFEST_UNKNOWN", manifests("none"))
	if !strings.Contains(c.log.Text(), `"admitted":false`) || !strings.Contains(c.log.Text(), `"outcome":"rejected"`) {
		t.Errorf("the record: %s", c.log.Text())
	}
}

// TestUndecided: what nobody knows is not served, and the client is told to come again.
func TestUndecided(t *testing.T) {
	c := newScene(t, nil)
	c.use(strings.Replace(rules, "accept:", "distrust: {maxAge: 1h}\n      accept:", 1))
	r := c.want(503, "nobody knows", manifests("v1.2.0"))
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		inner.ServeHTTP(w, r)
	})
	c.use(rules)
	c.want(503, "UNAVAILABLE", manifests("v1.2.0"))
}

// TestTagMoves: the bytes that are served are those that were judged, whatever the tag says
// meanwhile.
func TestTagMoves(t *testing.T) {
	c := newScene(t, nil)
	var asked atomic.Int64
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/manifests/moving") {
			if r2 := r.Clone(r.Context()); asked.Add(1)%2 == 1 {
				r2.URL.Path = manifests("v1.2.0")
				r = r2
			} else {
				r2.URL.Path = manifests("bad")
				r = r2
			}
		}
		inner.ServeHTTP(w, r)
	})
	served, refused := 0, 0
	for range 20 {
		switch r := c.do(http.MethodGet, manifests("moving")); r.StatusCode {
		case 200:
			served++
			if fmt.Sprintf("sha256:%x", sha256.Sum256(r.body)) != c.good.Digest.String() {
				t.Fatal("served what was not judged")
			}
		case 403:
			refused++
		default:
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	if served == 0 || refused == 0 {
		t.Errorf("served %d, refused %d", served, refused)
	}
}

// TestAttachments: verifiers can read the proofs of any image through the gate.
func TestAttachments(t *testing.T) {
	c := newScene(t, nil)
	list := c.parts(c.want(200, "", "/v2/team/app/referrers/"+c.good.Digest.String()).body)
	if len(list.Manifests) == 0 {
		t.Fatal("no referrers")
	}
	for _, m := range list.Manifests {
		for _, b := range c.parts(c.want(200, "", manifests(m.Digest.String())).body).Layers {
			c.want(200, "", blobs(b))
		}
	}
}

// TestListsHaveNoManifests: a manifest in the data of a list of referrers is not served: it was not judged.
func TestListsHaveNoManifests(t *testing.T) {
	c := newScene(t, nil)
	c.upstream(func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			registry.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		bad := c.bad
		bad.Data = []byte("{}")
		_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []v1.Descriptor{bad}})
	})
	r := c.want(200, c.bad.Digest.String(), "/v2/team/app/referrers/"+c.good.Digest.String())
	if strings.Contains(string(r.body), `"data"`) {
		t.Errorf("got %s", r.body)
	}
}

// TestHiddenImages: whatever whoever pushes calls an image, it is judged as one.
func TestHiddenImages(t *testing.T) {
	c := newScene(t, nil)
	s := prooftest.NewStore(t)
	s.Tar = []byte("a third image")
	index, layers := s.Image("plain")
	c.push(s)
	child := c.upstreamParts(index.Digest).Manifests[0]
	image := c.upstreamParts(child.Digest)
	put := func(what string, manifest map[string]any, tag string) {
		t.Helper()
		manifest["schemaVersion"], manifest["mediaType"] = 2, "application/vnd.oci.image.manifest.v1+json"
		if manifest["manifests"] != nil {
			manifest["mediaType"] = "application/vnd.oci.image.index.v1+json"
		}
		raw, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.target().PushManifest(t.Context(), raw, manifest["mediaType"].(string))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.target().Tag(t.Context(), tag, d); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{tag, d.Digest.String()} {
			if r := c.do(http.MethodGet, manifests(ref)); r.StatusCode != 403 {
				t.Errorf("%s as %s: got %d, want 403", what, ref, r.StatusCode)
			}
		}
		for _, l := range layers {
			c.want(403, "DENIED", blobs(l))
		}
	}
	hex := c.good.Digest.Hex
	typed := func(mediaType string) []v1.Descriptor {
		l := image.Layers[0]
		l.MediaType = "" // replaced below
		raw := l
		raw.MediaType = image.Layers[0].MediaType
		if mediaType != "" {
			raw = v1.Descriptor{MediaType: "x", Digest: l.Digest, Size: l.Size}
			_ = json.Unmarshal([]byte(`{"mediaType":"`+mediaType+`"}`), &raw)
		}
		return []v1.Descriptor{raw}
	}
	put("an image under a signature's tag", map[string]any{"config": image.Config, "layers": image.Layers}, "sha256-"+hex+".sig")
	put("an image with a subject", map[string]any{"config": image.Config, "layers": image.Layers, "subject": c.good}, "subject")
	put("layers of another type", map[string]any{"config": image.Config, "layers": typed("application/vnd.dev.cosign.simplesigning.v1+json"), "subject": c.good}, "sha256-"+hex+".att")
	put("a config of another type", map[string]any{"config": map[string]any{"mediaType": "application/json", "digest": image.Config.Digest, "size": image.Config.Size}, "layers": image.Layers, "subject": c.good}, "config")
	put("an archive with a subject", map[string]any{"config": map[string]any{"mediaType": "application/json", "digest": image.Config.Digest, "size": image.Config.Size}, "layers": typed("application/x-tar"), "subject": c.good}, "archive")
	put("types of attachments, which Docker runs", map[string]any{"config": map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": image.Config.Digest, "size": image.Config.Size}, "layers": typed("application/vnd.dsse.envelope.v1+json"), "subject": c.good}, "dsse")
	put("no subject", map[string]any{"config": map[string]any{"mediaType": "application/json", "digest": image.Config.Digest, "size": image.Config.Size}, "layers": typed("text/plain")}, "artifact")
	put("no layers", map[string]any{"config": image.Config, "layers": []any{}, "subject": c.good}, "empty")

	// CRI-O mounts what is no image as a volume, whatever its layers are.
	empty := c.blob("{}")
	for what, content := range map[string]string{
		"a script": "#!/bin/sh\n", "a package": `{"scripts":{"preinstall":"sh"}}`, "a payload and more": `{"critical":{"type":"x"}}`, "an envelope of nothing": `{"payloadType":"x","payload":"?"}`,
		"nearly an SBOM": `{"spdxVersion":"x"}`, "twice": `{"spdxVersion":"SPDX-2.3","spdxVersion":"SPDX-2.3"}`, "a bundle of nothing": `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`,
	} {
		for _, mediaType := range []string{"application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.example", "application/cose", "application/jose+json", "application/vnd.dsse.envelope.v1+json"} {
			l := map[string]any{"mediaType": mediaType, "digest": c.blob(content).Digest, "size": len(content)}
			put(what+" as an attachment of "+mediaType, map[string]any{"artifactType": mediaType, "config": empty, "layers": []any{l}, "subject": c.good}, "mounted")
		}
	}

	// An archive whose bytes are JSON, too: its one file has a name that begins a text, and ends it.
	polyglot := jsonTar(t)
	l := v1.Descriptor{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Size: int64(len(polyglot))}
	var err error
	if l.Digest, _, err = v1.SHA256(bytes.NewReader(polyglot)); err == nil {
		err = c.target().PushBlob(t.Context(), l, opener(polyglot))
	}
	if err != nil {
		t.Fatal(err)
	}
	put("an archive that is JSON", map[string]any{"config": image.Config, "layers": []any{l}}, "sha256-"+hex+".sbom")
}

// A manifest whose content is a proof is served.
func TestContentOfProofs(t *testing.T) {
	c := newScene(t, nil)
	empty := c.blob("{}")
	for what, content := range map[string]string{
		"SPDX": spdx, "CycloneDX": `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1}`, "nothing": "{}",
		"a statement": `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + c.good.Digest.Hex + `"}}],"predicateType":"https://example.com/p","predicate":{}}`,
		"a payload":   `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + c.good.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`,
	} {
		raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": empty, "layers": []any{c.blob(content)}, "subject": c.good})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.target().PushManifest(t.Context(), raw, "application/vnd.oci.image.manifest.v1+json")
		if err != nil {
			t.Fatal(err)
		}
		if r := c.do(http.MethodGet, manifests(d.Digest.String())); r.StatusCode != 200 {
			t.Errorf("%s: got %d, want 200", what, r.StatusCode)
		}
		c.want(200, "", blobs(c.blob(content)))
	}
}

// A list of attachments is served, and opens nothing.
func TestListOfAttachments(t *testing.T) {
	c := newScene(t, nil)
	s := prooftest.NewStore(t)
	s.Tar = []byte("a third image")
	index, _ := s.Image("plain")
	c.push(s)
	child := c.upstreamParts(index.Digest).Manifests[0]
	tag := "sha256-" + c.good.Digest.Hex
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []any{child}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.target().PushManifest(t.Context(), raw, "application/vnd.oci.image.index.v1+json")
	if err == nil {
		err = c.target().Tag(t.Context(), tag, d)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.want(200, "", manifests(tag))
	c.want(403, "DENIED", manifests(child.Digest.String()))
}

// TestOpenedForATime: what an acceptance opened is closed again, also for whoever keeps asking.
func TestOpenedForATime(t *testing.T) {
	c := newScene(t, nil)
	index := c.parts(c.want(200, "", manifests("v1.2.0")).body)
	child := manifests(index.Manifests[0].Digest.String())
	layer := blobs(c.parts(c.want(200, "", child).body).Layers[0])
	for range 3 {
		c.later(4 * time.Minute)
		c.do(http.MethodGet, child)
	}
	c.want(403, "the image carries no signature", child) // the index is signed, the child alone is not
	c.want(200, "", layer)
	c.later(time.Hour)
	c.want(403, "DENIED", layer)
	// Other policies close everything at once.
	c.want(200, "", manifests("v1.2.0"))
	c.want(200, "", child)
	c.use(strings.Replace(rules, "team/app}", "team/other}", 1))
	c.want(403, "DENIED", child)
	c.want(403, "DENIED", layer)
	c.want(403, "DENIED", manifests("v1.2.0"))
}

// TestClientsCredentials: what the credentials of one client may read is nothing for another.
func TestClientsCredentials(t *testing.T) {
	c := newScene(t, func(g *gate.Config) { g.AskClients = true })
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if _, password, _ := r.BasicAuth(); password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
	basic := func(password string) []string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth("ada", password)
		return []string{"Authorization", r.Header.Get("Authorization")}
	}
	if r := c.want(401, "UNAUTHORIZED", "/v2/"); !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("got the challenge %q", r.Header.Get("WWW-Authenticate"))
	}
	index := c.parts(c.want(200, "", manifests("v1.2.0"), basic("right")...).body)
	child := c.parts(c.want(200, "", manifests(index.Manifests[0].Digest.String()), basic("right")...).body)
	c.want(200, "", blobs(child.Layers[0]), basic("right")...)
	for _, path := range []string{manifests("v1.2.0"), manifests(c.good.Digest.String()), manifests(index.Manifests[0].Digest.String())} {
		c.want(401, "", path, basic("wrong")...)
		c.want(401, "", path)
	}
	c.want(403, "DENIED", blobs(child.Layers[0]), basic("wrong")...)
	if strings.Contains(c.log.Text(), "right") {
		t.Error("the password is in the log")
	}
}

// TestLyingUpstream: bytes that are not those of their digest are never served whole.
func TestLyingUpstream(t *testing.T) {
	cache := openCache(t, 1<<20)
	c := newScene(t, func(g *gate.Config) { g.Cache = cache })
	index := c.parts(c.want(200, "", manifests("v1.2.0")).body)
	child := c.parts(c.want(200, "", manifests(index.Manifests[0].Digest.String())).body)
	layer := child.Layers[0]
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		switch {
		case strings.Contains(r.URL.Path, "/blobs/"):
			_, _ = w.Write(bytes.Repeat([]byte("x"), int(layer.Size)))
		case strings.Contains(r.URL.Path, c.bad.Digest.String()):
			r.URL.Path = manifests("v1.2.0")
			inner.ServeHTTP(w, r)
		default:
			inner.ServeHTTP(w, r)
		}
	})
	for range 2 { // the second time, it would come from the cache
		if r := c.do(http.MethodGet, blobs(layer)); r.StatusCode == 200 && r.err == nil {
			t.Errorf("another blob was served whole: %d bytes", len(r.body))
		}
	}
	c.want(502, "UNKNOWN", manifests(c.bad.Digest.String()))
	c.guard.Store(nil)
	c.want(200, "", blobs(layer))
}

// TestUpstreamDown: a registry that fails, hangs or sends elsewhere is an error with a time.
func TestUpstreamDown(t *testing.T) {
	c := newScene(t, nil)
	for _, status := range []int{500, 429, 404, 403} {
		c.upstream(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { w.WriteHeader(status) })
		want := map[int]int{500: 503, 429: 503, 404: 404, 403: 403}[status]
		c.want(want, "errors", manifests("v1.2.0"))
	}
	c.upstream(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
	})
	c.want(503, "plain HTTP", manifests("v1.2.0"))
	c.upstream(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		_, _ = io.Copy(w, io.LimitReader(zeros{}, 16<<20))
	})
	c.want(502, "more than", manifests("v1.2.0"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestGarbage: what is no request for an image is refused, and nothing can be pushed.
func TestGarbage(t *testing.T) {
	c := newScene(t, nil)
	for path, status := range map[string]int{
		"/v2/": 200, "/v2/team/app/tags/list": 200, "/v2/_catalog": 404, "/v2/team/app/blobs/uploads/": 404, "/v2/Team/manifests/x": 400,
		"/v2/../manifests/x": 400, "/v2/team%2fapp/manifests/v1.2.0": 400, manifests("sha256:ab"): 400, manifests("a b"): 400, "/v2/team/app/blobs/latest": 400, "/": 404,
	} {
		if r := c.do(http.MethodGet, path); r.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, r.StatusCode, r.body, status)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch} {
		if r := c.do(method, manifests("v1.2.0")); r.StatusCode != 405 {
			t.Errorf("%s: got %d, want 405", method, r.StatusCode)
		}
	}
}

// TestAudit: nothing is refused, and the record says what would be.
func TestAudit(t *testing.T) {
	c := newScene(t, func(g *gate.Config) { g.Audit = true })
	index := c.parts(c.want(200, "", manifests("bad")).body)
	child := c.parts(c.want(200, "", manifests(index.Manifests[0].Digest.String())).body)
	c.want(200, "", blobs(child.Layers[0]))
	for _, words := range []string{`"outcome":"rejected"`, `"dryRun":true`, "carries no signature"} {
		if !strings.Contains(c.log.Text(), words) {
			t.Errorf("the record lacks %s: %s", words, c.log.Text())
		}
	}
}

// TestAuditUndecidable: in audit mode, clients get also that of which nothing can be decided, as the
// upstream serves it, and the record says so. What the upstream has not stays missing.
func TestAuditUndecidable(t *testing.T) {
	for _, audit := range []bool{true, false} {
		c := newScene(t, func(g *gate.Config) { g.Audit = audit })
		twice := []byte(`{"schemaVersion":2,"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`)
		long := "sha512:" + strings.Repeat("ab", 64)
		c.upstream(func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/manifests/twice"), strings.HasSuffix(r.URL.Path, "/manifests/"+long):
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				_, _ = w.Write(twice)
			case strings.HasSuffix(r.URL.Path, "/blobs/"+long):
				_, _ = io.WriteString(w, "a blob")
			default:
				registry.ServeHTTP(w, r)
			}
		})
		layer := c.upstreamParts(c.upstreamParts(c.bad.Digest).Manifests[0].Digest).Layers[0]
		for path, want := range map[string]string{manifests("twice"): string(twice), manifests(long): string(twice), "/v2/team/app/blobs/" + long: "a blob", blobs(layer): ""} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r := c.do(method, path)
				if served := r.StatusCode == 200; served != audit || audit && method == http.MethodGet && !strings.Contains(string(r.body), want) {
					t.Errorf("audit %v: %s %s: got %d %s", audit, method, path, r.StatusCode, r.body)
				}
			}
		}
		c.want(404, "", manifests("nothing"))
		if text := c.log.Text(); audit && (strings.Count(text, `"outcome":"undecided"`) != 8 || !strings.Contains(text, `"operation":"pull of blobs"`)) || strings.Contains(text, "nothing") {
			t.Errorf("audit %v: the record: %s", audit, text)
		}
	}
}

// TestNames: policies see what an image is, not where it was copied to.
func TestNames(t *testing.T) {
	c := newScene(t, func(g *gate.Config) {
		g.Names = map[string]string{"team/": "registry.example.com/shop/", "": "index.docker.io/"}
	})
	c.want(403, "no rule", manifests("v1.2.0"))
	c.use(strings.Replace(rules, "HOST/team/**", "registry.example.com/shop/**", 1))
	c.want(200, "", manifests("v1.2.0"))
}

// TestMatrix: the gate gives the decision of each case of the shared table.
func TestMatrix(t *testing.T) {
	w := matrix.Serve(t)
	roots, err := w.Trust()
	if err != nil {
		t.Fatal(err)
	}
	store := verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	c := &scene{t: t, log: &shop.Log{}}
	srv := httptest.NewServer(gate.New(gate.Config{Upstream: w.Host, Verdicts: store, Transport: verdicts.Transport(true), Log: c.log.Logger(), Registerer: prometheus.NewRegistry()}))
	defer srv.Close()
	c.url = srv.URL
	asked := 0
	for n, one := range w.Cases {
		sets, err := policy.ParseSets(one.Policy)
		if err == nil {
			err = store.Use(fmt.Sprint(n), sets, roots)
		}
		ref, refErr := oci.ParseReference(one.Image)
		if err != nil || refErr != nil {
			t.Fatal(err, refErr)
		}
		asked++
		r := c.do(http.MethodGet, "/v2/"+strings.TrimPrefix(ref.Repository, w.Host+"/")+"/manifests/"+ref.Identifier())
		want := map[verify.Outcome]int{verify.Accepted: 200, verify.Rejected: 403, verify.Undecided: 503}[one.Outcome]
		var e struct{ Errors []struct{ Message string } }
		if r.StatusCode != 200 {
			if err := json.Unmarshal(r.body, &e); err != nil || len(e.Errors) != 1 {
				t.Fatalf("%s: %s", one.Name, r.body)
			}
		}
		if warning := strings.ReplaceAll(strings.Join(r.Header.Values("Warning"), "; "), "'", `"`); r.StatusCode == 200 && (!strings.Contains(warning, one.Warning) || (warning == "") != (one.Warning == "")) {
			t.Errorf("%s: got the warnings %q, want %q", one.Name, warning, one.Warning)
		}
		if r.StatusCode != want || r.StatusCode != 200 && !strings.Contains(e.Errors[0].Message, one.Reason) {
			t.Errorf("%s, %s: got %d %s, want %d with %q", one.Name, one.Image, r.StatusCode, r.body, want, one.Reason)
		}
	}
	t.Logf("%d cases", asked)

	// Under the last policy, nobody gets these images. Their signatures can be read all the same.
	for _, name := range []string{"vendor/tool:by-ada", "vendor/tool:bundle", "vendor/notary:jws", "vendor/notary:cose"} {
		repository, tag, _ := strings.Cut(name, ":")
		up, err := oci.OpenRegistry(w.Host+"/"+repository, oci.RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		through, err := oci.OpenRegistry(strings.TrimPrefix(srv.URL, "http://")+"/"+repository, oci.RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		image, err := up.Resolve(t.Context(), tag)
		if err != nil {
			t.Fatal(err)
		}
		all, err := oci.Attachments(t.Context(), through, image.Digest, oci.CosignSignatures, oci.CosignAttestations)
		if err != nil || len(all) == 0 {
			t.Errorf("%s: got %d attachments, %v", name, len(all), err)
		}
		for _, a := range all {
			if a.Err != nil {
				t.Errorf("%s, an attachment: %v", name, a.Err)
			}
			if err := oci.CheckAttachment(t.Context(), through, a.Descriptor); err != nil && a.Descriptor.Size > 0 {
				t.Errorf("%s, blobs of an attachment: %v", name, err)
			}
		}
	}
}
