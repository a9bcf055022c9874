package verify

import (
	"crypto"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/bundle"
)

// witnessed returns the names of the witnesses that the policy demands and that cosigned the
// checkpoint of a proof; none if it demands none. It fails if there are too few. It is asked only of
// proofs that speak for an image: what speaks against it counts without a witness.
func (c *check) witnessed(p *proof) ([]string, error) {
	demand := c.opts.Policy.Witnesses
	if demand.None() {
		return nil, nil
	}
	var logs []crypto.PublicKey
	if p.root != nil {
		for _, log := range p.root.Material.RekorLogs() {
			logs = append(logs, log.PublicKey)
		}
	}
	// Each entry is in a log of its own: witnesses of one say nothing about another.
	return demand.Cosigned(p.Checkpoints, logs, c.now.Add(bundle.ClockSkew))
}

// best is like the function best, and prefers what has the witnesses that the policy demands.
func (c *check) best(refs []ref) ref {
	if !c.opts.Policy.Witnesses.None() {
		for _, r := range refs {
			if r.holds() {
				if _, err := c.witnessed(r.proof); err == nil {
					return r
				}
			}
		}
	}
	return best(refs)
}

// proofs returns what of a set speaks for the image.
func (s set) proofs() (all []*proof) {
	for _, r := range []ref{s.provenance, s.signature, s.spdx, s.cdx} {
		if r.holds() {
			all = append(all, r.proof)
		}
	}
	return all
}

// unwitnessed counts the proofs of a set that have too few witnesses.
func (c *check) unwitnessed(s set) (n int) {
	for _, p := range s.proofs() {
		if _, err := c.witnessed(p); err != nil {
			n++
		}
	}
	return n
}

// addWitnesses lets the link of the log say who cosigned the checkpoints of a set. Without enough of
// them, the link is broken.
func (c *check) addWitnesses(l Link, s set) Link {
	if l.Status != Holds || c.opts.Policy.Witnesses.None() {
		return l
	}
	var names []string
	for i, p := range s.proofs() {
		got, err := c.witnessed(p)
		if err != nil {
			return failed(LinkLog, Broken, err)
		}
		if i == 0 {
			names = got
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(got, name) })
	}
	if len(names) == 0 { // no witness has cosigned all of them
		names = []string{c.opts.Policy.Witnesses.String()}
	}
	l.Claim += "; cosigned by " + strings.Join(names, ", ")
	return l
}
