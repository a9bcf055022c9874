// Package verify decides whether a container image, or a file, proves which git
// commit it was built from. It takes the image and all that is attached to it, the
// trust roots, a policy and the time of verification, and returns a Verdict: a
// chain of links, each with a status and a reason (spec/verdict). It follows the
// verification of SLSA v1.2 (slsa.dev/spec/v1.2/verifying-artifacts) on Sigstore
// bundles (github.com/sigstore/protobuf-specs), and reads the forms of cosign.
//
// Image verifies an image in a registry or layout, Bundled a file with its
// bundles, BundledDirectory the files of a release. Gather reads an image once, for
// verdicts by any number of policies. The package has no network, no environment and
// no time of its own; the caller passes them in.
package verify

// The files of this package, in the order to read them: verdict, evidence, image, sbom, builder, judge, notation,
// gather, source, facts, chain, demanded, verify, set, file, cache, explain, record.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// Outcome is the answer. The zero value is Undecided, so that an empty verdict
// never passes. In JSON it is "accepted", "rejected" or "undecided".
type Outcome int

const (
	Undecided Outcome = iota // demanded evidence could not be read
	Accepted                 // all that the policy demands holds
	Rejected                 // evidence is wrong, or demanded evidence is missing
)

var outcomes = [...]string{Undecided: "undecided", Accepted: "accepted", Rejected: "rejected"}

// String returns "accepted", "rejected" or "undecided".
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomes) {
		return outcomes[Undecided]
	}
	return outcomes[o]
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomes {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("outcome: got %q, want accepted, rejected or undecided", text)
}

// Status is the status of one link.
type Status string

const (
	Holds    Status = "holds"
	Broken   Status = "broken"    // the evidence is there and is wrong
	Absent   Status = "absent"    // the evidence is missing
	Unknown  Status = "unknown"   // the evidence could not be read: network, permissions
	NotAsked Status = "not asked" // neither the policy nor the caller asked for it
)

// Names of the links.
const (
	LinkImage       = "image"      // every byte matches the digest
	LinkFile        = "file"       // the same for a file, in place of image
	LinkSignature   = "signature"  // a trusted signer signed it
	LinkLog         = "log"        // the signature is in a transparency log
	LinkProvenance  = "provenance" // a trusted builder built it, from the source demanded
	LinkSource      = "source"     // the repository still has the commit
	LinkTrack       = "track"      // the commit has the Source level and reviewers; only if the policy demands any
	LinkSBOM        = "sbom"
	LinkAttestation = "attestation" // one link for each attestation that the policy demands, or forbids
	LinkSummary     = "summary"     // a verification summary; only if the policy names verifiers
	LinkDistrust    = "distrust"    // no list of what is no longer trusted has an entry about it; only if lists are compared
	LinkRule        = "rule"        // what the rules of a set say; only of a Decision
)

// LinkNames returns the names of all links, in the order a verdict lists them.
func LinkNames() []string {
	return []string{LinkImage, LinkFile, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkTrack, LinkSBOM, LinkAttestation, LinkSummary, LinkDistrust, LinkRule}
}

// Link is one step of the chain.
type Link struct {
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Claim   string `json:"claim"`            // what holds, one line for people
	Reason  string `json:"reason,omitempty"` // why it does not hold: which thing, and both values
	Cause   Cause  `json:"cause,omitzero"`   // the same for programs; zero if Reason is of no kind that Cause knows
	Carries string `json:"-"`                // predicate type of the attestation that a LinkAttestation found, if it holds; empty if one must be absent

	demanded bool // the image is accepted only if it holds
}

// Verdict is the answer about one image or file. spec/verdict defines its JSON.
type Verdict struct {
	Image   string   `json:"image"`  // the image or file, as the caller named it
	Digest  string   `json:"digest"` // "sha256:HEX"; empty if the name could not be resolved
	Outcome Outcome  `json:"outcome"`
	Index   string   `json:"index,omitempty"`   // digest of the index that the name leads to, if the proofs are about the manifest Digest in it
	Missing []string `json:"missing,omitempty"` // platforms that the image's index names, "linux/arm64", and that are not there
	Links   []Link   `json:"links"`
	// Level is the SLSA Build level, 0 to 3, that follows from Requirements: 0 if
	// there are none. If the policy trusts only a verifier, its level.
	Level        int                      `json:"level"`
	Requirements []provenance.Requirement `json:"requirements,omitempty"` // those of SLSA's Build track; none if the policy demands no provenance
	Facts        *Facts                   `json:"facts,omitempty"`        // what the evidence proved; nil unless signature, log and provenance hold as far as they are demanded
	Unsigned     []Claim                  `json:"unsigned,omitempty"`     // unsigned attestations in the image's index: never proof
	Decision     *Decision                `json:"decision,omitempty"`     // rule by rule; nil unless the policy is a set of rules
	Dangers      []string                 `json:"dangers,omitempty"`      // dangerous options of the policy, one line each for people
	Hint         string                   `json:"hint,omitempty"`         // what to do about it, for people

	rests *rests // what else it rests on; shared
}

