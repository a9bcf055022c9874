package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/pipeline"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

type initOptions struct {
	output
	request pipeline.Request
	dir     string
	root    string // file
	chains  string // file
	dryRun  bool
	force   []string
	resolve resolutionOptions
	timeout time.Duration
}

func newInitCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init " + strings.Join(pipeline.Kinds(), "|"),
		Short: "write a release pipeline of isolated jobs, and the policy for what it releases",
		Long: `Init writes a release pipeline into a repository. For github and gitlab, it has jobs that build the
image from a Dockerfile:

  build, rebuild  run the code of the repository, with no identity (GitLab gives them its job token)
  attest          computes the digest from the bytes that they hand over, and attests them
  sbom            lists what is in the image, with no identity and no secret
  sign            signs, pushes by digest, verifies by the policy, and tags last

For tekton, Tekton Chains in the cluster signs, and a second pipeline tags what the policy accepts.
For colophon, one job asks the platform of this machine (colophon login) for a release, and verifies
it. This works for Go packages, too, and in any other CI by a script.

Actions are pinned to commits and images to digests, and no cache is shared. Beside the pipeline
init writes the policy for CI, gate and cluster, what installs Colophon and, unless they are there,
the recipe (.colophon.yaml) and settings of Dependabot or Renovate. The address of the repository
is that of the remote "origin".

Whoever may push a tag of the repository can change jobs that are in it: the policy demands Build
L2. For L3, one repository on GitHub has the jobs for many (--shared), and the others call them by
the commit (--workflow). On GitLab, what others include is a component, and the level stays L2.

A file that is there and differs is not overwritten, and then nothing is written: --force names
each file to overwrite. The same command again changes nothing.

For files that people download, init installers writes what verifies them before they are installed.

Exit codes: 0 written, or nothing to do, 2 usage error, 1 failure, 3 the tag of an action was moved
or deleted, 4 nobody answered which digest an image has.`,
		Example: `  colophon init github --install v1.2.0@sha256:… --dry-run
  colophon init github --install v1.2.0@sha256:… --image registry.example.com/team/app
  colophon init github --install v1.2.0@sha256:… --shared
  colophon init github --workflow team/pipelines@8f1e…
  colophon init gitlab --install v1.2.0@sha256:…
  colophon init tekton --install v1.2.0@sha256:… --image registry.example.com/team/app --chains-key cosign.pub
  colophon init colophon --install v1.2.0@sha256:… --image registry.example.com/team/app`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			o.request.Kind = args[0]
			return o.run(ctx, cmd)
		},
		ValidArgsFunction: cobra.FixedCompletions(pipeline.Kinds(), cobra.ShellCompDirectiveNoFileComp),
	}
	cmd.AddCommand(newInitInstallersCommand())
	f := cmd.Flags()
	f.StringVar(&o.request.Install, "install", "", "release of Colophon that the jobs install, as `VERSION@sha256:DIGEST` of its SHA256SUMS (required without --workflow)")
	f.StringVar(&o.request.Image, "image", "", "`REGISTRY/NAME` to publish to (default: the registry of the forge or platform, by the name of the repository)")
	f.StringVar(&o.request.Origin, "source", "", "address of the repository (default: the remote \"origin\")")
	f.StringVar(&o.dir, "dir", ".", "`DIR` of the repository")
	f.BoolVar(&o.request.Shared, "shared", false, "write the workflow that other repositories call and an action that installs Colophon (GitHub), or the component that they include (GitLab)")
	f.StringVar(&o.request.Workflow, "workflow", "", "call the shared workflow, or include the component, of `OWNER/REPO@COMMIT` in place of jobs in this repository")
	f.BoolVar(&o.request.Reproducible, "reproducible", false, "a release fails if both builds differ (default: the difference is in the job's log)")
	f.StringVar(&o.request.TUF, "tuf", "", "`URL` of the TUF repository of the platform whose services sign, as in https://colophon.example.com/tuf (default: the public Sigstore instance)")
	f.StringVar(&o.root, "root", "", "`FILE` with the root metadata of --tuf (root.json)")
	f.StringVar(&o.chains, "chains-key", "", "for tekton: `FILE` with the public key of Tekton Chains (cosign.pub)")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would change as a unified diff, and change nothing")
	f.StringArrayVar(&o.force, "force", nil, "overwrite this `FILE` of the repository if it differs; can be repeated")
	o.resolve.flags(f)
	f.DurationVar(&o.timeout, "timeout", time.Minute, "give up after this long")
	o.output.flags(cmd)
	cmd.MarkFlagsRequiredTogether("tuf", "root")
	cmd.MarkFlagsMutuallyExclusive("shared", "workflow")
	cmd.MarkFlagsMutuallyExclusive("shared", "image")
	cmd.MarkFlagsMutuallyExclusive("workflow", "install")
	cmd.MarkFlagsMutuallyExclusive("workflow", "tuf")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "json")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "output")
	return cmd
}

