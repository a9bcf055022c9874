package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom/scan"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/source"
)

// issueOptions say whose list gets an entry, and who signs it.
type issueOptions struct {
	list     string // file; empty: the list of the platform
	name     string // of a new list
	life     time.Duration
	unlogged bool
	newKey   bool
	signing  signingOptions
	timeout  time.Duration
}

func (o *issueOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.list, "list", "", "`FILE` with a list of your own, which is signed again, in place of the list of the platform")
	f.StringVar(&o.name, "list-name", "", "with --list, if there is no such file yet: `NAME` of the list, best the URL at which it will be; it never changes")
	f.DurationVar(&o.life, "expires-in", 24*time.Hour, "with --list: how long the signature counts; renew it before")
	f.BoolVar(&o.unlogged, "unlogged", false, "with --list and --key: sign without a log entry and a timestamp; readers name the key with --insecure-no-log")
	f.BoolVar(&o.newKey, "new-key", false, "dangerous: with --unlogged: sign all of a list that another key has signed before")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	o.signing.flags(cmd)
}

// scopeOptions are the flags that say what is no longer trusted.
type scopeOptions struct {
	scope       distrust.Scope
	from, until string
	reason      string
	replace     string
	vex, vexURL string
	dryRun      bool

	// Of a dry run.
	policy string
	many   manyOptions
	output output
}

func (o *scopeOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.scope.Commit, "commit", "", "full `ID` of a git commit; with --source, only of this repository")
	f.StringVar(&o.scope.Source, "source", "", "`REPOSITORY`: all of its commits, or --commit")
	f.StringVar(&o.scope.Builder, "builder", "", "`ID` of a builder; needs --from or --until, or --wide")
	f.StringVar(&o.scope.Identity, "identity", "", "subject of signers' certificates; needs --issuer")
	f.StringVar(&o.scope.Issuer, "issuer", "", "OIDC issuer that vouched for --identity")
	f.StringVar(&o.scope.Key, "key-digest", "", "digest of a public key (sha256:HEX of its DER), or `FILE` with the key (PEM)")
	f.StringVar(&o.scope.Base, "base", "", "base `IMAGE`: NAME:TAG, NAME@sha256:HEX or sha256:HEX")
	f.StringVar(&o.scope.Package, "package", "", "`PACKAGE` in SBOMs: NAME@VERSION or a package URL")
	f.StringVar(&o.scope.Digest, "digest", "", "`DIGEST` of an image or file, sha256:HEX")
	f.StringVar(&o.scope.Fetched, "fetched", "", "`URL` that builds fetched, or sha256:HEX of what they got")
	f.StringVar(&o.from, "from", "", "only what is not proven to be signed before this `TIME`")
	f.StringVar(&o.until, "until", "", "only what is not proven to be signed after this `TIME`")
	f.BoolVar(&o.scope.Wide, "wide", false, "dangerous: the entry is about an unlimited number of images, as all versions of a package")
	f.StringVar(&o.reason, "reason", "", "why, one line for people; required")
	f.StringVar(&o.replace, "replace", "", "`DIGEST` of the image to use in place of those in the scope")
	f.StringVar(&o.vex, "vex", "", "`FILE` (OpenVEX, CSAF or CycloneDX VEX) that says more; its digest becomes part of the entry")
	f.StringVar(&o.vexURL, "vex-url", "", "with --vex: `URL` (https) at which readers find the file")
}

// entry returns the entry that the flags describe.
func (o *scopeOptions) entry(now time.Time) (e distrust.Entry, err error) {
	s := o.scope
	if s.Source != "" {
		if s.Source, err = source.Canonical(s.Source); err != nil {
			return e, usageError("", "--source: %v", err)
		}
	}
	if s.Key != "" && !strings.HasPrefix(s.Key, "sha256:") {
		if s.Key, err = keyDigest(s.Key); err != nil {
			return e, err
		}
	}
	if s.From, err = flagTime("--from", o.from); err != nil {
		return e, err
	}
	if s.Until, err = flagTime("--until", o.until); err != nil {
		return e, err
	}
	e = distrust.Entry{Time: now.UTC().Truncate(time.Second), Scope: &s, Reason: o.reason, Replace: o.replace}
	if o.vex != "" {
		raw, err := strict.ReadFile(o.vex, limits.Statement)
		if err != nil {
			return e, usageError("", "%v", err)
		}
		d, err := scan.Read(raw)
		if err == nil && !d.VEX() {
			err = fmt.Errorf("got the format %s, want openvex, csaf or cyclonedx", d.Format)
		}
		if err != nil {
			return e, usageError("", "--vex: %s: %v", o.vex, err)
		}
		e.VEX = &distrust.VEX{Format: string(d.Format), Digest: digestOfBytes(raw), URL: o.vexURL}
	}
	if err := e.Check(); err != nil {
		return e, usageError("colophon distrust add --help", "%v", err)
	}
	return e, nil
}

