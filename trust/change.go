package trust

import (
	"fmt"
	"slices"
)

// Change is one difference between a trust root and the one that replaces it.
type Change struct {
	Text  string // what changes, for people
	Wider bool   // the new one is trusted for more: only a person can decide that
}

// Changes returns what differs between a trust root and the one that would replace it:
// issuers, builders and their levels, and which proofs a signature needs. Keys and the
// times in which they are trusted are one change, and no wider one: replacing them is
// what a TUF repository is for.
func Changes(old, next *Root) (all []Change) {
	add := func(wider bool, format string, args ...any) {
		all = append(all, Change{fmt.Sprintf(format, args...), wider})
	}
	if next.URL != old.URL {
		add(true, "platform %q, was %q", next.URL, old.URL)
	}
	if next.Issuer != old.Issuer {
		add(true, "the platform's own issuer is %q, was %q", next.Issuer, old.Issuer)
	}
	was, is := old.Issuers(), next.Issuers()
	for _, issuer := range is {
		if !slices.Contains(was, issuer) {
			add(true, "vouches for issuer %s", issuer)
		}
	}
	for _, issuer := range was {
		if !slices.Contains(is, issuer) {
			add(false, "no longer vouches for issuer %s", issuer)
		}
	}
	for _, b := range next.Builders {
		had, ok := old.builder(b.ID)
		switch {
		case !ok:
			add(true, "new builder %s, Build L%d", b.ID, b.Level)
		case b.Level != had.Level:
			add(b.Level > had.Level, "builder %s: Build L%d, was L%d", b.ID, b.Level, had.Level)
		}
	}
	for _, b := range old.Builders {
		if _, ok := next.builder(b.ID); !ok {
			add(false, "no longer builder %s", b.ID)
		}
	}
	// Verification demands an entry in a log, and an SCT, of a root that has such logs.
	if len(old.Material.RekorLogs()) > 0 && len(next.Material.RekorLogs()) == 0 {
		add(true, "no transparency log: signatures need no entry in one")
	}
	if len(old.Material.CTLogs()) > 0 && len(next.Material.CTLogs()) == 0 {
		add(true, "no certificate transparency log: certificates need no entry in one")
	}
	if len(all) == 0 && next.Fingerprint != old.Fingerprint {
		add(false, "keys, or the times in which they are trusted")
	}
	return all
}

// builder returns the builder of a trust document with this id.
func (r *Root) builder(id string) (Builder, bool) {
	i := slices.IndexFunc(r.Builders, func(b Builder) bool { return b.ID == id })
	if i < 0 {
		return Builder{}, false
	}
	return r.Builders[i], true
}
