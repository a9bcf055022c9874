package verify_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const (
	strangerURL = "http://127.0.0.2:8080"
	testResult  = "https://in-toto.io/attestation/test-result/v0.1"
)

// twoRoots is a machine that trusts ours for some identities, and another platform,
// which lists none of these.
type twoRoots struct {
	t            *testing.T
	ours, theirs *prooftest.Platform
	roots        []*trust.Root // ours first
	store        *prooftest.Store
	image        v1.Descriptor
	platform     bool // ours is a platform, in place of a plain trusted root
}

var ourIssuers = []string{people, trust.GitHubIssuer, trust.GitLabIssuer, "https://idp.example.com"}

func newTwoRoots(t *testing.T, platform, plainStranger bool) *twoRoots {
	x := &twoRoots{t: t, ours: prooftest.New(t), theirs: prooftest.New(t), store: prooftest.NewStore(t), platform: platform}
	x.theirs.URL, x.ours.Issuers = strangerURL, ourIssuers
	x.roots = []*trust.Root{x.ours.PlainRoot(append(ourIssuers, prooftest.URL)...), x.theirs.Root()}
	if platform {
		x.roots[0] = x.ours.Root()
	}
	if plainStranger {
		x.roots[1] = x.theirs.PlainRoot(strangerURL)
	}
	x.image, _ = x.store.Image("v1.2.0")
	return x
}

func (x *twoRoots) verdict(d policy.Document) *verify.Verdict {
	x.t.Helper()
	return verify.Image(context.Background(), x.store, "v1.2.0", time.Now(), verify.Options{Trust: x.roots, Policy: demanded(x.t, d)})
}

// attach attaches a statement that p certified for id.
func (x *twoRoots) attach(p *prooftest.Platform, id prooftest.Identity, kind string, predicate any) {
	x.t.Helper()
	x.store.Attach(x.image, p.Sign(id, statement(x.t, x.image.Digest.Hex, kind, predicate)), kind)
}

// path is one way in which something signed reaches a verdict: honest evidence, but
// for the part that p signs.
type path struct {
	judge    func(x *twoRoots, p *prooftest.Platform) *verify.Verdict
	platform bool // ours must be a platform
}

var paths = map[string]path{
	"image signature, cosign v2": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		s := &signedStage{t: x.t, image: x.image, store: x.store}
		s.sign(s.payload("", ""), p.Certified(adasCertificate).Simple(s.payload("", "")))
		return x.verdict(named(byAda))
	}},
	"image signature, cosign v3": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.attach(p, adasCertificate, attest.PredicateSign, map[string]any{})
		return x.verdict(named(byAda))
	}},
	"image signature, pattern": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.attach(p, adasCertificate, attest.PredicateSign, map[string]any{})
		return x.verdict(named(policy.DocumentSigner{IdentityRegexp: ".*", Issuer: people}))
	}},
	"provenance of a builder that the policy names": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.release(p, p, prooftest.Kinds...)
		d := demand
		d.Builders = []string{prooftest.Builder}
		return x.verdict(d)
	}},
	"provenance of a platform": {platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.release(p, p, prooftest.Kinds...)
		return x.verdict(demand)
	}},
	"SBOM": {platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.release(x.ours, p, attest.PredicateSPDX)
		return x.verdict(demand)
	}},
	"signature beside the provenance": {platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.release(x.ours, p, attest.PredicateSign)
		return x.verdict(demand)
	}},
	"provenance of a workflow": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		w := newWorkflow(x.t)
		x.attach(p, w.r.Identity, attest.PredicateSLSA1, w.predicate)
		return x.verdict(w.demand)
	}},
	"provenance of a pipeline": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		kind, predicate := predicateOf(x.t, "gitlab")
		x.attach(p, gitLabIdentity(), kind, json.RawMessage(predicate))
		return x.verdict(policy.Document{Source: project})
	}},
	"provenance by the signer named": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		kind, predicate := predicateOf(x.t, "gitlab")
		x.attach(p, gitLabIdentity(), kind, json.RawMessage(predicate))
		return x.verdict(policy.Document{Source: project, Signer: &policy.DocumentSigner{Identity: pipeline, Issuer: trust.GitLabIssuer}})
	}},
	"attestation by the signer named": {platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		x.release(x.ours, x.ours, prooftest.Kinds...)
		x.attach(p, adasCertificate, testResult, map[string]any{})
		d := demand
		d.Attestations = []policy.DocumentAttestation{{PredicateType: testResult, Signer: &byAda}}
		return x.verdict(d)
	}},
	"attestation by the signer of the provenance": {platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		r := x.release(x.ours, x.ours, prooftest.Kinds...)
		x.attach(p, r.Signer(), testResult, map[string]any{})
		d := demand
		d.Attestations = []policy.DocumentAttestation{{PredicateType: testResult}}
		return x.verdict(d)
	}},
	"verification summary": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		c := newVerified(x.t)
		x.attach(p, c.id, attest.PredicateVSA, c.vsa)
		return x.verdict(policy.Document{Verifiers: []policy.DocumentVerifier{c.by}})
	}},
	"file of a workflow": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		w, f := newWorkflow(x.t), fileOf([]byte("a file"))
		return x.file(f, p.Sign(w.r.Identity, statement(x.t, f.Digest.Hex, attest.PredicateSLSA1, w.predicate)), w.demand)
	}},
	"file by the signer named": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		f := fileOf([]byte("a file"))
		return x.file(f, p.Sign(adasCertificate, statement(x.t, f.Digest.Hex, attest.PredicateSign, map[string]any{})), named(byAda))
	}},
	// The services of one proof: all of one trust root, or no proof.
	"certificate authority": servicePath("ca"),
	"certificate log":       servicePath("ct"),
	"transparency log":      servicePath("log"),
	"timestamp authority":   servicePath("tsa"),
	// A key has no issuer, so that the policy names the root whose log must have it.
	"key": {judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		s, h := &signedStage{t: x.t, image: x.image, store: x.store}, p.KeyHolder()
		s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
		return x.verdict(named(policy.DocumentSigner{Key: string(h.PublicKey()), Root: x.roots[0].Fingerprint}))
	}},
}

