package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "manage the trust roots on this machine",
		Long: `Trust manages the trust roots that verify uses. Each is pinned by the fingerprint
of its bytes. They are stored in the directory COLOPHON_TRUST, or if that is not
set, in colophon/trust in the user's configuration directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTrustAddCommand(), newTrustListCommand(), newTrustShowCommand(), newTrustRefreshCommand(), newTrustRemoveCommand())
	return cmd
}

type trustAddOptions struct {
	yes          bool
	fingerprints []string
	root         string // root metadata of a TUF repository
	issuers      []string
	timeout      time.Duration
}

func newTrustAddCommand() *cobra.Command {
	var o trustAddOptions
	cmd := &cobra.Command{
		Use:   "add sigstore|github|URL|FILE",
		Short: "trust a platform, after showing its fingerprint",
		Long: `Add trusts the public Sigstore instance by the name sigstore, and workflows in public
repositories on GitHub by the name github: the same instance, for GitHub's issuer alone.
Both are built in, with their fingerprints. Where there is a network, add takes the
current trust root from the TUF repository of the instance, else the copy that is built
in, until "trust refresh" finds a network.

For anything else, add pins the trust document of a platform (URL is its origin), or a Sigstore
trusted_root.json. Compare the fingerprint with the one that the platform's
operator gives you over another channel: whoever you trust here decides what
verify accepts. Add replaces an older document of the same platform, and shows what
changes.

With --root, URL is a TUF repository, and the fingerprint is that of its root
metadata. 'trust refresh' then takes updates from the repository without asking
you to compare again. The root metadata of https://tuf-repo-cdn.sigstore.dev, the
public Sigstore instance, is built in.

A trust root vouches only for identities of the OIDC issuers that "trust show"
lists: a platform for its own and those in its trust document, the public Sigstore
instance for those that it serves. A trusted_root.json names no issuers, so you name
them with --issuer.

FILE may have several trust roots, one a line, as gh attestation trusted-root prints
them. All of them are shown and trusted together; --issuer is for those that vouch
for nobody by themselves.`,
		Example: `  colophon trust add github
  colophon trust add https://colophon.example.com --fingerprint sha256:…
  colophon trust add trusted_root.json --issuer https://accounts.example.com`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: publicNames(),
		RunE:      func(cmd *cobra.Command, args []string) error { return runTrustAdd(cmd, args[0], o) },
	}
	cmd.Flags().StringVar(&o.root, "root", "", "treat URL as a TUF repository with the root metadata (root.json) in this `FILE`")
	cmd.Flags().StringArrayVar(&o.issuers, "issuer", nil, "OIDC issuer `URL` whose identities a trusted_root.json may vouch for; can be repeated")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "trust it without asking")
	cmd.Flags().StringArrayVar(&o.fingerprints, "fingerprint", nil, "trust it only if its fingerprint is this one (sha256:…); repeated for a file with several")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 30*time.Second, "give up after this long")
	return cmd
}

func runTrustAdd(cmd *cobra.Command, from string, o trustAddOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if p, ok := tuf.Named(from); ok {
		return o.addPublic(ctx, cmd, p)
	}
	found, err := o.fetch(ctx, from)
	if err != nil {
		return err
	}
	if err := o.checkFingerprints(from, found); err != nil {
		return err
	}
	store, err := openTrust()
	if err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	roots, err := o.scoped(found)
	if err != nil {
		return err
	}
	for i, r := range roots {
		printRoot(w, r, found[i].Pin())
		old, err := store.Replaces(r)
		if err != nil {
			return err
		}
		printChanges(w, old, r)
	}
	if !o.yes && len(o.fingerprints) == 0 {
		if err := confirm(cmd.InOrStdin(), w); err != nil {
			return err
		}
	}
	for _, r := range roots {
		if err := store.Add(r); err != nil {
			return err
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), "trusted")
	return nil
}

// checkFingerprints fails unless the fingerprints that the user gave are those of the
// trust roots, all of them and no others.
func (o *trustAddOptions) checkFingerprints(from string, roots []*trust.Root) error {
	if len(o.fingerprints) == 0 {
		return nil
	}
	var pins []string
	for _, r := range roots {
		pins = append(pins, r.Pin())
	}
	if want := slices.Sorted(slices.Values(o.fingerprints)); !slices.Equal(want, slices.Sorted(slices.Values(pins))) {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("%s: expected fingerprint %q, found %q", from, strings.Join(o.fingerprints, " "), strings.Join(pins, " "))}
	}
	return nil
}

// scoped returns the trust roots with the issuers that the user named. Of several roots,
// these are for those that vouch for nobody by themselves.
func (o *trustAddOptions) scoped(found []*trust.Root) (roots []*trust.Root, err error) {
	for _, r := range found {
		if len(o.issuers) > 0 && (len(found) == 1 || len(r.Issuers()) == 0) {
			if r, err = r.ForIssuers(o.issuers); err != nil {
				return nil, usageError("", "--issuer: %v", err)
			}
		}
		roots = append(roots, r)
	}
	return roots, nil
}

