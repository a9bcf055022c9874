package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

var (
	errNoProvenance = errors.New("not checked: the signer of the provenance must have signed it, and no provenance is valid")
	errNoSignature  = errors.New("not checked: whoever signed the image must have signed it, and no signature is valid")
)

// demanded adds a link for each thing that the policy demands beside its Origin:
// attestations that must be there and such that must not, and a verification summary. resource is what the summary must be
// about if the policy does not say.
func (c *check) demanded(v *Verdict, ev *evidence, s set, resource string) {
	for i, a := range c.opts.Policy.Attestations {
		v.addDemanded(c.attestationLink(ev, s, i, a))
	}
	for i, a := range c.opts.Policy.Absent {
		v.addDemanded(absentLink(ev, i, a))
	}
	if len(c.opts.Policy.Verifiers) == 0 {
		return
	}
	l, vsa := c.summaryLink(ev, resource)
	v.addDemanded(l)
	// If the policy trusts only a verifier, the level is the one that it verified.
	if _, only := c.opts.Policy.Origin.(policy.SummaryOnly); only && vsa != nil {
		v.Level = vsa.BuildLevel()
	}
}

func (c *check) attestationLink(ev *evidence, s set, i int, a policy.Attestation) Link {
	l := Link{Name: LinkAttestation, Status: Unknown}
	test, by, err := c.attestationSigner(s, a)
	if err != nil {
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, err)
		return l
	}
	takes := ofKind(a.PredicateType)
	var said []word
	found := best(ev.signedBy(takes, test, func(it *item, p *proof) error {
		if it.matches[i] == nil { // what speaks against the image counts without a witness
			if _, err := c.witnessed(p); err != nil {
				return err
			}
		}
		said = append(said, word{lastTime(p), it.matches[i]})
		return it.matches[i]
	}))
	if err := lastWord(said); err != nil {
		found.err = err
	}
	ev.underStale(takes, test, func(it *item, p *proof) {
		if it.matches[i] != nil {
			said = append(said, word{lastTime(p), it.matches[i]})
		}
	})
	switch unread := ev.unread(takes); {
	case unread != nil: // it may be the last word
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, unread)
	case found.holds() && lastWord(said) != nil:
		l.Reason = fmt.Sprintf("%s: %v, and its trust root is stale", a.PredicateType, lastWord(said))
	case found.holds():
		l.Status, l.Claim, l.Carries = Holds, fmt.Sprintf("%s, by %s", a.PredicateType, by), a.PredicateType
		c.beside = append(c.beside, signerFact(found.proof, c.opts.Policy.Signer()))
	case found.proof != nil:
		l.Status, l.Reason = Broken, fmt.Sprintf("%s: %v", a.PredicateType, found.err)
	default:
		l.Status, l.Reason = Absent, "the image carries no "+a.PredicateType
	}
	return l
}

// absentLink returns the link for an attestation that must be absent. It holds only if all
// that is attached was listed and read, and if each item that may be such an attestation is
// known to be none.
func absentLink(ev *evidence, i int, a policy.Absent) Link {
	l := Link{Name: LinkAttestation, Status: Holds, Claim: "the image carries no " + a.PredicateType}
	if a.Signer != nil {
		l.Claim += " by " + a.Signer.String()
	}
	switch it, unsure := ev.carries(i, a); {
	case it != nil:
		l.Status, l.Reason = Broken, fmt.Sprintf("the image carries %s by %s, which must be absent", a.PredicateType, it.by())
	case unsure != nil:
		l = failed(LinkAttestation, Unknown, unsure)
		l.Reason = fmt.Sprintf("it is not known whether the image carries %s: %s", a.PredicateType, l.Reason)
	}
	return l
}

// carries returns the first item that is the attestation at index i of those that must be
// absent, or else why it is not known whether there is one.
func (ev *evidence) carries(i int, a policy.Absent) (found *item, unsure error) {
	unsure = cmp.Or(ev.err, ev.beside)
	for _, it := range ev.items {
		is, err := it.forbidden(i, a)
		if is {
			return it, nil
		}
		unsure = cmp.Or(unsure, err)
	}
	return nil, unsure
}

