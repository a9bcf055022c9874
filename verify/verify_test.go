package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

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
	opts verify.Options // but for the policy

	wants policy.Document
}

func newScene(t *testing.T) *scene {
	p := prooftest.New(t)
	s := prooftest.NewStore(t)
	return &scene{t: t, p: p, s: s, r: p.Release(s), opts: verify.Options{Now: time.Now()}, wants: demand}
}

func (c *scene) verdict() *verify.Verdict {
	if c.opts.Trust == nil {
		c.opts.Trust = []*trust.Root{c.p.Root()}
	}
	c.opts.Policy = demanded(c.t, c.wants)
	v := verify.Image(context.Background(), c.s, "v1.2.0", c.opts)
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
		"source":     "commit is there, unchanged; tag signed by release@example.com",
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

// TestTamperedBundle changes one part of one signed bundle, and puts the
// result back under its proper digest, as an attacker would.
func TestTamperedBundle(t *testing.T) {
	flip := func(b []byte) { b[len(b)/2] ^= 1 }
	bends := map[string]func(*protobundle.Bundle){
		"signature":  func(b *protobundle.Bundle) { flip(b.GetDsseEnvelope().Signatures[0].Sig) },
		"proof":      func(b *protobundle.Bundle) { flip(b.VerificationMaterial.TlogEntries[0].InclusionProof.Hashes[0]) },
		"index":      func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].LogIndex = 1 },
		"checkpoint": bendCheckpoint,
		"no log":     func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"no proof":   func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionProof = nil },
		"no time":    func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		"time": func(b *protobundle.Bundle) {
			s := b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp
			s[len(s)-4] ^= 1
		},
		"payload": func(b *protobundle.Bundle) {
			e := b.GetDsseEnvelope()
			e.Payload = []byte(strings.Replace(string(e.Payload), "team/app", "team/bad", 1))
		},
	}
	for _, tt := range []struct{ part, kind, link, reason string }{
		{"signature", attest.PredicateSign, "signature", "does not match what is signed"},
		{"proof", attest.PredicateSign, "log", "does not show this signature in the log"},
		{"index", attest.PredicateSign, "log", "does not show this signature in the log"},
		{"checkpoint", attest.PredicateSign, "log", "checkpoint is not signed by the log"},
		{"no log", attest.PredicateSign, "signature", "0 log entries, want 1"},
		{"no proof", attest.PredicateSign, "signature", "no inclusion proof"},
		{"no time", attest.PredicateSign, "log", "there is no timestamp"},
		{"time", attest.PredicateSign, "log", "no timestamp is of a trusted timestamp authority"},
		{"payload", attest.PredicateSLSA1, "provenance", "does not match what is signed"},
		{"proof", attest.PredicateSLSA1, "provenance", "does not show this signature in the log"},
		{"payload", attest.PredicateSPDX, "sbom", "does not match what is signed"},
		{"checkpoint", attest.PredicateCDX, "sbom", "checkpoint is not signed by the log"},
	} {
		t.Run(tt.part+" of "+tt.link, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(missing(tt.kind)...)
			c.r.AttachBundle(tt.kind, c.p.Sign(c.r.Identity, c.r.Statement(tt.kind), bends[tt.part]))
			c.want(verify.Rejected, tt.link, verify.Broken, tt.reason)
		})
	}
}

func bendCheckpoint(b *protobundle.Bundle) {
	cp := b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint
	cp.Envelope = strings.Replace(cp.Envelope, "\n2\n", "\n3\n", 1)
}

// TestLegacyCheckpoint: under a checkpoint in Rekor v1's style the library
// checks that the entry is in the log, and not that it is about this
// signature. Here the log's own key signed such a checkpoint for another entry.
func TestLegacyCheckpoint(t *testing.T) {
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSign)...)
	c.p.Origin = "127.0.0.1 - 12"
	var other *protobundle.Bundle
	c.p.Sign(c.r.Identity, []byte("another statement"), func(b *protobundle.Bundle) { other = b })
	c.r.AttachBundle(attest.PredicateSign, c.p.Sign(c.r.Identity, c.r.Statement(attest.PredicateSign), func(b *protobundle.Bundle) {
		b.VerificationMaterial.TlogEntries = other.VerificationMaterial.TlogEntries
	}))
	c.want(verify.Rejected, "log", verify.Broken, `origin: got "127.0.0.1 - 12"`)
}

