package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func newPolicySignCommand() *cobra.Command {
	var o signOptions
	cmd := &cobra.Command{
		Use:   "sign FILE…",
		Short: "sign policy files",
		Long: `Sign signs policy files as "colophon sign FILE" does, and writes the signature beside each
(FILE.sigstore.json). It refuses files that are no policy. Keep both together: where
"colophon policy trust" names authors, only signed policies are used.

What the same signer has signed already is not signed again. To renew a signature,
remove the one beside the file first.

Exit codes: 0 signed, 2 a file is no policy, or usage error, 1 failure.`,
		Example: `  colophon policy sign policy.yaml --key policies.key
  colophon policy sign deploy/policies/*.yaml --identity-token-from github`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var policies []subject
			for i, file := range args {
				p, err := openPolicyToSign(file)
				if err != nil {
					return err
				}
				if policies = append(policies, p); slices.Contains(args[:i], file) {
					return usageError("", "%s is named twice", file)
				}
			}
			ctx, cancel := withTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return o.sign(ctx, cmd, policies)
		},
	}
	o.signing.flags(cmd)
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "where each signature is")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	return cmd
}

// openPolicyToSign reads a policy file once: what is signed are the bytes that were checked. A name
// that looks like an image's is that of a file here.
func openPolicyToSign(file string) (subject, error) {
	raw, err := strict.ReadFile(file, limits.Request)
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	if _, err := policy.ParseSets(raw); err != nil {
		return nil, usageError("see colophon policy check", "%v", strict.In(file, err))
	}
	sum := sha256.Sum256(raw)
	s := &signedFile{path: file, hash: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, to: file + ".sigstore.json", held: raw}
	return s, s.regular()
}

func newPolicyTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "manage whose signatures on policies count on this machine",
		Long: `Trust manages the authors of policies. Without any, every policy file is used. With one,
all commands that take a policy use only files that an author signed ("colophon policy sign"),
under a trust root on this machine, and refuse all others (exit code 4): "verify", "why", "copy",
"level", "investigate", "distrust add --dry-run", "policy test", "explain" and "diff". The
authors are in the directory of the trust roots.

A signature binds the bytes of a file, and says nothing about which of two files is the
current one. So that nobody brings back an older policy, give authors --max-age, and sign
policies again in time; or withdraw older ones with --since. Both need --identity: a key does
not expire, and anybody gets a new time for an old signature by it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyTrustAddCommand(), newPolicyTrustListCommand(), newPolicyTrustRemoveCommand())
	return cmd
}

func newPolicyTrustAddCommand() *cobra.Command {
	var signer signerOptions
	var maxAge time.Duration
	var since string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "use only policies that this author, or another one, signed",
		Long: `Add adds an author of policies: an identity and its issuer, or a key. NAME is yours; it
replaces an author of the same name.

