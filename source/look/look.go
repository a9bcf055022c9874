// Package look gathers what source/track decides from: it asks the repository of a commit, by
// git, and its forge.
package look

import (
	"context"
	"errors"
	"strings"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/source/track"
)

// Question says which commit to look at, and whom to ask.
type Question struct {
	URI     string          // canonical address of the repository
	Ref     string          // full name of a branch or tag; empty: any that has the commit
	Commit  string          // full id
	Signers *source.Signers // may be nil

	Lookup   func(context.Context, source.Question) (source.Standing, error) // asks the repository, as source.Lookup does
	Merged   func(context.Context, source.Proposal) (string, error)          // compares contents, as source.CheckMerged does
	Forge    forge.Forge                                                     // nil: it is not asked
	ForgeErr error                                                           // why it is not
}

// Facts asks the repository and the forge. It never fails: what is not known is in the facts.
func Facts(ctx context.Context, q Question) track.Facts {
	f := track.Facts{URI: q.URI, Commit: q.Commit, Ref: q.Ref, Merged: map[int64]track.Merged{}}
	f.Standing, f.StandingErr = q.Lookup(ctx, source.Question{URI: q.URI, Ref: q.Ref, Commit: q.Commit, Signers: q.Signers})
	if q.Forge == nil {
		err := q.ForgeErr
		if err == nil {
			err = errors.New("it was not asked")
		}
		f.ChangesErr, f.RulesErr, f.TagErr = err, err, err
		return f
	}
	f.Changes, f.ChangesErr = q.Forge.Changes(ctx, q.Commit)
	if f.Branch = branch(&f); f.Branch != "" {
		f.Rules, f.RulesErr = q.Forge.Rules(ctx, f.Branch)
	}
	if strings.HasPrefix(q.Ref, "refs/tags/") {
		f.TagRules, f.TagErr = q.Forge.Rules(ctx, q.Ref)
	}
	for _, c := range f.Changes {
		if c.Result != q.Commit || c.Target != f.Branch || f.StandingErr != nil {
			continue
		}
		how, err := q.Merged(ctx, source.Proposal{URI: q.URI, Result: c.Result, Head: c.Head, HeadRef: c.Ref, Steps: c.Steps})
		f.Merged[c.Number] = track.Merged{How: how, Err: err}
	}
	return f
}

// branch returns the branch whose rules count: that which was asked for. Of a tag, it is the
// one that the commit was merged into, or else one that has the commit.
func branch(f *track.Facts) string {
	if strings.HasPrefix(f.Ref, "refs/heads/") {
		return f.Ref
	}
	for _, c := range f.Changes {
		if c.Result == f.Commit {
			return c.Target
		}
	}
	if strings.HasPrefix(f.Standing.Within, "refs/heads/") {
		return f.Standing.Within
	}
	return ""
}