// Summary returns the verdict as the predicate of a SLSA verification summary
// (slsa.dev/spec/v1.2/verification_summary): verifier and resource are URIs,
// policy describes the policy that was used, and at is the time of verification.
// An undecided verdict gives an error, because neither result would be true, and so does one
// with warnings or an exemption, which a summary cannot have.
func (v *Verdict) Summary(verifier, resource string, policy attest.ResourceDescriptor, at time.Time) (*attest.VSA, error) {
	at = at.UTC().Truncate(time.Second)
	s := &attest.VSA{Verifier: attest.VSAVerifier{ID: verifier}, TimeVerified: &at, ResourceURI: resource, Policy: policy, SLSAVersion: attest.SLSAVersion}
	switch {
	case v.Outcome == Rejected:
		s.VerificationResult, s.VerifiedLevels = attest.VSAFailed, []string{attest.VSAFailed}
	case v.Outcome != Accepted || v.Digest == "":
		return nil, fmt.Errorf("outcome: got %q, want an accepted or rejected verdict of a known digest", v.Outcome)
	case v.Decision != nil && len(v.Decision.Warnings) > 0:
		return nil, fmt.Errorf("the image was accepted with warnings, and a summary has none: %s", v.Decision.Warnings[0])
	case v.Decision.exempts():
		return nil, errors.New("the image is exempt from a rule for a time, and a summary has no end")
	case v.Level == 0 && len(v.Requirements) == 0:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildUnevaluated}
	default:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildLevelName(v.Level)}
	}
	return s, s.Check()
}

// add appends a link. Strangers write much of a reason, and terminals show it,
// so it becomes one bounded line without control characters.
func (v *Verdict) add(l Link) {
	l.Claim, l.Reason = plain(l.Claim), plain(l.Reason)
	l.Cause.Got, l.Cause.Want, l.Cause.Authority = plain(l.Cause.Got), plain(l.Cause.Want), plain(l.Cause.Authority)
	v.Links = append(v.Links, l)
}

// plain returns s as one line of printable characters, cut after 2,000 bytes.
func plain(s string) string { return printable.Cut(printable.Line(s), 2000) }

// decide sets the outcome from the links. A verdict is accepted only if each
// required link holds.
func (v *Verdict) decide(required map[string]bool) {
	holds := make(map[string]bool)
	for i := range v.Links {
		v.Links[i].demanded = required[v.Links[i].Name]
	}
	for _, l := range v.Links {
		holds[l.Name] = l.Status == Holds
		if l.Status == Broken || l.Status == Absent && required[l.Name] {
			v.Outcome = Rejected
			return
		}
	}
	for name, needed := range required {
		if needed && !holds[name] {
			v.Outcome = Undecided
			return
		}
	}
	v.Outcome = Accepted
}

// Why returns the name and the reason of the first link that kept the image from
// being accepted, as "NAME: REASON", or "" if it was accepted.
func (v *Verdict) Why() string {
	l, ok := v.Fault()
	switch {
	case ok:
		return l.Name + ": " + l.Reason
	case v.Outcome == Accepted:
		return ""
	}
	return "nothing was verified"
}

// Fault returns the first link that kept the image from being accepted. ok is false if it
// was accepted, or if nothing was verified.
func (v *Verdict) Fault() (fault Link, ok bool) {
	if v.Outcome == Accepted {
		return Link{}, false
	}
	against := func(l Link) bool { return l.Status == Broken || l.Status == Absent }
	lacking := func(l Link) bool { return l.demanded && l.Status != Holds }
	open := func(l Link) bool { return l.Status != Holds }
	for _, is := range []func(Link) bool{against, lacking, open} {
		if i := slices.IndexFunc(v.Links, is); i >= 0 {
			return v.Links[i], true
		}
	}
	return Link{}, false
}