// initAnswer is what colophon init says, as programs read it.
type initAnswer struct {
	Source    string   `json:"source"`
	Image     string   `json:"image,omitempty"` // a shared workflow has none
	Written   []string `json:"written"`
	Unchanged []string `json:"unchanged"` // files that were as they should be, or are up to the repository
}

func (o *initOptions) run(ctx context.Context, cmd *cobra.Command) error {
	if err := o.complete(ctx); err != nil {
		return err
	}
	resolver, keep, err := o.resolve.resolver(cmd)
	if err != nil {
		return err
	}
	o.request.Resolver = resolver
	tree, err := finding.OpenTree(ctx, o.dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	plan, err := pipeline.Make(ctx, tree, o.request)
	switch {
	case errors.Is(err, pipeline.ErrMoved):
		return &exitError{code: exitRejected, msg: printable.Line(err.Error()), hint: "find out who moved or deleted the tag, and why, before you use the action"}
	case errors.Is(err, pipeline.ErrUnanswered):
		return &exitError{code: exitUndecided, msg: printable.Line(err.Error()), hint: "nothing is written; without a network, --resolutions FILE answers"}
	case errors.Is(err, pipeline.ErrRequest):
		return usageError("see colophon init --help", "%s", printable.Line(strings.TrimPrefix(err.Error(), pipeline.ErrRequest.Error()+": ")))
	case err != nil:
		return err
	}
	keep()
	if len(plan.Unconfirmed) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "not asked: whether these tags still point to the pinned commits: "+strings.Join(plan.Unconfirmed, ", "))
	}
	a := initAnswer{Source: plan.Source, Image: plan.Image, Written: []string{}, Unchanged: []string{}}
	var changes []lint.Change
	for _, f := range plan.Files {
		if f.Theirs || f.Before != nil && bytes.Equal(f.Before, f.After) {
			a.Unchanged = append(a.Unchanged, f.Path)
			continue
		}
		changes = append(changes, lint.Change{File: f.Path, Before: f.Before, After: f.After})
	}
	if err := o.checkForce(plan); err != nil {
		return err
	}
	if o.dryRun {
		for _, c := range changes {
			if _, err := cmd.OutOrStdout().Write(c.Diff()); err != nil {
				return err
			}
		}
		return nil
	}
	if err := o.allowed(changes); err != nil {
		return err
	}
	if a.Written, err = writeNew(tree, changes); err != nil {
		return &exitError{code: exitFailure, msg: err.Error(), hint: "these files are written, and others are not: " + printable.Line(strings.Join(a.Written, ", ")) + "; run the same command again"}
	}
	return o.print(cmd, a, plan.Next)
}

