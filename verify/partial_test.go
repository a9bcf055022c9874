package verify_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

var errDown = errors.New("connection refused")

// verdictOf verifies the image of a scene in another place.
func (c *scene) verdictOf(src oci.Source) *verify.Verdict {
	c.opts.Trust, c.opts.Policy = []*trust.Root{c.p.Root()}, demanded(c.t, c.wants)
	v := verify.Image(c.t.Context(), src, "v1.2.0", c.now, c.opts)
	for _, l := range v.Links {
		c.t.Logf("%-11s %-9s %s%s", l.Name, l.Status, l.Claim, l.Reason)
	}
	return v
}

// indexOf returns the image of a scene, which is an index of two platforms.
func indexOf(t *testing.T, s *prooftest.Store, image v1.Descriptor) (index v1.IndexManifest) {
	t.Helper()
	raw, _, err := s.Manifest(t.Context(), image.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		t.Fatal(err)
	}
	return index
}

// TestMissingPlatform: docker save and sparse mirrors keep an index, and not all of
// the manifests in it.
func TestMissingPlatform(t *testing.T) {
	amd64 := &v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 := &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	for name, tt := range map[string]struct {
		bend     func(c *scene, index v1.IndexManifest)
		platform *v1.Platform
		outcome  verify.Outcome
		status   verify.Status
		words    string
		missing  string
	}{
		"one is missing": {func(c *scene, i v1.IndexManifest) { c.s.Remove(i.Manifests[1].Digest) }, nil, verify.Accepted, verify.Holds, "linux/amd64; the registry serves these bytes; not there: linux/arm64", "linux/arm64"},
		"all are missing": {func(c *scene, i v1.IndexManifest) {
			c.s.Remove(i.Manifests[0].Digest)
			c.s.Remove(i.Manifests[1].Digest)
		}, nil, verify.Rejected, verify.Absent, "linux/amd64, linux/arm64: not found", ""},
		"one is not answered":          {func(c *scene, i v1.IndexManifest) { c.s.Fail[i.Manifests[1].Digest.String()] = errDown }, nil, verify.Undecided, verify.Unknown, "connection refused", ""},
		"one is tampered with":         {func(c *scene, i v1.IndexManifest) { c.s.Tamper(i.Manifests[1].Digest, []byte("{}")) }, nil, verify.Rejected, verify.Broken, "got sha256:", ""},
		"a layer is missing":           {func(c *scene, _ v1.IndexManifest) { c.s.Remove(c.r.Layers[1].Digest) }, nil, verify.Rejected, verify.Absent, "not found", ""},
		"the other one is missing":     {func(c *scene, i v1.IndexManifest) { c.s.Remove(i.Manifests[1].Digest) }, amd64, verify.Accepted, verify.Holds, "linux/amd64; the registry serves these bytes", ""},
		"the one asked for is missing": {func(c *scene, i v1.IndexManifest) { c.s.Remove(i.Manifests[1].Digest) }, arm64, verify.Rejected, verify.Absent, "linux/arm64: not found", ""},
		"the other one is wrong":       {func(c *scene, _ v1.IndexManifest) { c.s.Tamper(c.r.Layers[1].Digest, []byte("x")) }, amd64, verify.Accepted, verify.Holds, "linux/amd64; the registry", ""},
		"the one asked for is wrong":   {func(c *scene, _ v1.IndexManifest) { c.s.Tamper(c.r.Layers[1].Digest, []byte("x")) }, arm64, verify.Rejected, verify.Broken, "layer", ""},
		"no such platform":             {func(*scene, v1.IndexManifest) {}, &v1.Platform{OS: "linux", Architecture: "s390x"}, verify.Rejected, verify.Broken, "the index has linux/amd64, linux/arm64, want linux/s390x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			tt.bend(c, indexOf(t, c.s, c.r.Image))
			c.opts.Platform = tt.platform
			c.want(tt.outcome, verify.LinkImage, tt.status, tt.words)
			v := c.verdict()
			if got := strings.Join(v.Missing, " "); got != tt.missing {
				t.Errorf("missing: got %q, want %q", got, tt.missing)
			}
			if v.Digest != c.r.Image.Digest.String() {
				t.Errorf("digest: got %s, want that of the index", v.Digest)
			}
		})
	}
}

// TestMissingPlatformIsNoProof: an index that is not proved stays unproved, whatever
// is missing from it.
func TestMissingPlatformIsNoProof(t *testing.T) {
	c := newScene(t)
	index := indexOf(t, c.s, c.r.Image)
	index.Manifests[1].Digest.Hex = strings.Repeat("ab", 32)
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	c.r.Attach(prooftest.Kinds...)
	c.s.Tag("v1.2.0", c.s.Put(raw, index.MediaType))
	c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "not a referrer of this image")
}

// TestPlatformOfManifest: the platform that is asked for must be that of an image
// that is no index.
func TestPlatformOfManifest(t *testing.T) {
	c := newScene(t)
	m := indexOf(t, c.s, c.r.Image).Manifests[0]
	c.s.Tag("v1.2.0", m)
	c.opts.Platform = m.Platform
	c.want(verify.Rejected, verify.LinkImage, verify.Holds, "linux/amd64")
	c.opts.Platform = &v1.Platform{OS: "linux", Architecture: "arm64"}
	c.want(verify.Rejected, verify.LinkImage, verify.Broken, "the image is for linux/amd64, want linux/arm64")
}

