package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/trust"
)

// factsOf returns the facts of a set, or nil if its signature, log or provenance
// does not hold.
func (c *check) factsOf(s set) *Facts {
	_, signatureOnly := c.opts.Policy.Origin.(policy.SignatureOnly)
	if !s.signed().holds() || !signatureOnly && !s.provenance.holds() {
		return nil
	}
	f := &Facts{Signed: []Signed{}}
	for _, r := range []ref{s.signature, s.provenance, s.spdx, s.cdx} {
		if r.holds() {
			signed := signedThing(r)
			signed.by = signerFact(r.proof, c.opts.Policy.Signer())
			f.Signed = append(f.Signed, signed)
		}
	}
	if s.provenance.holds() {
		f.Build = s.provenance.proof.build.Facts
	}
	return f
}

// Builds returns what each provenance says that holds in the eyes of a policy, that of its verdict
// among them. An image may carry proofs of several commits. Gather must have been asked for the policy.
func (ev *Evidence) Builds(p policy.Policy) (all []Facts) {
	missed := false
	c := ev.check(p, &missed)
	if c.ready() != nil || ev.unresolved != nil || ev.image.Digest == (v1.Hash{}) {
		return nil
	}
	_, attached := c.subject(context.Background(), ev.image) // nothing waits: all was read
	if missed {
		return nil
	}
	for _, s := range c.sets(attached) {
		if f := c.factsOf(s); f != nil && f.Build != nil {
			all = append(all, *f)
		}
	}
	return all
}

func signedThing(r ref) Signed {
	p := r.proof
	s := Signed{Digest: r.item.at, PredicateType: r.item.kind, Signer: p.Identity.SubjectAlternativeName, Issuer: p.Identity.Issuer, Times: p.Times}
	if p.root != nil {
		s.TrustRoot = p.root.Fingerprint
	}
	if !p.Certified.IsZero() {
		s.Certified = &p.Certified
	}
	if p.Index >= 0 {
		s.LogIndex = &p.Index
	}
	if p.sbom != nil {
		s.SBOM = &SBOM{Format: p.sbom.Format, Version: p.sbom.Version, Packages: p.sbom.Packages, Unread: p.sbom.Unread}
	}
	return s
}

// maxFacts is the maximum size in bytes of all statements about one image that are kept as
// facts. Decoded, they take several times as much.
const maxFacts = 4 << 20

// keepFact keeps the predicate of a statement.
func (c *check) keepFact(predicate []byte) (*fact, error) {
	if c.kept.Add(int64(len(predicate))) > maxFacts {
		return nil, fmt.Errorf("the statements of the types asked for exceed %d bytes", maxFacts)
	}
	return &fact{raw: bytes.Clone(predicate)}, nil
}

// Statement is an attestation about an image, as a fact: its signature holds under a trust
// root, or by a key that the policy names. Who signed it may still be anybody whom the root
// vouches for.
type Statement struct {
	Signed
	fact *fact
}

// Predicate returns the predicate as decoded JSON: map[string]any, []any, string, float64,
// bool or nil. Statements share it, so callers must not change it.
func (s *Statement) Predicate() (any, error) {
	s.fact.once.Do(func() { s.fact.err = strict.Unmarshal(s.fact.raw, limits.Statement, &s.fact.value) })
	return s.fact.value, s.fact.err
}

// Statements returns the attestations of a predicate type that hold in the eyes of a policy:
// under the trust roots that it takes, or by a key that it names. Both must have been asked for.
// An error means that there may be more of them than the list has.
func (ev *Evidence) Statements(p policy.Policy, predicateType string) (all []Statement, err error) {
	err = ev.eachStatement(p, predicateType, func(it *item, proofs, _ []*proof) {
		if len(proofs) > 0 {
			all = append(all, Statement{signedThing(ref{item: it, proof: proofs[0]}), it.fact})
		}
	})
	return all, err
}

