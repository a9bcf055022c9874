package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

func newTrustListCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the trust roots on this machine, and what each is trusted for",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runTrustList(cmd, o) },
	}
	o.flags(cmd)
	o.quietFlag(cmd, "fingerprints")
	return cmd
}

// listedRoot is one trust root, for programs.
type listedRoot struct {
	Fingerprint string          `json:"fingerprint"`          // what a person compared when it was added
	Name        string          `json:"name,omitempty"`       // of a built-in one: sigstore, github
	URL         string          `json:"url,omitempty"`        // of a platform
	Repository  string          `json:"repository,omitempty"` // the TUF repository that it is refreshed from
	ValidUntil  *time.Time      `json:"validUntil,omitempty"` // of the repository's metadata
	Stale       bool            `json:"stale"`
	Copied      string          `json:"copied,omitempty"` // date of a built-in copy that was never refreshed
	For         []string        `json:"trustedFor"`       // for people
	Issuers     []string        `json:"issuers"`          // whose identities it vouches for
	Builders    []trust.Builder `json:"builders"`         // of a platform
	Authorities []listedWindow  `json:"authorities"`      // certificate authorities
	Logs        []listedWindow  `json:"logs"`
}

// listedWindow is a key or certificate, and when it is trusted.
type listedWindow struct {
	Name  string     `json:"name"`
	From  *time.Time `json:"from,omitempty"`
	Until *time.Time `json:"until,omitempty"`
}

func windowOf(name string, from, until time.Time) listedWindow {
	w := listedWindow{Name: name}
	if !from.IsZero() {
		w.From = &from
	}
	if !until.IsZero() {
		w.Until = &until
	}
	return w
}

func runTrustList(cmd *cobra.Command, o output) error {
	roots, err := storedRoots()
	if errors.Is(err, trust.ErrEmpty) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", err)
		printHint(cmd.ErrOrStderr(), "colophon trust add URL, or sigstore or github")
		err = nil
	}
	if err != nil {
		return err
	}
	listed := []listedRoot{}
	for _, r := range roots {
		listed = append(listed, listOf(r, time.Now()))
	}
	w := cmd.OutOrStdout()
	switch {
	case o.quiet:
		for _, l := range listed {
			fmt.Fprintln(w, l.Fingerprint)
		}
	case o.text():
		for i, l := range listed {
			l.print(w, roots[i])
		}
	default:
		return o.print(w, listed)
	}
	return nil
}

func listOf(r *trust.Root, now time.Time) listedRoot {
	l := listedRoot{
		Fingerprint: r.Pin(), URL: r.URL, Stale: r.Stale(now), For: trustedFor(r), Issuers: append([]string{}, r.Issuers()...),
		Builders: append([]trust.Builder{}, r.Builders...), Authorities: []listedWindow{}, Logs: []listedWindow{},
	}
	if p, ok := publicOf(r); ok {
		l.Name = p.Name
		if r.Repository == nil {
			l.Copied = p.Copied
		}
	}
	if r.Repository != nil {
		l.Repository, l.ValidUntil = r.Repository.URL, &r.Expires
	}
	for _, ca := range trust.Authorities(r.Material) {
		l.Authorities = append(l.Authorities, windowOf(ca.Root.Subject.String(), ca.ValidityPeriodStart, ca.ValidityPeriodEnd))
	}
	for _, log := range r.Material.RekorLogs() {
		l.Logs = append(l.Logs, windowOf(log.BaseURL, log.ValidityPeriodStart, log.ValidityPeriodEnd))
	}
	slices.SortFunc(l.Logs, func(a, b listedWindow) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// publicOf returns the built-in trust root that r is, from its repository or as the copy.
func publicOf(r *trust.Root) (p tuf.Public, ok bool) {
	if r.Repository == nil {
		return tuf.CopyOf(r)
	}
	for _, p := range tuf.Publics() {
		if r.Repository.URL == p.URL && slices.Equal(r.Repository.Issuers, p.Issuers) {
			return p, true
		}
	}
	return tuf.Public{}, false
}

// trustedFor says in words what a trust root is trusted for.
func trustedFor(r *trust.Root) (words []string) {
	if p, ok := publicOf(r); ok {
		return []string{p.For}
	}
	for _, b := range r.Builders {
		words = append(words, fmt.Sprintf("images built by %s, up to Build L%d", b.ID, b.Level))
	}
	switch issuers := r.Issuers(); {
	case len(issuers) == 0:
		words = append(words, "signatures by keys that you name, and nobody else")
	case len(r.Builders) > 0:
		if others := issuers[1:]; len(others) > 0 {
			words = append(words, "identities that you name, of its other issuers")
		}
	case slices.Contains(issuers, trust.GitHubIssuer):
		words = append(words, "workflows on GitHub, and identities that you name")
	default:
		words = append(words, "identities that you name")
	}
	return words
}

// print prints a trust root on a line, and below it what it is trusted for.
func (l listedRoot) print(w io.Writer, r *trust.Root) {
	name := l.URL
	switch {
	case l.Name != "":
		name = l.Name
	case name == "":
		name = "(Sigstore trusted root)"
	}
	if r.Repository != nil {
		name += " from " + l.Repository + ", " + freshness(r)
	}
	if l.Copied != "" {
		name += ", the copy of " + l.Copied + " in colophon"
	}
	fmt.Fprintf(w, "%s  %s; %s\n", l.Fingerprint, printable.Text(name), scope(r))
	for _, what := range l.For {
		fmt.Fprintf(w, "  for        %s\n", printable.Text(what))
	}
	for _, a := range l.Authorities {
		fmt.Fprintf(w, "  authority  %s\n", printable.Text(a.String()))
	}
	for _, log := range l.Logs {
		fmt.Fprintf(w, "  log        %s\n", printable.Text(log.String()))
	}
}

func (w listedWindow) String() string {
	var trusted trust.Window
	if w.From != nil {
		trusted.From = *w.From
	}
	if w.Until != nil {
		trusted.Until = *w.Until
	}
	return w.Name + ", trusted " + trusted.String()
}

// scope says in a few words whom a trust root vouches for.
func scope(r *trust.Root) string {
	switch issuers := r.Issuers(); len(issuers) {
	case 0:
		return "vouches for no issuer"
	case 1:
		return "vouches for " + printable.Text(issuers[0])
	default:
		return fmt.Sprintf("vouches for %s and %d more", printable.Text(issuers[0]), len(issuers)-1)
	}
}
