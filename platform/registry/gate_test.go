package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
)

// gated is a registry with a gate, with a signed image v1.2.0 and one without proofs, bad, which got
// its tag before there was a rule about it.
type gated struct {
	*client
	p         *prooftest.Platform
	host      string
	good, bad v1.Descriptor
	log       *shop.Log
}

const (
	others = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: allow
  rules:
    - name: app
      images: [{glob: "other.example.com/**"}]
      accept:
        - built: {source: https://git.example.com/team/app}
`
)

func startGated(t testing.TB, cfg Config) *gated {
	t.Helper()
	g := &gated{p: prooftest.New(t), log: &shop.Log{}}
	if cfg.Gate == nil {
		cfg.Gate = &Gate{}
	}
	cfg.AnonymousPull, cfg.Log = true, g.log.Logger()
	g.client = start(t, cfg).as("")
	g.host = strings.TrimPrefix(g.url, "http://")
	g.use(others)
	release, bad := shop.Push(t, g.p, g.target("team/app"))
	g.good, g.bad = release.Image, bad
	g.use(shop.Rules)
	return g
}

func (g *gated) use(text string) {
	g.t.Helper()
	shop.Use(g.t, g.reg.Verdicts(), sum("sha256", []byte(text)), g.host, text, g.p.Root())
}

func (g *gated) target(repo string) *oci.Registry {
	g.t.Helper()
	return shop.Open(g.t, g.host+"/"+repo, oci.RegistryOptions{Token: "pusher"})
}

// bytesOf returns a manifest of team/app as whoever may push reads it.
func (g *gated) bytesOf(d v1.Hash) []byte {
	g.t.Helper()
	raw, _, err := g.target("team/app").Manifest(g.t.Context(), d)
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

type listed struct {
	MediaType string
	Config    v1.Descriptor
	Layers    []v1.Descriptor
	Manifests []v1.Descriptor
}

func (g *gated) in(d v1.Hash) (m listed) {
	g.t.Helper()
	if err := json.Unmarshal(g.bytesOf(d), &m); err != nil {
		g.t.Fatal(err)
	}
	return m
}

func at(ref string) string { return "/v2/team/app/manifests/" + ref }

// denied wants a refusal with a reason.
func (g *gated) denied(method, path, reason string, header ...string) {
	g.t.Helper()
	r := g.do(method, path, nil, header...)
	if r.StatusCode != 403 || method != http.MethodHead && (r.code() != distribution.CodeDenied || !strings.Contains(string(r.body), reason)) || r.Header.Get("Docker-Content-Digest") != "" {
		g.t.Errorf("%s %s %q: got %d %s %v, want 403 with %q", method, path, header, r.StatusCode, r.body, r.Header, reason)
	}
}

const unsigned = shop.Unsigned

// An accepted image is served by tag and digest, then its children; of another one nothing is,
// however one asks.
func TestGatePull(t *testing.T) {
	g := startGated(t, Config{})
	child := g.in(g.good.Digest).Manifests[0].Digest.String()
	g.denied("GET", at(child), unsigned) // alone, it has no proof
	for _, ref := range []string{"v1.2.0", g.good.Digest.String(), child} {
		g.want(200, "GET", at(ref), nil)
		g.want(200, "HEAD", at(ref), nil)
	}
	if r := g.want(206, "GET", at("v1.2.0"), nil, "Range", "bytes=0-9"); len(r.body) != 10 {
		t.Errorf("got %d bytes, want 10", len(r.body))
	}
	bad := g.bad.Digest.String()
	for _, ref := range []string{"bad", bad, g.in(g.bad.Digest).Manifests[0].Digest.String()} {
		g.denied("GET", at(ref), unsigned)
		g.denied("HEAD", at(ref), "")
		g.denied("GET", at(ref), unsigned, "Range", "bytes=0-9")
		g.denied("GET", at(ref), unsigned, "If-None-Match", `"`+bad+`"`)
		g.denied("GET", at(ref), unsigned, "If-Range", `"`+bad+`"`, "Range", "bytes=0-9")
		for _, accept := range []string{"*/*", "application/json", "application/vnd.oci.artifact.manifest.v1+json", typeIndex + ";q=0"} {
			g.denied("GET", at(ref), unsigned, "Accept", accept)
		}
	}
	for path, status := range map[string]int{
		"/v2//team/app/manifests/bad": 400, "/v2/team//app/manifests/bad": 400, "/v2/team/app//manifests/bad": 400,
		"/v2/Team/app/manifests/bad": 400, "/v2/team%2fapp/manifests/bad": 400, at("BAD"): 404, at("bad/"): 404, at("/bad"): 404, at(strings.ToUpper(bad)): 400, at("sha256:" + strings.ToUpper(g.bad.Digest.Hex)): 400,
		at(strings.Replace(bad, ":", "%3a", 1)): 403, at("b%61d"): 403, "/v2/./team/app/manifests/bad": 400, "/v2/x/../team/app/manifests/bad": 400,
	} {
		if r := g.do("GET", path, nil); r.StatusCode != status {
			t.Errorf("%s: got %d %s, want %d", path, r.StatusCode, r.body, status)
		}
	}
	for _, words := range []string{`"outcome":"accepted"`, `"outcome":"rejected"`, `"admitted":false`, `"commit":"381e42a`, g.host + "/team/app:bad"} {
		if !strings.Contains(g.log.Text(), words) {
			t.Errorf("the log lacks %s", words)
		}
	}
}