// fetch reads the trust root at from, a URL or a file, or the trust roots in a file. A
// repository that is trusted already keeps its root metadata and the issuers that were
// named for it.
func (o *trustAddOptions) fetch(ctx context.Context, from string) ([]*trust.Root, error) {
	root := tuf.Known(from)
	store, err := openTrust()
	if err != nil {
		return nil, err
	}
	have, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, r := range have {
		if r.Repository != nil && r.Repository.URL == strings.TrimSuffix(from, "/") {
			root = r.Repository.Roots[0]
			if len(o.issuers) == 0 {
				o.issuers = r.Repository.Issuers
			}
		}
	}
	if o.root != "" {
		if root, err = strict.ReadFile(o.root, limits.TrustRoot); err != nil {
			return nil, err
		}
	}
	if root != nil {
		r, err := tuf.Add(ctx, from, root)
		return []*trust.Root{r}, err
	}
	raw, origin, err := readTrust(ctx, from)
	if err != nil {
		return nil, err
	}
	documents := [][]byte{raw}
	if origin == "" {
		documents = splitDocuments(raw)
	}
	if len(documents) > maxDocuments {
		return nil, fmt.Errorf("%s has more than %d trust roots", from, maxDocuments)
	}
	var roots []*trust.Root
	for _, d := range documents {
		r, err := trust.Parse(d)
		if err != nil && len(documents) == 1 {
			return nil, strict.In(from, err)
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err) // a place is in its own document
		}
		if origin != "" && r.URL != "" && r.URL != origin {
			return nil, fmt.Errorf("%s: the trust document belongs to another platform: expected %q, found %q", from, origin, r.URL)
		}
		roots = append(roots, r)
	}
	return roots, nil
}

// maxDocuments is the maximum number of trust roots in one file.
const maxDocuments = 16

// splitDocuments returns the JSON documents in a file. `gh attestation trusted-root`
// prints several, one a line. A file with one document, or with anything else, is
// returned whole: its fingerprint is that of all its bytes.
func splitDocuments(raw []byte) (documents [][]byte) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	for len(documents) <= maxDocuments {
		var d json.RawMessage
		switch err := dec.Decode(&d); {
		case errors.Is(err, io.EOF) && len(documents) > 1:
			return documents
		case err != nil:
			return [][]byte{raw}
		}
		documents = append(documents, d)
	}
	return documents
}

// confirm asks the user whether to trust the root. It fails without a terminal.
func confirm(in io.Reader, w io.Writer) error {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError("compare the fingerprint, then add --fingerprint sha256:… or --yes", "cannot ask you to confirm the fingerprint: standard input is not a terminal")
	}
	fmt.Fprint(w, "trust it? [y/N] ")
	line, _ := bufio.NewReader(io.LimitReader(f, 1024)).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return &exitError{code: exitFailure, msg: "not trusted"}
	}
	return nil
}

