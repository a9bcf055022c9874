package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

type releaseOptions struct {
	ref, image     string
	recipe         attest.Recipe
	allowedSigners string
	keyring        string
	hermetic       bool
	locked         string
	writeLock      string
	json           bool
	timeout        time.Duration
}

func newReleaseCommand() *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:   "release [DIR|URL]",
		Short: "turn a git commit into an image that proves itself",
		Long: `Release asks the platform to fetch a commit by itself, build it in a sealed room,
measure the result, sign it, and publish image and proof. The tags appear last,
and only when the proof verifies. Running the same release again finishes what
an interrupted one began.

With --hermetic it builds twice: the first build is recorded, and the second
gets what the first fetched and no network. Both must give the same image.
--write-lock keeps the list of what was fetched; --locked builds from it later.

DIR is a git repository on the platform's host (default: here); its working
directory is never built, and must be clean unless --ref is a commit id.`,
		Example: `  colophon release --ref v1.2.0 --image 127.0.0.1:8080/team/app
  colophon release https://git.example.com/team/app --ref v1.2.0 --image registry.example.com/team/app`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src := "."
			if len(args) > 0 {
				src = args[0]
			}
			return runRelease(cmd, src, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.ref, "ref", "", "tag, branch or commit id to release (required)")
	f.StringVar(&o.image, "image", "", "REGISTRY/NAME to publish to (required)")
	f.StringSliceVar(&o.recipe.Platforms, "platform", nil, "platforms, such as linux/amd64,linux/arm64 (default: the platform's own)")
	f.StringVar(&o.recipe.Builder, "builder", "", "buildkit or golang (default: buildkit where there is a Dockerfile)")
	f.StringVar(&o.recipe.Dockerfile, "dockerfile", "", "path of the Dockerfile in the repository")
	f.StringVar(&o.recipe.Target, "target", "", "stage of the Dockerfile to build")
	f.Func("build-arg", "build argument `NAME=VALUE`; recorded in the provenance, so never a secret", o.buildArg)
	f.StringVar(&o.recipe.Package, "package", "", "main package for the golang builder (default .)")
	f.StringVar(&o.allowedSigners, "allowed-signers", "", "ssh allowed_signers file to check who signed the tag or commit")
	f.StringVar(&o.keyring, "keyring", "", "armored OpenPGP keys to check who signed the tag or commit")
	f.BoolVar(&o.hermetic, "hermetic", false, "release only what a second build, without a network, gives again")
	f.StringVar(&o.writeLock, "write-lock", "", "write what a hermetic build fetched to this file, for --locked")
	f.StringVar(&o.locked, "locked", "", "build from this lock: nothing else can be fetched, and nothing else than its bytes")
	f.BoolVar(&o.json, "json", false, "print the release as JSON on stdout")
	f.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	cmd.MarkFlagRequired("ref")
	cmd.MarkFlagRequired("image")
	cmd.MarkFlagsMutuallyExclusive("hermetic", "locked")
	return cmd
}

