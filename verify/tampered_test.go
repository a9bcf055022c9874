package verify_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

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
			c.r.AttachBundle(tt.kind, c.p.Sign(c.r.Signer(), c.r.Statement(tt.kind), bends[tt.part]))
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
	c.p.Sign(c.r.Signer(), []byte("another statement"), func(b *protobundle.Bundle) { other = b })
	c.r.AttachBundle(attest.PredicateSign, c.p.Sign(c.r.Signer(), c.r.Statement(attest.PredicateSign), func(b *protobundle.Bundle) {
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

// TestBentServices: a service of the platform was missing, foreign, or not trusted
// at that time.
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
		c.want(verify.Rejected, "signature", verify.Broken, "which is not trusted here")
		// One line says all of it.
		v := c.verdict()
		broken := 0
		for _, l := range v.Links {
			if l.Status == verify.Broken || l.Status == verify.Absent {
				broken++
			}
		}
		want := verify.Cause{Kind: verify.CauseUntrusted, Got: prooftest.Builder, Authority: "CN=test ca", Trust: prooftest.URL}
		if broken != 1 || v.Links[1].Cause != want || !strings.Contains(v.Links[1].Reason, "colophon trust add "+prooftest.URL) || v.Hint != "" {
			t.Errorf("got %d broken links, the cause %+v and the hint %q, want one, %+v", broken, v.Links[1].Cause, v.Hint, want)
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
			bundle = stranger.Sign(c.r.Signer(), c.r.Statement(kind))
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
	flood.want(verify.Accepted, "signature", verify.Holds)
}

// TestWrongManifestSubject: a listing that hands out another image's proof.
func TestWrongManifestSubject(t *testing.T) {
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSign)...)
	other := c.r.Image
	other.Digest.Hex = strings.Repeat("00", 32)
	c.s.Attach(other, c.p.Sign(c.r.Signer(), c.r.Statement(attest.PredicateSign)), attest.PredicateSign)
	c.want(verify.Rejected, "signature", verify.Broken, "not a referrer of this image")
}
