package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

type levelOptions struct {
	image    string // beside a directory
	source   string // repository that the image must come from, or that the directory was cloned from
	policy   string // file
	ref      string
	commit   string
	forge    forgeOptions
	signers  string // file
	minBuild int
	demand   policy.SourceTrack
	resolve  resolutionOptions
	summary  levelSummary
	reports  []string // FORMAT=FILE
	output   output
	timeout  time.Duration
}

func newLevelCommand() *cobra.Command {
	var o levelOptions
	cmd := &cobra.Command{
		Use:   "level [DIR|IMAGE|REPOSITORY]",
		Short: "say which SLSA levels an image or a repository reaches, and why",
		Long: `Level prints each requirement of SLSA v1.2, of the Build and the Source track, with what shows
that it is met, not met, or not known; and the next three steps to a higher level.

Of an IMAGE (or layout) it says what verify finds: with --source or --policy, as verify does with
them; without, whatever the repository. An image that verify would not accept has no level. It
asks about the commit that the image was built from only with --source or --policy: whoever built
the image would else choose whom this machine asks.

Of a DIR, by default the current directory, it reads the files, as lint does, and asks about the
commit that is checked out. Files can show that a pipeline misses a requirement of the Build
track; only an image shows that it meets one: --image.

Of a REPOSITORY (https://…, or HOST/PATH without a tag) it asks git, and the forge that hosts it,
how a commit came to be: by which change request (pull or merge request), who proposed, reviewed
and merged it, and which rules its branch or tag has. Forges show much to administrators only.
They are GitHub, GitLab, and Gitea or Forgejo. The kind of a host other than github.com,
gitlab.com, gitea.com and codeberg.org must be said: --forge. A token that may read is sent to the
API on the repository's own host, or the one of --forge-api, only.

With --vsa, the answer about a REPOSITORY is signed as a SLSA verification summary about the
commit, for those who verify what is built from it. For who signs it, see "colophon sign --help".

Exit codes: 0 it has what is demanded, or nothing is and verify accepts the image, 2 usage error,
1 failure, 3 it has not, 4 that is not known.`,
		Example: `  colophon level
  colophon level registry.example.com/team/app:v1.2.0 --source git.example.com/team/app --min-build-level 3
  colophon level . --image registry.example.com/team/app:v1.2.0 --report html=level.html --report badge=level.svg
  colophon level https://github.com/team/app --ref main
  colophon level git.example.com/team/app --ref v1.2.0 --forge gitea --forge-token-file token --min-source-level 3 --reviewers 1
  colophon level git.example.com/team/app --forge gitea --vsa source.vsa.json --verifier https://example.com/source --key source.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: inDirectory(&o.timeout, o.run),
	}
	f := cmd.Flags()
	f.StringVar(&o.image, "image", "", "with DIR, also verify this `IMAGE`")
	f.StringVar(&o.source, "source", "", "of an image, the repository that it must come from; of DIR, the repository (default: the remote \"origin\")")
	f.StringVar(&o.policy, "policy", "", "policy file (spec/policy) that the image must meet, in place of --source")
	f.StringVar(&o.ref, "ref", "", "`NAME` of the branch or tag (default: the default branch, or what is checked out in DIR)")
	f.StringVar(&o.commit, "commit", "", "full `ID` of the commit (default: the one that --ref points to, or that is checked out)")
	o.forge.flags(cmd)
	f.StringVar(&o.signers, "signers", "", "`FILE` with those who may sign commits and tags (ssh allowed_signers or OpenPGP keyring)")
	f.IntVar(&o.minBuild, "min-build-level", 0, "demand this Build level, 1 to 3")
	f.IntVar(&o.demand.MinLevel, "min-source-level", 0, "demand this Source level, 1 to 4")
	f.IntVar(&o.demand.Reviewers, "reviewers", 0, "demand so many reviewers other than the author")
	f.StringArrayVar(&o.reports, "report", nil, "also write a report: html=`FILE`, markdown=FILE or badge=FILE (SVG)")
	o.resolve.flags(f)
	o.summary.flags(cmd)
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "the level, a number: the Build level of an image, else the Source level")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	cmd.MarkFlagsMutuallyExclusive("source", "policy")
	for _, flag := range []string{"image", "source", "policy", "offline", "resolutions"} {
		cmd.MarkFlagsMutuallyExclusive("vsa", flag)
	}
	return cmd
}

// levelKind is what the argument names.
type levelKind int

const (
	ofRepository levelKind = iota
	ofDirectory
	ofImage
)

// levelKindOf says what an argument names. An image has a tag or digest, or is a layout here; a
// repository is what is neither that nor a directory.
func levelKindOf(what string) (levelKind, error) {
	if strings.Contains(what, "://") {
		return ofRepository, nil
	}
	ref, err := oci.ParseReference(what)
	switch {
	case err != nil:
		return ofRepository, nil
	case ref.Dir == "" && (ref.Tag != "" || ref.Digest != ""):
		return ofImage, nil
	case ref.Dir == "":
		return ofRepository, nil
	case spelledAsImage(what, ref) || ref.Tag != "":
		return ofImage, nil
	}
	info, err := os.Stat(what)
	if err != nil {
		return 0, usageError("an image has a tag or digest; a repository is https://HOST/PATH or HOST/PATH", "%s is no image, no repository and no directory here: %v", what, err)
	}
	if _, err := os.Stat(filepath.Join(what, "oci-layout")); !info.IsDir() || err == nil {
		return ofImage, nil
	}
	return ofDirectory, nil
}

// check refuses flags that do not go with the argument.
func (o *levelOptions) check(cmd *cobra.Command, kind levelKind) error {
	for flag, kinds := range map[string][]levelKind{
		"image": {ofDirectory}, "source": {ofDirectory, ofImage}, "policy": {ofDirectory, ofImage}, "vsa": {ofRepository},
		"ref": {ofRepository, ofDirectory}, "commit": {ofRepository, ofDirectory},
	} {
		fits := false
		for _, k := range kinds {
			fits = fits || k == kind
		}
		if cmd.Flags().Changed(flag) && !fits {
			return usageError("see "+cmd.CommandPath()+" --help", "--%s does not go with %s", flag, [...]string{"a repository", "a directory", "an image"}[kind])
		}
	}
	switch {
	case o.minBuild < 0 || o.minBuild > 3:
		return usageError("", "--min-build-level: expected 1 to 3, found %d", o.minBuild)
	case o.policy != "" && kind == ofDirectory && o.image == "":
		return usageError("add --image IMAGE", "--policy is about an image")
	case kind == ofRepository && (o.resolve.offline || o.resolve.file != ""):
		return usageError("", "a repository cannot be asked offline")
	}
	if err := o.demand.Check(); err != nil {
		return usageError("", "%v", err)
	}
	return checkReports(o.reports, report.Formats)
}

func (o *levelOptions) run(ctx context.Context, cmd *cobra.Command, what string) error {
	kind, err := levelKindOf(what)
	if err == nil {
		err = o.check(cmd, kind)
	}
	if err != nil {
		return err
	}
	d, e := &report.Document{}, level.Evidence{}
	var signing *levelSigner
	switch kind {
	case ofRepository:
		if d.Repository, err = source.Canonical(what); err != nil {
			return usageError("", "%v", err)
		}
		if signing, err = o.summary.prepare(ctx, cmd); err == nil {
			err = o.track(ctx, d, &e)
		}
	case ofDirectory:
		d.Directory = what
		if err = o.files(ctx, cmd, d, &e); err == nil && o.image != "" {
			err = o.verdict(ctx, cmd, o.image, d, &e)
		} else if err == nil {
			err = o.checkout(ctx, d, &e)
		}
	case ofImage:
		err = o.verdict(ctx, cmd, what, d, &e)
	}
	if err != nil {
		return err
	}
	d.Report = level.Of(e)
	d.Outcome, d.Why = o.decide(d.Report, &e)
	if signing != nil && d.Outcome == verify.Accepted {
		if err := signing.issue(ctx, d, o.demand); err != nil {
			return err
		}
	}
	failed := o.print(cmd.OutOrStdout(), d)
	if err := writeReports(o.reports, report.Formats, d); err != nil {
		return err
	}
	return exitWith(d.Outcome, failed)
}

// decide says whether there is what is demanded. The worst answer counts: rejected before
// undecided before accepted.
func (o *levelOptions) decide(r *level.Report, e *level.Evidence) (outcome verify.Outcome, why string) {
	outcome = verify.Accepted
	worsen := func(to verify.Outcome, because string) {
		if outcome == verify.Accepted || outcome == verify.Undecided && to == verify.Rejected {
			outcome, why = to, because
		}
	}
	if e.Verdict != nil && e.Verdict.Outcome != verify.Accepted {
		worsen(e.Verdict.Outcome, e.Verdict.Why())
	}
	switch b := r.Build; {
	case o.minBuild == 0, b != nil && b.Level >= o.minBuild:
	case e.Verdict == nil && (b == nil || b.Possible >= o.minBuild):
		worsen(verify.Undecided, fmt.Sprintf("Build level: expected %d, and it is not known", o.minBuild))
	default:
		worsen(verify.Rejected, fmt.Sprintf("Build level: expected %d, found %d", o.minBuild, b.Level))
	}
	if o.demand == (policy.SourceTrack{}) {
		return outcome, why
	}
	if e.Track == nil {
		worsen(verify.Undecided, "Source level: "+e.NoTrack)
		return outcome, why
	}
	switch err := e.Track.Meets(o.demand.MinLevel, o.demand.Reviewers); {
	case errors.Is(err, track.ErrNotKnown):
		worsen(verify.Undecided, err.Error())
	case err != nil:
		worsen(verify.Rejected, err.Error())
	}
	return outcome, why
}
