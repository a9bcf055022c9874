package verify

import (
	"cmp"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/trust"
)

// evidence is everything that is signed about one subject. Each item is verified
// once, when it is gathered. What follows from it is computed by pure functions.
type evidence struct {
	items []*item
	file  bool  // the subject is a file, so nothing is attached to it
	err   error // the listing failed, so nothing is known

	notation []*notationSignature // if the policy asks for them

	beside error // it is not known whether more is attached, as under the fallback tag or to an index around the subject; matters only to what must be absent
}

// item is one signature or attestation, and what it proved.
type item struct {
	at   string // digest of the manifest or layer that has it; empty if the caller supplied it
	kind string // predicate type: the statement's, or else the one in the manifest's annotation; empty if unknown

	read *piece        // what it is; nil if it could not be parsed
	tag  oci.CosignTag // that names its manifest; empty for a referrer

	signature bool  // it signs the image or file itself, and says nothing more
	err       error // why it is not evidence: unreadable, malformed, or about another subject
	unread    bool  // err may be temporary, so nothing is known about the item
	form      error // why it does not have the form that platforms write, if it must have it

	proofs  []*proof // by the rules of the policy's Origin: one for each trust root
	anyone  []*proof // by any signer: one for each trust root and key
	forbids []*proof // of a type that must be absent: anyone's, and those under stale trust roots
	stale   []*proof // of a summary or an attestation that is demanded: by any signer, under the stale trust roots
	commits *item    // the same summary as one about commits; nil if it is about none
	names   []string // ids of the commits that it is about

	// What the statement says, read only if its signature holds under a trust root.
	matches map[int]error     // by index in the policy's Attestations: what differs from the demand, or nil
	absent  map[int]forbidden // by index in the policy's Absent: whether it is what must be absent
	vsa     *attest.VSA
	vsaErr  error
	fact    *fact // if statements of its type are asked for as facts
	factErr error
}

// piece is what of an item is kept once it was judged by each policy that asked for it.
// Its statement may be large and is gone then, but for what these policies wanted of it.
type piece struct {
	bundle   *bundle.Bundle // without its statement's predicate and the proofs of its signature
	platform bool           // it came in the way in which platforms attach theirs
	memory   *memory        // what was verified about it, and read from it
}

// forget closes the memory and drops the statement, there as well.
func (p *piece) forget() {
	p.bundle, p.memory.closed = slim(p.bundle), true
	if a, ok := p.memory.answers[platformKey{}].(answer[*bundle.Bundle]); ok && a.value != nil {
		p.memory.answers[platformKey{}] = answer[*bundle.Bundle]{slim(a.value), a.err}
	}
	if a, ok := p.memory.answers[documentKey{}].(answer[*provenance.Document]); ok && a.value != nil {
		d := &provenance.Document{Builder: a.value.Builder, BuildType: a.value.BuildType} // the facts were read from it
		p.memory.answers[documentKey{}] = answer[*provenance.Document]{d, a.err}
	}
}

// slim returns what of a bundle is asked for again once it was judged.
func slim(b *bundle.Bundle) *bundle.Bundle {
	kept := &bundle.Bundle{Certificate: b.Certificate, Image: b.Image}
	if s := b.Statement; s != nil {
		kept.Statement = &attest.Statement{Type: s.Type, PredicateType: s.PredicateType}
	}
	return kept
}

// fact is the predicate of a statement whose signature holds. It is decoded when somebody asks.
type fact struct {
	raw   json.RawMessage
	once  sync.Once
	value any
	err   error
}

// forbidden says whether a statement is one that must be absent.
type forbidden struct {
	is  bool
	err error // that cannot be read from it
}

// rules say who may have signed an item, and in which form.
type rules int

const (
	ofAnyone       rules = iota // anybody; the signer is compared later
	ofPlatform                  // a builder that a trust root names, in the narrow form of platforms
	ofPublic                    // a builder on GitHub or GitLab
	ofNamed                     // the signer that the policy names
	ofPlatformFile              // as ofPlatform, of a file: its provenance is its only proof
)

// build is what a valid provenance says, and what else its Build level rests on.
type build struct {
	*provenance.Facts
	evidence provenance.Evidence
	inputs   []distrust.Input // what it used, if lists of what is no longer trusted are compared
}

// level returns the SLSA Build level, 0 to 3.
func (b *build) level() int { return provenance.BuildLevel(b.Facts.Requirements(b.evidence)) }

// proof is what one item proved under one trust root.
type proof struct {
	*bundle.Result
	root   *trust.Root    // nil: no trust root, the policy names the key
	key    *bundle.Signer // the key that signed; nil: a certificate
	rules  rules
	signer error          // why this signer may not sign such a thing; the signature holds
	build  *build         // of a provenance, if its signer may sign it
	sbom   *sbom.Document // of an SBOM, if its signer may sign it
	says   error          // what is wrong with the statement
}

