package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// notationSignature is a manifest with a signature in a format of the Notary Project.
type notationSignature struct {
	at        string              // digest of the manifest
	signature *notation.Signature // intact; nil: it could not be read, and err says why
	err       error
	unread    bool // err may be temporary
}

// maxNotation limits the signatures of one image that are kept: those under a trust store of a
// policy.
const maxNotation = 256

// trustsNotation returns the policy's trust policy for signatures of notation, or nil.
func (c *check) trustsNotation() *notation.TrustPolicy {
	if o, ok := c.opts.Policy.Origin.(policy.NotationSignature); ok {
		return &o.Trust
	}
	return nil
}

// notationAnchors returns the certificates under which signatures count for a policy that asks
// now. Without any, no signature of notation is read.
func (c *check) notationAnchors() map[notation.Fingerprint]bool {
	anchors := map[notation.Fingerprint]bool{}
	for _, asks := range c.all() {
		if t := asks.trustsNotation(); t != nil {
			for _, a := range t.Anchors() {
				anchors[a] = true
			}
		}
	}
	return anchors
}

// findNotation reads the signatures of notation among what is attached to an image. Of
// strangers, it keeps only what is wrong with them.
func (c *check) findNotation(ctx context.Context, image v1.Hash, list []oci.Attached, anchors map[notation.Fingerprint]bool) []*notationSignature {
	if len(anchors) == 0 {
		return nil
	}
	found := make([]*notationSignature, len(list))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range list {
		if a := &list[i]; a.Err == nil && a.Tag == "" && a.ArtifactType == notation.ArtifactType {
			g.Go(func() error {
				found[i] = c.readNotation(ctx, image, a, anchors)
				return nil
			})
		}
	}
	_ = g.Wait() // no task returns an error: each signature keeps its own
	found = slices.DeleteFunc(found, func(s *notationSignature) bool { return s == nil })
	kept := 0
	for _, s := range found {
		if s.signature == nil {
			continue
		}
		if kept++; kept > maxNotation {
			s.signature, s.unread = nil, true
			s.err = fmt.Errorf("signature %s: not verified: the image has more than %d", s.at, maxNotation)
		}
	}
	return found
}

func (c *check) readNotation(ctx context.Context, image v1.Hash, a *oci.Attached, anchors map[notation.Fingerprint]bool) *notationSignature {
	s := &notationSignature{at: a.Descriptor.Digest.String()}
	s.signature, s.err = func() (*notation.Signature, error) {
		if len(a.Layers) != 1 {
			return nil, fmt.Errorf("got %d layers, want 1", len(a.Layers))
		}
		l := a.Layers[0]
		raw, err := oci.Content(ctx, c.src, l, notation.MaxEnvelope)
		if err != nil {
			s.unread = !permanent(err)
			return nil, err
		}
		chain, err := notation.Peek(string(l.MediaType), raw)
		if err != nil {
			return nil, err
		}
		// Anybody who may push can attach thousands by certificates of their own.
		known := func(c *x509.Certificate) bool { return anchors[notation.FingerprintOf(c)] }
		if !slices.ContainsFunc(chain, known) {
			return nil, fmt.Errorf("signed by %q under %q: neither is in a trust store of the policy", chain[0].Subject, chain[len(chain)-1].Subject)
		}
		got, err := notation.Parse(string(l.MediaType), raw)
		if err == nil && got.Target.Digest != image {
			got, err = nil, fmt.Errorf("signed image: got %s, want %s", got.Target.Digest, image)
		}
		return got, err
	}()
	if s.err != nil {
		s.err = fmt.Errorf("signature %s: %w", s.at, bounded(s.err))
	}
	return s
}

// notationOf returns the signatures of notation that the policy asks for.
func (c *check) notationOf(all *found) []*notationSignature {
	t := c.trustsNotation()
	if t == nil {
		return nil
	}
	if slices.ContainsFunc(t.Anchors(), func(a notation.Fingerprint) bool { return !all.anchors[a] }) {
		c.miss()
	}
	return all.notation
}

// notation completes the verdict by a policy that demands a signature of notation.
func (c *check) notation(v *Verdict, ev *evidence, subject v1.Descriptor) {
	l, signed := c.notationLink(ev, subject)
	v.add(l)
	v.add(Link{Name: LinkLog, Status: NotAsked, Reason: "signatures of notation are in no transparency log"})
	v.add(Link{Name: LinkProvenance, Status: NotAsked, Reason: "the policy demands only a signer"})
	v.add(Link{Name: LinkSBOM, Status: NotAsked, Reason: "a policy that names a signer demands no SBOM"})
	v.decide(map[string]bool{LinkImage: true, LinkSignature: true})
	if signed != nil {
		v.Facts = &Facts{Signed: []Signed{*signed}}
	}
}

// notationLink returns the link for the first signature that holds, and what it proved.
func (c *check) notationLink(ev *evidence, subject v1.Descriptor) (Link, *Signed) {
	var wrong, undecided error
	furthest := -1
	for _, s := range ev.notation {
		passed, err := -1, s.err
		if s.signature != nil {
			var r *notation.Result
			if r, err = s.signature.Verify(subject, c.trustsNotation(), c.now); err == nil {
				c.besideNotation(s.signature.Chain, r)
				return notationHolds(s, r)
			}
			passed, err = r.Passed, fmt.Errorf("signature %s: %w", s.at, err)
		}
		if s.unread || errors.Is(err, notation.ErrRevocationUnknown) {
			undecided = cmp.Or(undecided, err)
		}
		if passed >= furthest && (wrong == nil || passed > furthest) {
			wrong, furthest = err, passed
		}
	}
	// What could not be read may be a signature.
	undecided = cmp.Or(undecided, ev.unread(func(*item) bool { return false }))
	switch {
	case undecided != nil:
		return failed(LinkSignature, Unknown, undecided), nil
	case wrong != nil:
		return failed(LinkSignature, Broken, wrong), nil
	}
	what := "signature of notation"
	return Link{Name: LinkSignature, Status: Absent, Reason: "the image carries no " + what, Cause: Cause{Kind: CauseMissing, Want: what}}, nil
}

// besideNotation notes the keys of the certificates: who trusts one no longer may list it as a key.
func (c *check) besideNotation(chain []*x509.Certificate, r *notation.Result) {
	for _, cert := range chain {
		c.beside = append(c.beside, distrust.Signer{Key: keyName(cert.RawSubjectPublicKeyInfo), Before: r.At})
	}
}

func notationHolds(s *notationSignature, r *notation.Result) (Link, *Signed) {
	l := Link{Name: LinkSignature, Status: Holds, Claim: fmt.Sprintf("by %s, under %s", r.Signer, r.Root)}
	signed := &Signed{Digest: s.at, PredicateType: notation.ArtifactType, Signer: plain(r.Signer), Issuer: plain(r.Root)}
	if !r.At.IsZero() {
		l.Claim += ", signed " + trust.FormatTime(r.At)
		signed.Times = []time.Time{r.At}
	}
	return l, signed
}