// servicePath is a release of ours that takes one service from p.
func servicePath(service string) path {
	return path{platform: true, judge: func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
		mixed := x.ours.With(service, p)
		x.release(mixed, mixed, prooftest.Kinds...)
		return x.verdict(demand)
	}}
}

// release attaches the proofs of our release of the image: those of the given kinds
// signed by p, the others by rest.
func (x *twoRoots) release(rest, p *prooftest.Platform, kinds ...string) *prooftest.Release {
	r := x.ours.ReleaseOf(x.image)
	for _, kind := range prooftest.Kinds {
		by := rest
		for _, k := range kinds {
			if k == kind {
				by = p
			}
		}
		x.store.Attach(x.image, by.Sign(r.Signer(), r.Statement(kind)), kind)
	}
	return r
}

func (x *twoRoots) file(f verify.File, bundle []byte, d policy.Document) *verify.Verdict {
	x.t.Helper()
	return verify.Bundled(context.Background(), f, [][]byte{bundle}, time.Now(), verify.Options{Trust: x.roots, Policy: demanded(x.t, d)})
}

// TestRootsOutOfScope: on every path, a trusted stranger certifies and logs an identity
// that only our root vouches for.
func TestRootsOutOfScope(t *testing.T) {
	for name, path := range paths {
		for _, plainStranger := range []bool{false, true} {
			x := newTwoRoots(t, path.platform, plainStranger)
			if v := path.judge(x, x.ours); v.Outcome != verify.Accepted {
				t.Errorf("%s: ours: got %s: %s", name, v.Outcome, v.Why())
			}
			x = newTwoRoots(t, path.platform, plainStranger)
			if v := path.judge(x, x.theirs); v.Outcome != verify.Rejected {
				t.Errorf("%s: theirs (plain %v): got %s, want it rejected: %+v", name, plainStranger, v.Outcome, v.Links)
			}
			// Nor with a trust root of the same services for other identities beside it.
			x = newTwoRoots(t, path.platform, plainStranger)
			x.roots[0] = x.ours.PlainRoot("https://elsewhere.example.com")
			if v := path.judge(x, x.ours); name != "key" && v.Outcome != verify.Rejected {
				t.Errorf("%s: ours, but for other issuers: got %s, want it rejected: %+v", name, v.Outcome, v.Links)
			}
		}
	}
}

