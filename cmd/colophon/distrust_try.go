package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// maxTried is the maximum number of releases of the platform that a dry run verifies: the newest.
const maxTried = 1000

func (o *scopeOptions) tryFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "add nothing: say which images would be rejected")
	f.StringVarP(&o.many.from, "file", "f", "", "with --dry-run, the images of this list, Kubernetes manifest or compose file; \"-\" is standard input")
	f.StringVar(&o.policy, "policy", "", "with --dry-run, the policy `FILE` that images must meet (default: any source)")
	f.StringArrayVar(&o.many.fields, "image-field", nil, "with -f, a field of a custom kind that names images (`KIND.GROUP=PATH`)")
	o.many.mirrorFlag(f)
	f.IntVar(&o.many.parallel, "parallel", 8, "with --dry-run, how many images to verify at once")
	o.output.flags(cmd)
}

// tried is what an entry would do to one image.
type tried struct {
	Image   string         `json:"image"`
	Digest  string         `json:"digest,omitempty"`
	Outcome verify.Outcome `json:"outcome"`          // with the entry
	Because bool           `json:"because"`          // it would be rejected because of the entry, and of no other one
	Reason  string         `json:"reason,omitempty"` // why it is not accepted

	Replacement bool `json:"replacement,omitempty"` // it is what --replace names, in the repository of an image that was tried
}

// tryEntry says which images an entry would take down.
func (o *scopeOptions) tryEntry(cmd *cobra.Command, args []string, e distrust.Entry) error {
	entry, err := listWith(e)
	if err != nil {
		return usageError("", "%v", err)
	}
	v := verifyOptions{policy: o.policy, now: time.Now(), many: o.many, timeout: time.Minute}
	v.demand.AnySource = o.policy == ""
	opts := verify.Options{}
	if opts.Policy, _, err = v.load(); err != nil {
		return err
	}
	if _, err := loadTrust(&opts); err != nil {
		return err
	}
	// The lists that count already come first: what they reject now is not rejected because of the entry.
	if err := loadLists(cmd.Context(), &opts, v.now, false); err != nil {
		return err
	}
	opts.Distrust.Lists = append(opts.Distrust.Lists, *entry)
	images, cut, err := o.tryImages(cmd, args)
	if err != nil {
		return err
	}
	all := make([]tried, len(images))
	shared := newRepositories(images)
	var workers errgroup.Group
	workers.SetLimit(max(1, min(o.many.parallel, maxParallel)))
	for i, image := range images {
		workers.Go(func() error {
			all[i] = triedOf(v.judge(cmd.Context(), image, opts, shared))
			return nil
		})
	}
	_ = workers.Wait() // each image has its own answer
	if e.Replace != "" {
		for _, image := range replacements(images, all, e.Replace) {
			t := triedOf(v.judge(cmd.Context(), image, opts, newRepositories([]imagelist.Image{image})))
			t.Replacement = true
			all = append(all, t)
		}
	}
	return o.printTried(cmd, all, cut, e.Replace)
}

// replacements returns the image with a digest in each place that has an image which the entry takes down; if
// it takes none down, in each place that was tried.
func replacements(images []imagelist.Image, all []tried, digest string) (out []imagelist.Image) {
	hit := slices.ContainsFunc(all, func(t tried) bool { return t.Because })
	for i, t := range all {
		ref := images[i].Reference
		if hit && !t.Because || ref == (oci.Reference{}) {
			continue
		}
		ref.Tag, ref.Digest = "", digest
		if !slices.ContainsFunc(out, func(x imagelist.Image) bool { return x.Reference == ref }) {
			out = append(out, imagelist.Image{Name: ref.String(), Reference: ref})
		}
	}
	return out
}

// newEntry stands for the issuer of the entry that is tried. No issuer can have this name: it has spaces.
const newEntry = "the new entry"

// listWith returns a list that has one entry and nobody's signature.
func listWith(e distrust.Entry) (*distrust.Known, error) {
	head, lines, err := distrust.Next(nil, "dry run", []distrust.Entry{e}, time.Now(), time.Hour)
	if err != nil {
		return nil, err
	}
	l, err := distrust.Parse(distrust.File(nil, head, []byte("{}"), lines))
	return &distrust.Known{Issuer: distrust.Issuer{Name: newEntry, Wide: true}, List: l}, err
}

