package verify

import (
	"context"
	"fmt"

	"github.com/colophon-build/colophon/source"
)

// SourceCheck asks a repository, as source.Lookup does. It may add Signers to
// the question: where the answer then has a signature that is not verified, the
// link is broken. An error means that the repository could not be asked.
type SourceCheck func(ctx context.Context, q source.Question) (source.Standing, error)

// sourceLink asks the repository that the provenance of a set names. One that
// cannot be reached refuses no image, unless the policy says so: the signed
// record stands.
func (c *check) sourceLink(ctx context.Context, s set) Link {
	l := Link{Name: LinkSource, Status: NotAsked}
	switch {
	case c.opts.SourceCheck == nil:
		l.Reason = "the repository was not asked"
		return l
	case !s.provenance.holds():
		l.Reason = "not checked: no valid provenance names a repository"
		return l
	}
	b := s.provenance.proof.build
	now, err := c.opts.SourceCheck(ctx, source.Question{URI: b.Source, Ref: b.Ref, Commit: b.Commit, Tree: b.Tree})
	if err != nil {
		l.Status, l.Reason = Unknown, fmt.Sprintf("%s could not be asked: %v", b.Source, err)
		if !c.opts.Policy.Provenance().RequireSource {
			l.Reason += "; this alone does not refuse the image"
		}
		return l
	}
	signed := signatureClaim(b.Signature)
	broken := func(format string, args ...any) Link {
		return Link{Name: LinkSource, Status: Broken, Reason: fmt.Sprintf(format, args...)}
	}
	switch sig := now.Signature; {
	case !now.Holds():
		return broken("%s, %s: %s", b.Source, b.named(), now)
	case b.Tree != "" && now.Tree != b.Tree:
		return broken("tree of commit %s: got %q in %s, the provenance says %q", b.Commit, now.Tree, b.Source, b.Tree)
	case sig.Status == source.Verified:
		signed = fmt.Sprintf("%s signed by %s, which was checked here", sig.Object, sig.Signer)
	case sig.Status != "":
		reason := ""
		if sig.Reason != "" {
			reason = ": " + sig.Reason
		}
		return broken("signature of %s in %s: got %q, want one of a signer that was named%s", b.named(), b.Source, sig.Status, reason)
	}
	l.Status, l.Claim = Holds, now.String()
	if signed != "" {
		l.Claim += "; " + signed
	}
	return l
}

// named is the commit and the ref that led to it, for people.
func (b *build) named() string {
	if b.Ref == "" {
		return "commit " + b.Commit
	}
	return b.Ref + " of commit " + b.Commit
}

// signatureClaim says who signed tag or commit, as the builder saw it; empty where
// the provenance does not say.
func signatureClaim(s *source.Signature) string {
	if s == nil {
		return ""
	}
	switch s.Status {
	case source.Verified:
		return fmt.Sprintf("%s signed by %s", s.Object, s.Signer)
	case source.Unverified:
		return fmt.Sprintf("%s signed, by a key that the builder was not given", s.Object)
	case source.Bad:
		return "with a BAD signature"
	case source.Unsigned:
		return "unsigned"
	}
	return ""
}