// Whoever may push reads by digest what is there, to sign it; by tag, he gets what everybody gets. An
// access token may as much as the token that it was made with.
func TestGateReaders(t *testing.T) {
	g := startGated(t, Config{})
	bad := g.bad.Digest.String()
	access := func(as string) string {
		r := g.as(as).want(200, "GET", "/v2/token?scope=repository:team/app:pull", nil)
		var a struct{ Token string }
		if err := json.Unmarshal(r.body, &a); err != nil {
			t.Fatal(err)
		}
		return a.Token
	}
	for token, status := range map[string]int{"": 403, "puller": 403, access("puller"): 403, access(""): 403, "pusher": 200, "boss": 200, access("pusher"): 200} {
		who := g.as(token)
		if r := who.do("GET", at(bad), nil); r.StatusCode != status {
			t.Errorf("as %.10q by digest: got %d, want %d", token, r.StatusCode, status)
		}
		if r := who.do("GET", at("bad"), nil); r.StatusCode != 403 {
			t.Errorf("as %.10q by tag: got %d, want 403", token, r.StatusCode)
		}
	}
}

// A tag comes last: the image is there by digest, then its proofs, and then it may have a tag, at once.
func TestGateTag(t *testing.T) {
	g := startGated(t, Config{Mutable: []string{"team/*"}})
	g.client = g.as("pusher")
	s := prooftest.NewStore(t)
	s.Tar = []byte("a third image")
	index, _ := s.Image("")
	dst := g.target("team/app")
	pushOnly(t, s, dst, index)
	raw, kind := g.bytesOf(index.Digest), string(index.MediaType)
	tries := map[string]func(tag string) *reply{
		"by tag": func(tag string) *reply { return g.do("PUT", at(tag), raw, "Content-Type", kind) },
		"with digest": func(tag string) *reply {
			return g.do("PUT", at(index.Digest.String())+"?tag="+tag, raw, "Content-Type", kind)
		},
		"one of several": func(tag string) *reply {
			return g.do("PUT", at(index.Digest.String())+"?tag=sha256-"+g.good.Digest.Hex+"&tag="+tag, raw, "Content-Type", kind)
		},
		"in chunks": func(tag string) *reply { return g.chunked(at(tag), raw, kind) },
	}
	for how, try := range tries {
		for _, tag := range []string{"v2", "v1.2.0", "sha256-" + g.good.Digest.Hex + ".sig", "latest"} {
			if r := try(tag); r.StatusCode != 403 || !strings.Contains(string(r.body), unsigned) || !strings.Contains(string(r.body), index.Digest.String()) {
				t.Errorf("%s, tag %s: got %d %s", how, tag, r.StatusCode, r.body)
			}
			if d, err := dst.Resolve(t.Context(), tag); err == nil && d.Digest != g.good.Digest {
				t.Errorf("%s, tag %s: points at %s", how, tag, d.Digest)
			}
		}
	}
	g.want(404, "GET", at("sha256-"+g.good.Digest.Hex), nil) // all tags of a push, or none
	if r := g.do("GET", at("v1.2.0"), nil); sum("sha256", r.body) != g.good.Digest.String() {
		t.Errorf("a refused push moved the tag: got %d", r.StatusCode)
	}
	// The proofs, and within the second in which a rejection stands, the tag.
	for how, try := range tries {
		g.sign(index)
		if r := try("signed"); r.StatusCode != 201 {
			t.Errorf("%s, signed: got %d %s", how, r.StatusCode, r.body)
		}
	}
	g.as("").want(200, "GET", at("signed"), nil)
}