// complete finds out what the command line leaves out.
func (o *initOptions) complete(ctx context.Context) error {
	if o.request.Install == "" && o.request.Workflow == "" {
		return usageError("the digest is in SHA256SUMS.sha256 of the release: --install v1.2.0@sha256:…", "--install is required: which release of Colophon may the jobs install?")
	}
	if o.root != "" {
		raw, err := strict.ReadFile(o.root, limits.TrustRoot)
		if err != nil {
			return usageError("", "--root: %v", err)
		}
		o.request.Root = raw
	}
	if o.chains != "" {
		raw, err := strict.ReadFile(o.chains, limits.Request)
		if err != nil {
			return usageError("", "--chains-key: %v", err)
		}
		o.request.Chains = raw
	}
	if o.request.Kind == "colophon" {
		platform, err := api.LoadConfig()
		if err != nil {
			return usageError("colophon login FILE, with the client.json of the platform", "which platform is the pipeline to ask? %v", err)
		}
		o.request.Platform, o.request.Fingerprint = strings.TrimSuffix(platform.URL, "/"), platform.Fingerprint
	}
	if o.request.Origin != "" {
		return nil
	}
	c, err := source.ReadCheckout(ctx, o.dir)
	if err != nil {
		return usageError("git init, git remote add and a first commit; or name it: --source https://HOST/OWNER/REPO", "which repository is this? %v", err)
	}
	if c.Origin == "" {
		return usageError("name it: --source https://HOST/OWNER/REPO", "%s has no remote \"origin\" that says which repository it is", o.dir)
	}
	o.request.Origin = c.Origin
	return nil
}

// checkForce refuses to pass over a name that is no file of the pipeline.
func (o *initOptions) checkForce(p *pipeline.Plan) error {
	for _, name := range o.force {
		if !slices.ContainsFunc(p.Files, func(f pipeline.File) bool { return f.Path == name && !f.Theirs }) {
			return usageError("--dry-run shows what is written", "--force: init does not write %s", printable.Text(name))
		}
	}
	return nil
}

// allowed refuses to overwrite a file that nobody named.
func (o *initOptions) allowed(changes []lint.Change) error {
	var there []string
	for _, c := range changes {
		if c.Before != nil && !slices.Contains(o.force, c.File) {
			there = append(there, c.File)
		}
	}
	if len(there) == 0 {
		return nil
	}
	return &exitError{code: exitFailure, msg: "nothing is written: these files are there and differ: " + printable.Line(strings.Join(there, ", ")),
		hint: "--dry-run shows the difference; overwrite them with --force " + printable.Line(strings.Join(there, " --force "))}
}

// writeNew writes files that are not there, and replaces those that are as they were read. It stops
// at the first that it cannot write.
func writeNew(tree *finding.Tree, changes []lint.Change) ([]string, error) {
	root, written := tree.Root(), []string{}
	for _, c := range changes {
		if c.Before != nil {
			if _, err := lint.Write(tree, []lint.Change{c}); err != nil {
				return written, err
			}
			written = append(written, c.File)
			continue
		}
		if err := root.MkdirAll(path.Dir(c.File), 0o755); err != nil {
			return written, err
		}
		f, err := root.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return written, fmt.Errorf("%s: %w", c.File, lint.ErrChanged)
		} else if err != nil {
			return written, err
		}
		_, err = f.Write(c.After)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return written, errors.Join(err, root.Remove(c.File))
		}
		written = append(written, c.File)
	}
	return written, nil
}

func (o *initOptions) print(cmd *cobra.Command, a initAnswer, next string) error {
	if !o.output.text() {
		return o.output.print(cmd.OutOrStdout(), a)
	}
	out := cmd.OutOrStdout()
	if a.Image == "" {
		fmt.Fprintf(out, "%s has jobs for others\n", printable.Text(a.Source))
	} else {
		fmt.Fprintf(out, "%s releases %s\n", printable.Text(a.Source), printable.Text(a.Image))
	}
	for _, name := range a.Written {
		fmt.Fprintf(out, "  written    %s\n", printable.Text(name))
	}
	for _, name := range a.Unchanged {
		fmt.Fprintf(out, "  unchanged  %s\n", printable.Text(name))
	}
	if len(a.Written) > 0 {
		printHint(cmd.ErrOrStderr(), next)
	}
	return nil
}
