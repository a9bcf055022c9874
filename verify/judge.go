package verify

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

// judge verifies one item and reads what it says, as far as the policy asks for
// it. What a statement says is boiled down here, so that no flood of large
// statements is held in memory. platform reads the bundle in the form that
// platforms make; it is nil where they make nothing of the kind.
func (c *check) judge(it *item, b *bundle.Bundle, platform func() (*bundle.Bundle, error), subject func() bundle.Subject) {
	it.signature = b.Image != ""
	if b.Statement != nil {
		it.kind = b.Statement.PredicateType
		it.signature = it.kind == attest.PredicateSign
	} else if it.signature {
		it.kind = attest.PredicateSign
	}
	switch o := c.opts.Policy.Origin.(type) {
	case policy.BuilderProvenance:
		switch {
		case c.ofPublicBuilder(b):
			c.judgePublic(it, b, subject)
		case c.about == aboutFile:
			it.form = errNotPublic
		case platform != nil:
			c.judgePlatform(it, platform, subject)
		}
	case policy.SignerProvenance:
		c.judgeNamed(it, b, o.Signer, subject)
		for _, p := range it.proofs {
			if p.Err() == nil && isProvenance(it) {
				p.build, p.says = c.namedBuild(b, p)
			}
		}
	case policy.SignatureOnly:
		c.judgeNamed(it, b, o.Signer, subject)
	}
	c.judgeAnyone(it, b, subject)
}

var errNotPublic = errors.New("not signed by a workflow on GitHub or a pipeline on GitLab: say who should have signed it")

// plainRoots are the trust roots that speak for no platform.
func (c *check) plainRoots() []*trust.Root {
	return slices.DeleteFunc(slices.Clone(c.opts.Trust), func(r *trust.Root) bool { return len(r.Builders) > 0 })
}

// ofPublicBuilder says by which rules a bundle is judged where the policy demands
// a builder. The name in the certificate decides it before anything is verified:
// no platform's builder has the name of a workflow or a pipeline.
func (c *check) ofPublicBuilder(b *bundle.Bundle) bool {
	if b.Certificate == nil || len(b.Certificate.URIs) != 1 || len(c.plainRoots()) == 0 {
		return false
	}
	system := provenance.SystemOf(b.Certificate.URIs[0].String())
	return system == provenance.GitHub || system == provenance.GitLab
}

// judgePlatform judges what a platform of Colophon signed.
func (c *check) judgePlatform(it *item, platform func() (*bundle.Bundle, error), subject func() bundle.Subject) {
	b, err := platform()
	if err != nil {
		if it.form = err; it.at != "" {
			it.form = fmt.Errorf("attestation %s: %w", it.at, err)
		}
		return
	}
	for _, r := range c.opts.Trust {
		p := &proof{Result: b.Verify(subject(), r.Material, c.now), root: r, rules: ofPlatform}
		if it.proofs = append(it.proofs, p); p.Err() != nil {
			continue
		}
		if p.signer = c.trustPlatform(p); p.signer != nil {
			continue
		}
		switch it.kind {
		case attest.PredicateSLSA1:
			p.build, p.says = c.platformBuild(p, b.Statement)
		case attest.PredicateSPDX, attest.PredicateCDX:
			p.sbom, p.says = c.readSBOM(b.Statement.Predicate, it.kind, subject().Digest)
		}
	}
}

// judgePublic judges what a workflow on GitHub or a pipeline on GitLab signed.
func (c *check) judgePublic(it *item, b *bundle.Bundle, subject func() bundle.Subject) {
	for _, r := range c.plainRoots() {
		p := &proof{Result: b.Verify(subject(), r.Material, c.now), root: r, rules: ofPublic}
		if it.proofs = append(it.proofs, p); p.Err() == nil {
			c.readPublic(p, b)
		}
	}
}

