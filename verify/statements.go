package verify

import (
	"cmp"
	"context"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

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
func (ev *Evidence) Statements(p policy.Policy, predicateType string) ([]Statement, error) {
	missed := false
	c := ev.check(p, &missed)
	switch err := c.ready(); {
	case err != nil:
		return nil, err
	case ev.unresolved != nil:
		return nil, errors.New(ev.unresolved.Reason)
	case ev.image.Digest == v1.Hash{} || !c.asksFor(predicateType):
		return nil, errNotGathered
	}
	_, attached := c.subject(context.Background(), ev.image) // nothing waits: all was read
	if missed {
		return nil, errNotGathered
	}
	var all []Statement
	unsure := attached.err
	for _, it := range attached.items {
		i := slices.IndexFunc(it.anyone, func(p *proof) bool { return p.Result.Err() == nil })
		switch {
		case it.err != nil:
			unsure = cmp.Or(unsure, it.err)
		case it.kind != predicateType || i < 0:
		case it.factErr != nil:
			unsure = cmp.Or(unsure, it.factErr)
		default:
			all = append(all, Statement{signedThing(ref{item: it, proof: it.anyone[i]}), it.fact})
		}
	}
	return all, unsure
}

// Packages returns the packages of an SBOM, in the order of the document. The SBOM is one that
// the facts of a verdict on this evidence name, so that its signature holds. ok is false if it
// is none, and if Gather was not asked for packages: then nothing is known about them. Callers
// must not change the list.
func (ev *Evidence) Packages(v *Verdict, of Signed) (list []sbom.Package, ok bool) {
	about, err := v1.NewHash(v.Digest)
	all, read := ev.known.answers[foundKey(about)].(answer[*found])
	if err != nil || !read || all.value == nil || of.SBOM == nil || !ev.ask.Packages {
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