// addDemanded adds a link after decide. The outcome stays accepted only if this
// link holds, too.
func (v *Verdict) addDemanded(l Link) {
	l.demanded = true
	v.add(l)
	switch {
	case l.Status == Holds:
	case l.Status == Broken || l.Status == Absent:
		v.Outcome = Rejected
	case v.Outcome == Accepted:
		v.Outcome = Undecided
	}
}

// Facts are what the evidence of an image or file proved, for programs: the
// proofs that the verdict rests on. They do not say that the image was accepted.
// Verdicts share them, so callers must not change them.
type Facts struct {
	// Build is what the provenance says, without its dependencies and its raw
	// external parameters; nil if the policy demands no provenance.
	Build  *provenance.Facts `json:"build,omitempty"`
	Signed []Signed          `json:"signed"` // signature, provenance, SPDX and CycloneDX document, as far as they hold
}

// Signed is one signature or attestation that holds.
type Signed struct {
	Digest        string      `json:"digest,omitempty"`        // "sha256:HEX" of the manifest (cosign v2: layer) that has it; empty if the caller supplied it
	PredicateType string      `json:"predicateType,omitempty"` // empty for the signature of a file
	TrustRoot     string      `json:"trustRoot,omitempty"`     // fingerprint of the trust root, "sha256:HEX"; empty for a key without a trust root
	Signer        string      `json:"signer,omitempty"`        // subject alternative name of the certificate; empty if a key signed
	Issuer        string      `json:"issuer,omitempty"`        // identity provider that vouched for the signer
	Certified     *time.Time  `json:"certified,omitempty"`     // start of the certificate's validity, UTC
	Times         []time.Time `json:"times,omitempty"`         // when it was signed, as logs and timestamp authorities of the trust root prove it, UTC
	LogIndex      *int64      `json:"logIndex,omitempty"`      // index of its entry in the transparency log; nil without an entry
	SBOM          *SBOM       `json:"sbom,omitempty"`          // only of an SBOM

	by distrust.Signer // who signed it, for lists of what is no longer trusted
}

// SBOM describes one SBOM document.
type SBOM struct {
	Format   string `json:"format"`   // "SPDX" or "CycloneDX"
	Version  string `json:"version"`  // version of the format: "2.3", "1.6"
	Packages int    `json:"packages"` // number of packages that it lists

	Unread []string `json:"unread,omitempty"` // files of the image that its scanner could not read, if it says so
}

// Claim is an unsigned statement that somebody put beside an image. It is shown
// and is never proof: everybody who may push can write it.
type Claim struct {
	Form   string `json:"form"`           // "BuildKit attestation", "cosign attachment", or "not listed" of those past a limit
	Type   string `json:"type"`           // predicate type or media type that it gives
	About  string `json:"about"`          // digest that it says it is about
	Digest string `json:"digest"`         // digest of the claim itself
	Says   string `json:"says,omitempty"` // of a provenance: builder and sources, one line
}

// Cause is what kind of reason a link has, for programs. A reason of no kind listed here
// has no cause.
type Cause struct {
	Kind      CauseKind `json:"kind"`
	Got       string    `json:"got,omitempty"`       // what was found
	Want      string    `json:"want,omitempty"`      // what was demanded or expected
	Authority string    `json:"authority,omitempty"` // of CauseUntrusted: name of the certificate authority, as the certificate says
	Trust     string    `json:"trust,omitempty"`     // of CauseUntrusted: what "colophon trust add" takes to trust it; absent if that is not known
}

// CauseKind names a kind of reason.
type CauseKind string

