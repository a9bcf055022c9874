package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

// What the consumer names a signer for: whoever it is, by whatever form of
// signature, under any of the trust roots. The rules of platforms and of public
// builders play no part.

// wanted says what is looked for, and what more it must pass.
type wanted struct {
	what   string // for people, in "the image carries no …"
	takes  func(*attest.Signed) bool
	signer Signer
	then   func(*attest.Signed, *Signature) error
}

// found is the candidate that passed everything, or came furthest.
type found struct {
	sig   *Signature // nil where not even the signature held
	err   error
	score int
}

// search collects candidates; it is safe for concurrent use.
type search struct {
	mu     sync.Mutex
	best   *found
	unread error // why there may be more than was looked at
}

func (s *search) add(f *found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.best == nil || f.score > s.best.score {
		s.best = f
	}
}

func (s *search) miss(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = err
}

// look searches what is attached to an image.
func (c *check) look(ctx context.Context, digest v1.Hash, w wanted) *search {
	s := new(search)
	all, unread := c.attachments(ctx, digest)
	if unread != nil {
		s.miss(unread)
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, a := range all {
		if a.missing {
			s.miss(a.err)
		} else if a.err != nil {
			s.add(&found{err: a.err})
		}
		for _, l := range a.layers {
			g.Go(func() error {
				b, err := readLayer(ctx, c.src, l)
				switch {
				case err != nil && !settled(err):
					s.miss(err)
				case err != nil:
					s.add(&found{err: err})
				default:
					c.consider(s, b, func() Subject { return Subject{Digest: digest} }, w)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // no task fails: each keeps its own error
	for _, raw := range c.opts.Bundles {
		if b, err := parseBundled(raw); err != nil {
			s.add(&found{err: err})
		} else {
			c.consider(s, b, func() Subject { return Subject{Digest: digest} }, w)
		}
	}
	return s
}

// consider judges one candidate, if it is one. Each call of subject is good for
// one reading.
func (c *check) consider(s *search, b *attest.Signed, subject func() Subject, w wanted) {
	if !w.takes(b) {
		return
	}
	f := &found{score: 1}
	if f.sig, f.err = c.bySigner(b, subject, w.signer); f.err == nil {
		f.score = 2
		if w.then != nil {
			f.err = w.then(b, f.sig)
		}
		if f.err == nil {
			f.score = 3
		}
		f.sig.Statement = nil // too large to be held for a flood of them
	}
	s.add(f)
}

// bySigner verifies b about the subject under one of the trust roots.
func (c *check) bySigner(b *attest.Signed, subject func() Subject, signer Signer) (*Signature, error) {
	digest := subject().Digest
	switch {
	case b.Image != "":
		if b.Image != digest.String() {
			return nil, fmt.Errorf("image of the signature: got %q, want %q", b.Image, digest)
		}
		sum := sha256.Sum256(b.Payload)
		subject = func() Subject {
			return Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(b.Payload)}
		}
	case b.Statement != nil:
		if err := aboutDigest(b.Statement, digest); err != nil {
			return nil, err
		}
	}
	var first error
	for _, material := range c.materials(signer) {
		sig, err := signedBy(b, subject(), signer, material, c.opts.Now)
		if err == nil {
			return sig, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// materials are the trust roots. A key that is to be believed without a log
// needs none of them.
func (c *check) materials(signer Signer) []root.TrustedMaterial {
	var all []root.TrustedMaterial
	for _, r := range c.opts.Trust {
		all = append(all, r.Material)
	}
	if len(all) == 0 && signer.InsecureNoLog {
		all = append(all, new(root.BaseTrustedMaterial))
	}
	return all
}

// signerOf is the signer that a policy demands. Of a kind that is none of
// policy's it is one that no certificate can be of.
func signerOf(p policy.Signer) Signer {
	switch s := p.(type) {
	case policy.Identity:
		return Signer{Identity: s.Name, Issuer: s.Issuer}
	case policy.Pattern:
		return Signer{Pattern: s.Name(), Issuer: s.Issuer()}
	case policy.Key:
		return Signer{Key: s.Public(), InsecureNoLog: s.InsecureNoLog}
	}
	return Signer{}
}

// isSignature says whether b is the signature of an image, which an attestation
// about it is not.
func isSignature(b *attest.Signed) bool {
	return b.Image != "" || b.Statement != nil && b.Statement.PredicateType == attest.PredicateSign
}

func isProvenance(b *attest.Signed) bool {
	return b.Statement != nil && (b.Statement.PredicateType == attest.PredicateSLSA1 || b.Statement.PredicateType == attest.PredicateSLSA02)
}

// namedImage is Image for a policy that names the signer.
func (c *check) namedImage(ctx context.Context, v *Verdict, digest v1.Hash) {
	image := make(chan Link, 1)
	go func() { image <- c.image(ctx, digest) }()
	required := map[string]bool{LinkImage: true}
	links, demanded := c.namedLinks(ctx, func(w wanted) *search { return c.look(ctx, digest, w) }, isSignature)
	v.add(<-image)
	for _, l := range append(links, Link{Name: LinkSBOM, Status: NotAsked, Reason: "the policy names a signer, and no SBOM of its own"}) {
		v.add(l)
	}
	for _, name := range demanded {
		required[name] = true
	}
	c.require(v)
	v.demand(required)
}

// namedLinks are the links of what a named signer signed, and which of them
// are demanded. Where no source is demanded, that is a signature.
func (c *check) namedLinks(ctx context.Context, look func(wanted) *search, signature func(*attest.Signed) bool) (links []Link, demanded []string) {
	demanded = []string{LinkSignature, LinkLog}
	signer := signerOf(c.opts.Policy.Signer())
	if signer.InsecureNoLog {
		demanded = demanded[:1]
	}
	if _, only := c.opts.Policy.Origin.(policy.SignatureOnly); only {
		s := look(wanted{what: "signature", takes: signature, signer: signer})
		links = append(signedLinks(s, signer, "signature"), Link{Name: LinkProvenance, Status: NotAsked, Reason: "only who signed was asked"})
		return links, demanded
	}
	demanded = append(demanded, LinkProvenance)
	if c.opts.Policy.Provenance().RequireSource {
		demanded = append(demanded, LinkSource)
	}
	var mu sync.Mutex
	var good *provenance
	var kind string
	s := look(wanted{what: "provenance", takes: isProvenance, signer: signer, then: func(b *attest.Signed, sig *Signature) error {
		p, err := c.namedProvenance(b, sig)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		good, kind = p, b.Statement.PredicateType
		return nil
	}})
	links = signedLinks(s, signer, "provenance")
	prov := Link{Name: LinkProvenance, Status: Unknown, Reason: "there is no good signature over it"}
	best := &candidate{}
	switch {
	case good != nil:
		prov = Link{Name: LinkProvenance, Status: Holds, Claim: good.claim()}
		best = &candidate{kind: kind, proof: &proof{}, prov: good}
		good.built.signed = links[0].Claim + "; " + links[1].Claim + links[1].Reason
		c.proven = best
	case s.unread != nil:
		prov.Reason = s.unread.Error()
	case s.best != nil && s.best.sig != nil:
		prov.Status, prov.Reason = Broken, s.best.err.Error()
	}
	return append(links, prov, c.sourceLink(ctx, best)), demanded
}

// signedLinks are the links of signature and log.
func signedLinks(s *search, signer Signer, what string) []Link {
	signature, log := Link{Name: LinkSignature}, Link{Name: LinkLog, Status: Unknown, Reason: "not told apart from the signature"}
	switch {
	case s.best != nil && s.best.sig != nil:
		signature.Status, signature.Claim = Holds, "of the key given"
		if signer.Key == nil {
			signature.Claim = s.best.sig.Identity.SubjectAlternativeName
		}
		return []Link{signature, logLink(s.best.sig, signer)}
	case s.unread != nil:
		signature.Status, signature.Reason = Unknown, s.unread.Error()
	case s.best != nil:
		signature.Status, signature.Reason = Broken, s.best.err.Error()
	default:
		signature.Status, signature.Reason = Absent, "there is no "+what
	}
	return []Link{signature, log}
}

func logLink(sig *Signature, signer Signer) Link {
	l := Link{Name: LinkLog, Status: Holds, Claim: "the trust root keeps no log"}
	switch {
	case sig.Index >= 0:
		l.Claim = fmt.Sprintf("entry %d", sig.Index)
	case signer.InsecureNoLog:
		return Link{Name: LinkLog, Status: NotAsked, Reason: "dangerous: a signature that no log has is accepted, as was asked"}
	}
	if len(sig.Times) > 0 {
		l.Claim += ", signed " + show(sig.Times[0])
	}
	return l
}