func TestTamperedBytes(t *testing.T) {
	attacks := map[string]struct {
		do     func(*scene)
		link   string
		reason string
	}{
		"layer":      {func(c *scene) { c.s.Tamper(c.r.Layers[1].Digest, []byte("evil")) }, "image", "bytes do not match"},
		"manifest":   {func(c *scene) { c.s.Tamper(c.r.Image.Digest, []byte("{}")) }, "image", "bytes do not match"},
		"signature":  {func(c *scene) { c.s.Tamper(c.r.Blobs[attest.PredicateSign].Digest, []byte("{}")) }, "signature", "bytes do not match"},
		"provenance": {func(c *scene) { c.s.Tamper(c.r.Blobs[attest.PredicateSLSA1].Digest, []byte("{}")) }, "provenance", "bytes do not match"},
		"sbom":       {func(c *scene) { c.s.Tamper(c.r.Blobs[attest.PredicateSPDX].Digest, []byte("{}")) }, "sbom", "bytes do not match"},
	}
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			a.do(c)
			c.want(verify.Rejected, a.link, verify.Broken, a.reason)
		})
	}
}

// TestLyingProvenance: everything is properly signed by a certificate of the
// CA, and the claims in it do not fit together or not the demand.
func TestLyingProvenance(t *testing.T) {
	other := strings.Repeat("ab", 20)
	for name, a := range map[string]struct {
		lie    func(*prooftest.Release)
		reason string
	}{
		"signer claims our builder": {func(r *prooftest.Release) { r.Identity.SAN = "https://evil.example.com/builders/x" }, "signer: got"},
		"other issuer":              {func(r *prooftest.Release) { r.Identity.Issuer = "https://evil.example.com" }, "issuer of the signer's certificate"},
		"other builder id":          {func(r *prooftest.Release) { r.Provenance.RunDetails.Builder.ID += "0" }, "builder id: the provenance says"},
		"other commit in predicate": {func(r *prooftest.Release) { r.Parameters.Source.Commit = other }, "commit: the provenance says"},
		"other commit in certificate": {func(r *prooftest.Release) { r.Identity.Commit = other },
			"commit: the provenance says"},
		"other commit in dependency": {func(r *prooftest.Release) {
			r.Provenance.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"] = other
		}, "resolved dependencies"},
		"no dependency":             {func(r *prooftest.Release) { r.Provenance.BuildDefinition.ResolvedDependencies = nil }, "resolved dependencies"},
		"other source in predicate": {func(r *prooftest.Release) { r.Parameters.Source.URI += "2" }, "source: the provenance says"},
		"source not canonical":      {func(r *prooftest.Release) { r.Parameters.Source.URI += ".git"; r.Identity.SourceURI += ".git" }, "canonical"},
		"other ref":                 {func(r *prooftest.Release) { r.Parameters.Source.Ref = "refs/heads/main" }, "ref: the provenance says"},
		"other invocation":          {func(r *prooftest.Release) { r.Identity.Invocation += "0" }, "invocation: the provenance says"},
		"unknown build type":        {func(r *prooftest.Release) { r.Provenance.BuildDefinition.BuildType = "https://example.com/x" }, "build type"},
		"another repository": {func(r *prooftest.Release) {
			const uri = "https://git.example.com/team/application"
			r.Parameters.Source.URI, r.Identity.SourceURI = uri, uri
			r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(uri, prooftest.Ref)
		}, `got "https://git.example.com/team/application", want "https://git.example.com/team/app"`},
		"another tag": {func(r *prooftest.Release) {
			r.Parameters.Source.Ref, r.Identity.Ref = "refs/tags/v1.2.00", "refs/tags/v1.2.00"
			r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(prooftest.Source, "refs/tags/v1.2.00")
		}, `ref: got "refs/tags/v1.2.00", want "v1.2.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(missing(attest.PredicateSLSA1)...)
			a.lie(c.r)
			c.r.Attach(attest.PredicateSLSA1)
			c.want(verify.Rejected, "provenance", verify.Broken, a.reason)
		})
	}
	t.Run("level", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.MinLevel = 3
		c.want(verify.Rejected, "provenance", verify.Broken, "got 2, want at least 3")
	})
	t.Run("swapped subject", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(missing(attest.PredicateSLSA1)...)
		st, err := attest.NewStatement("x", strings.Repeat("00", 32), attest.PredicateSLSA1, c.r.Predicate(attest.PredicateSLSA1))
		if err != nil {
			t.Fatal(err)
		}
		c.r.AttachBundle(attest.PredicateSLSA1, c.p.Sign(c.r.Identity, st))
		c.want(verify.Rejected, "provenance", verify.Broken, "subject of the statement: got", c.r.Image.Digest.String())
	})
	t.Run("duplicate keys", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(missing(attest.PredicateSLSA1)...)
		st := c.r.Statement(attest.PredicateSLSA1)
		st = []byte(strings.Replace(string(st), `"builder":{`, `"builder":{"id":"https://evil.example.com/builders/x",`, 1))
		c.r.AttachBundle(attest.PredicateSLSA1, c.p.Sign(c.r.Identity, st))
		c.want(verify.Rejected, "provenance", verify.Broken, "duplicate")
	})
}

func TestLyingSBOM(t *testing.T) {
	for name, a := range map[string]struct {
		lie    func(*scene)
		reason string
	}{
		"another image": {func(c *scene) {
			sum := []map[string]string{{"algorithm": "SHA256", "checksumValue": strings.Repeat("00", 32)}}
			c.r.SPDX["packages"] = []map[string]any{{"SPDXID": "SPDXRef-image", "checksums": sum}}
		}, "the SPDX document describes \"sha256:0000"},
		"no image":        {func(c *scene) { c.r.SPDX["relationships"] = nil }, "describes 0 things"},
		"another version": {func(c *scene) { c.r.SPDX["spdxVersion"] = "SPDX-2.2" }, `got version "2.2", want "2.3"`},
		"another image in CycloneDX": {func(c *scene) {
			c.r.CDX["metadata"] = map[string]any{"component": map[string]any{"version": "sha256:" + strings.Repeat("00", 32)}, "timestamp": "2026-11-20T00:00:00Z"}
		}, "the CycloneDX document describes \"sha256:0000"},
		"another signer": {func(c *scene) {
			c.opts.Trust = []*trust.Root{twoBuilders(c.t, c.p)}
			c.r.Identity.SAN = prooftest.URL + "/builders/golang/v1"
		}, "want that of the provenance"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(attest.PredicateSign, attest.PredicateSLSA1)
			a.lie(c)
			c.r.Attach(attest.PredicateSPDX, attest.PredicateCDX)
			c.want(verify.Rejected, "sbom", verify.Broken, a.reason)
		})
	}
}

func twoBuilders(t *testing.T, p *prooftest.Platform) *trust.Root {
	raw, err := json.Marshal(trust.Document{URL: prooftest.URL, Issuer: prooftest.URL, TrustedRoot: p.TrustedRoot(),
		Builders: []trust.Builder{{ID: prooftest.Builder, Level: 2}, {ID: prooftest.URL + "/builders/golang/v1", Level: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBentServices: a service of the platform was missing, foreign, or not
// believed at the time.
func TestBentServices(t *testing.T) {
	for name, a := range map[string]struct {
		bend         func(*prooftest.Platform)
		link, reason string
	}{
		"no SCT":          {func(p *prooftest.Platform) { p.NoSCT = true }, "signature", "no SCT"},
		"foreign log":     {func(p *prooftest.Platform) { p.ForeignLog = true }, "log", "is not one of the trust root"},
		"timestamp after": {func(p *prooftest.Platform) { p.Clock = p.Now.Add(11 * time.Minute) }, "log", "the certificate is valid from"},
		"timestamp in future": {func(p *prooftest.Platform) {
			p.Now = p.Now.Add(3 * time.Hour)
			p.Clock = p.Now
			p.CAUntil = p.Now.Add(time.Hour)
		}, "log", "is in the future"},
		"authority expired":    {func(p *prooftest.Platform) { p.CAUntil = p.Now.Add(-time.Minute) }, "signature", "an authority trusted from"},
		"log key expired":      {func(p *prooftest.Platform) { p.LogUntil = p.Now.Add(-time.Minute) }, "log", "the log's key is trusted from"},
		"no timestamp service": {func(p *prooftest.Platform) { p.NoTS = true }, "log", "there is no timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			a.bend(c.p)
			c.r.Attach(prooftest.Kinds...)
			c.want(verify.Rejected, a.link, verify.Broken, a.reason)
		})
	}
	t.Run("another platform", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.opts.Trust = []*trust.Root{prooftest.New(t).Root()}
		c.want(verify.Rejected, "signature", verify.Broken, "not of a trusted authority")
		if v := c.verdict(); !strings.Contains(v.Hint, "trust list") {
			t.Errorf("hint: got %q", v.Hint)
		}
		// Beside the right one it does no harm.
		c.opts.Trust = append(c.opts.Trust, c.p.Root())
		c.want(verify.Accepted, "signature", verify.Holds)
	})
}

// TestJunk: what strangers attach changes nothing, however they list it.
func TestJunk(t *testing.T) {
	c := newScene(t)
	c.s.ListedAs = "application/vnd.example.lie"
	c.r.Attach(prooftest.Kinds...)
	c.s.ListedAs = ""
	stranger := prooftest.New(t)
	for i := range 40 {
		kind := prooftest.Kinds[i%len(prooftest.Kinds)]
		bundle := []byte(fmt.Sprintf(`{"mediaType":%q,"junk":%d}`, attest.BundleMediaType, i))
		if i < 8 {
			bundle = stranger.Sign(c.r.Identity, c.r.Statement(kind))
		}
		_, m := c.s.Attach(c.r.Image, bundle, kind)
		if i > 35 {
			c.s.Fail[m.Digest.String()] = errors.New("connection reset")
		}
	}
	c.want(verify.Accepted, "provenance", verify.Holds)

	alone := newScene(t)
	for i := range 40 {
		alone.s.Attach(alone.r.Image, []byte(fmt.Sprintf(`{"mediaType":%q,"junk":%d}`, attest.BundleMediaType, i)), prooftest.Kinds[i%4])
	}
	alone.want(verify.Rejected, "signature", verify.Broken, "junk")

	flood := newScene(t)
	flood.r.Attach(prooftest.Kinds...)
	for i := range 600 {
		flood.s.Attach(flood.r.Image, []byte(fmt.Sprint(i)), attest.PredicateSign)
	}
	flood.want(verify.Undecided, "signature", verify.Unknown, "were not looked at")
}

// TestWrongManifestSubject: a listing that hands out another image's proof.
func TestWrongManifestSubject(t *testing.T) {
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSign)...)
	other := c.r.Image
	other.Digest.Hex = strings.Repeat("00", 32)
	c.s.Attach(other, c.p.Sign(c.r.Identity, c.r.Statement(attest.PredicateSign)), attest.PredicateSign)
	c.want(verify.Rejected, "signature", verify.Broken, "not a referrer of this image")
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
		c.opts.Now = time.Time{}
		c.want(verify.Undecided, "image", verify.Unknown, "time of verification")
	})
	t.Run("no demand", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		for name, p := range map[string]policy.Policy{
			"nothing": {}, "of no source": {Origin: policy.BuilderProvenance{}}, "signed by nobody": {Origin: policy.SignatureOnly{}},
			"verified by nobody": {Origin: policy.SummaryOnly{}}, "a pointer": {Origin: &policy.SummaryOnly{}},
		} {
			v := verify.Image(context.Background(), c.s, "v1.2.0", verify.Options{Policy: p, Now: time.Now(), Trust: []*trust.Root{c.p.Root()}})
			if l := link(t, v, verify.LinkImage); v.Outcome != verify.Undecided || l.Status != verify.Unknown || !strings.Contains(l.Reason, "policy") {
				t.Errorf("%s: got %+v, want it undecided", name, v)
			}
		}
	})
}

func TestSourceLink(t *testing.T) {
	there := source.Standing{Commit: true, Ref: source.RefThere, Now: prooftest.Commit, Tree: prooftest.Tree}
	with := func(change func(*source.Standing)) source.Standing {
		s := there
		change(&s)
		return s
	}
	ref := func(name source.RefStatus) source.Standing {
		return with(func(s *source.Standing) { s.Ref, s.Now = name, strings.Repeat("ab", 20) })
	}
	signed := func(status source.SignatureStatus) source.Standing {
		return with(func(s *source.Standing) {
			s.Signature = source.Signature{Object: "tag", Status: status, Signer: "ada", Reason: "a stranger"}
		})
	}
	for name, a := range map[string]struct {
		now     source.Standing
		err     error
		require bool
		outcome verify.Outcome
		status  verify.Status
		words   string
	}{
		"there":                    {there, nil, true, verify.Accepted, verify.Holds, "commit is there, unchanged; tag signed by release@example.com"},
		"branch moved forward":     {ref(source.RefForward), nil, true, verify.Accepted, verify.Holds, "moved on"},
		"branch merged":            {ref(source.RefMerged), nil, true, verify.Accepted, verify.Holds, "default branch"},
		"history rewritten":        {ref(source.RefRewritten), nil, false, verify.Rejected, verify.Broken, "rewritten"},
		"tag moved":                {ref(source.RefMoved), nil, false, verify.Rejected, verify.Broken, "moved to abab"},
		"ref gone":                 {ref(source.RefGone), nil, false, verify.Rejected, verify.Broken, "its ref is gone"},
		"gone":                     {with(func(s *source.Standing) { s.Commit = false }), nil, false, verify.Rejected, verify.Broken, "no longer served"},
		"nothing filled in":        {source.Standing{}, nil, false, verify.Rejected, verify.Broken, "no longer served"},
		"another tree":             {with(func(s *source.Standing) { s.Tree = strings.Repeat("ab", 20) }), nil, false, verify.Rejected, verify.Broken, "tree of commit"},
		"no tree":                  {with(func(s *source.Standing) { s.Tree = "" }), nil, false, verify.Rejected, verify.Broken, "tree of commit"},
		"signed":                   {signed(source.Verified), nil, true, verify.Accepted, verify.Holds, "tag signed by ada, which was checked here"},
		"unsigned":                 {signed(source.Unsigned), nil, false, verify.Rejected, verify.Broken, "unsigned"},
		"signed by a stranger":     {signed(source.Unverified), nil, false, verify.Rejected, verify.Broken, "a stranger"},
		"badly signed":             {signed(source.Bad), nil, false, verify.Rejected, verify.Broken, `"bad"`},
		"unreachable":              {source.Standing{}, errors.New("no route"), false, verify.Accepted, verify.Unknown, "does not refuse"},
		"unreachable and required": {source.Standing{}, errors.New("no route"), true, verify.Undecided, verify.Unknown, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			c.wants.RequireSource = a.require
			c.opts.SourceCheck = func(context.Context, source.Question) (source.Standing, error) { return a.now, a.err }
			c.want(a.outcome, "source", a.status, a.words)
		})
	}
	t.Run("not asked, and required", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.RequireSource = true
		c.want(verify.Undecided, "source", verify.NotAsked, "was not asked")
	})
	t.Run("provenance of another source", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.Source = "https://git.example.com/team/other"
		c.opts.SourceCheck = func(context.Context, source.Question) (source.Standing, error) {
			t.Error("the repository of a provenance that is not accepted was asked")
			return source.Standing{}, nil
		}
		c.want(verify.Rejected, "source", verify.NotAsked, "no valid provenance names a repository")
	})
}

// TestStaleTrust: a trust root that nobody asked about for long is used unless
// the policy says otherwise.
func TestStaleTrust(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	pinned := c.p.Root()
	stale := *pinned
	stale.Repository, stale.Expires = &trust.Repository{URL: "https://tuf.example.com"}, c.opts.Now.Add(-time.Second)
	c.opts.Trust = []*trust.Root{&stale}
	c.want(verify.Accepted, "signature", verify.Holds)
	c.wants.FreshTrust = true
	c.want(verify.Undecided, "image", verify.Unknown, "https://tuf.example.com is stale")
	c.opts.Trust = []*trust.Root{&stale, pinned}
	c.want(verify.Accepted, "signature", verify.Holds)
	stale.Expires = c.opts.Now
	c.opts.Trust = []*trust.Root{&stale}
	c.want(verify.Accepted, "signature", verify.Holds)
}

// TestPlainRoot: a trusted_root.json names no builder, so that the caller must.
func TestPlainRoot(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	plain, err := trust.Parse(c.p.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	c.opts.Trust = []*trust.Root{plain}
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
	opts := verify.Options{Policy: demanded(b, demand), Now: time.Now(), Trust: []*trust.Root{p.Root()}}
	for b.Loop() {
		if v := verify.Image(context.Background(), s, "v1.2.0", opts); v.Outcome != verify.Accepted {
			b.Fatal(v.Why())
		}
	}
}