// buildArg takes one --build-arg. The value may hold anything, commas too.
func (o *releaseOptions) buildArg(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || name == "" {
		return fmt.Errorf("got %q, want NAME=VALUE", arg)
	}
	if _, twice := o.recipe.BuildArgs[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if o.recipe.BuildArgs == nil {
		o.recipe.BuildArgs = map[string]string{}
	}
	o.recipe.BuildArgs[name] = value
	return nil
}

func runRelease(cmd *cobra.Command, src string, o releaseOptions) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if o.writeLock != "" && !o.hermetic {
		return usageError("add --hermetic", "--write-lock writes the lock of a hermetic release")
	}
	req := api.ReleaseRequest{Ref: o.ref, Image: o.image, Recipe: o.recipe, Hermetic: o.hermetic}
	var err error
	if req.Source, req.Commit, err = sourceOf(ctx, src, o.ref); err != nil {
		return err
	}
	for path, to := range map[string]*string{o.allowedSigners: &req.AllowedSigners, o.keyring: &req.Keyring, o.locked: &req.Lock} {
		if path == "" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return usageError("", "%s is empty", path)
		}
		*to = string(data)
	}
	platform, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		platform, err = ownPlatform(ctx, cmd.ErrOrStderr())
	}
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	rel, err := platform.Release(ctx, req, p.event)
	if err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return &exitError{code: exitFailure, msg: fmt.Sprintf("release did not finish within %s", o.timeout), hint: "run it again, with a longer --timeout"}
		}
		if ctx.Err() != nil {
			return &exitError{code: exitFailure, msg: "interrupted", hint: "the same command finishes what was begun"}
		}
		return err
	}
	p.summary(rel)
	if o.writeLock != "" {
		if err := writeLock(ctx, platform, rel, o.writeLock); err != nil {
			return err
		}
	}
	if o.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(rel)
	}
	return nil
}

// writeLock keeps the lock of a release, as the platform says its digest is.
func writeLock(ctx context.Context, platform *api.ClientConfig, rel *api.Release, path string) error {
	if rel.Lock == "" {
		return &exitError{code: exitFailure, msg: "the release has no lock to write: the golang builder's is go.sum"}
	}
	data, err := platform.File(ctx, rel.Lock, limits.Lock)
	if err != nil {
		return fmt.Errorf("the lock of the release: %w", err)
	}
	return durable.WriteFile(path, data, 0o644)
}

// sourceOf turns DIR into a file URL after seeing that its working directory
// is clean: what a user sees there is what they believe they release. The
// platform then finds the commit that ref is here and now, or refuses; of a URL
// it finds out by itself, and commit is empty.
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
			return "", "", &exitError{code: exitFailure, msg: err.Error(), hint: "commit or stash the changes, or release a commit by its id"}
		} else if err != nil {
			return "", "", err
		}
	}
	return source.FileURI(dir), commitHere(ctx, dir, ref), nil
}

// isBare tells a repository without a working directory from one with. A
// directory inside of one is refused: its Dockerfile is not the one that a
// release of the repository would build.
func isBare(dir string) (bool, error) {
	exists := func(path ...string) bool {
		_, err := os.Lstat(filepath.Join(path...))
		return err == nil
	}
	if exists(dir, ".git") {
		return false, nil
	}
	if exists(dir, "HEAD") && exists(dir, "objects") && exists(dir, "refs") {
		return true, nil
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up); up = filepath.Dir(up) {
		if exists(up, ".git") {
			return false, &exitError{code: exitUsage, msg: fmt.Sprintf("%s is inside the repository %s", dir, up), hint: "release " + up + "; --dockerfile or --package names what to build in it"}
		}
	}
	return false, &exitError{code: exitUsage, msg: dir + " is not a git repository"}
}

// urlOf never repeats an address that carries a secret.
func urlOf(src string) (uri, commit string, err error) {
	if _, err := source.Canonical(src); err != nil {
		return "", "", &exitError{code: exitUsage, msg: err.Error()}
	}
	if u, err := url.Parse(src); err == nil && u.User != nil && (u.Scheme != "ssh" || u.User.String() != u.User.Username()) {
		return "", "", &exitError{code: exitUsage, msg: "the repository address carries credentials, which would travel to the platform and into logs", hint: "give the platform's user an ssh key, or use a public address"}
	}
	return src, "", nil
}

// commitHere is what ref leads to in dir, or empty where git has no answer: the
// platform then says what is wrong with ref.
func commitHere(ctx context.Context, dir, ref string) string {
	cmd := exec.CommandContext(ctx, "git", "-C", dir, "rev-parse", "--quiet", "--verify", "--end-of-options", ref+"^{commit}")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	out, err := cmd.Output()
	if id := strings.TrimSpace(string(out)); err == nil && source.IsCommitID(id) {
		return id
	}
	return ""
}