// judgeNamed judges what the signer whom the policy names should have signed.
func (c *check) judgeNamed(it *item, b *bundle.Bundle, named policy.Signer, subject func() bundle.Subject) {
	signer := signerOf(named)
	for _, r := range c.roots(signer) {
		it.proofs = append(it.proofs, &proof{Result: b.VerifyBy(signer, subject(), materialOf(r), c.now), root: r, rules: ofNamed})
	}
}

// judgeAnyone judges what policies demand beside the Origin, of whoever signs it.
func (c *check) judgeAnyone(it *item, b *bundle.Bundle, subject func() bundle.Subject) {
	isSummary := it.kind == attest.PredicateVSA && len(c.opts.Policy.Verifiers) > 0
	isDemanded := slices.ContainsFunc(c.opts.Policy.Attestations, func(a policy.Attestation) bool { return a.PredicateType == it.kind })
	if b.Statement == nil || !isSummary && !isDemanded {
		return
	}
	if b.Certificate != nil {
		for _, r := range c.opts.Trust {
			it.anyone = append(it.anyone, &proof{Result: b.Verify(subject(), r.Material, c.now), root: r})
		}
	} else {
		for _, key := range c.keys() {
			for _, r := range c.roots(key) {
				it.anyone = append(it.anyone, &proof{Result: b.VerifyBy(key, subject(), materialOf(r), c.now), root: r, key: &key})
			}
		}
	}
	if !slices.ContainsFunc(it.anyone, func(p *proof) bool { return p.Err() == nil }) {
		return
	}
	if isSummary {
		it.vsa, it.vsaErr = attest.ParseVSA(b.Statement.Predicate)
	}
	it.matches = make(map[int]error)
	for i, a := range c.opts.Policy.Attestations {
		if a.PredicateType == it.kind {
			it.matches[i] = a.Match(b.Statement.Predicate)
		}
	}
}

// roots are those that a signer may have signed under. A key that is trusted
// without a log needs none of them: nil stands for that.
func (c *check) roots(s bundle.Signer) []*trust.Root {
	if len(c.opts.Trust) == 0 && s.InsecureNoLog {
		return []*trust.Root{nil}
	}
	return c.opts.Trust
}

func materialOf(r *trust.Root) root.TrustedMaterial {
	if r == nil {
		return new(root.BaseTrustedMaterial)
	}
	return r.Material
}

// keys are those that the policy names.
func (c *check) keys() (keys []bundle.Signer) {
	add := func(s policy.Signer) {
		if k, ok := s.(policy.Key); ok {
			keys = append(keys, signerOf(k))
		}
	}
	add(c.opts.Policy.Signer()) // it may also have to sign the attestations
	for _, a := range c.opts.Policy.Attestations {
		add(a.Signer)
	}
	for _, v := range c.opts.Policy.Verifiers {
		add(v.Signer)
	}
	return keys
}

// signerOf is the signer that a policy demands. Of a type that is none of
// policy's it is one that no certificate matches.
func signerOf(p policy.Signer) bundle.Signer {
	switch s := p.(type) {
	case policy.Identity:
		return bundle.Signer{Identity: s.Name, Issuer: s.Issuer}
	case policy.Pattern:
		return bundle.Signer{Pattern: s.Name(), Issuer: s.Issuer()}
	case policy.Key:
		return bundle.Signer{Key: s.Public(), InsecureNoLog: s.InsecureNoLog}
	}
	return bundle.Signer{}
}

var errNotTheKey = errors.New("signer: not the key that was demanded")

// signed returns a test whether a proof is of the signer demanded.
func signed(by bundle.Signer) func(*proof) error {
	return func(p *proof) error {
		if by.Key == nil && p.key == nil {
			return by.Match(p.Identity)
		}
		// A proof that needed no log is none for a demand that wants one.
		if by.Key == nil || p.key == nil || by.InsecureNoLog != p.key.InsecureNoLog || !sameKey(by.Key, p.key.Key) {
			return errNotTheKey
		}
		return nil
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func isProvenance(it *item) bool {
	return it.kind == attest.PredicateSLSA1 || it.kind == attest.PredicateSLSA02
}
