package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// Distrust is what to compare with an accepted image: lists of what is no longer trusted. The zero
// Distrust compares nothing.
type Distrust struct {
	Lists  distrust.Lists
	MaxAge time.Duration // greatest age of each list; 0: any, and no list is demanded
}

func (d Distrust) asked() bool { return len(d.Lists) > 0 || d.MaxAge > 0 }

// rests is what a verdict rests on beside its Facts, for lists of what is no longer trusted.
type rests struct {
	inside []string          // digests of the manifests in the index
	inputs []distrust.Input  // of the build
	beside []distrust.Signer // of attestations and summaries that the policy demands
	unkept bool              // inputs were not kept: nobody asked for them
}

func (c *check) restsOn(s set) *rests {
	r := &rests{inside: c.read.inside, beside: c.beside}
	if s.provenance.holds() {
		r.inputs, r.unkept = s.provenance.proof.build.inputs, !c.keepsInputs()
	}
	return r
}

// signerFact returns who made a proof. key is the key that the policy names, if it names one.
func signerFact(p *proof, named policy.Signer) distrust.Signer {
	s := distrust.Signer{Identity: p.Identity.SubjectAlternativeName, Issuer: p.Identity.Issuer, After: p.Certified}
	for _, t := range p.Times {
		if s.Before.IsZero() || t.Before(s.Before) {
			s.Before = t
		}
	}
	if s.Identity != "" {
		return s
	}
	key, ok := named.(policy.Key)
	public := key.Public()
	if p.key != nil {
		public, ok = p.key.Key, true
	}
	if der, err := x509.MarshalPKIXPublicKey(public); ok && err == nil {
		sum := sha256.Sum256(der)
		s.Key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return s
}

// distrustFacts returns what entries may be about. packages returns those of the SBOMs.
func (v *Verdict) distrustFacts(packages func() ([]distrust.Listed, error)) *distrust.Facts {
	f := &distrust.Facts{}
	if v.Facts != nil {
		f = v.Facts.Distrust()
	}
	f.Packages = packages
	for _, d := range []string{v.Digest, v.Index} {
		if d != "" {
			f.Digests = append(f.Digests, d)
		}
	}
	if v.rests != nil {
		f.Digests = append(f.Digests, v.rests.inside...)
		f.Inputs, f.Beside = v.rests.inputs, v.rests.beside
	}
	return f
}

// Distrust returns what entries of lists may be about, of facts that were gathered in this process:
// those of a parsed Verdict lack who signed with a key. Packages are not known. digests are those of the
// image, sha256:HEX.
func (f *Facts) Distrust(digests ...string) *distrust.Facts {
	out := &distrust.Facts{Digests: digests}
	if b := f.Build; b != nil {
		out.Source, out.Commit, out.Builder = b.Source, b.Commit, b.Builder
		out.Inputs = inputsOf(b.Dependencies)
	}
	for _, s := range f.Signed {
		out.Signers = append(out.Signers, s.by)
	}
	return out
}

// distrusted returns the verdict with the link distrust: whether an entry of a list is about an
// accepted image. Any other verdict stays as it is.
func (v *Verdict) distrusted(d Distrust, now time.Time, packages func() ([]distrust.Listed, error)) *Verdict {
	if !d.asked() || v.Outcome != Accepted {
		return v
	}
	out := v.clone()
	out.addDemanded(v.distrustLink(d, now, packages))
	return out
}

func (v *Verdict) distrustLink(d Distrust, now time.Time, packages func() ([]distrust.Listed, error)) Link {
	l := Link{Name: LinkDistrust}
	found, err := d.Lists.Find(v.distrustFacts(packages))
	switch {
	case found != nil:
		l.Status, l.Reason = Broken, found.String()
		l.Cause = Cause{Kind: CauseDistrust, Got: found.Scope.String(), Want: found.Replace, Authority: found.Issuer}
		return l
	case err == nil && d.MaxAge > 0:
		err = d.Lists.Fresh(d.MaxAge, now)
	}
	if err == nil {
		err = v.unlisted(d)
	}
	if err != nil {
		return failed(LinkDistrust, Unknown, err)
	}
	l.Status = Holds
	for _, k := range d.Lists {
		l.Claim += fmt.Sprintf(", %s", k.Issuer.Name)
		if k.List != nil {
			l.Claim += fmt.Sprintf(" (%d entries, %s)", k.List.Entries, trust.FormatTime(k.List.Issued))
		}
	}
	l.Claim = "no entry is about it: " + l.Claim[min(2, len(l.Claim)):]
	return l
}

// unlisted returns an error if the verdict does not know what entries of the lists are about.
func (v *Verdict) unlisted(d Distrust) error {
	known, without := []distrust.Kind{distrust.Digest, distrust.Identity, distrust.Key}, "its own proofs"
	switch {
	case v.rests == nil, v.rests.unkept:
		return errNotGathered
	case v.Facts != nil && v.Facts.Build != nil:
		return nil
	case v.Facts != nil: // a signature alone
		known, without = append(known, distrust.Package), "provenance"
	}
	if d.MaxAge > 0 && d.Lists.Beyond(known...) {
		return fmt.Errorf("the policy accepts the image without %s, so that it is not known whether the entries of the lists are about it", without)
	}
	return nil
}

// listed returns the packages of the SBOMs that hold, for lists of what is no longer trusted.
func (ev *Evidence) listed(v *Verdict) func() ([]distrust.Listed, error) {
	return func() (out []distrust.Listed, err error) {
		if v.Facts == nil {
			return nil, nil
		}
		all := ev.packages(v)
		if all == nil {
			return nil, errors.New("the packages of the image are not known")
		}
		for _, p := range all {
			out = append(out, distrust.Listed{Name: p.Name, Version: p.Version, PURL: p.PURL})
		}
		return out, nil
	}
}

// unknownPackages stands for the packages of an image or file whose SBOMs were not kept.
func unknownPackages(v *Verdict) func() ([]distrust.Listed, error) {
	return func() ([]distrust.Listed, error) {
		if v.Facts != nil {
			for _, s := range v.Facts.Signed {
				if s.SBOM != nil {
					return nil, errors.New("the packages of the image are not known")
				}
			}
		}
		return nil, nil
	}
}

// SignedList reads a list of what is no longer trusted, and fails unless the issuer signed its head, under
// one of the trust roots, and the list has all entries that it had before; before is nil if it was never
// read. Whether the head still counts at the time now is not its business: see distrust.Lists.Fresh. A
// head from the future is refused.
func SignedList(ctx context.Context, issuer distrust.Issuer, raw []byte, before *distrust.Head, now time.Time, roots []*trust.Root) (*distrust.List, error) {
	l, err := distrust.Parse(raw)
	if err != nil {
		return nil, err
	}
	head, signature := l.Signed()
	sum := sha256.Sum256(head)
	f := File{Name: "head of the list", Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(head)), Content: bytes.NewReader(head)}
	v := Bundled(ctx, f, [][]byte{signature}, now, Options{Trust: roots, Policy: policy.Policy{Origin: policy.SignatureOnly{Signer: issuer.Signer}}})
	if v.Outcome != Accepted {
		return nil, fmt.Errorf("list: its head is not signed by %s: %s", issuer.Signer, v.Why())
	}
	if err := l.FromFuture(now); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return l, l.Extends(before)
}
