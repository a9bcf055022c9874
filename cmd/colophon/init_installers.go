package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/pipeline/installers"
	"github.com/colophon-build/colophon/verify"
)

type installersOptions struct {
	output
	demand  verifyOptions // the signer and the source; the rest is not asked for
	release installers.Release
	to      string
	force   bool
	timeout time.Duration
}

func newInitInstallersCommand() *cobra.Command {
	var o installersOptions
	cmd := &cobra.Command{
		Use:   "installers DIRECTORY --from URL",
		Short: "write what verifies release files before they are installed",
		Long: `Init installers verifies a DIRECTORY of release files, as "colophon verify DIRECTORY" does, and
writes what people install them with:

  install.sh              installs the program for the system that it runs on, if it has the
                          digest that the release says (NAME-linux-amd64, NAME_1.2.0_darwin_arm64.tar.gz)
  NAME.rb                 the same for Homebrew
  apt/colophon-verify     a hook of apt, which verifies each package of the repository (.deb)
  dnf/colophon_verify.py  a plugin of dnf 4, which does the same (.rpm)

The first two are about this release alone, and need no other program. The hook and the plugin
ask colophon on the machine whether the signer that you name here signed each package. That is
one of any release, unless --identity ends with a tag.

Files that are there and differ are not overwritten without --force, and then nothing is written.

Exit codes: 0 written, or nothing to do, 3 the release is rejected, 4 undecided, 2 usage error,
1 failure.`,
		Example: `  colophon init installers dist --from https://downloads.example.com/v1.2.0 --key release.pub
  colophon init installers dist --from https://downloads.example.com/v1.2.0 --source github.com/team/app --tag v1.2.0`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return o.run(ctx, cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.release.From, "from", "", "`URL` of the directory where people get the files and their bundles (required)")
	f.StringVar(&o.release.Name, "name", "", "`NAME` of the program, and of the repository of RPM packages (default: as the files are called)")
	f.StringVar(&o.release.Version, "version", "", "`VERSION` of the release (default: that of --tag, or the last part of --from)")
	f.StringVar(&o.demand.demand.Source, "source", "", "repository that the files must come from")
	f.StringVar(&o.demand.tag, "tag", "", "tag that the files must come from")
	f.StringVar(&o.demand.signer.Identity, "identity", "", "identity that must have signed; needs --issuer")
	f.StringVar(&o.demand.signer.Issuer, "issuer", "", "OIDC issuer that must have authenticated --identity")
	f.StringVar(&o.demand.signer.key, "key", "", "`FILE` with the public key (PEM) that must have signed")
	f.BoolVar(&o.demand.source.skip, "skip-source", false, "do not ask the repository whether the commit still exists")
	f.StringVar(&o.to, "to", "installers", "`DIR` to write to, which is created")
	f.BoolVar(&o.force, "force", false, "overwrite files that differ, as those of another release do")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	o.output.flags(cmd)
	cobra.CheckErr(cmd.MarkFlagRequired("from"))
	cmd.MarkFlagsMutuallyExclusive("key", "identity")
	cmd.MarkFlagsMutuallyExclusive("key", "source")
	cmd.MarkFlagsRequiredTogether("identity", "issuer")
	return cmd
}

// installersAnswer is what init installers says, as programs read it.
type installersAnswer struct {
	Written   []string `json:"written"`
	Unchanged []string `json:"unchanged"`
}

func (o *installersOptions) run(ctx context.Context, cmd *cobra.Command, dir string) error {
	if inside(dir, o.to) {
		return usageError("--to DIR beside it", "--to %s is in %s: what is there must be signed", o.to, dir)
	}
	files, err := o.verified(ctx, cmd, dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		o.release.Files = append(o.release.Files, installers.File{Name: f.Name, SHA256: f.Digest.Hex})
	}
	if o.release.Version == "" {
		o.release.Version = versionOf(o.demand.tag, o.release.From)
	}
	s := o.demand.signer
	o.release.Signer = installers.Signer{Identity: s.Identity, Issuer: s.Issuer, Source: o.demand.demand.Source}
	if s.key != "" {
		if o.release.Signer.Key, err = strict.ReadFile(s.key, limits.Request); err != nil {
			return usageError("", "--key: %v", err)
		}
	}
	out, err := installers.Make(o.release)
	if errors.Is(err, installers.ErrRelease) {
		return usageError("see colophon init installers --help", "%s", printable.Line(strings.TrimPrefix(err.Error(), installers.ErrRelease.Error()+": ")))
	} else if err != nil {
		return err
	}
	return o.write(cmd, out)
}

// inside reports whether path is dir or in it.
func inside(dir, path string) bool {
	a, errA := filepath.Abs(dir)
	b, errB := filepath.Abs(path)
	rel, err := filepath.Rel(a, b)
	return errors.Join(errA, errB, err) == nil && filepath.IsLocal(rel)
}

var versionInURL = lazyregexp.New(`^v?[0-9]`)

// versionOf returns the tag, or the last part of the URL if it looks like a version; otherwise "".
func versionOf(tag, from string) string {
	if tag != "" {
		return tag
	}
	if last := path.Base(strings.TrimSuffix(from, "/")); versionInURL.MatchString(last) {
		return last
	}
	return ""
}

// verified verifies the directory, and returns its files with the digests that were verified.
func (o *installersOptions) verified(ctx context.Context, cmd *cobra.Command, dir string) ([]verify.File, error) {
	v := o.demand
	v.now = time.Now()
	var opts verify.Options
	var err error
	if opts.Policy, _, err = v.load(); err != nil {
		return nil, err
	}
	ref, err := oci.ParseReference(dir)
	if err != nil || !isReleaseDir(dir, ref) {
		return nil, usageError("", "%s: expected a directory of release files", dir)
	}
	empty, err := loadTrust(&opts)
	if err != nil {
		return nil, err
	}
	if empty {
		printHint(cmd.ErrOrStderr(), hintTrust)
	}
	if err := v.source.configure(&opts, v.now); err != nil {
		return nil, err
	}
	warnStale(cmd.ErrOrStderr(), opts, v.now)
	if err := loadLists(ctx, &opts, v.now, false); err != nil {
		return nil, err
	}
	d, err := v.readDirectory(ref.Dir)
	if err != nil {
		return nil, err
	}
	for _, f := range append(d.Evidence, d.Files...) {
		defer f.Content.(io.Closer).Close()
	}
	askEachOnce(ctx, &opts)
	verdict := verify.BundledDirectory(ctx, d, nil, v.now, opts)
	if verdict.Outcome != verify.Accepted {
		printVerdict(cmd.ErrOrStderr(), verdict, nil)
		return nil, exitWith(verdict.Outcome, nil)
	}
	return d.Files, nil
}

// write writes the files, or none if one is there that differs.
func (o *installersOptions) write(cmd *cobra.Command, out []installers.Output) error {
	a := installersAnswer{Written: []string{}, Unchanged: []string{}}
	var todo []installers.Output
	var differ []string
	for _, f := range out {
		name := filepath.Join(o.to, filepath.FromSlash(f.Path))
		before, err := strict.ReadFile(name, limits.Request)
		switch {
		case err == nil && bytes.Equal(before, f.Content):
			a.Unchanged = append(a.Unchanged, f.Path)
			continue
		case !errors.Is(err, fs.ErrNotExist) && !o.force:
			differ = append(differ, name)
		}
		todo = append(todo, f)
	}
	if len(differ) > 0 {
		return &exitError{code: exitFailure, msg: "nothing is written: these files are there and differ: " + printable.Line(strings.Join(differ, ", ")), hint: "overwrite them with --force, or write elsewhere with --to DIR"}
	}
	for _, f := range todo {
		name, mode := filepath.Join(o.to, filepath.FromSlash(f.Path)), os.FileMode(0o644)
		if f.Program {
			mode = 0o755
		}
		if err := durable.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(name, f.Content, mode); err != nil {
			return err
		}
		a.Written = append(a.Written, f.Path)
	}
	if !o.output.text() {
		return o.output.print(cmd.OutOrStdout(), a)
	}
	for _, name := range a.Written {
		fmt.Fprintf(cmd.OutOrStdout(), "written    %s\n", printable.Text(filepath.Join(o.to, name)))
	}
	for _, name := range a.Unchanged {
		fmt.Fprintf(cmd.OutOrStdout(), "unchanged  %s\n", printable.Text(filepath.Join(o.to, name)))
	}
	if slices.Contains(a.Written, "install.sh") {
		printHint(cmd.ErrOrStderr(), "read them, and sign install.sh as you signed the release: colophon sign "+printable.Text(filepath.Join(o.to, "install.sh")))
	}
	return nil
}