// sign attaches all proofs to an image that is in team/app.
func (g *gated) sign(image v1.Descriptor) {
	g.t.Helper()
	r := g.p.ReleaseOf(image)
	for _, kind := range prooftest.Kinds {
		if _, err := oci.AttachBundle(g.t.Context(), g.target("team/app"), image, g.p.Sign(r.Signer(), r.Statement(kind)), kind, time.Now()); err != nil {
			g.t.Fatal(err)
		}
	}
}

// pushOnly pushes an index and its parts, without tags.
func pushOnly(t testing.TB, s *prooftest.Store, dst oci.Target, d v1.Descriptor) {
	t.Helper()
	if err := oci.Copy(t.Context(), dst, s, d); err != nil {
		t.Fatal(err)
	}
}

func (g *gated) chunked(path string, raw []byte, kind string) *reply {
	g.t.Helper()
	req, err := http.NewRequest("PUT", g.url+path, struct{ io.Reader }{bytes.NewReader(raw)})
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	req.SetBasicAuth("any", g.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return &reply{resp, body}
}

// Whatever whoever pushes calls an image, it is judged as one: no form of a tag, subject or media
// type gets it under a tag, or past the gate if it has one.
func TestGateHiddenImages(t *testing.T) {
	g := startGated(t, Config{})
	image := g.in(g.in(g.bad.Digest).Manifests[0].Digest)
	typed := func(mediaType string) []any {
		return []any{map[string]any{"mediaType": mediaType, "digest": image.Layers[0].Digest, "size": image.Layers[0].Size}}
	}
	config := map[string]any{"mediaType": "application/json", "digest": image.Config.Digest, "size": image.Config.Size}
	hex := g.good.Digest.Hex
	for i, one := range []struct {
		what, tag string
		manifest  map[string]any
	}{
		{"an image under a signature's tag", "sha256-" + hex + ".sig", map[string]any{"config": image.Config, "layers": image.Layers}},
		{"under that of another algorithm", "sha512-" + hex + ".sig", map[string]any{"config": image.Config, "layers": image.Layers}},
		{"under a fallback tag", "sha256-" + hex, map[string]any{"config": image.Config, "layers": image.Layers}},
		{"as a referrer", "subject", map[string]any{"config": image.Config, "layers": image.Layers, "subject": g.good}},
		{"with layers of another type", "sha256-" + hex + ".att", map[string]any{"config": image.Config, "layers": typed("application/vnd.dev.cosign.simplesigning.v1+json"), "subject": g.good}},
		{"with a config of another type", "config", map[string]any{"config": config, "layers": image.Layers, "subject": g.good}},
		{"an archive of its own type", "archive", map[string]any{"config": config, "layers": typed("application/x-tar"), "subject": g.good}},
		{"an artifact", "artifact", map[string]any{"config": config, "layers": typed("text/plain"), "artifactType": "text/plain"}},
		{"without layers", "empty", map[string]any{"config": image.Config, "layers": []any{}, "subject": g.good}},
		{"an index of refused images", "index", map[string]any{"manifests": []any{g.bad}}},
		{"an index as a signature", "sha256-" + hex + ".sbom", map[string]any{"manifests": []any{g.bad}}},
		{"an index with a subject", "listed", map[string]any{"manifests": []any{g.bad}, "subject": g.good}},
	} {
		one.manifest["schemaVersion"], one.manifest["mediaType"] = 2, typeManifest
		if one.manifest["manifests"] != nil {
			one.manifest["mediaType"] = typeIndex
		}
		one.manifest["annotations"] = map[string]string{"n": fmt.Sprint(i)}
		raw := marshal(one.manifest)
		if r := g.as("pusher").put("team/app", one.tag, raw); r.StatusCode != 403 {
			t.Errorf("%s: the tag %s was set: %d %s", one.what, one.tag, r.StatusCode, r.body)
		}
		g.denied("GET", at(sum("sha256", raw)), "")
		// It may have the tag from before there was a policy.
		g.use(others)
		if r := g.as("pusher").put("team/app", one.tag, raw); r.StatusCode != 201 && !strings.Contains(one.tag, hex) {
			t.Fatalf("%s: got %d %s", one.what, r.StatusCode, r.body)
		}
		g.use(shop.Rules)
		g.denied("GET", at(one.tag), "")
		g.denied("GET", at(sum("sha256", raw)), "")
	}
	// A list of attachments is served, and opens nothing.
	child := g.in(g.bad.Digest).Manifests[0]
	raw := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{child}})
	other := "sha256-" + g.bad.Digest.Hex
	if r := g.as("pusher").put("team/app", other, raw); r.StatusCode != 201 {
		t.Errorf("a list of attachments: got %d %s", r.StatusCode, r.body)
	}
	g.want(200, "GET", at(other), nil)
	g.denied("GET", at(child.Digest.String()), unsigned)
}