// eachStatement calls take for each attestation of a predicate type, with its proofs that hold
// in the eyes of a policy, and with those under stale trust roots, which count for nothing. An
// error means that there may be more.
func (ev *Evidence) eachStatement(p policy.Policy, predicateType string, take func(it *item, proofs, stale []*proof)) error {
	missed := false
	c := ev.check(p, &missed)
	switch err := c.ready(); {
	case err != nil:
		return err
	case ev.unresolved != nil:
		return errors.New(ev.unresolved.Reason)
	case ev.image.Digest == v1.Hash{} || !c.asksFor(predicateType):
		return errNotGathered
	}
	_, attached := c.subject(context.Background(), ev.image) // nothing waits: all was read
	if missed {
		return errNotGathered
	}
	unsure := attached.err
	for _, it := range attached.items {
		bad := func(p *proof) bool { return p.Result.Err() != nil }
		proofs, stale := slices.DeleteFunc(slices.Clone(it.anyone), bad), slices.DeleteFunc(slices.Clone(it.stale), bad)
		switch {
		case it.err != nil:
			unsure = cmp.Or(unsure, it.err)
		case it.kind != predicateType || len(proofs)+len(stale) == 0:
		case it.factErr != nil && len(proofs) > 0:
			unsure = cmp.Or(unsure, it.factErr)
		default:
			take(it, proofs, stale)
		}
	}
	return unsure
}

// lastStatement returns the attestation that met a demand of the policy: the last of its type by
// the signer demanded. It fails if there is none, or if it cannot be told which one is the last.
func (ev *Evidence) lastStatement(p policy.Policy, a policy.Attestation, v *Verdict) (Statement, error) {
	type made struct {
		at time.Time
		Statement
	}
	var all, stale, unseen []made
	test, c := attestationTest(p, a, v), ev.check(p, nil)
	witnessed := func(p *proof) bool {
		_, err := c.witnessed(p)
		return test(p) && err == nil
	}
	err := ev.eachStatement(p, a.PredicateType, func(it *item, proofs, old []*proof) {
		if i := slices.IndexFunc(proofs, witnessed); i >= 0 {
			all = append(all, made{lastTime(proofs[i]), Statement{signedThing(ref{item: it, proof: proofs[i]}), it.fact}})
		} else if i := slices.IndexFunc(proofs, test); i >= 0 {
			unseen = append(unseen, made{at: lastTime(proofs[i])})
		} else if i := slices.IndexFunc(old, test); i >= 0 {
			stale = append(stale, made{at: lastTime(old[i])})
		}
	})
	mayBeLast := func(m made) bool { return m.at.IsZero() || !m.at.Before(all[0].at) }
	slices.SortStableFunc(all, func(a, b made) int { return b.at.Compare(a.at) })
	switch {
	case err != nil:
		return Statement{}, err
	case len(all) == 0 && len(unseen) > 0:
		return Statement{}, fmt.Errorf("no %s by the signer demanded has enough witnesses", a.PredicateType)
	case len(all) == 0:
		return Statement{}, fmt.Errorf("there is no %s by the signer demanded", a.PredicateType)
	case len(all) > 1 && (all[0].at.Equal(all[1].at) || all[len(all)-1].at.IsZero()):
		return Statement{}, fmt.Errorf("each of several %s may be the last", a.PredicateType)
	case slices.ContainsFunc(unseen, mayBeLast):
		return Statement{}, fmt.Errorf("the last %s has too few witnesses", a.PredicateType)
	case slices.ContainsFunc(stale, mayBeLast):
		return Statement{}, fmt.Errorf("the last %s is under a stale trust root", a.PredicateType)
	}
	return all[0].Statement, nil
}

