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

// configure sets opts.SourceCheck to ask the repository, unless the flags forbid it.
func (o sourceOptions) configure(opts *verify.Options, now time.Time) error {
	signers, err := readSigners(o.signers)
	if err != nil {
		return err
	}
	if o.gitsign.given() {
		if signers == nil {
			signers = &source.Signers{}
		}
		roots := o.roots(opts.Trust, opts.Policy.FreshTrust, now)
		signers.Certified = func(bundle, signed []byte) (string, error) { return o.certified(bundle, signed, roots, now) }
	}
	want := opts.Policy.Provenance()
	// If any source is accepted, never ask it: whoever built the image could make
	// this machine connect to a host of their choice.
	if o.skip || o.offline || want.Source.URI() == "" {
		return nil
	}
	if want.SourceTrack != (policy.SourceTrack{}) {
		if opts.TrackCheck, err = o.trackCheck(want.Source.URI(), signers); err != nil {
			return err
		}
	}
	opts.SourceCheck = func(ctx context.Context, q source.Question) (source.Standing, error) {
		if !want.RequireSource {
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
	return nil
}

// trackCheck returns the function that asks the repository at uri, which the policy names, and
// its forge. It asks no other.
func (o sourceOptions) trackCheck(uri string, signers *source.Signers) (verify.TrackCheck, error) {
	f, unknown := o.forge.open(uri)
	if unknown != nil && !errors.Is(unknown, forge.ErrNoForge) {
		return nil, unknown
	}
	return func(ctx context.Context, of, ref, commit string) (track.Result, error) {
		if of != uri {
			return track.Result{}, fmt.Errorf("repository: got %q, want %q", of, uri)
		}
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