// Content gets no tag of its own, and no reader, by being called an attachment: an SBOM is served under its
// image's tag and as a referrer, and what has an SBOM's header alone is not.
func TestGateContentAsAttachment(t *testing.T) {
	g := startGated(t, Config{})
	push := g.as("pusher")
	whole := `{"spdxVersion":"SPDX-2.3","dataLicense":"CC0-1.0","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/app","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: x"]}}`
	push.blob("team/app", "sha256", []byte("{}"))
	attached := func(layer string, subject bool) []byte {
		push.blob("team/app", "sha256", []byte(layer))
		m := map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": desc("application/vnd.oci.empty.v1+json", "sha256", []byte("{}")), "layers": []any{desc("text/spdx+json", "sha256", []byte(layer))}}
		if subject {
			m["subject"] = g.good
		}
		return marshal(m)
	}
	tag := "sha256-" + g.good.Digest.Hex + ".sbom"
	for _, one := range []struct {
		what, layer, tag string
		subject          bool
		set, read        int // the status of a push by tag, and of a pull by digest
	}{
		{"an SBOM under a tag of its own", whole, "files", true, 403, 200},
		{"one that is attached to nothing", strings.Replace(whole, "app", "nothing", 1), "files", false, 403, 403},
		{"one under its image's tag", whole, tag, false, 201, 200},
		{"the header of an SBOM", `{"spdxVersion":"SPDX-2.3"}`, tag, true, 403, 403},
		{"an SBOM and more", strings.Replace(whole, "{", `{"scripts":{"preinstall":"sh"},`, 1), tag, true, 403, 403},
	} {
		raw := attached(one.layer, one.subject)
		if r := push.put("team/app", one.tag, raw); r.StatusCode != one.set {
			t.Errorf("%s: the tag %s: got %d %s, want %d", one.what, one.tag, r.StatusCode, r.body, one.set)
		}
		if one.set == 201 {
			g.want(200, "GET", at(one.tag), nil)
		}
		if r := g.do("GET", at(sum("sha256", raw)), nil); r.StatusCode != one.read {
			t.Errorf("%s, by digest: got %d %s, want %d", one.what, r.StatusCode, r.body, one.read)
		}
	}
}

// Proofs can be pushed and read while their image is refused: by referrers, and under tags as
// clients without the referrers API do.
func TestGateProofs(t *testing.T) {
	g := startGated(t, Config{})
	push := g.as("pusher")
	statement := bundle.SimpleSigning("registry.example.com/team/app", g.bad.Digest)
	push.blob("team/app", "sha256", statement)
	push.blob("team/app", "sha256", []byte("{}"))
	signature := marshal(map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": desc("application/vnd.oci.image.config.v1+json", "sha256", []byte("{}")),
		"layers": []any{desc("application/vnd.dev.cosign.simplesigning.v1+json", "sha256", statement)},
	})
	tag := "sha256-" + g.bad.Digest.Hex + ".sig"
	if r := push.put("team/app", tag, signature); r.StatusCode != 201 {
		t.Errorf("a signature's tag: got %d %s", r.StatusCode, r.body)
	}
	g.want(200, "GET", at(tag), nil)
	g.want(200, "GET", "/v2/team/app/blobs/"+sum("sha256", statement), nil)
	g.sign(g.bad)
	all, err := oci.Attachments(t.Context(), g.anonymous("team/app"), g.bad.Digest, oci.CosignSignatures)
	if err != nil || len(all) < 3 {
		t.Fatalf("got %d, %v", len(all), err)
	}
	for _, a := range all {
		if a.Err != nil {
			t.Error(a.Err)
		}
	}
	time.Sleep(1100 * time.Millisecond) // a rejection stands for a second
	g.want(200, "GET", at("bad"), nil)
}

func (g *gated) anonymous(repo string) *oci.Registry {
	g.t.Helper()
	return shop.Open(g.t, g.host+"/"+repo, oci.RegistryOptions{})
}

