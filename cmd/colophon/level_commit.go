package main

import (
	"bytes"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/source/look"
	"github.com/colophon-build/colophon/source/track"
)

// track asks the repository and its forge about a commit.
func (o *levelOptions) track(ctx context.Context, d *report.Document, e *level.Evidence) error {
	q, err := o.question(ctx, d.Repository)
	if err != nil {
		return err
	}
	facts := look.Facts(ctx, *q)
	d.Ref, d.Commit, d.Branch = q.Ref, q.Commit, facts.Branch
	result := track.Evaluate(facts)
	e.Track = &result
	return nil
}

// question says whom to ask about which commit.
func (o *levelOptions) question(ctx context.Context, uri string) (q *look.Question, err error) {
	q = &look.Question{URI: uri, Commit: o.commit, Lookup: lookup, Merged: checkMerged}
	if q.Signers, err = readSigners(o.signers); err != nil {
		return nil, err
	}
	c, err := o.forge.config(uri)
	if err != nil {
		return nil, err
	}
	q.Forge, q.ForgeErr = forge.Open(uri, c)
	if o.commit != "" && !source.IsCommitID(o.commit) {
		return nil, usageError("", "--commit: expected a full id, found %q", o.commit)
	}
	if o.commit != "" && o.ref == "" {
		return q, nil
	}
	ref := o.ref
	if ref == "" {
		ref = "HEAD"
	}
	name, commit, err := source.Resolve(ctx, uri, ref, nil)
	if errors.Is(err, source.ErrLogin) {
		if login := gitLogin(ctx, uri); login != nil {
			name, commit, err = source.Resolve(ctx, uri, ref, login)
		}
	}
	if err != nil {
		return nil, err
	}
	if q.Ref = name; q.Commit == "" {
		q.Commit = commit
	}
	return q, nil
}

// checkMerged compares contents, if the repository wants it with the login that the user's git
// has.
func checkMerged(ctx context.Context, p source.Proposal) (string, error) {
	how, err := source.CheckMerged(ctx, p)
	if errors.Is(err, source.ErrLogin) {
		if p.Credential = gitLogin(ctx, p.URI); p.Credential != nil {
			return source.CheckMerged(ctx, p)
		}
	}
	return how, err
}

// readSigners reads an ssh allowed_signers file or an OpenPGP keyring; nil without a file.
func readSigners(file string) (*source.Signers, error) {
	if file == "" {
		return nil, nil
	}
	keys, err := strict.ReadFile(file, limits.Keys)
	if err != nil {
		return nil, usageError("", "--signers: %v", err)
	}
	signers := &source.Signers{AllowedSigners: keys}
	if bytes.Contains(keys, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")) {
		signers = &source.Signers{Keyring: keys}
	}
	if err := signers.Check(); err != nil {
		return nil, usageError("", "%v", strict.In(file, err))
	}
	return signers, nil
}

// forgeOptions are the flags that say how to ask a forge.
type forgeOptions struct {
	kind  string
	api   string
	token string // file
}

func (o *forgeOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.kind, "forge", "", "`KIND` of forge that hosts the repository: github, gitlab or gitea (also Forgejo) (default: that of a well-known host)")
	f.StringVar(&o.api, "forge-api", "", "`URL` of its API (default: on the repository's host, where forges of this kind have it)")
	f.StringVar(&o.token, "forge-token-file", "", "`FILE` with a token of the forge that may read")
}

// forgeToken matches what can be sent in a header. What else is in a file may be another
// secret, and is sent to nobody.
var forgeToken = lazyregexp.New(`^[A-Za-z0-9._~+/=-]+$`)

// config returns what the flags say. It fails if they cannot be used for the repository at uri; it
// does not fail if they do not say which forge that has.
func (o *forgeOptions) config(uri string) (forge.Config, error) {
	c := forge.Config{Kind: forge.Kind(o.kind), API: o.api}
	if o.token != "" {
		raw, err := strict.ReadFile(o.token, limits.Request)
		if err != nil {
			return c, usageError("", "--forge-token-file: %v", err)
		}
		if c.Token = string(bytes.TrimSpace(raw)); !forgeToken.MatchString(c.Token) {
			return c, usageError("", "--forge-token-file: %s holds no token", o.token)
		}
	}
	if _, err := forge.Open(uri, c); err != nil && (o.kind != "" || o.api != "" || !errors.Is(err, forge.ErrNoForge)) {
		return c, usageError("", "%v", err)
	}
	return c, nil
}
