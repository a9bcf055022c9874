package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sign"
)

// levelSummary are the flags that say where to write the Source VSA, and who signs it.
type levelSummary struct {
	to       string // file
	verifier string
	signing  signingOptions
}

func (o *levelSummary) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "vsa", "", "if the commit has what is demanded, sign the answer as a SLSA verification summary about it, and write it to this `FILE` (a Sigstore bundle)")
	f.StringVar(&o.verifier, "verifier", "", "with --vsa: `URI` that identifies who verified, and belongs to the signer")
	cmd.MarkFlagsRequiredTogether("vsa", "verifier")
	o.signing.flags(cmd)
}

// levelSigner signs answers. It is nil without --vsa.
type levelSigner struct {
	levelSummary
	session *sign.Session
}

// prepare opens the session before anything is asked, so that what cannot be signed fails
// early.
func (o *levelSummary) prepare(ctx context.Context, cmd *cobra.Command) (*levelSigner, error) {
	if o.to == "" {
		return nil, nil
	}
	if u, err := url.Parse(o.verifier); err != nil || u.Scheme == "" {
		return nil, usageError("", "--verifier: expected a URI, found %q", o.verifier)
	}
	if err := replaceable("--vsa", o.to, ""); err != nil {
		return nil, err
	}
	p, err := startSigning(ctx, cmd, &o.signing)
	if err != nil {
		return nil, err
	}
	return &levelSigner{*o, p.session}, nil
}

// issue signs the Source VSA of an answer, and writes it to the file.
func (s *levelSigner) issue(ctx context.Context, a *report.Document, demand policy.SourceTrack) error {
	if a.Source.Level == 0 {
		return &exitError{code: exitFailure, msg: "the commit has Source level 0: there is nothing to sign"}
	}
	var refs []string
	for _, ref := range []string{a.Ref, a.Branch} {
		if ref != "" && (len(refs) == 0 || refs[0] != ref) {
			refs = append(refs, ref)
		}
	}
	vsa := attest.SourceVSA(a.Repository, a.Source.Level, a.Reviewers, time.Now())
	vsa.Verifier = attest.VSAVerifier{ID: s.verifier, Version: map[string]string{"colophon": version}}
	vsa.Policy = attest.ResourceDescriptor{URI: policyURI, Digest: map[string]string{"sha256": demand.Digest()}}
	if err := vsa.Check(); err != nil {
		return err
	}
	statement, err := attest.NewSourceStatement(a.Commit, refs, vsa)
	if err != nil {
		return err
	}
	bundle, err := s.session.Statement(ctx, statement)
	if err != nil {
		return fmt.Errorf("commit %s: %w", a.Commit, err)
	}
	a.VSA = s.to
	return durable.WriteFile(s.to, bundle, 0o644)
}