// What is served are the bytes that were judged, while the tag moves.
func TestGateTagMoves(t *testing.T) {
	g := startGated(t, Config{})
	var wait sync.WaitGroup
	stop := make(chan struct{})
	wait.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			d := []v1.Descriptor{g.good, g.bad}[i%2]
			if err := g.reg.store.place(g.reg.store.tag("team/app", "moving"), []byte(d.Digest.String()+"\n"), func(*os.File) error { return nil }); err != nil {
				t.Error(err)
				return
			}
		}
	})
	served, refused := 0, 0
	for end := time.Now().Add(await.Patience); (served < 20 || refused < 20) && time.Now().Before(end); {
		switch r := g.do("GET", at("moving"), nil); r.StatusCode {
		case 200:
			served++
			if sum("sha256", r.body) != g.good.Digest.String() {
				t.Fatal("served what was not judged")
			}
		case 403:
			refused++
		case 404:
		default:
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	close(stop)
	wait.Wait()
	if served < 20 || refused < 20 {
		t.Errorf("served %d, refused %d", served, refused)
	}
}

// What proves an image in one repository, proves nothing in another; mounting its blobs neither.
func TestGateOtherRepository(t *testing.T) {
	g := startGated(t, Config{})
	push := g.as("pusher")
	for _, child := range g.in(g.good.Digest).Manifests {
		m := g.in(child.Digest)
		for _, b := range append(m.Layers, m.Config) {
			push.want(201, "POST", "/v2/team/other/blobs/uploads/?mount="+b.Digest.String()+"&from=team/app", nil)
		}
		push.want(201, "PUT", "/v2/team/other/manifests/"+child.Digest.String(), g.bytesOf(child.Digest), "Content-Type", m.MediaType)
	}
	raw := g.bytesOf(g.good.Digest)
	push.want(201, "PUT", "/v2/team/other/manifests/"+g.good.Digest.String(), raw, "Content-Type", typeIndex)
	push.want(403, "PUT", "/v2/team/other/manifests/v1", raw, "Content-Type", typeIndex)
	g.want(200, "GET", at("v1.2.0"), nil)
	for _, d := range []v1.Hash{g.good.Digest, g.in(g.good.Digest).Manifests[0].Digest} {
		g.denied("GET", "/v2/team/other/manifests/"+d.String(), unsigned)
	}
}

// By a sha512, an image is not what its proofs, or somebody's distrust, are about.
func TestGateOtherDigest(t *testing.T) {
	g := startGated(t, Config{})
	raw := g.bytesOf(g.good.Digest)
	long := sum("sha512", raw)
	push := g.as("pusher")
	push.want(201, "PUT", at(long), raw, "Content-Type", typeIndex)
	g.use(others)
	g.denied("GET", at(long), "")
	push.want(403, "PUT", at(long)+"?tag=long", raw, "Content-Type", typeIndex)
	g.use(shop.Rules)
	push.want(403, "PUT", at(long)+"?tag=long", raw, "Content-Type", typeIndex)
	g.denied("GET", at(long), "")
}

// What nobody knows is not served and gets no tag, and the client is told to come again.
func TestGateUndecided(t *testing.T) {
	for _, broken := range []bool{false, true} {
		g := startGated(t, Config{})
		if broken {
			g.use(strings.Replace(shop.Rules, "accept:", "distrust: {maxAge: 1h}\n      accept:", 1))
		} else { // a registry that has read no policy yet
			fresh := start(t, Config{Gate: &Gate{}, AnonymousPull: true})
			raw := fresh.image("team/app", "sha256", "x", nil)
			g.client = fresh.as("")
			if r := fresh.put("team/app", sum("sha256", raw), raw); r.StatusCode != 201 {
				t.Fatalf("by digest: got %d %s", r.StatusCode, r.body)
			}
			if r := fresh.put("team/app", "v1.2.0", raw); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
				t.Errorf("by tag: got %d %s", r.StatusCode, r.body)
			}
			g.want(404, "GET", at("v1.2.0"), nil)
			g.want(503, "GET", at(sum("sha256", raw)), nil)
			continue
		}
		r := g.want(503, "GET", at("v1.2.0"), nil)
		if r.Header.Get("Retry-After") == "" || r.code() != distribution.CodeUnavailable || !strings.Contains(string(r.body), "nobody knows") {
			t.Errorf("got %s %v", r.body, r.Header)
		}
		if r := g.as("pusher").put("team/app", "v9", g.bytesOf(g.good.Digest)); r.StatusCode != 503 {
			t.Errorf("by tag: got %d %s", r.StatusCode, r.body)
		}
	}
}

