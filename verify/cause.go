package verify

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

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
		CauseMissing, CauseContent, CauseNotFound, CauseUnreachable, CauseDenied, CauseTimeout, CauseNoRoot, CauseMoved, CauseUnanswered, CauseDistrust,
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
