package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

type releaseOptions struct {
	ref, image     string
	registry       string
	declare        string // compose or bake file
	tag            string
	recipe         attest.Recipe
	allowedSigners string
	keyring        string
	hermetic       bool
	cacheMounts    bool
	docker         bool
	locked         string
	writeLock      string
	files          bool
	save           string // with files: the directory to save them in
	output         output
	progress       progressOptions
	timeout        time.Duration
}

func newReleaseCommand() *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:        "release [DIR|URL]",
		SuggestFor: []string{"build", "deploy", "publish"},
		Short:      "build an image from a git commit, with signed provenance",
		Long: `Release asks the platform to fetch a commit, build it in isolation, compute the
digest of the result, sign its provenance, and publish the image and its proofs.
The platform pushes the tags last, and only after the proofs verify. Run an
interrupted release again to finish it.

With --hermetic the platform builds twice: it records what the first build
downloads, and gives the second build these downloads and no network. Both
builds must produce the same image. --write-lock writes the list of the
downloads to a lock file; --locked builds from that file later.

With --cache-mounts, what RUN --mount=type=cache leaves is kept for the next release
of the same image, repository, branch and recipe, where the platform allows that. One
build can then change the next one, so such an image gets SLSA Build L2 at most.

The commit says how the image is built: with .colophon.yaml at the top of the
repository or, without that file, with the Dockerfile or main package there. What
--context, --dockerfile, --target, --build-arg, --package and --locked change is your
choice and not that of the commit. Consumers then accept the image only if they name the same.

Without --image, release builds all images that .colophon.yaml of the commit names,
several at once, and goes on if one fails. --image NAME chooses one of them. A name
without a registry is one in --registry.

With --files, the platform builds release files in place of an image: one binary of
the Go main package for each --platform or, with --dockerfile or --target, the files
at the top of the last stage of a Dockerfile or of that target. Release verifies them and saves them in a new
directory, each with its provenance, as "colophon verify DIRECTORY" reads it. The
platform keeps them in its registry, in a repository named for source and package.

DIR is a git repository on the platform's host (default: the current directory).
Release builds the commit, never the working directory, which must be clean
unless --ref is a commit id.`,
		Example: `  colophon release --ref v1.2.0
  colophon release --ref v1.2.0 --image 127.0.0.1:8080/team/app
  colophon release --ref v1.2.0 --image 127.0.0.1:8080/team/web --context services/web
  colophon release --ref v1.2.0 --files --package ./cmd/app --platform linux/amd64,darwin/arm64,windows/amd64 --save dist
  colophon release --ref v1.2.0 --files --dockerfile release/Dockerfile --platform linux/amd64,windows/amd64
  colophon release --declare compose.yaml > .colophon.yaml
  colophon release https://git.example.com/team/app --ref v1.2.0 --image registry.example.com/team/app`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.declare != "" {
				return runDeclare(cmd, o.declare)
			}
			src := "."
			if len(args) > 0 {
				src = args[0]
			}
			return runRelease(cmd, src, o)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *releaseOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.ref, "ref", "", "tag, branch or commit id to release (required)")
	f.StringVar(&o.image, "image", "", "REGISTRY/NAME to publish to, or `NAME` of an image in .colophon.yaml (default: all images there)")
	f.StringVar(&o.registry, "registry", "", "`HOST[/PATH]` to publish images to that are named without a registry (default: the platform's own registry)")
	f.StringVar(&o.tag, "tag", "", "the image's tag, where the git tag or branch is no valid one or not the one you want")
	f.StringSliceVar(&o.recipe.Platforms, "platform", nil, "platforms, such as linux/amd64,linux/arm64 (default: that of the build host)")
	f.StringVar(&o.recipe.Builder, "builder", "", "buildkit or golang (default: buildkit if the repository has a Dockerfile)")
	f.StringVar(&o.recipe.Context, "context", "", "`DIR` of the repository that is the build context (default: all of the repository)")
	f.StringVar(&o.recipe.Dockerfile, "dockerfile", "", "path of the Dockerfile in the repository (default: Dockerfile in the context)")
	f.StringVar(&o.recipe.Target, "target", "", "stage of the Dockerfile to build")
	f.Var((*buildArgs)(&o.recipe.BuildArgs), "build-arg", "build argument `NAME=VALUE`; never a secret, because the provenance records it")
	f.StringVar(&o.recipe.Package, "package", "", "main package that the golang builder builds, a directory of the repository (default: the context)")
	f.StringVar(&o.allowedSigners, "allowed-signers", "", "check the signature of the tag or commit against this ssh allowed_signers file")
	f.StringVar(&o.keyring, "keyring", "", "check the signature of the tag or commit against these armored OpenPGP keys")
	f.BoolVar(&o.hermetic, "hermetic", false, "build a second time without a network, and release only if both images are equal")
	f.BoolVar(&o.cacheMounts, "cache-mounts", false, "keep the cache mounts of the Dockerfile for later releases of the same branch; costs SLSA Build L3")
	f.BoolVar(&o.docker, "docker-attestations", false, "put unsigned SBOMs and provenance in BuildKit's form into the image, for docker buildx and Docker Scout")
	f.StringVar(&o.writeLock, "write-lock", "", "write the list of a hermetic build's downloads to this lock file, for --locked")
	f.StringVar(&o.locked, "locked", "", "use only the downloads listed in this lock file, verified by digest")
	f.BoolVar(&o.files, "files", false, "build release files in place of an image: a Go binary for each platform, or what a stage of a Dockerfile has")
	f.StringVar(&o.save, "save", "dist", "with --files, the `DIR` to save them in, which must be new or have the same release")
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "IMAGE@DIGEST of what was released, and no progress")
	o.progress.flags(cmd)
	f.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	f.StringVar(&o.declare, "declare", "", "release nothing: print the .colophon.yaml for the images that a compose or bake `FILE` builds")
	cmd.MarkFlagsOneRequired("ref", "declare")
	cmd.MarkFlagsMutuallyExclusive("hermetic", "locked", "cache-mounts")
	for _, flag := range []string{"cache-mounts", "docker-attestations", "declare"} {
		cmd.MarkFlagsMutuallyExclusive("files", flag)
	}
}