// In audit mode nothing is refused, and the log says what would be. Rules that warn say so to clients.
func TestGateAuditAndWarn(t *testing.T) {
	g := startGated(t, Config{Gate: &Gate{Audit: true}})
	g.want(200, "GET", at("bad"), nil)
	if r := g.as("pusher").put("team/app", "bad2", g.bytesOf(g.bad.Digest)); r.StatusCode != 201 {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
	for _, words := range []string{`"outcome":"rejected"`, `"dryRun":true`, `"operation":"tag"`, `"user":"pusher"`, unsigned} {
		if !strings.Contains(g.log.Text(), words) {
			t.Errorf("the log lacks %s", words)
		}
	}
	g = startGated(t, Config{})
	g.use(strings.Replace(shop.Rules, "- name: app", "- name: app\n      mode: warn", 1))
	if r := g.want(200, "GET", at("bad"), nil); !strings.HasPrefix(r.Header.Get("Warning"), `299 - "`) || !strings.Contains(r.Header.Get("Warning"), unsigned) {
		t.Errorf("got the warnings %q", r.Header.Values("Warning"))
	}
	if r := g.as("pusher").put("team/app", "bad2", g.bytesOf(g.bad.Digest)); r.StatusCode != 201 || len(r.Header.Values("Warning")) == 0 {
		t.Errorf("got %d %s %v", r.StatusCode, r.body, r.Header)
	}
}

// In audit mode nothing is refused either of which nothing can be decided: because two readers could
// understand it differently, because it is damaged, or because too many are judged at once.
func TestGateAuditUndecidable(t *testing.T) {
	g := startGated(t, Config{Gate: &Gate{Audit: true}})
	push, repo := g.as("pusher"), "team/app"
	damaged := []byte(`{"critical":{}}`)
	push.blob(repo, "sha256", damaged)
	push.blob(repo, "sha256", []byte("{}"))
	for what, one := range map[string]struct {
		raw   []byte
		after func()
	}{
		"other digests":      {raw: push.image(repo, "sha512", "one", nil)},
		"a platform of text": {raw: marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{map[string]any{"mediaType": typeIndex, "digest": g.good.Digest, "size": g.good.Size, "platform": "linux/amd64"}}})},
		"a damaged attachment": {marshal(map[string]any{"schemaVersion": 2, "mediaType": typeManifest, "config": desc("application/json", "sha256", []byte("{}")), "layers": []any{desc("text/plain", "sha256", damaged)}}), func() {
			damage(t, g.reg.store.blob(repo, digest{"sha256", strings.TrimPrefix(sum("sha256", damaged), "sha256:")}), bytes.ToUpper)
		}},
		"too many at once": {push.image(repo, "sha256", "two", nil), func() {
			for range maxJudged {
				g.reg.gate.judging <- struct{}{}
			}
			g.reg.gate.patience = time.Millisecond
		}},
	} {
		tag := strings.ReplaceAll(what, " ", "-")
		if r := push.put(repo, tag, one.raw); r.StatusCode != 201 {
			t.Errorf("%s: the tag: got %d %s", what, r.StatusCode, r.body)
		}
		if one.after != nil {
			one.after()
		}
		g.want(200, "GET", at(tag), nil)
		g.want(200, "GET", at(sum("sha256", one.raw)), nil)
		for len(g.reg.gate.judging) > 0 {
			<-g.reg.gate.judging
		}
		g.reg.gate.patience = serving.Patience
		if !strings.Contains(g.log.Text(), `"admitted":true,"image":"`+g.host+`/team/app:`+tag+`"`) {
			t.Errorf("%s: the log has no decision about the tag", what)
		}
	}
}

// An image that got a tag is known from then on; other policies ask anew.
func TestGateKnows(t *testing.T) {
	g := startGated(t, Config{})
	if r := g.as("pusher").put("team/app", "v1.2", g.bytesOf(g.good.Digest)); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	before := g.reg.Verdicts().Stats().Reads
	g.want(200, "GET", at("v1.2"), nil)
	if after := g.reg.Verdicts().Stats().Reads; after != before {
		t.Errorf("the first pull read the image %d times", after-before)
	}
	g.use(strings.Replace(shop.Rules, "team/app}", "team/other}", 1))
	g.denied("GET", at("v1.2"), "provenance")
}
