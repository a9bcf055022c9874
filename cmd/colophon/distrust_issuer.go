package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
)

func newDistrustIssuerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "issuer",
		Short: "manage whose lists count on this machine, and for what",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIssuerAddCommand(), newIssuerListCommand(), newIssuerRemoveCommand())
	return cmd
}

func newIssuerAddCommand() *cobra.Command {
	var signer signerOptions
	var only, sources []string
	var wide bool
	cmd := &cobra.Command{
		Use:   "add NAME URL|FILE",
		Short: "let the list of this issuer count",
		Long: `Add lets a list count that is at a URL (https) or in a FILE, and that the signer named signs.
From then on, every verdict on this machine reads the list, and an image is undecided if
the list cannot be read, has expired, was rolled back or forked. NAME is yours; it replaces
an issuer of the same name.

An issuer counts for everything, or only for the kinds of entries in --only, and for images
built from the repositories in --for-source. Entries about an unlimited number of images
(all versions of a package, all that a builder ever built) count only with --wide.

Exit codes: 0 added, 2 usage error, 1 failure.`,
		Example: `  colophon distrust issuer add shop https://colophon.example.com/distrust --key distrust.pub --insecure-no-log
  colophon distrust issuer add vendor https://vendor.example/distrust.list --identity security@vendor.example --issuer https://accounts.vendor.example --for-source git.vendor.example/ --only commit,package`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			i := distrust.Issuer{Name: args[0], From: args[1], Wide: wide}
			for _, k := range only {
				i.Only = append(i.Only, distrust.Kind(k))
			}
			for _, s := range sources {
				canonical, err := source.Canonical(s)
				if err != nil {
					return usageError("", "--for-source: %v", err)
				}
				if strings.HasSuffix(s, "/") {
					canonical = strings.TrimSuffix(canonical, "/") + "/"
				}
				i.Sources = append(i.Sources, canonical)
			}
			return addIssuer(cmd, i, signer)
		},
	}
	f := cmd.Flags()
	f.StringVar(&signer.Identity, "identity", "", "identity that signs the list; needs --issuer")
	f.StringVar(&signer.Issuer, "issuer", "", "OIDC issuer that must have authenticated --identity")
	f.StringVar(&signer.key, "key", "", "`FILE` with the public key (PEM) that signs the list")
	f.BoolVar(&signer.InsecureNoLog, "insecure-no-log", false, "with --key: the signature is in no transparency log, as that of a platform's list, which is signed again every few minutes")
	f.StringVar(&signer.Root, "trust-root", "", "`NAME` of the trust root that must have verified the signature")
	f.StringSliceVar(&only, "only", nil, "kinds of entries that count: "+strings.Join(kindNames(), ", "))
	f.StringSliceVar(&sources, "for-source", nil, "the entries count only for images built from this `REPOSITORY`; with a / at the end, from those below it")
	f.BoolVar(&wide, "wide", false, "entries about an unlimited number of images count")
	cmd.MarkFlagsMutuallyExclusive("key", "identity")
	cmd.MarkFlagsMutuallyExclusive("key", "issuer")
	return cmd
}

func kindNames() (names []string) {
	for _, k := range distrust.Kinds() {
		names = append(names, string(k))
	}
	return names
}

func addIssuer(cmd *cobra.Command, i distrust.Issuer, o signerOptions) (err error) {
	if i.Signer, err = o.required("the list"); err != nil {
		return err
	}
	if !strings.Contains(i.From, "://") {
		if i.From, err = filepath.Abs(i.From); err != nil {
			return err
		}
	}
	issuers, _, err := loadIssuers()
	if err != nil {
		return err
	}
	issuers = slices.DeleteFunc(issuers, func(other distrust.Issuer) bool { return other.Name == i.Name })
	if err := saveIssuers(append(issuers, i)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the list at %s counts now, signed by %s\n", printable.Text(i.From), printable.Text(signerText(i.Signer)))
	return nil
}

// signerText returns who signs a list, for people.
func signerText(s policy.Signer) string {
	key, ok := s.(policy.Key)
	if !ok {
		return s.String()
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "a key"
	}
	sum := sha256.Sum256(der)
	return "the key sha256:" + hex.EncodeToString(sum[:])
}

// printNoIssuer says that no list counts here, and how one does.
func printNoIssuer(cmd *cobra.Command) {
	fmt.Fprintln(cmd.OutOrStdout(), "no list counts: no issuer is named")
	printHint(cmd.ErrOrStderr(), "colophon distrust issuer add NAME URL/distrust --key FILE --insecure-no-log names a platform, whose key is at URL/distrust/key")
}

// listedIssuer is an issuer for programs.
type listedIssuer struct {
	Name    string          `json:"name"`
	From    string          `json:"from"`
	Signer  string          `json:"signer"` // in words
	Only    []distrust.Kind `json:"only,omitempty"`
	Sources []string        `json:"sources,omitempty"`
	Wide    bool            `json:"wide,omitempty"`
}

func newIssuerListCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the issuers whose lists count on this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			issuers, _, err := loadIssuers()
			if err != nil {
				return err
			}
			listed := []listedIssuer{}
			for _, i := range issuers {
				listed = append(listed, listedIssuer{i.Name, i.From, signerText(i.Signer), i.Only, i.Sources, i.Wide})
			}
			w := cmd.OutOrStdout()
			if !o.text() {
				return o.print(w, listed)
			}
			if len(listed) == 0 {
				printNoIssuer(cmd)
			}
			for _, l := range listed {
				line := l.Name + "  " + l.From + "  " + l.Signer
				if len(l.Only) > 0 {
					line += fmt.Sprintf(", only %s", l.Only)
				}
				if len(l.Sources) > 0 {
					line += ", for " + strings.Join(l.Sources, " ")
				}
				if l.Wide {
					line += ", also wide entries"
				}
				fmt.Fprintln(w, printable.Text(line))
			}
			return nil
		},
	}
	o.flags(cmd)
	return cmd
}

func newIssuerRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "let the list of an issuer count no more, and forget it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			issuers, dir, err := loadIssuers()
			if err != nil {
				return err
			}
			left := slices.DeleteFunc(slices.Clone(issuers), func(i distrust.Issuer) bool { return i.Name == args[0] })
			if len(left) == len(issuers) {
				return &exitError{code: exitFailure, msg: fmt.Sprintf("there is no issuer %q", args[0]), hint: "colophon distrust issuer list"}
			}
			if err := saveIssuers(left); err != nil {
				return err
			}
			if err := os.Remove(follow.File(dir, args[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "what %s no longer trusts counts no more on this machine\n", printable.Text(args[0]))
			return nil
		},
	}
}
