package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

var demand = policy.Document{Source: "git.example.com/team/app", Ref: "v1.2.0"}

// demanded is the policy of a document that has to be good.
func demanded(t testing.TB, d policy.Document) policy.Policy {
	t.Helper()
	p, err := d.Policy()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// scene is one image with its proofs, and who verifies it how.
type scene struct {
	t    *testing.T
	p    *prooftest.Platform
	s    *prooftest.Store
	r    *prooftest.Release
	now  time.Time      // of verification
	opts verify.Options // but for the policy

	wants policy.Document
	also  func(*policy.Policy) // what the document cannot say
}

func newScene(t *testing.T) *scene {
	p := prooftest.New(t)
	s := prooftest.NewStore(t)
	return &scene{t: t, p: p, s: s, r: p.Release(s), now: time.Now(), wants: demand}
}

func (c *scene) verdict() *verify.Verdict {
	if c.opts.Trust == nil {
		c.opts.Trust = []*trust.Root{c.p.Root()}
	}
	c.opts.Policy = demanded(c.t, c.wants)
	if c.also != nil {
		c.also(&c.opts.Policy)
	}
	v := verify.Image(context.Background(), c.s, "v1.2.0", c.now, c.opts)
	for _, l := range v.Links {
		c.t.Logf("%-11s %-9s %s%s", l.Name, l.Status, l.Claim, l.Reason)
	}
	return v
}

// want fails unless the verdict is this, and the named link has this status
// and a reason with all of the words.
func (c *scene) want(outcome verify.Outcome, link string, status verify.Status, words ...string) {
	c.t.Helper()
	v := c.verdict()
	if v.Outcome != outcome {
		c.t.Fatalf("outcome: got %v, want %v", v.Outcome, outcome)
	}
	for _, l := range v.Links {
		if l.Name != link {
			continue
		}
		for _, w := range words {
			if !strings.Contains(l.Claim+l.Reason, w) {
				c.t.Errorf("%s: got %q, want %q in it", link, l.Claim+l.Reason, w)
			}
		}
		if l.Status != status {
			c.t.Errorf("%s: got status %q, want %q", link, l.Status, status)
		}
		return
	}
	c.t.Fatalf("verdict has no link %q", link)
}

func TestAccepted(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	c.opts.SourceCheck = func(_ context.Context, q source.Question) (source.Standing, error) {
		if want := (source.Question{URI: prooftest.Source, Ref: prooftest.Ref, Commit: prooftest.Commit, Tree: prooftest.Tree}); q != want {
			t.Errorf("source check: got %+v, want %+v", q, want)
		}
		return source.Standing{Commit: true, Ref: source.RefThere, Now: q.Commit, Tree: q.Tree}, nil
	}
	v := c.verdict()
	if v.Outcome != verify.Accepted || v.Why() != "" || v.Digest != c.r.Image.Digest.String() {
		t.Fatalf("got %+v, want accepted", v)
	}
	want := map[string]string{
		"image":      "linux/amd64, linux/arm64; the registry serves these bytes",
		"signature":  prooftest.Builder + ", certified " + c.p.Now.Format("2006-01-02 15:04:05Z"),
		"log":        "entry 0, checkpoint 2, timestamp within the certificate",
		"provenance": "built from git.example.com/team/app@381e42a, refs/tags/v1.2.0; Build L2",
		"source":     "commit is there, unchanged; tag signed by key SHA256:ada, named release@example.com by the requester",
		"sbom":       "SPDX 2.3, 2 packages; CycloneDX 1.6, 2 packages; about this image",
	}
	for _, l := range v.Links {
		if l.Claim != want[l.Name] || l.Status != verify.Holds {
			t.Errorf("%s: got %s %q, want %q", l.Name, l.Status, l.Claim, want[l.Name])
		}
	}
	raw, err := json.Marshal(v)
	if err != nil || !strings.Contains(string(raw), `"outcome":"accepted"`) {
		t.Errorf("JSON: got %s, %v", raw, err)
	}
}

// missing lists the kinds without one.
func missing(kind string) (kinds []string) {
	for _, k := range prooftest.Kinds {
		if k != kind {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

func TestAbsentProofIsRejected(t *testing.T) {
	for kind, link := range map[string]string{attest.PredicateSign: "signature", attest.PredicateSLSA1: "provenance", attest.PredicateSPDX: "sbom", attest.PredicateCDX: "sbom"} {
		t.Run(link, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(missing(kind)...)
			c.want(verify.Rejected, link, verify.Absent, "the image carries no ")
		})
	}
	t.Run("nothing", func(t *testing.T) {
		c := newScene(t)
		c.want(verify.Rejected, "signature", verify.Absent, "no signature")
		if v := c.verdict(); !strings.Contains(v.Hint, "nothing that proves") {
			t.Errorf("hint: got %q", v.Hint)
		}
	})
	t.Run("SBOM not demanded", func(t *testing.T) {
		c := newScene(t)
		c.wants.NoSBOM = true
		c.r.Attach(attest.PredicateSign, attest.PredicateSLSA1)
		c.want(verify.Accepted, "sbom", verify.NotAsked)
	})
}

func TestUndecided(t *testing.T) {
	down := errors.New("connection refused")
	for name, a := range map[string]struct {
		do   func(*scene)
		link string
	}{
		"registry down": {func(c *scene) { c.s.Fail["v1.2.0"] = down }, "image"},
		"no such tag":   {func(c *scene) { *c.s = *prooftest.NewStore(c.t) }, "image"},
		"layer":         {func(c *scene) { c.s.Fail[c.r.Layers[0].Digest.String()] = down }, "image"},
		"listing":       {func(c *scene) { c.s.FailListing = down }, "signature"},
		"signature":     {func(c *scene) { c.s.Fail[c.r.Blobs[attest.PredicateSign].Digest.String()] = down }, "signature"},
		"provenance":    {func(c *scene) { c.s.Fail[c.r.Manifests[attest.PredicateSLSA1].Digest.String()] = down }, "provenance"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			a.do(c)
			c.want(verify.Undecided, a.link, verify.Unknown)
		})
	}
	t.Run("words of a tag that is not there", func(t *testing.T) {
		c := newScene(t)
		*c.s = *prooftest.NewStore(t)
		c.want(verify.Undecided, "image", verify.Unknown, `has no tag "v1.2.0"`)
		if hint := c.verdict().Hint; !strings.Contains(hint, "release") {
			t.Errorf("hint: got %q", hint)
		}
	})
	t.Run("no time", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.now = time.Time{}
		c.want(verify.Undecided, "image", verify.Unknown, "time of verification")
	})
	t.Run("no demand", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		for name, p := range map[string]policy.Policy{
			"nothing": {}, "of no source": {Origin: policy.BuilderProvenance{}}, "signed by nobody": {Origin: policy.SignatureOnly{}},
			"verified by nobody": {Origin: policy.SummaryOnly{}}, "a pointer": {Origin: &policy.SummaryOnly{}},
		} {
			v := verify.Image(context.Background(), c.s, "v1.2.0", time.Now(), verify.Options{Policy: p, Trust: []*trust.Root{c.p.Root()}})
			if l := link(t, v, verify.LinkImage); v.Outcome != verify.Undecided || l.Status != verify.Unknown || !strings.Contains(l.Reason, "policy") {
				t.Errorf("%s: got %+v, want it undecided", name, v)
			}
		}
	})
}

