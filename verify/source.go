package verify

import (
	"cmp"
	"context"
	"fmt"

	"github.com/colophon-build/colophon/source"
)

// sourceLink asks the repository that the provenance of a set names. If the
// repository does not answer, the image is still accepted on its signed evidence,
// unless the policy demands an answer.
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
	now, err := recall(c, c.known, sourceKey{s.provenance.item.read}, func() (source.Standing, error) {
		return c.opts.SourceCheck(ctx, source.Question{URI: b.Source, Ref: b.Ref, Commit: b.Commit, Tree: b.Tree})
	})
	if err != nil {
		l.Status, l.Reason, l.Cause = Unknown, fmt.Sprintf("%s did not answer: %v", b.Source, err), Cause{Kind: CauseUnanswered, Got: b.Source}
		if !c.opts.Policy.Provenance().RequireSource {
			l.Reason += "; the policy does not demand an answer"
		}
		return l
	}
	signed := signatureClaim(b.Signature)
	broken := func(format string, args ...any) Link {
		return Link{Name: LinkSource, Status: Broken, Reason: fmt.Sprintf(format, args...), Cause: Cause{Kind: CauseMoved, Got: b.Source}}
	}
	switch sig := now.Signature; {
	case !now.Holds():
		return broken("%s, %s: %s", b.Source, b.named(), now)
	case b.Tree != "" && now.Tree != b.Tree:
		return broken("tree of commit %s: got %q in %s, the provenance says %q", b.Commit, now.Tree, b.Source, b.Tree)
	case sig.Status == source.Verified:
		signed = fmt.Sprintf("%s signed by %s (verified)", sig.Object, sig.Signer)
	case sig.Status != "":
		reason := ""
		if sig.Reason != "" {
			reason = ": " + sig.Reason
		}
		return broken("signature of %s in %s: got %q, want a signature by one of the signers demanded%s", b.named(), b.Source, sig.Status, reason)
	}
	l.Status, l.Claim = Holds, now.String()
	if signed != "" {
		l.Claim += "; " + signed
	}
	return l
}

// named returns the commit and its ref, for people.
func (b *build) named() string {
	if b.Ref == "" {
		return "commit " + b.Commit
	}
	return b.Ref + " of commit " + b.Commit
}

// signatureClaim returns who signed the tag or commit, as the builder found it; ""
// if the provenance does not say. The builder knows a key, and the requester of the
// release sent the file that names it.
func signatureClaim(s *source.Signature) string {
	if s == nil {
		return ""
	}
	switch s.Status {
	case source.Verified:
		return s.NamedBy("the requester")
	case source.Unverified:
		return fmt.Sprintf("%s signed by key %s, which the requester did not name", s.Object, cmp.Or(s.Key, "unknown"))
	case source.Bad:
		return "with a BAD signature"
	case source.Unsigned:
		return "unsigned"
	}
	return ""
}