// attestationTest returns a check of who signed an attestation: the signer that the policy names
// for it, or else who signed what the verdict rests on, under the same trust root.
func attestationTest(p policy.Policy, a policy.Attestation, v *Verdict) func(*proof) bool {
	named := a.Signer
	if _, key := p.Signer().(policy.Key); named == nil && key {
		named = p.Signer()
	}
	if named != nil {
		test := signed(named)
		return func(p *proof) bool { return test(p) == nil }
	}
	_, signature := p.Origin.(policy.SignatureOnly)
	return func(p *proof) bool {
		return slices.ContainsFunc(v.Facts.Signed, func(s Signed) bool {
			rests := signature || s.PredicateType == attest.PredicateSLSA1 || s.PredicateType == attest.PredicateSLSA02
			return rests && s.Signer != "" && s.Signer == p.Identity.SubjectAlternativeName && s.Issuer == p.Identity.Issuer && p.root != nil && p.root.Fingerprint == s.TrustRoot
		})
	}
}

// Packages returns the packages of an SBOM, in the order of the document. The SBOM is one that
// the facts of a verdict on this evidence name, so that its signature holds. ok is false if it
// is none, and if Gather was not asked for packages: then nothing is known about them. Callers
// must not change the list.
func (ev *Evidence) Packages(v *Verdict, of Signed) (list []sbom.Package, ok bool) {
	about, err := v1.NewHash(v.Digest)
	all, read := ev.known.answers[foundKey(about)].(answer[*found])
	if err != nil || !read || all.value == nil || of.SBOM == nil || !ev.ask.Packages && !ev.check(policy.Policy{}, nil).keepsInputs() {
		return nil, false
	}
	for _, it := range all.value.items {
		if it.read == nil || it.at != of.Digest || it.read.bundle.Statement == nil || it.read.bundle.Statement.PredicateType != of.PredicateType {
			continue
		}
		a, is := it.read.memory.answers[sbomKey{}].(answer[*sbom.Document])
		if !is || a.err != nil || a.value.Packages != of.SBOM.Packages {
			continue
		}
		if ok {
			return nil, false // the caller supplied two, and it cannot be told which one is meant
		}
		list, ok = a.value.List, true
	}
	return list, ok
}

// Query asks what was signed about an image: by a key, or by anybody for whom a trust root
// vouches. Policies of other kinds than Policy are made of queries.
type Query struct {
	Trust      []*trust.Root // each proof must verify wholly under one of them
	Key        bundle.Signer // the key that must have signed; the zero Signer: anybody with a certificate
	Statements []string      // predicate types of statements whose text is kept, at most 4 MiB in all
	From       oci.Source    // where signatures are; nil: beside the image
}

// Testimony is one signature of an image, or one statement about it, that holds for a Query.
type Testimony struct {
	Signed
	Bundle    bool                // a Sigstore bundle; not a signature or attestation of cosign v2 under a tag
	Image     bool                // it signs the image itself, and says nothing more
	ID        string              // SHA-256 of signature and certificate, hex digits
	Identity  certificate.Summary // zero if a key signed
	Stamped   bool                // a timestamp authority of the trust root proves when it was signed
	Statement []byte              // JSON, if the query has its type; callers must not change it
}

// Keys of what is remembered about an item, and about an image.
type (
	textKey      struct{}
	signatureKey struct{}
	elsewhereKey struct {
		source string
		about  v1.Hash
	}
)

// Testimonies returns what holds for a query, which Gather must have been asked for, in the
// order of the listing. An error means that there may be more.
func (ev *Evidence) Testimonies(q Query) ([]Testimony, error) {
	switch {
	case ev.unresolved != nil:
		return nil, errors.New(ev.unresolved.Reason)
	case ev.image.Digest == v1.Hash{}:
		return nil, errNotGathered
	}
	missed := false
	c := ev.check(policy.Policy{}, &missed)
	all, err := c.foundFor(context.Background(), q, ev.image.Digest) // nothing waits: all was read
	if err != nil {
		return nil, err
	}
	var out []Testimony
	var unsure error
	for _, it := range all.items {
		switch {
		case it.err != nil:
			if it.unread {
				unsure = cmp.Or(unsure, it.err)
			}
			continue
		case it.read == nil || it.tag == besideAPI:
			continue
		}
		t, holds, err := c.testimony(q, it, ev.image.Digest)
		unsure = cmp.Or(unsure, err)
		if holds {
			out = append(out, t)
		}
	}
	if missed {
		return nil, errNotGathered
	}
	return out, unsure
}