// TestContentsOfPart: SBOMs are about all platforms, so a part of them cannot be
// compared.
func TestContentsOfPart(t *testing.T) {
	for name, bend := range map[string]func(*scene, v1.IndexManifest){
		"missing":       func(c *scene, i v1.IndexManifest) { c.s.Remove(i.Manifests[1].Digest) },
		"not asked for": func(c *scene, i v1.IndexManifest) { c.opts.Platform = i.Manifests[0].Platform },
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			c.wants.Contents = true
			bend(c, indexOf(t, c.s, c.r.Image))
			c.want(verify.Undecided, verify.LinkSBOM, verify.Unknown, "the SBOMs are about all platforms of the index")
		})
	}
}

// TestMissingPlatformInLayout: tools that read a layout take what is there.
func TestMissingPlatformInLayout(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	dir := t.TempDir()
	layout, err := oci.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	index := indexOf(t, c.s, c.r.Image)
	c.s.Push(t.Context(), layout)
	if err := os.Remove(filepath.Join(dir, "blobs", "sha256", index.Manifests[1].Digest.Hex)); err != nil {
		t.Fatal(err)
	}
	v := c.verdictOf(layout)
	if v.Outcome != verify.Accepted || strings.Join(v.Missing, " ") != "linux/arm64" {
		t.Fatalf("got %v and missing %q, want accepted without linux/arm64", v.Outcome, v.Missing)
	}
	// index.json may also name what the index pins. Another image that it names and that is
	// not there may be in the store of the tool that reads the layout, and nothing proves it.
	whole := read(t, dir+"/index.json")
	for name, tt := range map[string]struct {
		digest string
		want   verify.Outcome
	}{"the missing platform": {index.Manifests[1].Digest.String(), verify.Accepted}, "another image": {"sha256:" + strings.Repeat("ab", 32), verify.Rejected}} {
		const entry = `"manifests":[`
		raw := strings.Replace(string(whole), entry, entry+`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"`+tt.digest+
			`","annotations":{"org.opencontainers.image.ref.name":"other","io.containerd.image.name":"app:v1.2.0"}},`, 1)
		if err := os.WriteFile(dir+"/index.json", []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if v := c.verdictOf(layout); v.Outcome != tt.want {
			t.Errorf("index.json names %s: got %v, want %v", name, v.Outcome, tt.want)
		}
	}
}

// TestWhole: a platform that publishes an image wants all of it there and proved.
func TestWhole(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	c.opts.Whole = true
	c.want(verify.Accepted, verify.LinkImage, verify.Holds)
	c.s.Remove(indexOf(t, c.s, c.r.Image).Manifests[1].Digest)
	c.want(verify.Rejected, verify.LinkImage, verify.Absent, "not found")
	w := newWrapping(t)
	w.prove(w.inner, nil)
	w.opts.Whole = true
	if v := w.ask(w.index(w.inner)); v.Outcome != verify.Rejected || v.Index != "" {
		t.Errorf("got %v in the index %q, want it rejected", v.Outcome, v.Index)
	}
}

// TestPinnedByDigest: whoever compares layers with their digests need not have them read here. What the digest
// itself names is read, and what a policy compares with the layers.
func TestPinnedByDigest(t *testing.T) {
	for name, tt := range map[string]struct {
		bend    func(c *scene, index v1.IndexManifest)
		outcome verify.Outcome
		words   string
	}{
		"nothing is wrong":           {func(*scene, v1.IndexManifest) {}, verify.Accepted, "linux/amd64, linux/arm64; the digest pins these bytes, which were not read"},
		"a layer is another":         {func(c *scene, _ v1.IndexManifest) { c.s.Tamper(c.r.Layers[1].Digest, []byte("x")) }, verify.Accepted, "not read"},
		"a platform is not":          {func(c *scene, i v1.IndexManifest) { c.s.Remove(i.Manifests[1].Digest) }, verify.Accepted, "not read"},
		"the index is another":       {func(c *scene, _ v1.IndexManifest) { c.s.Tamper(c.r.Image.Digest, []byte(`{"schemaVersion":2}`)) }, verify.Rejected, "manifest"},
		"the contents are asked for": {func(c *scene, _ v1.IndexManifest) { c.wants.Contents = true }, verify.Rejected, "contents of the image: layer"}, // that is no archive
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.opts.Pinned = true
			c.r.Attach(prooftest.Kinds...)
			tt.bend(c, indexOf(t, c.s, c.r.Image))
			v := c.verdict()
			if v.Outcome != tt.outcome || !strings.Contains(v.Links[0].Claim+v.Why(), tt.words) {
				t.Errorf("got %s, %q", v.Outcome, v.Links[0].Claim+v.Why())
			}
		})
	}
	c := newScene(t)
	c.opts.Pinned = true
	empty := c.s.Put([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`), "application/vnd.oci.image.index.v1+json")
	c.s.Tag("v1.2.0", empty)
	c.want(verify.Rejected, verify.LinkImage, verify.Broken, "index of 0 manifests")
	c.s.Tag("v1.2.0", c.s.Put([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{"size":-1}]}`), "application/vnd.oci.image.manifest.v1+json"))
	c.want(verify.Rejected, verify.LinkImage, verify.Broken)
}