// tryImages returns the images that are named, or the newest releases of the platform; cut: it may have more.
func (o *scopeOptions) tryImages(cmd *cobra.Command, args []string) (images []imagelist.Image, cut bool, err error) {
	if len(args) > 0 || o.many.from != "" {
		ts, err := o.many.targets(cmd, args)
		if err != nil {
			return nil, false, err
		}
		return ts.Images, false, nil
	}
	platform, err := platformInUse(cmd.Context())
	if err != nil {
		return nil, false, err
	}
	return releasesOf(cmd.Context(), platform)
}

func releasesOf(ctx context.Context, platform *api.ClientConfig) (images []imagelist.Image, cut bool, err error) {
	runs, err := platform.Runs(ctx, api.RunFilter{State: api.Released, Limit: maxTried})
	if err != nil {
		return nil, false, err
	}
	seen := map[string]bool{}
	for _, run := range runs {
		if run.Result == nil {
			continue
		}
		name := run.Result.Image + "@" + run.Result.Digest
		if ref, err := oci.ParseReference(name); err == nil && !seen[name] {
			seen[name] = true
			images = append(images, imagelist.Image{Name: name, Reference: ref})
		}
	}
	return images, len(runs) >= maxTried, nil
}

func triedOf(v *verify.Verdict) tried {
	t := tried{Image: v.Image, Digest: v.Digest, Outcome: v.Outcome, Reason: v.Why()}
	for _, l := range v.Links {
		t.Because = t.Because || l.Name == verify.LinkDistrust && l.Status == verify.Broken && l.Cause.Authority == newEntry
	}
	return t
}

func (o *scopeOptions) printTried(cmd *cobra.Command, all []tried, cut bool, replace string) error {
	worst, hit, others, images := verify.Accepted, 0, 0, 0
	if cut {
		worst = verify.Undecided
		fmt.Fprintf(cmd.ErrOrStderr(), "only the newest %d releases of the platform were tried; it is not known what the entry does to older ones: name images, or -f FILE\n", maxTried)
	}
	for _, t := range all {
		if t.Replacement {
			continue
		}
		images++
		switch {
		case t.Because:
			hit++
			worst = verify.Rejected
		case t.Outcome != verify.Accepted:
			others++
			if worst == verify.Accepted && t.Outcome == verify.Undecided {
				worst = verify.Undecided
			}
		}
	}
	instead := replaced(all)
	if replace != "" && worst != verify.Rejected && instead != verify.Accepted {
		worst = instead
	}
	if !o.output.text() {
		return exitWith(worst, o.output.print(cmd.OutOrStdout(), all))
	}
	for _, t := range all {
		printTriedImage(cmd.OutOrStdout(), t)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d images would be rejected because of the entry; nothing was added\n", hit, images)
	if others > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d are not accepted without it either\n", others)
	}
	if replace != "" && instead != verify.Accepted {
		fmt.Fprintf(cmd.ErrOrStderr(), "the replacement %s is accepted in none of the repositories that were tried: nobody should be sent to it\n", printable.Text(replace))
	}
	return exitFor(worst)
}

// replaced returns what holds of a replacement: accepted if one repository has it and it would be accepted there.
func replaced(all []tried) verify.Outcome {
	out := verify.Undecided
	for _, t := range all {
		if !t.Replacement {
			continue
		}
		if t.Outcome == verify.Accepted {
			return verify.Accepted
		}
		if t.Outcome == verify.Rejected {
			out = verify.Rejected
		}
	}
	return out
}

func printTriedImage(w io.Writer, t tried) {
	switch {
	case t.Replacement && t.Outcome == verify.Accepted:
		fmt.Fprintf(w, "%s %s\n", paint(w, green, "replacement, accepted"), printable.Text(t.Image))
	case t.Replacement:
		fmt.Fprintf(w, "%s %s\n    %s\n", paint(w, red, "replacement, "+t.Outcome.String()), printable.Text(t.Image), printable.Text(t.Reason))
	case t.Because:
		fmt.Fprintf(w, "%s %s%s\n", paint(w, red, "rejected "), printable.Text(t.Image), paint(w, faint, shortDigest(t.Digest)))
	case t.Outcome != verify.Accepted:
		word := "not known"
		if t.Outcome == verify.Rejected {
			word = "rejected already"
		}
		fmt.Fprintf(w, "%s %s\n    %s\n", paint(w, yellow, word), printable.Text(t.Image), printable.Text(t.Reason))
	}
}