// keyDigest returns the digest of the public key in a file.
func keyDigest(file string) (string, error) {
	raw, err := strict.ReadFile(file, limits.Request)
	if err != nil {
		return "", usageError("", "--key-digest: expected sha256:HEX or a file: %v", err)
	}
	key, err := policy.ParseKey(string(raw))
	if err != nil {
		return "", usageError("", "--key-digest: %s: %v", file, err)
	}
	return digestOfKey(key.Public())
}

// flagTime parses a time of a flag; nil if it is empty.
func flagTime(flag, value string) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, value); err == nil {
			return new(t.UTC().Truncate(time.Second)), nil
		}
	}
	return nil, usageError("", "%s: expected a time such as 2026-11-27T12:00:00Z, found %q", flag, value)
}

func newDistrustAddCommand() *cobra.Command {
	var o issueOptions
	var s scopeOptions
	cmd := &cobra.Command{
		Use:   "add --commit|--source|--builder|--identity|--key-digest|--base|--package|--digest|--fetched VALUE --reason TEXT",
		Short: "say that something is no longer trusted",
		Long: `Add adds an entry to the list of the platform that you are logged in to (its admin.json), or
with --list to a list of your own, which it signs again.

An entry is about exactly what its flags say: there are no patterns, and one commit takes
nothing else down with it. --from and --until limit it to what was signed in that time; what
cannot be proven to be signed outside of it is within it. What is about an unlimited number of
images is refused without --wide.

With --dry-run, nothing is added: it verifies the images named (arguments, or -f with a list or
the output of kubectl) under --policy, or if none are named the newest 1,000 releases of the
platform, and says which of them would be rejected. Those that a list of this machine's issuers
rejects now are not counted. The image of --replace is looked for in the repositories of the images
that would be rejected, and must be accepted in one of them, with the entry.

Exit codes: 0 added, or no image would be rejected; 3 with --dry-run: some would be, or the
replacement; 4 with --dry-run: of some, or of the replacement, it is not known, or the platform may
have more releases; 2 usage error, 1 failure.`,
		Example: `  colophon distrust add --commit 381e42a0c0ffee00c0ffee00c0ffee00c0ffee00 --reason "pushed with a stolen token"
  colophon distrust add --builder https://ci.example.com/builders/buildkit/v1 --from 2026-11-20 --until 2026-11-26 --reason "its host was taken" --replace sha256:…
  kubectl get pods -A -o json | colophon distrust add --package log4j-core@2.14.1 --reason CVE-2021-44228 --dry-run -f -
  colophon distrust add --digest sha256:… --reason "built by hand" --list distrust.list --list-name https://example.com/distrust.list --key distrust.key --unlogged`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := s.entry(time.Now())
			switch {
			case err != nil:
				return err
			case s.dryRun:
				return s.tryEntry(cmd, args, e)
			case len(args) > 0 || s.many.from != "":
				return usageError("", "images are for --dry-run")
			}
			return o.issue(cmd, e)
		},
	}
	o.flags(cmd)
	s.flags(cmd.Flags())
	s.tryFlags(cmd)
	kinds := []string{"builder", "identity", "key-digest", "base", "package", "digest", "fetched"}
	cmd.MarkFlagsOneRequired(append([]string{"commit", "source"}, kinds...)...)
	cmd.MarkFlagsMutuallyExclusive(append([]string{"commit"}, kinds...)...)
	cmd.MarkFlagsMutuallyExclusive(append([]string{"source"}, kinds...)...)
	_ = cmd.MarkFlagRequired("reason") // fails only for a flag that does not exist
	return cmd
}

