package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/source/look"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// sourceTimeout limits how long verify waits for the repository when the verdict
// does not depend on its answer.
const sourceTimeout = 10 * time.Second

var errSourceLate = fmt.Errorf("no answer within %s", sourceTimeout)

// sourceOptions are the flags that say whether to ask the repository, and who must
// have signed the commit or tag.
type sourceOptions struct {
	skip    bool
	offline bool
	signers string        // ssh allowed_signers or an OpenPGP keyring
	gitsign signerOptions // identity and issuer
	forge   forgeOptions  // how to ask the forge, if the policy has sourceTrack
}

func (o *sourceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.skip, "skip-source", false, "do not ask the repository whether the commit still exists")
	f.BoolVar(&o.offline, "offline", false, "use no network: verify only layouts and files, and do not ask the repository")
	f.StringVar(&o.signers, "signers", "", "a signer in this `FILE` (ssh allowed_signers or OpenPGP keyring) must have signed the commit or tag")
	f.StringVar(&o.gitsign.Identity, "gitsign-identity", "", "identity `NAME` that must have signed the commit or tag with gitsign")
	f.StringVar(&o.gitsign.Issuer, "gitsign-issuer", "", "OIDC issuer that must have authenticated --gitsign-identity")
	f.StringVar(&o.gitsign.Root, "gitsign-root", "", "trust root, by `NAME`, that must have verified --gitsign-identity, in place of any that vouches for the issuer")
	o.forge.flags(cmd)
	for _, signer := range []string{"signers", "gitsign-identity", "gitsign-issuer", "gitsign-root"} {
		for _, unasked := range []string{"skip-source", "offline", "any-source", "key", "identity"} {
			cmd.MarkFlagsMutuallyExclusive(signer, unasked)
		}
	}
	cmd.MarkFlagsMutuallyExclusive("offline", "all-tags")
	cmd.MarkFlagsRequiredTogether("gitsign-identity", "gitsign-issuer")
}

// demand makes the policy require an answer from the repository if the flags demand
// a signature of the commit or tag, because only the repository has it.
func (o sourceOptions) demand(d *policy.Document) error {
	switch {
	case o.signers == "" && !o.gitsign.given():
		return nil
	case d.Source == "":
		return usageError("add --source URI", "--signers and --gitsign-identity need a repository to ask")
	}
	d.RequireSource = true
	return nil
}

// configure sets opts.SourceCheck, and opts.TrackCheck if a policy demands something of the source
// itself, to ask the repositories that opts.Policy and the other policies name, unless the flags
// forbid it.
func (o sourceOptions) configure(opts *verify.Options, now time.Time, others ...policy.Policy) error {
	policies := append([]policy.Policy{opts.Policy}, others...)
	signers, err := readSigners(o.signers)
	if err != nil {
		return err
	}
	if o.gitsign.given() {
		if signers == nil {
			signers = &source.Signers{}
		}
		fresh := slices.ContainsFunc(policies, func(p policy.Policy) bool { return p.FreshTrust })
		roots := o.roots(opts.Trust, fresh, now)
		signers.Certified = func(bundle, signed []byte) (string, error) { return o.certified(bundle, signed, roots, now) }
	}
	required := map[string]bool{} // by repository: a policy demands an answer
	tracks := map[string]verify.TrackCheck{}
	for _, p := range policies {
		want := p.Provenance()
		// If any source is accepted, never ask it: whoever built the image could make
		// this machine connect to a host of their choice.
		uri := want.Source.URI()
		if o.skip || o.offline || uri == "" {
			continue
		}
		required[uri] = required[uri] || want.RequireSource
		if want.SourceTrack != (policy.SourceTrack{}) && tracks[uri] == nil {
			if tracks[uri], err = o.trackCheck(uri, signers); err != nil {
				return err
			}
		}
	}
	if len(required) > 0 {
		opts.SourceCheck = askNamed(required, signers)
	}
	if len(tracks) > 0 {
		opts.TrackCheck = func(ctx context.Context, uri, ref, commit string) (track.Result, error) {
			named, err := source.Canonical(uri)
			if ask := tracks[named]; err == nil && ask != nil {
				return ask(ctx, uri, ref, commit)
			}
			return track.Result{}, errNotNamed
		}
	}
	return nil
}

var errNotNamed = errors.New("no policy names this repository, so that it is not asked")

// askNamed returns the function that asks the repositories that policies name, and no other.
func askNamed(required map[string]bool, signers *source.Signers) verify.SourceCheck {
	return func(ctx context.Context, q source.Question) (source.Standing, error) {
		uri, err := source.Canonical(q.URI)
		if err != nil {
			return source.Standing{}, err
		}
		must, named := required[uri]
		if !named {
			return source.Standing{}, errNotNamed
		}
		if !must {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, sourceTimeout, errSourceLate)
			defer cancel()
		}
		q.Signers = signers
		now, err := lookup(ctx, q)
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return now, err
	}
}

// trackCheck returns the function that asks the repository at uri, which the policy names, and
// its forge. It asks no other.
func (o sourceOptions) trackCheck(uri string, signers *source.Signers) (verify.TrackCheck, error) {
	c, err := o.forge.config(uri)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, of, ref, commit string) (track.Result, error) {
		if of != uri {
			return track.Result{}, fmt.Errorf("repository: got %q, want %q", of, uri)
		}
		// A Forge is for one commit: it limits what it asks.
		f, unknown := forge.Open(uri, c)
		facts := look.Facts(ctx, look.Question{URI: uri, Ref: ref, Commit: commit, Signers: signers, Lookup: lookup, Merged: checkMerged, Forge: f, ForgeErr: unknown})
		return track.Evaluate(facts), nil
	}, nil
}

// roots returns the trust roots under which gitsign may have signed.
func (o sourceOptions) roots(all []*trust.Root, fresh bool, now time.Time) []*trust.Root {
	return slices.DeleteFunc(slices.Clone(all), func(r *trust.Root) bool {
		return o.gitsign.Root != "" && !r.Named(o.gitsign.Root) || fresh && r.Stale(now)
	})
}

// certified verifies a gitsign signature against the expected identity and those of
// the trust roots that vouch for its issuer, and returns the identity.
func (o sourceOptions) certified(raw, signed []byte, roots []*trust.Root, now time.Time) (string, error) {
	sum := sha256.Sum256(signed)
	err := errors.New("there is no such trust root on this machine")
	for _, r := range roots {
		subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(signed)}
		if _, err = bundle.Artifact(raw, subject, bundle.Signer{Identity: o.gitsign.Identity, Issuer: o.gitsign.Issuer}, r.Material, now); err == nil {
			return o.gitsign.Identity, nil
		}
	}
	return "", err
}
