package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

// publicNames returns the names of the trust roots that are built in.
func publicNames() (names []string) {
	for _, p := range tuf.Publics() {
		names = append(names, p.Name)
	}
	return names
}

// addPublic adds a trust root that is built in. There is nothing to compare: its
// fingerprint came with this program.
func (o *trustAddOptions) addPublic(ctx context.Context, cmd *cobra.Command, p tuf.Public) error {
	if o.root != "" || len(o.issuers) > 0 {
		return usageError("add the repository by its URL, "+p.URL, "--root and --issuer: the trust root %q is built in, with its issuers", p.Name)
	}
	w := cmd.ErrOrStderr()
	r, err := p.Download(ctx)
	if _, unreached := errors.AsType[*reach.Error](err); unreached || errors.Is(err, context.DeadlineExceeded) {
		fmt.Fprintf(w, "%v\n", err)
		printHint(w, "this is the copy of "+p.Copied+" that is built in; run colophon trust refresh when there is a network")
		r, err = p.Copy()
	}
	if err != nil {
		return err
	}
	if err := o.checkFingerprints(p.Name, []*trust.Root{r}); err != nil {
		return err
	}
	store, err := openTrust()
	if err != nil {
		return err
	}
	have, err := store.List()
	if err != nil {
		return err
	}
	printRoot(w, r, r.Pin())
	replaced, err := store.Replaces(r)
	if err != nil {
		return err
	}
	printChanges(w, replaced, r)
	if err := store.Add(r); err != nil {
		return err
	}
	// One instance is trusted once: for GitHub alone, or for all that it serves.
	for _, old := range have {
		if other, ok := publicOf(old); ok && other.URL == p.URL && old.Pin() != r.Pin() {
			printChanges(w, old, r)
			if err := store.Remove(old); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "trusted for %s\n", p.For)
	if p.Name == "github" {
		printHint(w, "for private repositories on GitHub, also: gh attestation trusted-root > roots.jsonl; colophon trust add roots.jsonl --issuer "+trust.GitHubIssuer)
	}
	return nil
}