func runRelease(cmd *cobra.Command, src string, o releaseOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if o.writeLock != "" && !o.hermetic {
		return usageError("add --hermetic", "--write-lock needs --hermetic: only a hermetic release has a lock")
	}
	if err := replaceable("--write-lock", o.writeLock, ""); err != nil {
		return err
	}
	if err := o.checkTemplate(); err != nil {
		return err
	}
	if err := o.checkOne(cmd); err != nil {
		return err
	}
	if err := o.progress.check(cmd.ErrOrStderr()); err != nil {
		return err
	}
	req := api.ReleaseRequest{Ref: o.ref, Tag: o.tag, Recipe: o.recipe, Hermetic: o.hermetic, CacheMounts: o.cacheMounts, DockerAttestations: o.docker}
	var err error
	if req.Source, req.Commit, err = sourceOf(ctx, src, o.ref); err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		to   *string
		keys func(data []byte) source.Signers
	}{
		{o.allowedSigners, &req.AllowedSigners, func(data []byte) source.Signers { return source.Signers{AllowedSigners: data} }},
		{o.keyring, &req.Keyring, func(data []byte) source.Signers { return source.Signers{Keyring: data} }},
		{o.locked, &req.Lock, nil},
	} {
		if f.path == "" {
			continue
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return usageError("", "%s is empty", f.path)
		}
		if f.keys != nil {
			if err := f.keys(data).Check(); err != nil {
				return usageError("", "%v", strict.In(f.path, err))
			}
		}
		*f.to = string(data)
	}
	p := o.progress.start(cmd.ErrOrStderr(), o.output.quiet)
	defer p.close()
	platform, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		platform, err = localPlatform(ctx, p)
	}
	if err != nil {
		return err
	}
	if o.files {
		return runReleaseFiles(ctx, cmd, platform, req, o, p)
	}
	if req.Image = o.image; !attest.HasRegistry(o.image) {
		images, commit, err := o.images(ctx, platform, req, p)
		if err != nil {
			return o.explain(ctx, err)
		}
		req.Commit = commit
		if o.image == "" {
			return runReleaseMany(ctx, cmd, platform, req, images, o, p)
		}
		req.Image = images[0]
	}
	return o.release(ctx, cmd, platform, req, p)
}

// checkTemplate fails if the answer has no member that the template names.
func (o releaseOptions) checkTemplate() error {
	if o.image == "" && !o.files {
		type one struct { // of several: an outcome
			api.Release
			Error *api.Error `json:"error"`
		}
		return o.output.fits([]one{})
	}
	return o.output.fits(api.Release{})
}

// release asks for one release and prints it.
func (o releaseOptions) release(ctx context.Context, cmd *cobra.Command, platform *api.ClientConfig, req api.ReleaseRequest, p progress) error {
	o.recipe, o.cacheMounts = req.Recipe, req.CacheMounts // a retry repeats the request
	if req.Lock != "" && o.locked == "" {
		o.locked = "LOCK-FILE" // a retry knows its content only
	}
	rel, err := o.request(ctx, platform, req, p)
	if err != nil {
		return err
	}
	return o.answer(cmd.OutOrStdout(), rel, func(out io.Writer) { o.printRelease(out, rel) })
}

// request asks for one release, shows its progress, and writes its lock if that was asked for.
func (o releaseOptions) request(ctx context.Context, platform *api.ClientConfig, req api.ReleaseRequest, p progress) (*api.Release, error) {
	rel, err := platform.Release(ctx, req, func(e api.Event) { p.event(req.Image, e) })
	p.ended(req.Image, err != nil)
	p.close()
	if err != nil {
		return nil, o.explain(ctx, err)
	}
	if o.writeLock != "" {
		if err := writeLock(ctx, platform, rel, o.writeLock); err != nil {
			return nil, err
		}
	}
	return rel, nil
}

