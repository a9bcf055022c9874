package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

// sourceTimeout bounds the question to the repository: a slow git host must
// not hold up an answer that does not depend on it.
const sourceTimeout = 10 * time.Second

// sourceOptions say whether the repository is asked, and for whose signature.
type sourceOptions struct {
	skip    bool
	offline bool
	signers string        // ssh allowed_signers or an OpenPGP keyring
	gitsign signerOptions // identity and issuer
}

func (o *sourceOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.skip, "skip-source", false, "do not ask the repository whether the commit is still there")
	f.BoolVar(&o.offline, "offline", false, "use no network at all: for layouts and files; the repository is not asked")
	f.StringVar(&o.signers, "signers", "", "commit or tag must be signed by one of this `FILE`: ssh allowed_signers or an OpenPGP keyring")
	f.StringVar(&o.gitsign.Identity, "gitsign-identity", "", "commit or tag must be signed by this `NAME` with gitsign")
	f.StringVar(&o.gitsign.Issuer, "gitsign-issuer", "", "who must vouch for --gitsign-identity")
	for _, signer := range []string{"signers", "gitsign-identity", "gitsign-issuer"} {
		for _, unasked := range []string{"skip-source", "offline", "any-source", "key", "identity"} {
			cmd.MarkFlagsMutuallyExclusive(signer, unasked)
		}
	}
	cmd.MarkFlagsMutuallyExclusive("offline", "all-tags")
	cmd.MarkFlagsRequiredTogether("gitsign-identity", "gitsign-issuer")
}

// demand adds to the policy that the repository has to answer, if a signature of
// the commit or tag is demanded: there is no other place to find it.
func (o sourceOptions) demand(d *policy.Document) error {
	switch {
	case o.signers == "" && !o.gitsign.given():
		return nil
	case d.Source == "":
		return usageError("--source URI", "the signature of commit or tag can be demanded only of a repository that is demanded")
	}
	d.RequireSource = true
	return nil
}

// ask sets up the question to the repository.
func (o sourceOptions) ask(opts *verify.Options) error {
	var signers *source.Signers
	if o.signers != "" {
		keys, err := strict.ReadFile(o.signers, limits.Keys)
		if err != nil {
			return usageError("", "--signers: %v", err)
		}
		signers = &source.Signers{AllowedSigners: keys}
		if bytes.Contains(keys, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")) {
			signers = &source.Signers{Keyring: keys}
		}
	}
	if o.gitsign.given() {
		if signers == nil {
			signers = &source.Signers{}
		}
		signers.Certified = func(bundle, signed []byte) (string, error) { return o.certified(bundle, signed, *opts) }
	}
	want := opts.Policy.Provenance()
	// Where any repository will do, whoever had the image built would choose
	// which host this machine talks to.
	if o.skip || o.offline || want.Source.URI() == "" {
		return nil
	}
	opts.SourceCheck = func(ctx context.Context, q source.Question) (source.Standing, error) {
		if !want.RequireSource {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, sourceTimeout)
			defer cancel()
		}
		q.Signers = signers
		return source.Lookup(ctx, q)
	}
	return nil
}

// certified holds a gitsign signature to the trust roots and to who should have made it.
func (o sourceOptions) certified(raw, signed []byte, opts verify.Options) (string, error) {
	sum := sha256.Sum256(signed)
	err := errors.New("no trust root is believed")
	for _, r := range opts.Trust {
		subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Content: bytes.NewReader(signed)}
		if _, err = bundle.Artifact(raw, subject, bundle.Signer{Identity: o.gitsign.Identity, Issuer: o.gitsign.Issuer}, r.Material, opts.Now); err == nil {
			return o.gitsign.Identity, nil
		}
	}
	return "", err
}