// Kinds of reasons.
const (
	CauseUntrusted   CauseKind = "untrusted authority" // no trust root here has the authority that certified the signer, Got
	CauseUnvouched   CauseKind = "unvouched issuer"    // the trust root does not vouch for the signer's OIDC issuer, Got
	CauseSigner      CauseKind = "another signer"      // a trusted authority certified it, for a signer that was not demanded
	CauseSource      CauseKind = "another source"
	CauseRef         CauseKind = "another ref"
	CauseCommit      CauseKind = "another commit"
	CauseInput       CauseKind = "another input"
	CauseRecipe      CauseKind = "another recipe"
	CauseLevel       CauseKind = "lower level"
	CauseMissing     CauseKind = "missing" // nothing of this kind is attached
	CauseContent     CauseKind = "changed content"
	CauseNotFound    CauseKind = "not found"
	CauseUnreachable CauseKind = "unreachable" // Got is the server
	CauseDenied      CauseKind = "denied"      // the registry wants other credentials
	CauseFailing     CauseKind = "failing"     // the registry is busy or broken, or something else answers in its place
	CauseTimeout     CauseKind = "timeout"
	CauseNoRoot      CauseKind = "no trust root"
	CauseMoved       CauseKind = "moved source"      // the repository no longer has what was built
	CauseUnanswered  CauseKind = "unanswered"        // the repository did not answer
	CauseDistrust    CauseKind = "no longer trusted" // Got is what an entry is about, Want the digest to use in its place, Authority the list's issuer
)

// mismatches maps what a policy compared to the kind of cause.
var mismatches = map[policy.Demand]CauseKind{
	policy.DemandSource: CauseSource, policy.DemandRef: CauseRef, policy.DemandCommit: CauseCommit,
	policy.DemandInput: CauseInput, policy.DemandRecipe: CauseRecipe, policy.DemandLevel: CauseLevel,
}

// CauseKinds returns all kinds.
func CauseKinds() []CauseKind {
	return []CauseKind{
		CauseUntrusted, CauseUnvouched, CauseSigner, CauseSource, CauseRef, CauseCommit, CauseInput, CauseRecipe, CauseLevel,
		CauseMissing, CauseContent, CauseNotFound, CauseUnreachable, CauseDenied, CauseFailing, CauseTimeout, CauseNoRoot, CauseMoved, CauseUnanswered, CauseDistrust,
	}
}

// failed returns a link that does not hold because of err.
func failed(name string, status Status, err error) Link {
	return Link{Name: name, Status: status, Reason: reason(err), Cause: causeOf(err)}
}

// causeOf returns the cause that an error is, or the zero Cause.
func causeOf(err error) Cause {
	untrusted, isUntrusted := errors.AsType[*bundle.UntrustedError](err)
	unvouched, isUnvouched := errors.AsType[*trust.IssuerError](err)
	signer, isSigner := errors.AsType[*bundle.SignerError](err)
	mismatch, isMismatch := errors.AsType[*policy.MismatchError](err)
	unreached, isUnreached := errors.AsType[*reach.Error](err)
	other, isOther := errors.AsType[*signerError](err)
	chosen, isChosen := errors.AsType[*policy.ChosenError](err)
	switch {
	case isOther:
		return other.cause
	case isChosen:
		return Cause{Kind: CauseRecipe, Got: strings.Join(chosen.Chosen, ", ")}
	case isUntrusted:
		return Cause{Kind: CauseUntrusted, Got: untrusted.Signer, Authority: untrusted.Authority.String(), Trust: trustable(untrusted)}
	case isUnvouched:
		return Cause{Kind: CauseUnvouched, Got: unvouched.Issuer}
	case isSigner:
		return Cause{Kind: CauseSigner, Got: signer.Got, Want: signer.Want}
	case isMismatch:
		return Cause{Kind: mismatches[mismatch.Demand], Got: mismatch.Got, Want: mismatch.Want}
	case errors.Is(err, oci.ErrMismatch), errors.Is(err, errImage):
		return Cause{Kind: CauseContent}
	case errors.Is(err, oci.ErrNotFound):
		return Cause{Kind: CauseNotFound}
	case errors.Is(err, oci.ErrDenied):
		return Cause{Kind: CauseDenied}
	case isUnreached:
		return Cause{Kind: CauseUnreachable, Got: unreached.Server}
	case errors.Is(err, context.DeadlineExceeded):
		return Cause{Kind: CauseTimeout}
	case errors.Is(err, oci.ErrFailing):
		return Cause{Kind: CauseFailing}
	case errors.Is(err, trust.ErrEmpty):
		return Cause{Kind: CauseNoRoot}
	}
	return Cause{}
}

// signerError is the fault of a proof whose signer was not demanded.
type signerError struct {
	error
	cause Cause
}