func newDistrustLiftCommand() *cobra.Command {
	var o issueOptions
	var reason string
	cmd := &cobra.Command{
		Use:   "lift NUMBER --reason TEXT",
		Short: "let an entry count no more",
		Long: `Lift adds an entry that lifts an earlier one of the same list. The earlier one stays in the
list. Whoever may add an entry may lift one: an account that may administer the platform, or
with --list the holder of the key.`,
		Example: `  colophon distrust lift 12 --reason "it was another commit"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 {
				return usageError("colophon distrust list", "NUMBER: expected a number from 0, found %q", args[0])
			}
			e := distrust.Entry{Number: n + 1, Time: time.Now().UTC().Truncate(time.Second), Lift: &n, Reason: reason}
			if err := e.Check(); err != nil {
				return usageError("", "%v", err)
			}
			e.Number = 0 // the list gives it
			return o.issue(cmd, e)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, one line for people; required")
	_ = cmd.MarkFlagRequired("reason") // fails only for a flag that does not exist
	return cmd
}

func newDistrustRenewCommand() *cobra.Command {
	var o issueOptions
	cmd := &cobra.Command{
		Use:   "renew --list FILE",
		Short: "sign a list of your own again, before it expires",
		Long: `Renew signs a list again, without a new entry. A platform renews its own list every few
minutes.`,
		Example: `  colophon distrust renew --list distrust.list --key distrust.key --unlogged --expires-in 1h`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.list == "" {
				return usageError("", "renew is for a list of your own: --list FILE")
			}
			return o.issue(cmd)
		},
	}
	o.flags(cmd)
	return cmd
}

// issue adds entries to the list, and signs it.
func (o *issueOptions) issue(cmd *cobra.Command, more ...distrust.Entry) error {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if o.list == "" {
		return o.onPlatform(ctx, cmd, more)
	}
	// Of two commands at once, one would lose the entry of the other.
	lock, err := dirlock.TakeFile(o.list + ".lock")
	if err != nil {
		return fmt.Errorf("the list: %w", err)
	}
	defer lock.Release()
	raw, err := strict.ReadFile(o.list, distrust.MaxList)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usageError("", "%v", err)
	}
	var before *distrust.List
	switch {
	case err == nil:
		if before, err = distrust.Parse(raw); err != nil {
			return fmt.Errorf("%s: %w", o.list, err)
		}
		if o.name != "" && o.name != before.List {
			return usageError("leave out --list-name", "--list-name: %s is the list %q", o.list, before.List)
		}
	case o.name == "":
		return usageError("--list-name NAME makes a new list", "%s does not exist", o.list)
	}
	now := time.Now()
	head, lines, err := distrust.Next(before, o.name, more, now, o.life)
	if err != nil {
		return usageError("colophon distrust list ./FILE --all", "%v", err)
	}
	signature, err := o.sign(ctx, cmd, head, before)
	if err != nil {
		return err
	}
	next := distrust.File(raw, head, signature, lines)
	l, err := distrust.Parse(next)
	if err != nil {
		return err
	}
	if err := replaceable("--list", o.list, ""); err != nil {
		return err
	}
	if err := durable.WriteFile(o.list, next, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s has %d entries and counts until %s\n", printable.Text(o.list), l.Entries, l.Expires.Format(time.RFC3339))
	return nil
}

// sign signs the head of a list of one's own. before is the list as it was, or nil: whoever can write the file must
// not get entries of theirs signed.
func (o *issueOptions) sign(ctx context.Context, cmd *cobra.Command, head []byte, before *distrust.List) ([]byte, error) {
	if o.unlogged {
		if o.signing.key == "" {
			return nil, usageError("", "--unlogged needs --key: a certificate counts for minutes, and only a timestamp shows when it signed")
		}
		noCoreDump()
		key, err := o.signing.openKey(ctx, cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return nil, err
		}
		if before != nil && !o.newKey {
			was, signature := before.Signed()
			if err := sign.CheckUnlogged(key.Public(), was, signature); err != nil {
				return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%s is not signed by this key (%v): somebody may have changed it", o.list, err), hint: "restore the list that you signed last; --new-key signs it if only the key has changed"}
			}
		}
		return sign.Unlogged(key, head)
	}
	open, err := o.signing.signer(ctx, cmd.InOrStdin(), cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	where, err := o.signing.find(ctx)
	if err != nil {
		return nil, err
	}
	session, err := open(ctx, where)
	if err != nil {
		return nil, err
	}
	return session.Artifact(ctx, bytes.NewReader(head))
}

// onPlatform adds entries to the list of the platform.
func (o *issueOptions) onPlatform(ctx context.Context, cmd *cobra.Command, more []distrust.Entry) error {
	platform, err := platformInUse(ctx)
	if err != nil {
		return err
	}
	for _, e := range more {
		added, err := platform.AddDistrust(ctx, e)
		if err != nil {
			return err
		}
		what := ""
		if added.Lift != nil {
			what = fmt.Sprintf(", which lifts entry %d,", *added.Lift)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "entry %d%s is in the list of %s: it counts for whoever follows that list\n", added.Number, what, printable.Text(platform.URL))
	}
	printFollow(cmd.ErrOrStderr(), platform.URL)
	return nil
}

// printFollow prints how to follow the list of a platform, unless this machine does: an entry counts for
// nothing here until then.
func printFollow(w io.Writer, platform string) {
	list := strings.TrimRight(platform, "/") + api.PathDistrust
	issuers, _, err := loadIssuers()
	if err != nil || slices.ContainsFunc(issuers, func(i distrust.Issuer) bool { return strings.TrimRight(i.From, "/") == list }) {
		return
	}
	key := printable.ShellWord(list + "/key")
	printHint(w, "this machine does not follow "+list+"; to do so: curl -sf "+key+" > distrust.pub && colophon distrust issuer add platform "+printable.ShellWord(list)+" --key distrust.pub --insecure-no-log")
}