// TestStaleTrust: a trust root that nobody asked about for long is used unless
// the policy says otherwise.
func TestStaleTrust(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	pinned := c.p.Root()
	stale := *pinned
	stale.Repository, stale.Expires = &trust.Repository{URL: "https://tuf.example.com"}, c.now.Add(-time.Second)
	c.opts.Trust = []*trust.Root{&stale}
	c.want(verify.Accepted, "signature", verify.Holds)
	c.wants.FreshTrust = true
	c.want(verify.Undecided, "image", verify.Unknown, "https://tuf.example.com is stale")
	c.opts.Trust = []*trust.Root{&stale, pinned}
	c.want(verify.Accepted, "signature", verify.Holds)
	stale.Expires = c.now
	c.opts.Trust = []*trust.Root{&stale}
	c.want(verify.Accepted, "signature", verify.Holds)
}

// TestPlainRoot: a trusted_root.json names no builder, so that the caller must.
func TestPlainRoot(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	c.opts.Trust = []*trust.Root{c.p.PlainRoot(prooftest.URL)}
	c.want(verify.Rejected, "signature", verify.Broken, "signer: got", "names no builders")
	c.wants.Builders = []string{prooftest.Builder}
	c.want(verify.Accepted, "provenance", verify.Holds, "refs/tags/v1.2.0")
	c.wants.Builders = []string{"https://other.example.com/builders/x"}
	c.want(verify.Rejected, "signature", verify.Broken, "signer: got")
}

func TestReasonsAreOneHarmlessLine(t *testing.T) {
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSign)...)
	c.r.AttachBundle(attest.PredicateSign, []byte("{\"mediaType\":\"\\u001b[2J\\nx\"}"))
	for _, l := range c.verdict().Links {
		if strings.ContainsAny(l.Reason+l.Claim, "\x1b\n") {
			t.Errorf("%s: got %q", l.Name, l.Reason)
		}
	}
}

func BenchmarkImage(b *testing.B) {
	p := prooftest.New(b)
	s := prooftest.NewStore(b)
	p.Release(s).Attach(prooftest.Kinds...)
	opts := verify.Options{Policy: demanded(b, demand), Trust: []*trust.Root{p.Root()}}
	for b.Loop() {
		if v := verify.Image(context.Background(), s, "v1.2.0", time.Now(), opts); v.Outcome != verify.Accepted {
			b.Fatal(v.Why())
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// plainRoot is the trusted root of the public Sigstore instance.
func rootOf(t testing.TB, raw []byte) []*trust.Root {
	t.Helper()
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return []*trust.Root{r}
}

// link of a verdict, which must have it.
func link(t testing.TB, v *verify.Verdict, name string) verify.Link {
	t.Helper()
	for _, l := range v.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("verdict has no link %q: %+v", name, v)
	return verify.Link{}
}

// TestPlatformOfConfiguration: the platform that the index gives a manifest is that of
// its configuration: a runtime picks by the one and runs by the other.
func TestPlatformOfConfiguration(t *testing.T) {
	for _, tt := range []struct {
		os, arch string
		want     verify.Status
	}{
		{"linux", "amd64", verify.Holds}, {"linux", "s390x", verify.Broken}, {"windows", "amd64", verify.Broken}, {"linux", "", verify.Broken},
	} {
		s := prooftest.NewStore(t)
		index := s.IndexOf(&v1.Platform{OS: tt.os, Architecture: tt.arch}, "linux", "amd64")
		v := verify.Image(context.Background(), s, index.Digest.String(), time.Now(), verify.Options{Trust: []*trust.Root{prooftest.New(t).Root()}, Policy: demanded(t, demand)})
		if got := link(t, v, verify.LinkImage); got.Status != tt.want || tt.want == verify.Broken && !strings.Contains(got.Reason, "platform of configuration") {
			t.Errorf("%s/%s: got %s %q, want %s", tt.os, tt.arch, got.Status, got.Reason, tt.want)
		}
	}
}