// otherSigner returns the fault of a proof whose signature holds, and whose signer err
// refuses. A workflow of another source than the one demanded is the wrong source.
func (c *check) otherSigner(p *proof, err error) error {
	id, want := p.Identity, c.opts.Policy.Provenance()
	cause := Cause{Kind: CauseSigner, Got: id.SubjectAlternativeName, Want: strings.Join(want.Builders, " ")}
	if id.SourceRepositoryURI != "" && len(want.Builders) == 0 && want.MatchSource(id.SourceRepositoryURI) != nil {
		cause = Cause{Kind: CauseSource, Got: id.SourceRepositoryURI, Want: want.Source.URI()}
	}
	return &signerError{err, cause}
}

func (e *signerError) Unwrap() error { return e.error }

// reason returns an error in one line for people.
func reason(err error) string {
	u, ok := errors.AsType[*bundle.UntrustedError](err)
	if !ok {
		return err.Error()
	}
	add := trustable(u)
	if add == "" {
		add = "URL|FILE"
	}
	return "signed as " + u.Signer + ", certified by " + quoted(u.Authority.String()) + ", which is not trusted here; if you trust it: colophon trust add " + add
}

func quoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, "'") + `"` }

// trustable returns what "colophon trust add" takes to trust an authority: a name that it
// knows, or the origin of the platform that the signer claims to be of. It returns "" if
// it knows neither. The words come from a certificate that nobody vouched for, so they are
// limited to what cannot be anything else than an argument.
func trustable(u *bundle.UntrustedError) string {
	if slices.Contains(u.Authority.Organization, "sigstore.dev") {
		return "sigstore"
	}
	issuer, err := trust.IssuerOf(u.Signer)
	if err != nil {
		return ""
	}
	parts := strings.SplitN(issuer, "/", 4) // scheme, "", host, path
	if len(parts) < 3 {
		return ""
	}
	origin := parts[0] + "//" + parts[2]
	if trust.CheckOrigin(origin) != nil || strings.Trim(origin, originCharacters) != "" {
		return ""
	}
	return origin
}

const originCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:/[]"

// errUnchecked is the reason of links that an untrusted signer leaves unchecked.
const errUnchecked = "not checked: the signer is not trusted here"

// onceUntrusted lets one link alone say that the signer is not trusted: the links after it
// that say the same were not checked.
func onceUntrusted(links []Link) {
	said := false
	for i, l := range links {
		untrusted := l.Cause.Kind == CauseUntrusted
		switch {
		case untrusted && said, said && l.Name == LinkLog && l.Status == Broken:
			links[i] = Link{Name: l.Name, Status: Unknown, Reason: errUnchecked}
		case untrusted && l.Name == LinkSignature:
			said = true
		}
	}
}

// Options are what a verdict depends on besides the evidence and the time.
type Options struct {
	Trust       []*trust.Root // the trust roots; each proof must verify wholly under one of them
	Policy      policy.Policy // what to demand; must pass its Check
	SourceCheck SourceCheck   // asks the git repository; nil: the repository is not asked
	TrackCheck  TrackCheck    // asks the forge for what the policy demands on SLSA's Source track; nil: it is not asked
	Bundles     [][]byte      // more evidence about an image: Sigstore bundles or DSSE envelopes, as JSON
	Layout      bool          // the image is in a layout, whose name is not a registry's: no verification summary can be about it
	Platform    *v1.Platform  // of an index, read only this one; nil: all. What is proved is the index
	Pinned      bool          // of the image, only the manifest or index itself is read: whoever uses the image compares all else with the digests in it, as runtimes do. Its configuration, layers and unsigned claims say nothing then; the contents that a policy compares with SBOMs are read
	Distrust    Distrust      // lists of what is no longer trusted, for verdicts by one policy; decisions of sets have their own (With)
	Whole       bool          // all platforms of an index must be there, and the proofs must be about the index itself; otherwise see Missing and Index of Verdict
}

// SourceCheck asks a git repository a question, as source.Lookup does. It may add
// Signers to the question: if the answer then has a signature that is not
// verified, the source link is broken. An error means that the repository did not
// answer.
type SourceCheck func(ctx context.Context, q source.Question) (source.Standing, error)

