package verify

import (
	"cmp"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/trust"
)

// evidence is all that is signed about one subject. Each item was judged once,
// when it was gathered; every question about it is a pure function.
type evidence struct {
	items  []*item
	file   bool  // the subject is a file, to which nothing is attached
	err    error // the listing could not be had, so nothing is known
	beyond int   // referrers past limits.Referrers, which nobody looked at
}

// item is one signed thing, and what it proved.
type item struct {
	at   string // digest of the manifest or layer that it was found in; empty for one that the caller brought
	kind string // predicate type, as the statement says, or else as its manifest claims; empty where unknown

	signature bool  // it signs the image itself, and states nothing else
	err       error // why it is no evidence: not to be had, malformed, or about another subject
	unread    bool  // err may pass, so nothing is known about the item
	form      error // it is not in the form that platforms make, where it would have to be

	proofs []*proof // what it proved under each trust root, by the rules of the policy's Origin
	anyone []*proof // what it proved under each trust root and for each key, whoever the signer is

	// What the statement says, read only where its signature holds under a trust root.
	matches map[int]error // by index of the policy's Attestations of this kind: what differs, or nil
	vsa     *attest.VSA
	vsaErr  error
}

// rules say who may have signed, and in which form.
type rules int

const (
	ofAnyone   rules = iota // whoever signed is compared later
	ofPlatform              // a builder that a trust root speaks for, in the narrow form of platforms
	ofPublic                // a builder on GitHub or GitLab
	ofNamed                 // the signer whom the policy names
)

// proof is what one item proved under one trust root.
type proof struct {
	*bundle.Result
	root   *trust.Root    // nil: a key, and no trust root
	key    *bundle.Signer // the key that signed; nil: a certificate
	rules  rules
	signer error          // the signature holds, and this signer may not sign such a thing
	build  *build         // of a provenance whose signer may sign it
	sbom   *sbom.Document // of an SBOM, likewise
	says   error          // what is wrong with what it says
}

// fault returns nil where the item proved all that it should have.
func (p *proof) fault() error {
	switch {
	case p.Result.Err() != nil:
		return p.Result.Err()
	case p.signer != nil:
		return p.signer
	}
	return p.says
}

// passed counts how far the proof got, to choose whose fault is shown.
func (p *proof) passed() int {
	n := 1 + p.Passed
	if p.Result.Err() != nil {
		return n
	}
	n += 100
	if p.signer != nil {
		return n
	}
	if n += 100; p.says == nil {
		n += 1000
	}
	return n
}

// ref is an item seen through one question: the proof that answers it best, and
// why it does not answer it, if it does not.
type ref struct {
	item  *item
	proof *proof // nil where the item was not judged
	err   error
}

func (r ref) holds() bool { return r.proof != nil && r.err == nil }

// passed orders refs by how far they got.
func (r ref) passed() int {
	switch {
	case r.proof == nil:
		return 0
	case r.err == nil:
		return r.proof.passed()
	}
	return min(r.proof.passed(), 999)
}

// best returns the ref that got furthest, of those the first; the zero ref of none.
func best(refs []ref) ref {
	var b ref
	for _, r := range refs {
		if b.item == nil || r.passed() > b.passed() {
			b = r
		}
	}
	return b
}

// refs are the items that takes chooses, as far as they were judged by the rules.
// An item that nobody could read may be of any kind. With a proof beside it, an
// item must be of the same release.
func (ev *evidence) refs(by rules, takes func(*item) bool, beside *proof) (all []ref) {
	for _, it := range ev.items {
		switch {
		case it.err != nil || it.form != nil:
			if by != ofPublic && (it.kind == "" || takes(it)) {
				all = append(all, ref{item: it, err: cmp.Or(it.err, it.form)})
			}
			continue
		case !takes(it):
			continue
		}
		var b ref
		for _, p := range it.proofs {
			if p.rules != by {
				continue
			}
			r := ref{it, p, p.fault()}
			if r.err == nil && beside != nil {
				r.err = sameRelease(p, beside)
			}
			if b.item == nil || r.passed() > b.passed() {
				b = r
			}
		}
		if b.item != nil {
			all = append(all, b)
		}
	}
	return all
}

// sameRelease fails unless two things were signed by one builder, under one trust
// root, for one build: of the same source, commit and ref.
func sameRelease(p, beside *proof) error {
	a, b := p.Identity, beside.Identity
	switch {
	case p.root != beside.root || a.SubjectAlternativeName != b.SubjectAlternativeName || a.Issuer != b.Issuer:
		return fmt.Errorf("signer: got %q, want that of the provenance, %q", a.SubjectAlternativeName, b.SubjectAlternativeName)
	case a.SourceRepositoryURI != b.SourceRepositoryURI || a.SourceRepositoryDigest != b.SourceRepositoryDigest || a.SourceRepositoryRef != b.SourceRepositoryRef:
		return fmt.Errorf("build of the signer: got %s, want that of the provenance, %s", buildOf(a), buildOf(b))
	}
	return nil
}

func buildOf(id certificate.Summary) string {
	return fmt.Sprintf("%s at commit %q", attest.GitURI(id.SourceRepositoryURI, id.SourceRepositoryRef), id.SourceRepositoryDigest)
}

func anything(*item) bool { return true }

func ofKind(kind string) func(*item) bool { return func(it *item) bool { return it.kind == kind } }

// signedBy returns the items that takes chooses and signer signed, whatever the
// policy's Origin. then looks at what the item says.
func (ev *evidence) signedBy(takes func(*item) bool, signer func(*proof) error, then func(*item, *proof) error) (all []ref) {
	for _, it := range ev.items {
		if it.err != nil {
			if it.kind == "" || takes(it) {
				all = append(all, ref{item: it, err: it.err})
			}
			continue
		}
		if !takes(it) {
			continue
		}
		var b ref
		for _, p := range it.anyone {
			r := ref{it, p, p.Result.Err()}
			if r.err == nil {
				r.err = signer(p)
			}
			if r.err == nil && then != nil {
				r.err = then(it, p)
			}
			if b.item == nil || r.err == nil && b.err != nil || r.passed() > b.passed() {
				b = r
			}
		}
		if b.item != nil {
			all = append(all, b)
		}
	}
	return all
}

// unread says why there may be evidence of a kind that nobody looked at; nil
// where all was looked at. The empty kind stands for any.
func (ev *evidence) unread(takes func(*item) bool) error {
	if ev.err != nil {
		return ev.err
	}
	for _, it := range ev.items {
		if it.unread && (it.kind == "" || takes(it)) {
			return it.err
		}
	}
	if ev.beyond > 0 {
		return fmt.Errorf("none among the first %d referrers, and %d more were not looked at", limits.Referrers, ev.beyond)
	}
	return nil
}

// lacking says that evidence is not there, or is wrong: unknown as long as something
// that could not be read might have been it.
func (ev *evidence) lacking(name string, takes func(*item) bool, what string, furthest ref) Link {
	switch unread := ev.unread(takes); {
	case unread != nil:
		return Link{Name: name, Status: Unknown, Reason: unread.Error()}
	case furthest.item != nil:
		return Link{Name: name, Status: Broken, Reason: furthest.err.Error()}
	}
	switch {
	case ev.file && len(ev.items) == 0:
		return Link{Name: name, Status: Absent, Reason: "there is no bundle"}
	case ev.file:
		return Link{Name: name, Status: Absent, Reason: "there is no " + what}
	}
	return Link{Name: name, Status: Absent, Reason: "the image carries no " + what}
}
