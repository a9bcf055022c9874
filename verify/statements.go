package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom"
)

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
	var all, stale []made
	test := attestationTest(p, a, v)
	err := ev.eachStatement(p, a.PredicateType, func(it *item, proofs, old []*proof) {
		if i := slices.IndexFunc(proofs, test); i >= 0 {
			all = append(all, made{lastTime(proofs[i]), Statement{signedThing(ref{item: it, proof: proofs[i]}), it.fact}})
		} else if i := slices.IndexFunc(old, test); i >= 0 {
			stale = append(stale, made{at: lastTime(old[i])})
		}
	})
	slices.SortStableFunc(all, func(a, b made) int { return b.at.Compare(a.at) })
	switch {
	case err != nil:
		return Statement{}, err
	case len(all) == 0:
		return Statement{}, fmt.Errorf("there is no %s by the signer demanded", a.PredicateType)
	case len(all) > 1 && (all[0].at.Equal(all[1].at) || all[len(all)-1].at.IsZero()):
		return Statement{}, fmt.Errorf("each of several %s may be the last", a.PredicateType)
	case slices.ContainsFunc(stale, func(m made) bool { return m.at.IsZero() || !m.at.Before(all[0].at) }):
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
