package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/track"
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

// TrackCheck asks a git repository and its forge about a commit, as package source/look does,
// and returns what follows from the answers (track.Evaluate). ref is the full name of a branch
// or tag, or empty. An error means that nothing is known.
type TrackCheck func(ctx context.Context, uri, ref, commit string) (track.Result, error)

// trackLink says whether the commit of a set has the Source level and the reviewers that the
// policy demands. The last summary by a verifier that the policy trusts decides; without one
// the forge is asked, if the caller can. Without any answer it is not known.
func (c *check) trackLink(ctx context.Context, ev *evidence, s set) Link {
	want := c.opts.Policy.Provenance()
	l := Link{Name: LinkTrack, Status: Unknown}
	if !s.provenance.holds() {
		l.Status, l.Reason = NotAsked, "not checked: no valid provenance names a commit"
		return l
	}
	b := s.provenance.proof.build
	last, miss := c.lastSource(ev, b.Source, b.Commit)
	switch {
	case last != nil:
		if err := want.SourceTrack.MatchSummary(last.by, last.vsa, c.now); err != nil {
			l.Status, l.Reason = Broken, fmt.Sprintf("summary of commit %s by %s: %v", b.Commit, last.by.ID, err)
			return l
		}
		l.Status, l.Claim = Holds, "commit "+b.Commit+": "+last.claim()
		c.beside = append(c.beside, last.signer)
		return l
	case miss.Status == Unknown:
		return miss
	case c.opts.TrackCheck == nil && miss.Status == Broken:
		l.Reason = fmt.Sprintf("no summary of commit %s by a verifier that the policy trusts holds: %s; the forge was not asked", b.Commit, miss.Reason)
		return l
	case c.opts.TrackCheck == nil:
		l.Reason = fmt.Sprintf("there is no summary of commit %s by a verifier that the policy trusts, and the forge was not asked", b.Commit)
		return l
	}
	r, err := recall(c, c.known, trackKey{s.provenance.item.read}, func() (track.Result, error) {
		return c.opts.TrackCheck(ctx, b.Source, b.Ref, b.Commit)
	})
	if err != nil {
		l.Reason = fmt.Sprintf("%s did not answer: %v", b.Source, err)
		return l
	}
	switch err := r.Meets(want.SourceTrack.MinLevel, want.SourceTrack.Reviewers); {
	case errors.Is(err, track.ErrNotKnown):
		l.Reason = err.Error()
	case err != nil:
		l.Status, l.Reason = Broken, err.Error()
	default:
		l.Status, l.Claim = Holds, fmt.Sprintf("commit %s: Source L%d, reviewers other than the author: %d; as the forge says now", b.Commit, r.Level, r.Reviewers)
	}
	return l
}

// lastSource returns the last summary about a commit by a verifier that the policy trusts. Of
// several verifiers, the first that has one counts. Without one, the link says why not.
func (c *check) lastSource(ev *evidence, uri, commit string) (*summary, Link) {
	none := Link{Name: LinkTrack, Status: Absent}
	of, resource := ev.ofCommit(commit), attest.GitURI(uri, "")
	for _, by := range c.opts.Policy.Provenance().SourceVerifiers {
		last, miss := c.lastSummary(of, by, resource)
		against := c.staleAgainst(of, by, resource, time.Time{})
		switch {
		case last != nil:
			return last, none
		case miss.Status == Unknown: // it may be the last
			return nil, failed(LinkTrack, Unknown, errors.New(miss.Reason))
		case against != nil: // the forge is not asked instead
			return nil, failed(LinkTrack, Unknown, against)
		case miss.Status == Broken && none.Status == Absent:
			none.Status, none.Reason = Broken, miss.Reason
		}
	}
	return nil, none
}

// ofCommit is what was found about a commit: the summaries that name it.
func (ev *evidence) ofCommit(id string) *evidence {
	of := &evidence{err: ev.err}
	for _, it := range ev.items {
		switch {
		case it.unread:
			of.items = append(of.items, it)
		case it.commits != nil && slices.Contains(it.commits.names, id):
			of.items = append(of.items, it.commits)
		}
	}
	return of
}