// fault returns the first reason why p proves nothing, or nil.
func (p *proof) fault() error {
	switch {
	case p.Result.Err() != nil:
		return p.Result.Err()
	case p.signer != nil:
		return p.signer
	}
	return p.says
}

// passed scores how many checks the proof passed. The verdict shows the fault of
// the proof with the highest score.
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

// ref is an item as the answer to one question: its best proof, and the reason
// why that is not good enough, if it is not.
type ref struct {
	item  *item
	proof *proof // nil if the item was not verified
	err   error
}

func (r ref) holds() bool { return r.proof != nil && r.err == nil }

// passed scores how many checks the ref passed.
func (r ref) passed() int {
	switch {
	case r.proof == nil:
		return 0
	case r.err == nil:
		return r.proof.passed()
	}
	return min(r.proof.passed(), 999)
}

// best returns the first ref with the highest score, or the zero ref if there is none.
func best(refs []ref) ref {
	var b ref
	for _, r := range refs {
		if b.item == nil || r.passed() > b.passed() {
			b = r
		}
	}
	return b
}

// refs returns the items that takes selects, with their best proof by the given
// rules. An item that could not be read may be of any kind, so it is included. If
// beside is set, an item counts only if it is of the same release.
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

// sameRelease fails unless one builder signed both under one trust root, for the
// same source, commit, ref and external parameters.
func sameRelease(p, beside *proof) error {
	a, b := p.Identity, beside.Identity
	switch {
	case p.root != beside.root || a.SubjectAlternativeName != b.SubjectAlternativeName || a.Issuer != b.Issuer:
		return fmt.Errorf("signer: got %q, want the signer of the provenance, %q", a.SubjectAlternativeName, b.SubjectAlternativeName)
	case a.SourceRepositoryURI != b.SourceRepositoryURI || a.SourceRepositoryDigest != b.SourceRepositoryDigest || a.SourceRepositoryRef != b.SourceRepositoryRef:
		return fmt.Errorf("source in the certificate: got %s, want the source of the provenance, %s", buildOf(a), buildOf(b))
	case a.BuildConfigDigest != b.BuildConfigDigest:
		return fmt.Errorf("digest of the external parameters in the certificate: got %q, want that of the provenance, %q", a.BuildConfigDigest, b.BuildConfigDigest)
	}
	return nil
}

// buildOf returns source and commit in a certificate, for people.
func buildOf(id certificate.Summary) string {
	return fmt.Sprintf("%s at commit %q", attest.GitURI(id.SourceRepositoryURI, id.SourceRepositoryRef), id.SourceRepositoryDigest)
}

// The functions below select items for refs, signedBy and lacking.

func anything(*item) bool { return true }

func isProvenance(it *item) bool {
	return it.kind == attest.PredicateSLSA1 || it.kind == attest.PredicateSLSA02
}

func ofKind(kind string) func(*item) bool { return func(it *item) bool { return it.kind == kind } }

// inFormat selects the SBOMs in the format of a predicate type. Theirs may name the
// version of the format too, as in https://spdx.dev/Document/v2.3.
func inFormat(kind string) func(*item) bool {
	return func(it *item) bool { return sbom.Format(it.kind) == sbom.Format(kind) }
}

// signedBy returns the items that takes selects, with their best proof by any
// signer. signer checks who signed; then, if not nil, checks what the item says.
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

// underStale calls what with each item that takes selects and signer signed under a stale trust
// root. It counts for nothing, and still it may have been said against the image.
func (ev *evidence) underStale(takes func(*item) bool, signer func(*proof) error, what func(*item, *proof)) {
	for _, it := range ev.items {
		for _, p := range it.stale {
			if it.err == nil && takes(it) && p.Result.Err() == nil && signer(p) == nil {
				what(it, p)
			}
		}
	}
}

// unread returns why an item that takes selects may have been missed: the listing
// or the item could not be read. It returns nil if everything was read.
func (ev *evidence) unread(takes func(*item) bool) error {
	if ev.err != nil {
		return ev.err
	}
	for _, it := range ev.items {
		if it.unread && (it.kind == "" || takes(it)) {
			return it.err
		}
	}
	return nil
}

// lacking returns the link of that name for evidence that is missing or wrong. It
// is unknown if something could not be read that may have been the evidence; what
// names the evidence for people, and furthest is the ref with the highest score.
func (ev *evidence) lacking(name string, takes func(*item) bool, what string, furthest ref) Link {
	switch unread := ev.unread(takes); {
	case unread != nil:
		return failed(name, Unknown, unread)
	case furthest.item != nil:
		return failed(name, Broken, furthest.err)
	}
	l := Link{Name: name, Status: Absent, Reason: "the image carries no " + what, Cause: Cause{Kind: CauseMissing, Want: what}}
	switch {
	case ev.file && len(ev.items) == 0:
		l.Reason = "there is no bundle"
	case ev.file:
		l.Reason = "there is no " + what
	}
	return l
}