// forbidden reports whether an item is the attestation at index i of those that must be absent.
// An error means that it may be: its type that somebody wrote beside it proves nothing, and
// whoever breaks a signature would otherwise have hidden it.
func (it *item) forbidden(i int, a policy.Absent) (bool, error) {
	switch {
	case it.err != nil:
		return false, it.err
	case it.kind != a.PredicateType:
		return false, nil
	}
	isTheirs := func(*proof) error { return nil }
	if a.Signer != nil {
		isTheirs = signed(a.Signer)
	}
	verified, unsure := false, error(nil)
	for _, p := range it.forbids {
		err := p.Result.Err()
		_, stranger := errors.AsType[*bundle.UntrustedError](err)
		_, unvouched := errors.AsType[*trust.IssuerError](err)
		switch {
		case err == nil && isTheirs(p) == nil:
			return it.absent[i].is, it.absent[i].err
		case err == nil:
			verified = true
		case !stranger && !unvouched && (p.key == nil || sameSigner(a.Signer, p.key)):
			unsure = fmt.Errorf("attestation %s: %w", it.at, err)
		}
	}
	if verified {
		return false, nil // another signer
	}
	return false, unsure
}

// sameSigner reports whether a key is the signer demanded.
func sameSigner(s policy.Signer, key *bundle.Signer) bool {
	k, ok := s.(policy.Key)
	return ok && sameKey(k.Public(), key.Key)
}

// by returns for people who signed an item that must be absent.
func (it *item) by() string {
	for _, p := range it.forbids {
		if p.Result.Err() == nil {
			return cmp.Or(p.Identity.SubjectAlternativeName, "a key that the policy names")
		}
	}
	return ""
}

// word is one of the attestations of a type by one signer: when it was signed, and
// what differs from the demand, or nil. The time is zero if nothing proves it.
type word struct {
	at  time.Time
	err error
}

// lastWord returns what differs from the demand in the last of the words, or nil. Each
// word without a time may be the last, and so may each of several at the same time;
// then all of these must be as demanded.
func lastWord(said []word) error {
	var last time.Time
	for _, w := range said {
		if w.at.After(last) {
			last = w.at
		}
	}
	for _, w := range said {
		if w.err != nil && (w.at.IsZero() || w.at.Equal(last)) {
			return fmt.Errorf("the last one: %w", w.err)
		}
	}
	return nil
}

// attestationSigner returns a check of who signed an attestation, and the signer's
// name for people: the signer that the policy names for it, or else who signed what
// the verdict rests on, under the same trust root.
func (c *check) attestationSigner(s set, a policy.Attestation) (func(*proof) error, string, error) {
	if a.Signer != nil {
		return signed(a.Signer), SignerOf(a.Signer).String(), nil
	}
	rests, missing := s.provenance, errNoProvenance
	if _, only := c.opts.Policy.Origin.(policy.SignatureOnly); only {
		rests, missing = s.signature, errNoSignature
	}
	if !rests.holds() {
		return nil, "", missing
	}
	of, named := rests.proof, c.opts.Policy.Signer()
	if of.Identity.SubjectAlternativeName != "" {
		named = policy.Identity{Name: of.Identity.SubjectAlternativeName, Issuer: of.Identity.Issuer}
	}
	test := signed(named)
	return func(p *proof) error {
		// A signature that needs no log entry is under no trust root.
		if p.root != of.root && !withoutLog(named) {
			return errAnotherRoot
		}
		return test(p)
	}, SignerOf(named).String(), nil
}

// summaryLink looks for a summary by each verifier that the policy trusts. Of
// several by one verifier about the resource, only the latest counts.
func (c *check) summaryLink(ev *evidence, resource string) (Link, *attest.VSA) {
	l := Link{Name: LinkSummary, Status: Absent, Reason: "there is no verification summary"}
	var good *summary
	for _, by := range c.opts.Policy.Verifiers {
		last, miss := c.lastSummary(ev, by, resource)
		switch {
		case last == nil:
			if miss.Status != Absent && good == nil {
				l = miss
			}
			continue
		case good != nil:
			continue
		}
		if err := c.opts.Policy.MatchSummary(by, last.vsa, c.now); err != nil {
			l = Link{Name: LinkSummary, Status: Broken, Reason: fmt.Sprintf("summary by %s: %v", by.ID, err)}
			continue
		}
		good = last
	}
	if good == nil {
		return l, nil
	}
	c.beside = append(c.beside, good.signer)
	return Link{Name: LinkSummary, Status: Holds, Claim: good.claim()}, good.vsa
}