// readTrust reads a trust document from a file or URL. origin is the origin of the
// URL, empty for a file.
func readTrust(ctx context.Context, from string) (raw []byte, origin string, err error) {
	if !strings.Contains(from, "://") {
		raw, err := strict.ReadFile(from, limits.TrustRepository)
		if errors.Is(err, os.ErrNotExist) {
			hint := didYouMean(from, publicNames())
			if strings.ContainsAny(from, ".:") && !strings.ContainsAny(from, "/ ") {
				hint = "a platform is named by its URL: colophon trust add https://" + from
			}
			err = usageError(hint, "%s is neither a file, nor a URL, nor one of the names %s", from, strings.Join(publicNames(), ", "))
		}
		return raw, "", err
	}
	u, err := url.Parse(from)
	if err != nil || u.User != nil {
		return nil, "", usageError("", "%q is not a valid URL, or contains credentials", from)
	}
	origin = u.Scheme + "://" + u.Host
	if err := trust.CheckOrigin(origin); err != nil {
		return nil, "", usageError("", "%v", err)
	}
	notThere := func(err error) error { return err }
	if strings.Trim(u.Path, "/") == "" {
		u.Path = api.PathDocument
	} else {
		notThere = func(err error) error {
			if _, unreached := errors.AsType[*reach.Error](err); unreached || ctx.Err() != nil {
				return err
			}
			return &exitError{code: exitFailure, msg: err.Error(), hint: "a platform is named by its URL alone; a TUF repository needs --root"}
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	// A redirect would let another host answer for this one.
	client := http.Client{CheckRedirect: reach.NoRedirect}
	resp, err := reach.Get(&client, u.Host, req)
	if err != nil {
		return nil, "", notThere(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", notThere(fmt.Errorf("%s: expected HTTP status 200, found %d", u, resp.StatusCode))
	}
	raw, err = strict.Read(resp.Body, limits.TrustRoot)
	return raw, origin, err
}

func openTrust() (trust.Store, error) {
	dir, err := trust.DefaultDir(os.Getenv)
	return trust.Store{Dir: dir}, err
}

// storedRoots returns the trust roots on this machine. If there is none, the error matches trust.ErrEmpty.
func storedRoots() ([]*trust.Root, error) {
	store, err := openTrust()
	if err != nil {
		return nil, err
	}
	return store.Load()
}

// printChanges prints what differs from the trust root that is replaced, if any.
func printChanges(w io.Writer, old, r *trust.Root) {
	if old == nil {
		return
	}
	if old.Pin() != r.Pin() {
		fmt.Fprintf(w, "  replaces  %s\n", old.Pin())
	}
	for _, c := range trust.Changes(old, r) {
		fmt.Fprintf(w, "  changes   %s\n", printable.Text(c.Text))
	}
}

// printRoot prints a trust root under its fingerprint, or under the one that a person
// compared before the list of issuers was added.
func printRoot(w io.Writer, r *trust.Root, fingerprint string) {
	name := r.URL
	if name == "" {
		name = "a Sigstore trusted root: trusts GitHub's public builders and workflows of the source repository; --builder adds others"
	}
	fmt.Fprintf(w, "%s\n%s\n", printable.Text(name), fingerprint)
	if fingerprint != r.Pin() {
		fmt.Fprintf(w, "  pinned as %s, with the issuers below\n", r.Pin())
	}
	if r.Repository != nil {
		fmt.Fprintf(w, "  from      %s, %s\n", printable.Text(r.Repository.URL), freshness(r))
	}
	for _, issuer := range r.Issuers() {
		fmt.Fprintf(w, "  issuer    %s\n", printable.Text(issuer))
	}
	if len(r.Issuers()) == 0 {
		fmt.Fprintln(w, "  issuer    none: it vouches for no identity, only for signatures by keys; see --issuer")
	}
	for _, b := range r.Builders {
		fmt.Fprintf(w, "  builder   %s, Build L%d\n", printable.Text(b.ID), b.Level)
	}
	for _, l := range r.Material.RekorLogs() {
		fmt.Fprintf(w, "  log       %s\n", printable.Text(l.BaseURL))
	}
}

// freshness says until when the metadata of a TUF repository is valid.
func freshness(r *trust.Root) string {
	if r.Stale(time.Now()) {
		return "stale since " + r.Expires.Format(time.DateOnly)
	}
	return "valid until " + r.Expires.Format(time.DateOnly)
}

func newTrustShowCommand() *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "show [URL|FINGERPRINT|NAME]",
		Short: "show the trust roots on this machine, or one of them",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			roots, err := pinned(args)
			for _, r := range roots {
				if raw {
					_, err = cmd.OutOrStdout().Write(r.Raw)
				} else {
					printRoot(cmd.OutOrStdout(), r, r.Pin())
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the pinned bytes")
	return cmd
}

func newTrustRefreshCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "refresh [URL|FINGERPRINT|NAME]",
		Short: "update trust roots from their TUF repositories",
		Long: `Refresh asks all trusted TUF repositories, or the named one, for newer trust
roots. Verify never does that: it uses the trust roots on this machine, and warns
about stale ones. Roots that do not come from a TUF repository stay unchanged.

Without a person, a refresh changes keys and how long they are trusted, and takes
trust away: a builder or issuer less, a lower level. Anything else, such as another
issuer, a new builder or a higher level, is refused until you add the repository again.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(cmd.Context(), timeout)
			defer cancel()
			return runTrustRefresh(ctx, cmd, args)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long")
	return cmd
}

func runTrustRefresh(ctx context.Context, cmd *cobra.Command, args []string) error {
	store, err := openTrust()
	if err != nil {
		return err
	}
	roots, err := pinned(args)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	var failed error
	asked := 0
	for _, r := range roots {
		public, copied := tuf.CopyOf(r)
		refresh := tuf.Refresh
		switch {
		case r.Repository == nil && !copied:
			continue
		case copied:
			refresh = public.Refresh
		}
		asked++
		next, err := refresh(ctx, r)
		if err == nil {
			err = store.Add(next)
		}
		if err == nil && copied {
			err = store.Remove(r)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			if wider, ok := errors.AsType[*tuf.WiderError](err); ok {
				printHint(cmd.ErrOrStderr(), "to see and accept what changes: colophon trust add "+wider.Repository)
			}
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", printable.Text(next.Repository.URL), freshness(next))
		printChanges(w, r, next)
	}
	if asked == 0 {
		fmt.Fprintln(w, "nothing to refresh: none of these trust roots comes from a TUF repository")
	}
	return failed
}

func newTrustRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove URL|FINGERPRINT|NAME",
		Short: "remove a trust root",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openTrust()
			if err != nil {
				return err
			}
			roots, err := pinned(args)
			for _, r := range roots {
				if err := store.Remove(r); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "no longer trusted: %s\n", r.Pin())
			}
			return err
		},
	}
}

// pinned returns the trust roots with the URL, fingerprint or built-in name in args, or all
// roots if args is empty.
func pinned(args []string) ([]*trust.Root, error) {
	roots, err := storedRoots()
	if err != nil || len(args) == 0 {
		return roots, err
	}
	var found []*trust.Root
	for _, r := range roots {
		if p, _ := publicOf(r); r.Named(args[0]) || p.Name != "" && p.Name == args[0] {
			found = append(found, r)
		}
	}
	if found == nil {
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%q is not a trust root on this machine", args[0]), hint: "colophon trust list"}
	}
	return found, nil
}