Exit codes: 0 added, 2 usage error, 1 failure.`,
		Example: `  colophon policy trust add platform --identity ops@example.com --issuer https://accounts.example.com --max-age 720h
  colophon policy trust add platform --key policies.pub`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := policy.Author{Name: args[0], MaxAge: maxAge}
			if since != "" {
				var err error
				if a.Since, err = time.Parse(time.RFC3339, since); err != nil {
					return usageError("", "--since: expected a time such as 2026-11-27T00:00:00Z, found %q", since)
				}
			}
			return addAuthor(cmd, a, signer)
		},
	}
	f := cmd.Flags()
	f.StringVar(&signer.Identity, "identity", "", "identity that signs policies; needs --issuer")
	f.StringVar(&signer.IdentityRegexp, "identity-regexp", "", "regular expression (RE2) that must match the whole identity, in place of --identity")
	f.StringVar(&signer.Issuer, "issuer", "", "OIDC issuer that must have authenticated --identity")
	f.StringVar(&signer.key, "key", "", "`FILE` with the public key (PEM) that signs policies")
	f.StringVar(&signer.Root, "trust-root", "", "`NAME` of the trust root that must have verified the signature")
	f.DurationVar(&maxAge, "max-age", 0, "signatures that are older do not count; not with --key")
	f.StringVar(&since, "since", "", "signatures from before this `TIME` do not count; not with --key")
	cmd.MarkFlagsMutuallyExclusive("key", "identity", "identity-regexp")
	cmd.MarkFlagsMutuallyExclusive("key", "issuer")
	return cmd
}

func addAuthor(cmd *cobra.Command, a policy.Author, o signerOptions) (err error) {
	if a.Signer, err = o.required("policies"); err != nil {
		return err
	}
	authors, err := loadAuthors()
	if err != nil {
		return err
	}
	authors = slices.DeleteFunc(authors, func(b policy.Author) bool { return b.Name == a.Name })
	if err := saveAuthors(append(authors, a)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "policies must be signed now; %s may sign them: %s\n", a.Name, printable.Text(a.Signer.String()))
	return nil
}

// listedAuthor is an author for programs.
type listedAuthor struct {
	Name   string `json:"name"`
	Signer string `json:"signer"`           // in words
	MaxAge string `json:"maxAge,omitempty"` // duration
	Since  string `json:"since,omitempty"`  // UTC
}

func newPolicyTrustListCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the authors of policies",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			authors, err := loadAuthors()
			if err != nil {
				return err
			}
			listed := []listedAuthor{}
			for _, a := range authors {
				l := listedAuthor{Name: a.Name, Signer: a.Signer.String()}
				if a.MaxAge > 0 {
					l.MaxAge = a.MaxAge.String()
				}
				if !a.Since.IsZero() {
					l.Since = trust.FormatTime(a.Since)
				}
				listed = append(listed, l)
			}
			w := cmd.OutOrStdout()
			if !o.text() {
				return o.print(w, listed)
			}
			if len(listed) == 0 {
				fmt.Fprintln(w, "every policy file is used: no author is named")
			}
			for _, l := range listed {
				fmt.Fprintf(w, "%s  %s", printable.Text(l.Name), printable.Text(l.Signer))
				if l.MaxAge != "" {
					fmt.Fprintf(w, ", at most %s ago", l.MaxAge)
				}
				if l.Since != "" {
					fmt.Fprintf(w, ", since %s", l.Since)
				}
				fmt.Fprintln(w)
			}
			return nil
		},
	}
	o.flags(cmd)
	return cmd
}

func newPolicyTrustRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "remove an author of policies; without any, every policy file is used",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			authors, err := loadAuthors()
			if err != nil {
				return err
			}
			left := slices.DeleteFunc(slices.Clone(authors), func(a policy.Author) bool { return a.Name == args[0] })
			if len(left) == len(authors) {
				return &exitError{code: exitFailure, msg: fmt.Sprintf("there is no author %q", args[0]), hint: "colophon policy trust list"}
			}
			if err := saveAuthors(left); err != nil {
				return err
			}
			if len(left) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "every policy file is used now, signed or not")
			}
			return nil
		},
	}
}

// authorsFile returns the file with the authors of policies.
func authorsFile() (string, error) {
	store, err := openTrust()
	return filepath.Join(store.Dir, trust.AuthorsFile), err
}

// loadAuthors returns the authors of policies; none if there is no file.
func loadAuthors() ([]policy.Author, error) {
	file, err := authorsFile()
	if err != nil {
		return nil, err
	}
	raw, err := strict.ReadFile(file, limits.Request)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	authors, err := policy.ParseAuthors(raw)
	if err != nil {
		return nil, strict.In(file, err)
	}
	return authors, nil
}

func saveAuthors(authors []policy.Author) error {
	file, err := authorsFile()
	if err != nil {
		return err
	}
	raw, err := policy.AuthorsFile(authors)
	if err != nil {
		return usageError("", "%v", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(file, append(raw, '\n'), 0o600)
}

// checkAuthor fails unless the content of a policy file may be used on this machine.
func checkAuthor(ctx context.Context, file string, raw []byte, now time.Time) error {
	authors, err := loadAuthors()
	if err != nil || len(authors) == 0 {
		return err
	}
	refused := func(err error) error {
		return &exitError{code: exitUndecided, msg: err.Error(), hint: "colophon policy trust list shows whose policies are used; the author signs with colophon policy sign"}
	}
	if file == stdin {
		return refused(errors.New("policies must be signed here, and standard input has no signature beside it"))
	}
	var bundles [][]byte
	for _, beside := range besideFile(file) {
		found, err := readBundles(beside)
		if err != nil {
			return refused(err)
		}
		if bundles = append(bundles, found...); len(bundles) > maxBundles {
			return refused(fmt.Errorf("%s: more than %d signatures", file, maxBundles))
		}
	}
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return err
	}
	if _, _, err := verify.SignedPolicy(ctx, file, raw, bundles, authors, now, opts.Trust); err != nil {
		return refused(err)
	}
	return nil
}
