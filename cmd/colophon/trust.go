package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "whom this machine believes",
		Long: `Trust keeps the trust documents that verify believes, pinned by the fingerprint
of their bytes. They are kept in COLOPHON_TRUST, or else in the colophon/trust
directory of the user's configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTrustAddCommand(), newTrustListCommand(), newTrustShowCommand(), newTrustRefreshCommand(), newTrustRemoveCommand())
	return cmd
}

type trustAddOptions struct {
	yes         bool
	fingerprint string
	root        string // root metadata of a TUF repository
	timeout     time.Duration
}

func newTrustAddCommand() *cobra.Command {
	var o trustAddOptions
	cmd := &cobra.Command{
		Use:   "add URL|FILE",
		Short: "believe a platform, after showing its fingerprint",
		Long: `Add pins the trust document of a platform (URL is its origin), or a Sigstore
trusted_root.json. Compare the fingerprint with what the platform's operator
tells you by another way: whoever you believe here decides what verify accepts.
A document of the same platform that was pinned before is replaced.

With --root, URL is a TUF repository, and the fingerprint is that of its root
metadata: what it says later is taken by 'trust refresh' without comparing
again. For https://tuf-repo-cdn.sigstore.dev, the public Sigstore instance, the
root metadata is built in.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runTrustAdd(cmd, args[0], o) },
	}
	cmd.Flags().StringVar(&o.root, "root", "", "URL is a TUF repository, and `FILE` its root metadata (root.json)")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "believe it without asking")
	cmd.Flags().StringVar(&o.fingerprint, "fingerprint", "", "believe it only if this is its fingerprint (sha256:…)")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 30*time.Second, "give up fetching after this long")
	return cmd
}

func runTrustAdd(cmd *cobra.Command, from string, o trustAddOptions) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	r, err := o.fetch(ctx, from)
	if err != nil {
		return err
	}
	if o.fingerprint != "" && o.fingerprint != r.Pin() {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("%s: fingerprint: got %q, want %q", from, r.Pin(), o.fingerprint)}
	}
	store, err := openTrust()
	if err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	printRoot(w, r)
	old, err := store.Replaces(r)
	if err != nil {
		return err
	}
	if old != nil {
		fmt.Fprintf(w, "  replaces  %s\n", old.Pin())
	}
	if !o.yes && o.fingerprint == "" {
		if err := confirm(cmd.InOrStdin(), w); err != nil {
			return err
		}
	}
	if err := store.Add(r); err != nil {
		return err
	}
	fmt.Fprintln(w, "believed")
	return nil
}

// fetch reads what from names.
func (o trustAddOptions) fetch(ctx context.Context, from string) (*trust.Root, error) {
	root := tuf.Known(from)
	if o.root != "" {
		var err error
		if root, err = strict.ReadFile(o.root, limits.TrustRoot); err != nil {
			return nil, err
		}
	}
	if root != nil {
		return tuf.Add(ctx, from, root)
	}
	raw, origin, err := readTrust(ctx, from)
	if err != nil {
		return nil, err
	}
	r, err := trust.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	if origin != "" && r.URL != "" && r.URL != origin {
		return nil, fmt.Errorf("%s: trust document is of another platform: got %q, want %q", from, r.URL, origin)
	}
	return r, nil
}

// confirm asks a person. Without one, nothing is believed.
func confirm(in io.Reader, w io.Writer) error {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError("compare the fingerprint, then add --fingerprint sha256:… or --yes", "nobody is there to confirm the fingerprint")
	}
	fmt.Fprint(w, "believe it? [y/N] ")
	line, _ := bufio.NewReader(io.LimitReader(f, 1024)).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return &exitError{code: exitFailure, msg: "not believed"}
	}
	return nil
}

// readTrust returns a document's bytes, and the origin they came from if that
// was a URL.
func readTrust(ctx context.Context, from string) (raw []byte, origin string, err error) {
	if !strings.Contains(from, "://") {
		raw, err := strict.ReadFile(from, limits.TrustRepository)
		return raw, "", err
	}
	u, err := url.Parse(from)
	if err != nil || u.User != nil {
		return nil, "", usageError("", "%q is not a URL to fetch from", from)
	}
	origin = u.Scheme + "://" + u.Host
	if err := trust.CheckOrigin(origin); err != nil {
		return nil, "", usageError("", "%v", err)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = api.PathDocument
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", err
	}
	// A redirect would have another host speak for this one.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirects are not followed") }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s: got status %d, want 200", u, resp.StatusCode)
	}
	raw, err = strict.Read(resp.Body, limits.TrustRoot)
	return raw, origin, err
}

