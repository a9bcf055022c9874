package verify

import (
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom"
)

// DecideAt is DecideWith at a later time than that of Gather: what depends on the time (the modes
// of rules, exemptions, the age of trust roots and summaries, conditions) is as of now. Whoever
// keeps evidence must gather it again when a trust root stops being valid (trust.Root.Until).
func (ev *Evidence) DecideAt(sets []*policy.Set, image policy.Image, now time.Time, with With) *Decision {
	later, found := *ev, ev.verdictsInOrder()
	later.now = now
	verdict := func(p policy.Policy) *Verdict {
		if timeless(p) {
			return found(p)
		}
		return later.Verdict(p)
	}
	return ev.knowing(decide(sets, asked{image: image, now: now, verdict: verdict, more: later.addFacts, packages: ev.listed, With: with}), with.Others)
}

// timeless reports whether the verdict on a policy stays the same: nothing that it demands is
// compared with the time of the question. Signatures are verified as of the time of Gather.
func timeless(p policy.Policy) bool {
	_, notation := p.Origin.(policy.NotationSignature)
	return !notation && !p.FreshTrust && p.MaxTrustAge == 0 && len(p.Verifiers) == 0 && len(p.Provenance().SourceVerifiers) == 0
}

// Approximate sizes in bytes.
const (
	sizeOfEvidence = 16 << 10
	sizeOfItem     = 12 << 10 // one signed item with its certificate and results
	sizeOfPackage  = 256
)

// sizeOfInputs estimates how much memory the inputs of builds take, in bytes.
func (m *memory) sizeOfInputs() (n int64) {
	for _, a := range m.answers {
		if b, ok := a.(answer[build]); ok {
			for _, in := range b.value.inputs {
				n += int64(64 + len(in.URI) + len(in.Digest))
			}
		}
	}
	return n
}

// Size estimates how much memory the evidence takes, in bytes.
func (ev *Evidence) Size() int64 {
	n := sizeOfEvidence + ev.kept.Load()
	for _, a := range ev.known.answers {
		all, ok := a.(answer[*found])
		if !ok || all.value == nil {
			continue
		}
		for _, s := range all.value.notation {
			if s.signature != nil {
				n += s.signature.Size()
			}
			if s.err != nil {
				n += int64(len(s.err.Error()))
			}
		}
		for _, it := range all.value.items {
			n += sizeOfItem
			if it.err != nil {
				n += int64(len(it.err.Error()))
			}
			if it.read == nil {
				continue
			}
			n += it.read.memory.sizeOfInputs()
			if d, ok := it.read.memory.answers[sbomKey{}].(answer[*sbom.Document]); ok && d.value != nil {
				n += sizeOfPackage * int64(len(d.value.List))
			}
		}
	}
	return n
}