// answer prints a release in the form that was asked for. text prints it for people.
func (o releaseOptions) answer(out io.Writer, rel *api.Release, text func(io.Writer)) error {
	switch {
	case o.output.quiet:
		fmt.Fprintf(out, "%s@%s\n", rel.Image, rel.Digest)
	case o.output.text():
		text(out)
	default:
		return o.output.print(out, rel)
	}
	return nil
}

// explain returns the error for a request that ended because of ctx, and else err.
func (o releaseOptions) explain(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &exitError{code: exitFailure, msg: fmt.Sprintf("release did not finish within --timeout %s", o.timeout), hint: "run the same command with a longer --timeout"}
	case ctx.Err() != nil:
		return &exitError{code: exitFailure, msg: "interrupted", hint: "run the same command to finish the release"}
	}
	if e, ok := errors.AsType[*api.Error](err); ok && e.Member == "lock" && o.locked != "" {
		named := *e
		named.Message = o.locked + ": " + strings.TrimPrefix(e.Message, "lock: ")
		return &named
	}
	return err
}

// writeLock fetches the lock of a release by its digest and writes it to path.
func writeLock(ctx context.Context, platform *api.ClientConfig, rel *api.Release, path string) error {
	if rel.Lock == "" {
		return &exitError{code: exitFailure, msg: "the release has no lock to write: the golang builder uses go.sum instead"}
	}
	data, err := platform.File(ctx, rel.Lock, limits.Lock)
	if err != nil {
		return fmt.Errorf("the lock of the release: %w", err)
	}
	return durable.WriteFile(path, data, 0o644)
}

// sourceOf turns src, a directory or URL, into the URI that the platform fetches.
// The working directory of a directory must be clean: users assume that they
// release the files they see. commit is what ref leads to in that directory; the
// platform refuses the release if it finds another one. For a URL, commit is
// empty, and the platform resolves ref.
func sourceOf(ctx context.Context, src, ref string) (uri, commit string, err error) {
	info, err := os.Stat(src)
	if err != nil {
		if strings.Contains(src, "://") || strings.Contains(src, "@") {
			return urlOf(src)
		}
		return "", "", &exitError{code: exitUsage, msg: fmt.Sprintf("%s is neither a directory nor a URL", src)}
	}
	if !info.IsDir() {
		return "", "", &exitError{code: exitUsage, msg: fmt.Sprintf("%s is not a directory", src)}
	}
	dir, err := filepath.Abs(src)
	if err != nil {
		return "", "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", "", err
	}
	bare, err := isBare(dir)
	if err != nil {
		return "", "", err
	}
	if source.IsCommitID(ref) {
		return source.FileURI(dir), "", nil
	}
	if !bare {
		err := source.CheckClean(ctx, dir)
		if _, dirty := errors.AsType[*source.DirtyError](err); dirty {
			return "", "", &exitError{code: exitFailure, msg: err.Error(), hint: "commit or stash the changes, or pass a commit id to --ref"}
		} else if err != nil {
			return "", "", err
		}
	}
	return source.FileURI(dir), localCommit(ctx, dir, ref), nil
}

// isBare reports whether dir is a bare repository. It refuses a directory inside a
// repository: a release would build the Dockerfile at the repository's root, not
// the one in that directory.
func isBare(dir string) (bool, error) {
	if exists(dir, ".git") {
		return false, nil
	}
	if exists(dir, "HEAD") && exists(dir, "objects") && exists(dir, "refs") {
		return true, nil
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up); up = filepath.Dir(up) {
		if exists(up, ".git") {
			return false, &exitError{code: exitUsage, msg: fmt.Sprintf("%s is inside the repository %s", dir, up), hint: "release " + up + ", and choose what to build with --context, --dockerfile or --package"}
		}
	}
	return false, &exitError{code: exitUsage, msg: dir + " is not a git repository"}
}

func exists(path ...string) bool {
	_, err := os.Lstat(filepath.Join(path...))
	return err == nil
}

// urlOf checks the URL of a repository. Its errors never repeat a secret in it.
func urlOf(src string) (uri, commit string, err error) {
	if _, err := source.Canonical(src); err != nil {
		return "", "", &exitError{code: exitUsage, msg: err.Error()}
	}
	if u, err := url.Parse(src); err == nil && u.User != nil && (u.Scheme != "ssh" || u.User.String() != u.User.Username()) {
		return "", "", &exitError{code: exitUsage, msg: "the repository URL contains credentials, which would reach the platform and its logs", hint: "use the URL without them; whoever runs the platform gives it the credentials (docs/configuration.md, Credentials)"}
	}
	return src, "", nil
}

// localCommit returns the commit that ref leads to in dir. It is empty if git
// cannot resolve ref; the platform then reports what is wrong with it.
func localCommit(ctx context.Context, dir, ref string) string {
	out, err := gitOutput(ctx, dir, "rev-parse", "--quiet", "--verify", "--end-of-options", ref+"^{commit}")
	if id := strings.TrimSpace(out); err == nil && source.IsCommitID(id) {
		return id
	}
	return ""
}

// gitOutput returns what git prints about the repository in dir.
func gitOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	out, err := cmd.Output()
	return string(out), err
}