func openTrust() (trust.Store, error) {
	dir, err := trust.DefaultDir(os.Getenv)
	return trust.Store{Dir: dir}, err
}

func printRoot(w io.Writer, r *trust.Root) {
	name := r.URL
	if name == "" {
		name = "a Sigstore trusted root; under it GitHub's public builders and the workflows of the source are believed, others need --builder"
	}
	fmt.Fprintf(w, "%s\n%s\n", printable.Text(name), r.Pin())
	if r.Repository != nil {
		fmt.Fprintf(w, "  from      %s, %s\n", printable.Text(r.Repository.URL), freshness(r))
	}
	if r.Issuer != "" {
		fmt.Fprintf(w, "  issuer    %s\n", printable.Text(r.Issuer))
	}
	for _, b := range r.Builders {
		fmt.Fprintf(w, "  builder   %s, Build L%d\n", printable.Text(b.ID), b.Level)
	}
	for _, l := range r.Material.RekorLogs() {
		fmt.Fprintf(w, "  log       %s\n", printable.Text(l.BaseURL))
	}
}

// freshness says how long a TUF repository need not be asked again.
func freshness(r *trust.Root) string {
	if r.Stale(time.Now()) {
		return "stale since " + r.Expires.Format(time.DateOnly)
	}
	return "good until " + r.Expires.Format(time.DateOnly)
}

func newTrustListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list whom this machine believes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := openTrust()
			if err != nil {
				return err
			}
			roots, err := store.Load()
			if errors.Is(err, trust.ErrEmpty) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", err)
				printHint(cmd.ErrOrStderr(), "colophon trust add URL")
				return nil
			}
			for _, r := range roots {
				name := r.URL
				if name == "" {
					name = "(Sigstore trusted root)"
				}
				if r.Repository != nil {
					name += " from " + r.Repository.URL + ", " + freshness(r)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", r.Pin(), printable.Text(name))
			}
			return err
		},
	}
}

func newTrustShowCommand() *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "show [URL|FINGERPRINT]",
		Short: "show what is believed, or one document of it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			roots, err := pinned(args)
			for _, r := range roots {
				if raw {
					_, err = cmd.OutOrStdout().Write(r.Raw)
				} else {
					printRoot(cmd.OutOrStdout(), r)
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "the bytes that were pinned")
	return cmd
}

func newTrustRefreshCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "refresh [URL|FINGERPRINT]",
		Short: "ask the TUF repositories that are believed what is new",
		Long: `Refresh asks the TUF repositories that are believed, or the one that is named,
for newer trust roots. Verify never does so by itself: it uses what is here,
and says where that is stale. What was pinned by its own fingerprint stays.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
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
	w := cmd.ErrOrStderr()
	var failed error
	asked := 0
	for _, r := range roots {
		if r.Repository == nil {
			continue
		}
		asked++
		next, err := tuf.Refresh(ctx, r)
		if err == nil {
			err = store.Add(next)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", printable.Text(r.Repository.URL), freshness(next))
	}
	if asked == 0 {
		fmt.Fprintln(w, "none of these came from a TUF repository; there is nothing to ask")
	}
	return failed
}

func newTrustRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove URL|FINGERPRINT",
		Short: "believe it no longer",
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
				fmt.Fprintf(cmd.ErrOrStderr(), "no longer believed: %s\n", r.Pin())
			}
			return err
		},
	}
}

// pinned returns the roots that a URL or fingerprint names, or all.
func pinned(args []string) ([]*trust.Root, error) {
	store, err := openTrust()
	if err != nil {
		return nil, err
	}
	roots, err := store.Load()
	if err != nil || len(args) == 0 {
		return roots, err
	}
	var found []*trust.Root
	for _, r := range roots {
		if r.URL == args[0] || r.Pin() == args[0] || r.Repository != nil && r.Repository.URL == args[0] {
			found = append(found, r)
		}
	}
	if found == nil {
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("%q is not believed", args[0]), hint: "colophon trust list"}
	}
	return found, nil
}