// lastSummary returns the latest summary by one verifier, or the link that says why
// there is none.
func (c *check) lastSummary(ev *evidence, by policy.Verifier, resource string) (*summary, Link) {
	var last *summary
	takes := ofKind(attest.PredicateVSA)
	found := ev.signedBy(takes, signed(by.Signer), func(it *item, p *proof) error {
		err := it.vsaErr
		if err == nil {
			err = by.Concerns(it.vsa, resource)
		}
		if err == nil && it.vsa.VerificationResult == attest.VSAPassed {
			_, err = c.witnessed(p)
		}
		if err != nil {
			return err
		}
		at, err := c.timeOf(it.vsa, p)
		if err != nil {
			return err
		}
		if at.IsZero() && it.vsa.VerificationResult != attest.VSAPassed {
			at = c.now // nothing says that it is not the last
		}
		// Of two at the same time, the one that failed counts.
		if last == nil || at.After(last.at) || at.Equal(last.at) && it.vsa.VerificationResult != attest.VSAPassed {
			last = &summary{it.vsa, by, at, signerFact(p, by.Signer)}
		}
		return nil
	})
	if unread := ev.unread(takes); unread != nil { // it may be the last
		return nil, failed(LinkSummary, Unknown, unread)
	}
	if last == nil {
		return nil, ev.lacking(LinkSummary, takes, "verification summary", best(found))
	}
	if against := c.staleAgainst(ev, by, resource, last.at); against != nil && last.vsa.VerificationResult == attest.VSAPassed {
		return nil, failed(LinkSummary, Unknown, against)
	}
	return last, Link{}
}

// staleAgainst returns what one verifier may have said against a resource since a time, under a
// stale trust root.
func (c *check) staleAgainst(ev *evidence, by policy.Verifier, resource string, since time.Time) (against error) {
	ev.underStale(ofKind(attest.PredicateVSA), signed(by.Signer), func(it *item, p *proof) {
		if it.vsaErr != nil || by.Concerns(it.vsa, resource) != nil || it.vsa.VerificationResult == attest.VSAPassed {
			return
		}
		if at, err := c.timeOf(it.vsa, p); err == nil && (at.IsZero() || !at.Before(since)) {
			against = fmt.Errorf("summary by %s: result: got %q, and its trust root is stale", by.ID, it.vsa.VerificationResult)
		}
	})
	return against
}

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
	beside []distrust.Signer // of attestations and summaries that the policy demands, and the certificates of notation
	unkept bool              // inputs were not kept: nobody asked for them
	listed bool              // the SBOMs that were signed with it are among its proofs: those of others are not read
}

func (c *check) restsOn(s set) *rests {
	r := &rests{inside: c.read.inside, beside: c.beside, listed: s.rules == ofPlatform}
	if s.provenance.holds() {
		r.inputs, r.unkept = s.provenance.proof.build.inputs, !c.keepsInputs()
	}
	return r
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
// those of a parsed Verdict lack who signed with a key. Packages are not known, and what the build used is
// only if Ask had Inputs. digests are those of the image, sha256:HEX.
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
	if v.rests == nil || v.rests.unkept {
		return errNotGathered
	}
	known, without := []distrust.Kind{distrust.Digest, distrust.Identity, distrust.Key}, "its own proofs"
	switch {
	case v.Facts == nil:
	case v.Facts.Build == nil:
		without = "provenance"
	default:
		known, without = append(known, distrust.Commit, distrust.Source, distrust.Builder, distrust.Base, distrust.Fetched), "verified SBOMs"
	}
	if v.rests.listed {
		known = append(known, distrust.Package)
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
