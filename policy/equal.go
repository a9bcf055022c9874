package policy

import (
	"reflect"
	"slices"
)

// Equal reports whether two policies demand the same, in the same form.
func (p Policy) Equal(q Policy) bool {
	if p.MaxTrustAge != q.MaxTrustAge || p.FreshTrust != q.FreshTrust || !p.Witnesses.equal(q.Witnesses) {
		return false
	}
	if !same(p.Attestations, q.Attestations) || !same(p.Verifiers, q.Verifiers) || !same(p.Absent, q.Absent) {
		return false
	}
	a, ours := p.Origin.(BuilderProvenance)
	b, theirs := q.Origin.(BuilderProvenance)
	if !ours || !theirs {
		return reflect.DeepEqual(p.Origin, q.Origin)
	}
	return a.SBOM == b.SBOM && a.CompleteSBOM == b.CompleteSBOM && a.Root == b.Root && a.equal(b.Provenance)
}

// equal compares first what mostly differs. Reflection takes most of the time, so that it is left
// out where there is nothing to compare.
func (p Provenance) equal(q Provenance) bool {
	switch {
	case p.Source != q.Source || p.Commit != q.Commit || p.MinLevel != q.MinLevel || p.RequireSource != q.RequireSource || p.SourceTrack != q.SourceTrack:
		return false
	case !slices.Equal(p.Builders, q.Builders) || !same(p.SourceVerifiers, q.SourceVerifiers):
		return false
	case len(p.Inputs)+len(q.Inputs)+len(p.Levels)+len(q.Levels) > 0 && !(reflect.DeepEqual(p.Inputs, q.Inputs) && reflect.DeepEqual(p.Levels, q.Levels)):
		return false
	case (p.Ref != nil || q.Ref != nil) && !reflect.DeepEqual(p.Ref, q.Ref):
		return false
	}
	return p.Recipe.demandsNothing() && q.Recipe.demandsNothing() || reflect.DeepEqual(p.Recipe, q.Recipe)
}

func same[T any](a, b []T) bool { return len(a)+len(b) == 0 || reflect.DeepEqual(a, b) }
