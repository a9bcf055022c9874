package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source/recipes"
)

// maxReleases is the number of releases that one command asks for at once. A platform runs
// as many by default, and queues those of other people behind them.
const maxReleases = 8

// oneImage are the flags of release that make sense for one image only.
var oneImage = []string{"builder", "context", "dockerfile", "target", "build-arg", "package", "locked", "write-lock"}

// checkOne refuses these flags if no image is named.
func (o releaseOptions) checkOne(cmd *cobra.Command) error {
	switch {
	case !o.files && cmd.Flags().Changed("save"):
		return usageError("add --files", "--save is for release files")
	case o.files && placeable("--save", o.save) != nil:
		return placeable("--save", o.save)
	case o.image != "" || o.files:
		return nil
	}
	for _, name := range oneImage {
		if cmd.Flags().Changed(name) {
			return usageError("add --image", "--%s is for one image, and without --image all images of the commit are released", name)
		}
	}
	return nil
}

// images returns the full names of the images to release, and the commit that declares
// them: all images, or only that of --image.
func (o releaseOptions) images(ctx context.Context, platform *api.ClientConfig, req api.ReleaseRequest, p progress) (images []string, commit string, err error) {
	registry := o.registry
	if registry == "" {
		u, err := url.Parse(platform.URL)
		if err != nil {
			return nil, "", err
		}
		registry = u.Host
	}
	req.Image, req.Tag, req.Recipe, req.Lock = "", "", attest.Recipe{}, ""
	declared, err := platform.Declared(ctx, req, func(e api.Event) { p.event("", e) })
	if err != nil {
		return nil, "", err
	}
	names := declared.Images
	switch {
	case len(names) == 0 && o.image == "":
		return nil, "", usageError("name the image: --image NAME; or declare its images in "+recipes.File+", which colophon release --declare FILE writes from a compose or bake file", "the commit has no %s, which would name its images", recipes.File)
	case o.image == "" && names[0] == "":
		return nil, "", usageError("name it there, or with --image NAME", "the image in %s of the commit has no name", recipes.File)
	case o.image != "" && len(names) > 0 && names[0] != "" && !slices.Contains(names, o.image):
		return nil, "", usageError("it has "+strings.Join(names, ", "), "%s of the commit has no image %q", recipes.File, o.image)
	}
	chosen := names
	if o.image != "" {
		chosen = []string{o.image}
	}
	for _, name := range chosen {
		full := strings.TrimSuffix(registry, "/") + "/" + name
		if as := declaredAs(full, names); as != "" && as != name {
			return nil, "", usageError("choose another --registry", "%s is the image %q of %s, not %q", full, as, recipes.File, name)
		}
		images = append(images, full)
	}
	return images, declared.Commit, nil
}

// declaredAs returns which of the declared names counts for an image: the longest.
func declaredAs(image string, names []string) (as string) {
	for _, n := range names {
		if (attest.DefaultRecipe{Image: n}).For(image) && len(n) > len(as) {
			as = n
		}
	}
	return as
}

// outcome is the result of one of several releases, as -o json prints it: a release
// (spec/release), or the image and the error.
type outcome struct {
	*api.Release
	failed *failedRelease
}

type failedRelease struct {
	Image string     `json:"image"`
	Error *api.Error `json:"error"`
	code  int
}

// runReleaseMany releases several images of one commit. It goes on when one fails, and the
// exit code is the worst.
func runReleaseMany(ctx context.Context, cmd *cobra.Command, platform *api.ClientConfig, req api.ReleaseRequest, images []string, o releaseOptions, p progress) error {
	p.images(images)
	outcomes := make([]outcome, len(images))
	var workers errgroup.Group
	workers.SetLimit(maxReleases)
	for i, image := range images {
		workers.Go(func() error {
			one := req
			one.Image = image
			rel, err := platform.Release(ctx, one, func(e api.Event) { p.event(image, e) })
			p.ended(image, err != nil)
			outcomes[i] = outcome{Release: rel}
			if err != nil {
				outcomes[i].failed = failureOf(image, o.explain(ctx, err))
			}
			return nil
		})
	}
	workers.Wait()
	p.close()
	worst := exitOK
	for _, done := range outcomes {
		if done.failed != nil {
			worst = max(worst, done.failed.code)
		}
	}
	if err := o.printMany(cmd, outcomes); err != nil {
		return err
	}
	if worst == exitOK {
		return nil
	}
	return &exitError{code: worst, hint: "run the same command again: it finds what is released and does the rest"}
}

// printMany prints what became of each release, in the form that was asked for.
func (o releaseOptions) printMany(cmd *cobra.Command, outcomes []outcome) error {
	out := cmd.OutOrStdout()
	switch {
	case o.output.text():
		o.printOutcomes(out, outcomes)
		return nil
	case o.output.quiet:
		for _, done := range outcomes {
			if f := done.failed; f != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "colophon: %s: %s\n", printable.Text(f.Image), printable.Line(f.Error.Message))
				continue
			}
			fmt.Fprintf(out, "%s@%s\n", done.Image, done.Digest)
		}
		return nil
	}
	var list []any
	for _, done := range outcomes {
		if done.failed != nil {
			list = append(list, done.failed)
		} else {
			list = append(list, done.Release)
		}
	}
	return o.output.print(out, list)
}

// shortName returns an image's name without its registry.
func shortName(image string) string {
	_, name, _ := strings.Cut(image, "/")
	return name
}

func failureOf(image string, err error) *failedRelease {
	if exit, ok := errors.AsType[*exitError](err); ok {
		return &failedRelease{image, &api.Error{Message: exit.msg, Hint: exit.hint}, exit.code}
	}
	if known, ok := errors.AsType[*api.Error](err); ok {
		return &failedRelease{image, known, platformExit(known).code}
	}
	return &failedRelease{image, &api.Error{Message: err.Error()}, exitFailure}
}

// printOutcomes prints one summary of all releases.
func (o releaseOptions) printOutcomes(w io.Writer, outcomes []outcome) {
	released, old := 0, 0
	line := func(format string, args ...any) {
		fmt.Fprintf(w, "  %s\n", printable.Text(fmt.Sprintf(format, args...)))
	}
	for _, done := range outcomes {
		switch {
		case done.failed != nil:
		case done.Unchanged:
			old++
		default:
			released++
		}
	}
	switch {
	case old == len(outcomes):
		fmt.Fprintf(w, "nothing to do: all %d images were released before\n", old)
	case old > 0:
		fmt.Fprintf(w, "released %d of %d images; released before: %d\n", released, len(outcomes), old)
	default:
		fmt.Fprintf(w, "released %d of %d images\n", released, len(outcomes))
	}
	for _, done := range outcomes {
		if done.failed == nil {
			line("%s@%s", done.Image, done.Digest)
			line("  %s:%s, %s", done.Image, done.Tags[0], o.level(done.Release))
		}
	}
	for _, done := range outcomes {
		if f := done.failed; f != nil {
			line("%s: not released", f.Image)
			for text := range strings.Lines(f.Error.Message) {
				line("  %s", strings.TrimSuffix(text, "\n"))
			}
			if f.Error.Hint != "" {
				line("  hint: %s", f.Error.Hint)
			}
		}
	}
	for _, done := range outcomes {
		if done.failed == nil {
			fmt.Fprintf(w, "\nverify each like this:\n")
			line("%s", o.verifyCommand(done.Release))
			break
		}
	}
}
