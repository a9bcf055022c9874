package main

import (
	"cmp"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/verify"
)

// verdict verifies an image, and asks about its commit if somebody named the repository.
func (o *levelOptions) verdict(ctx context.Context, cmd *cobra.Command, what string, d *report.Document, e *level.Evidence) error {
	ref, err := oci.ParseReference(what)
	if err != nil {
		return usageError("", "%v", err)
	}
	v := verifyOptions{policy: o.policy, now: time.Now(), source: sourceOptions{offline: o.resolve.offline, signers: o.signers, forge: o.forge}}
	v.demand.Source = o.source
	opts := verify.Options{Policy: anyImage()}
	switch e.Named = o.policy != "" || o.source != ""; {
	case e.Named:
		if opts.Policy, _, err = v.load(); err != nil {
			return err
		}
	case o.signers != "":
		return usageError("add --source URI", "--signers needs a repository to ask")
	}
	d.Image = what
	if e.Verdict, err = o.verified(ctx, cmd, what, ref, v, opts); err != nil {
		return err
	}
	d.Digest = e.Verdict.Digest
	f := e.Verdict.Facts
	switch {
	case e.Verdict.Outcome != verify.Accepted:
		e.NoTrack = "the image does not prove which commit it came from"
		return nil
	case f == nil || f.Build == nil:
		e.NoTrack = "what was demanded of the image names no commit"
		return nil
	}
	d.Repository, d.Ref, d.Commit = f.Build.Source, f.Build.Ref, f.Build.Commit
	uri := opts.Policy.Provenance().Source.URI()
	switch {
	case o.resolve.offline:
		e.NoTrack = "the repository was not asked: --offline"
	case uri == "" && o.policy != "":
		e.NoTrack = "the repository was not asked: the policy is a set of rules, or names none. Ask about it: colophon level REPOSITORY --commit " + f.Build.Commit
	case uri == "":
		e.NoTrack = "the repository was not asked: name it with --source"
	}
	if e.NoTrack != "" {
		return nil
	}
	signers, err := readSigners(o.signers)
	if err != nil {
		return err
	}
	ask, err := v.source.trackCheck(uri, signers)
	if err != nil {
		return err
	}
	result, err := ask(ctx, f.Build.Source, f.Build.Ref, f.Build.Commit)
	if err != nil {
		e.NoTrack = "the repository was not asked: " + err.Error()
		return nil
	}
	e.Track = &result
	return nil
}

// verified returns the verdict on an image, as verify gives it.
func (o *levelOptions) verified(ctx context.Context, cmd *cobra.Command, what string, ref oci.Reference, v verifyOptions, opts verify.Options) (*verify.Verdict, error) {
	empty, err := loadTrust(&opts)
	if err != nil {
		return undecided(what, err), nil
	}
	if err := v.source.configure(&opts, v.now, v.rules.policies()...); err != nil {
		return nil, err
	}
	warnStale(cmd.ErrOrStderr(), opts, v.now)
	if err := loadLists(cmd.Context(), &opts, v.now, v.source.offline); err != nil {
		return nil, err
	}
	stop := waiting(cmd.ErrOrStderr(), "verifying "+what)
	defer stop()
	out, err := v.image(ctx, what, ref, opts)
	if err == nil && out.Outcome != verify.Accepted {
		hint := out.Hint
		if empty {
			hint = hintTrust
		}
		printHint(cmd.ErrOrStderr(), cmp.Or(hint, "see the chain: colophon verify "+what))
	}
	return out, err
}