// Image returns the link of the image: whether every byte of it matches its digest.
func (ev *Evidence) Image() Link {
	switch {
	case ev.unresolved != nil:
		return *ev.unresolved
	case ev.image.Digest == v1.Hash{}:
		return failed(LinkImage, Unknown, errNotGathered)
	}
	return ev.link
}

// foundFor returns what is attached to the image where a query looks.
func (c *check) foundFor(ctx context.Context, q Query, image v1.Hash) (*found, error) {
	if q.From == nil {
		return recall(c, c.known, foundKey(image), func() (*found, error) { return c.find(ctx, image) })
	}
	elsewhere := *c
	elsewhere.src, elsewhere.opts.Bundles, elsewhere.asks = q.From, nil, nil
	elsewhere.queries = c.ask.queriesAt(q.From)
	return recall(c, c.known, elsewhereKey{q.From.Name(), image}, func() (*found, error) { return elsewhere.find(ctx, image) })
}

// queriesAt returns the queries that look at a place, nil for beside the image.
func (a *Ask) queriesAt(from oci.Source) (out []Query) {
	if a == nil {
		return nil
	}
	for _, q := range a.Queries {
		if (q.From == nil) == (from == nil) && (from == nil || q.From.Name() == from.Name()) {
			out = append(out, q)
		}
	}
	return out
}

// answer lets the queries verify an item while its content is at hand.
func (c *check) answer(it *item, b *bundle.Bundle, image v1.Hash) {
	for _, q := range c.queries {
		_, _, _ = c.testimony(q, &item{at: it.at, tag: it.tag, read: &piece{bundle: b, memory: it.read.memory}}, image) // remembered
	}
}

// testimony returns what an item says for a query. holds is false if it proves nothing.
func (c *check) testimony(q Query, it *item, image v1.Hash) (t Testimony, holds bool, err error) {
	of, b := *c, it.read.bundle
	of.of, of.opts.Policy = it.read.memory, policy.Policy{}
	c = &of
	subject := func() bundle.Subject { return bundle.Subject{Digest: image} }
	if (b.Certificate == nil) != (q.Key.Key != nil) {
		return t, false, nil
	}
	for _, r := range rootsOf(q.Trust, q.Key) {
		got := c.result(b, false, q.Key, r, subject)
		if got.Err() != nil {
			continue
		}
		kind := ""
		if b.Statement != nil {
			kind = b.Statement.PredicateType
		}
		t = Testimony{
			Signed: signedThing(ref{item: &item{at: it.at, kind: kind}, proof: &proof{Result: got, root: r}}),
			Bundle: it.tag == "", Image: b.Image != "" || kind == attest.PredicateSign, Identity: got.Identity, Stamped: got.Stamped > 0,
		}
		if t.ID, err = recall(c, c.of, signatureKey{}, func() (string, error) { return idOf(b), nil }); err != nil {
			return t, false, err
		}
		if slices.Contains(q.Statements, kind) {
			t.Statement, err = recall(c, c.of, textKey{}, func() ([]byte, error) { return c.keepText(b) })
		}
		return t, err == nil, err
	}
	return t, false, nil
}

// idOf returns the SHA-256 of signature and certificate, as hex digits.
func idOf(b *bundle.Bundle) string {
	sum := sha256.New()
	if sigs := b.Proto.GetDsseEnvelope().GetSignatures(); len(sigs) > 0 {
		sum.Write(sigs[0].GetSig())
	} else {
		sum.Write(b.Proto.GetMessageSignature().GetSignature())
	}
	if b.Certificate != nil {
		sum.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Certificate.Raw}))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// keepText keeps the statement of a bundle.
func (c *check) keepText(b *bundle.Bundle) ([]byte, error) {
	text := b.Proto.GetDsseEnvelope().GetPayload()
	if c.kept.Add(int64(len(text))) > maxFacts {
		return nil, fmt.Errorf("the statements of the types asked for exceed %d bytes", maxFacts)
	}
	return bytes.Clone(text), nil
}