// check is one verification.
type check struct {
	src   oci.Source
	now   time.Time // the time of verification
	opts  Options
	about string        // kind of the thing that the proofs must be about
	title string        // of a file: the name that a platform's provenance must give it
	stale []*trust.Root // dropped from opts.Trust; what must be absent may be signed under them, too
	read  reading

	asks   []*check // the verifications that will look at what is read now; empty: this one alone
	digest v1.Hash  // of the subject, to which the evidence is attached
	known  *memory  // of the image; nil: nothing is remembered
	of     *memory  // of the item that is judged; nil: nothing is remembered
	missed *bool    // set if an answer was asked for that a closed memory does not have
	ask    *Ask     // what else is asked for; may be nil

	beside []distrust.Signer // who signed what the policy demands beside its Origin, as far as it was judged

	queries []Query // those that look at src

	kept *atomic.Int64 // bytes of statements that were kept for that
}

const (
	aboutIndex    = "index"
	aboutManifest = "manifest"
	aboutFile     = "file"
)

func aboutOf(image v1.Descriptor) string {
	if image.MediaType.IsIndex() {
		return aboutIndex
	}
	return aboutManifest
}

// ready fails if there is too little to verify with.
func (c *check) ready() error {
	switch {
	case len(c.opts.Trust) == 0 && !c.opts.Policy.WithoutRoots():
		return trust.ErrEmpty
	case c.now.IsZero():
		return errors.New("the time of verification is not set")
	}
	if p := c.opts.Policy; p.FreshTrust || p.MaxTrustAge > 0 {
		if err := c.dropStale(); err != nil {
			return err
		}
	}
	for _, name := range c.opts.Policy.Roots() {
		if len(named(c.opts.Trust, name)) == 0 {
			return fmt.Errorf("the policy names the trust root %q, which is not trusted here, or is stale", name)
		}
	}
	return c.opts.Policy.Check()
}

// asksFor reports whether statements of a predicate type are asked for as facts.
func (c *check) asksFor(predicateType string) bool {
	return c.ask != nil && slices.Contains(c.ask.Predicates, predicateType)
}

// lists reports whether the lists of packages in SBOMs are kept.
func (c *check) lists() bool {
	contents := func(p policy.Policy) bool { return p.SBOM() == policy.SBOMContents }
	return contents(c.opts.Policy) || c.keepsInputs() || c.ask != nil && (c.ask.Packages || slices.ContainsFunc(c.ask.Policies, contents))
}

// keepsInputs reports whether what builds used is kept, for lists of what is no longer trusted.
func (c *check) keepsInputs() bool {
	return c.opts.Distrust.asked() || c.ask != nil && c.ask.Distrust
}

// named returns the trust roots with this name; all of them if it is empty.
func named(roots []*trust.Root, name string) []*trust.Root {
	return slices.DeleteFunc(slices.Clone(roots), func(r *trust.Root) bool { return name != "" && !r.Named(name) })
}

// roots returns the trust roots under which the policy's Origin may be proved.
func (c *check) roots() []*trust.Root { return named(c.opts.Trust, c.opts.Policy.Root()) }

// dropStale removes the trust roots that may have been withdrawn since they were
// last refreshed. They stay in c.stale.
func (c *check) dropStale() error {
	var fresh, stale []*trust.Root
	var err error
	for _, r := range c.opts.Trust {
		switch age := c.opts.Policy.MaxTrustAge; {
		case c.opts.Policy.FreshTrust && r.Stale(c.now):
			err = fmt.Errorf("the policy demands fresh trust roots, and the one from %s is stale", r.Repository.URL)
			stale = append(stale, r)
		case age > 0 && !r.RefreshedWithin(age, c.now):
			err = fmt.Errorf("the policy demands trust roots that were refreshed within the last %s, and none is known to be: see `colophon trust refresh`", age)
			stale = append(stale, r)
		default:
			fresh = append(fresh, r)
		}
	}
	if c.opts.Trust, c.stale = fresh, stale; len(fresh) == 0 {
		return err
	}
	return nil
}

// plainRoots returns those of roots that name no builder, as a Sigstore
// trusted_root.json does.
func (c *check) plainRoots() []*trust.Root {
	return slices.DeleteFunc(c.roots(), func(r *trust.Root) bool { return len(r.Builders) > 0 })
}

// parallel is the maximum number of requests in flight, and so of bundles in memory.
const parallel = 8

// demandsTrack reports whether a policy demands anything on the Source track.
func demandsTrack(p policy.Policy) bool {
	return p.Provenance().SourceTrack != (policy.SourceTrack{})
}