// set is evidence that belongs together: the provenance of one build, and what the
// same signer signed for the same build. An image may carry proofs of several
// commits and builders. A verdict rests on one set, never on the best item of each
// kind.
type set struct {
	rules                            rules
	provenance, signature, spdx, cdx ref
}

// signed returns what the links of signature and log are about: the signature of
// the image, which platforms attach, or else the provenance.
func (s set) signed() ref {
	if s.signature.item != nil || s.rules == ofPlatform {
		return s.signature
	}
	return s.provenance
}

// permanent reports whether err is about the content itself, so that another
// request gives the same answer.
func permanent(err error) bool {
	return errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrMismatch)
}

// memory holds answers about one thing that is read once: an image, or a signed item.
// Once it is closed it never changes, so that any number of verdicts may read it at once.
type memory struct {
	answers map[any]any // by a key of a type of its own for each kind of question
	closed  bool        // what could answer is gone: the registry, or the item's content
}

func newMemory() *memory { return &memory{answers: make(map[any]any)} }

// Keys of what is remembered about an image. What is asked about one digest is asked about
// the image, or about the one manifest in it.
type (
	foundKey    v1.Hash
	onlyKey     struct{}
	contentsKey v1.Hash
	childrenKey int // number of cosign's tags
	sourceKey   struct{ provenance *piece }
	trackKey    struct{ provenance *piece }
	lockKey     struct {
		about v1.Hash
		lock  string
	}
	sbomKey struct{} // of an item, and not of the image: the SBOM that it is
)

type answer[V any] struct {
	value V
	err   error
}

// errNotGathered means that the answer was not read when there was still a source to ask.
var errNotGathered = errors.New("the evidence was gathered without asking for this: gather it again, with this policy among the policies asked for")

// recall returns the answer to the question key, and reads it if it is asked for the first
// time. Nothing is remembered if m is nil. If m is closed and has no answer, c misses it, and
// gives no verdict.
func recall[V any](c *check, m *memory, key any, read func() (V, error)) (V, error) {
	if m == nil {
		return read()
	}
	if a, ok := m.answers[key].(answer[V]); ok {
		return a.value, a.err
	}
	if m.closed {
		c.miss()
		var none V
		return none, errNotGathered
	}
	v, err := read()
	err = bounded(err)
	m.answers[key] = answer[V]{v, err}
	return v, err
}

// reuse is like recall, for what can be computed anew without the source or the content.
func reuse[V any](m *memory, key any, compute func() V) V {
	if m == nil {
		return compute()
	}
	if a, ok := m.answers[key].(V); ok {
		return a
	}
	v := compute()
	if !m.closed {
		m.answers[key] = v
	}
	return v
}

// maxText is the maximum number of bytes of an error that is remembered as it is: it may quote
// what strangers wrote.
const maxText = 64 << 10

// bounded returns err, or an error with the beginning of its text if that is long.
func bounded(err error) error {
	if err != nil && len(err.Error()) > maxText {
		return errors.New(plain(err.Error()))
	}
	return err
}

// miss records that an answer is missing.
func (c *check) miss() {
	if c.missed != nil {
		*c.missed = true
	}
}

// summary is a valid verification summary by a verifier that the policy trusts
// (slsa.dev/spec/v1.2/verification_summary, "How to verify").
type summary struct {
	vsa *attest.VSA
	by  policy.Verifier
	at  time.Time // when it was signed; without a proof of that, its timeVerified

	signer distrust.Signer
}

func (s *summary) claim() string {
	when := ""
	if !s.at.IsZero() {
		when = ", " + trust.FormatTime(s.at)
	}
	return fmt.Sprintf("%s by %s%s: %q of %s", s.vsa.VerificationResult, s.by.ID, when, s.vsa.VerifiedLevels, s.vsa.ResourceURI)
}

// timeOf returns when a summary was made. It fails if its timeVerified is later
// than its signature, or in the future.
func (c *check) timeOf(vsa *attest.VSA, p *proof) (time.Time, error) {
	at := lastTime(p)
	if vsa.TimeVerified == nil {
		return at, nil
	}
	latest := c.now
	if !at.IsZero() {
		latest = at
	}
	if vsa.TimeVerified.After(latest.Add(bundle.ClockSkew)) {
		return at, fmt.Errorf("timeVerified of the summary: got %s, want at most %s", trust.FormatTime(*vsa.TimeVerified), trust.FormatTime(latest))
	}
	if at.IsZero() {
		at = *vsa.TimeVerified
	}
	return at, nil
}

// lastTime returns the last time at which p's signature is proved to have existed.
func lastTime(p *proof) (at time.Time) {
	for _, t := range p.Times {
		if t.After(at) {
			at = t
		}
	}
	return at
}

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