// TestRootNamed: two roots vouch for the same issuer, and the policy says which one is
// meant.
func TestRootNamed(t *testing.T) {
	by := func(root string) *policy.DocumentSigner {
		return &policy.DocumentSigner{Identity: ada, Issuer: people, Root: root}
	}
	for name, judge := range map[string]func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict{
		"signer": func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict {
			x.attach(p, adasCertificate, attest.PredicateSign, map[string]any{})
			return x.verdict(named(*by(root)))
		},
		"pattern": func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict {
			x.attach(p, adasCertificate, attest.PredicateSign, map[string]any{})
			return x.verdict(named(policy.DocumentSigner{IdentityRegexp: ".*", Issuer: people, Root: root}))
		},
		"attestation": func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict {
			x.release(x.ours, x.ours, prooftest.Kinds...)
			x.attach(p, adasCertificate, testResult, map[string]any{})
			d := demand
			d.Attestations = []policy.DocumentAttestation{{PredicateType: testResult, Signer: by(root)}}
			return x.verdict(d)
		},
		"verifier": func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict {
			c := newVerified(x.t)
			x.attach(p, adasCertificate, attest.PredicateVSA, c.vsa)
			return x.verdict(policy.Document{Verifiers: []policy.DocumentVerifier{{ID: verifierID, Signer: *by(root)}}})
		},
		"workflow": func(x *twoRoots, p *prooftest.Platform, root string) *verify.Verdict {
			w := newWorkflow(x.t)
			x.attach(p, w.r.Identity, attest.PredicateSLSA1, w.predicate)
			w.demand.Root = root
			return x.verdict(w.demand)
		},
	} {
		set := func() *twoRoots {
			x := newTwoRoots(t, true, false)
			x.theirs.Issuers = ourIssuers
			x.roots[1] = x.theirs.Root()
			if name == "workflow" { // only plain trusted roots vouch for workflows
				x.roots = []*trust.Root{x.ours.PlainRoot(ourIssuers...), x.theirs.PlainRoot(ourIssuers...)}
			}
			return x
		}
		for what, tt := range map[string]struct {
			theirs bool
			root   func(x *twoRoots) string
			want   verify.Outcome
		}{
			"ours, none named":      {false, func(*twoRoots) string { return "" }, verify.Accepted},
			"theirs, none named":    {true, func(*twoRoots) string { return "" }, verify.Accepted},
			"ours, by fingerprint":  {false, func(x *twoRoots) string { return x.roots[0].Fingerprint }, verify.Accepted},
			"ours, theirs named":    {false, func(x *twoRoots) string { return x.roots[1].Fingerprint }, verify.Rejected},
			"theirs, ours named":    {true, func(x *twoRoots) string { return x.roots[0].Fingerprint }, verify.Rejected},
			"ours, by URL":          {false, func(x *twoRoots) string { return x.roots[0].URL }, verify.Accepted},
			"ours, a root not here": {false, func(*twoRoots) string { return "sha256:" + strings.Repeat("ab", 32) }, verify.Undecided},
		} {
			x := set()
			p := x.ours
			if tt.theirs {
				p = x.theirs
			}
			if v := judge(x, p, tt.root(x)); v.Outcome != tt.want {
				t.Errorf("%s: %s: got %s, want %s: %+v", name, what, v.Outcome, tt.want, v.Links)
			}
		}
	}
}

// TestAttestationUnderTheRootOfItsProvenance: the policy names who signs, two roots
// vouch for that signer, and attestations that name nobody must be of the same root
// and the same identity as what they stand beside.
func TestAttestationUnderTheRootOfItsProvenance(t *testing.T) {
	bob := prooftest.Identity{SAN: ada + "/bob", Issuer: people}
	kind, predicate := predicateOf(t, "gitlab")
	for what, tt := range map[string]struct {
		theirs bool
		id     prooftest.Identity
		want   verify.Outcome
	}{
		"same root, same identity": {false, adasCertificate, verify.Accepted},
		"another root":             {true, adasCertificate, verify.Rejected},
		"another identity":         {false, bob, verify.Rejected},
	} {
		for name, judge := range map[string]func(x *twoRoots, p *prooftest.Platform) *verify.Verdict{
			"signature": func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
				x.attach(x.ours, adasCertificate, attest.PredicateSign, map[string]any{})
				x.attach(p, tt.id, testResult, map[string]any{})
				d := named(policy.DocumentSigner{IdentityRegexp: ada + ".*", Issuer: people})
				d.Attestations = []policy.DocumentAttestation{{PredicateType: testResult}}
				return x.verdict(d)
			},
			"provenance": func(x *twoRoots, p *prooftest.Platform) *verify.Verdict {
				id := gitLabIdentity()
				x.attach(x.ours, id, kind, json.RawMessage(predicate))
				if tt.id.SAN == bob.SAN {
					id.SAN, id.Extensions = strings.Replace(pipeline, "main", "other", 1), nil
				}
				x.attach(p, id, testResult, map[string]any{})
				return x.verdict(policy.Document{Source: project, Signer: &policy.DocumentSigner{IdentityRegexp: ".*", Issuer: trust.GitLabIssuer},
					Attestations: []policy.DocumentAttestation{{PredicateType: testResult}}})
			},
		} {
			x := newTwoRoots(t, true, false)
			x.theirs.Issuers = ourIssuers
			x.roots[1] = x.theirs.Root()
			p := x.ours
			if tt.theirs {
				p = x.theirs
			}
			if v := judge(x, p); v.Outcome != tt.want {
				t.Errorf("%s: %s: got %s, want %s: %+v", name, what, v.Outcome, tt.want, v.Links)
			}
		}
	}
}

// TestPartsUnderTwoRoots: two roots vouch for the same builder, and each certified a
// part of one release. All parts must be of one root.
func TestPartsUnderTwoRoots(t *testing.T) {
	for _, kind := range append([]string{""}, prooftest.Kinds...) {
		x := newTwoRoots(t, false, false)
		x.roots[1] = x.theirs.PlainRoot(prooftest.URL)
		x.release(x.ours, x.theirs, kind)
		d := demand
		d.Builders = []string{prooftest.Builder}
		want := verify.Rejected
		if kind == "" {
			want = verify.Accepted
		}
		if v := x.verdict(d); v.Outcome != want {
			t.Errorf("%q under the other root: got %s, want %s: %+v", kind, v.Outcome, want, v.Links)
		}
	}
}
