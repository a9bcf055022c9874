package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/investigate/casefile"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sign"
)

// caseOptions say where to keep a case, and who signs it.
type caseOptions struct {
	to       string
	unsigned bool
	record   bool
	signing  signingOptions
}

func (o *caseOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "case", "", "keep the case with all evidence in this `FILE`, a zip if it ends in .zip, else a directory; it is signed and logged")
	f.BoolVar(&o.unsigned, "unsigned", false, "with --case: do not sign it; nobody can check then who made it")
	f.BoolVar(&o.record, "record", false, "with --case: record in the audit ledger of the platform that you are logged in to that the case was signed")
	cmd.MarkFlagsMutuallyExclusive("unsigned", "record")
	o.signing.flags(cmd)
	for _, signer := range []string{"key", "identity-token-file", "identity-token-from", "identity-token-command"} {
		cmd.MarkFlagsMutuallyExclusive("unsigned", signer)
	}
}

// prepare returns what writes the case; nil without --case. It fails before anything is asked if the
// case could not be written or signed.
func (o *caseOptions) prepare(ctx context.Context, cmd *cobra.Command) (func(context.Context, *investigate.Case, *investigate.Evidence) error, error) {
	if o.to == "" {
		if o.unsigned {
			return nil, usageError("", "--unsigned goes with --case")
		}
		if o.record {
			return nil, usageError("", "--record goes with --case")
		}
		return nil, nil
	}
	if entries, err := os.ReadDir(o.to); err == nil && len(entries) > 0 {
		return nil, usageError("choose another name", "--case: %s exists, and is not empty", o.to)
	} else if _, err := os.Lstat(o.to); err == nil && entries == nil {
		return nil, usageError("choose another name", "--case: %s exists", o.to)
	}
	var ledger *api.ClientConfig
	if o.record {
		var err error
		if ledger, err = ledgerToReport(ctx); err != nil {
			return nil, err
		}
	}
	var open opener
	var where *services
	if !o.unsigned {
		var err error
		if where, err = o.signing.find(ctx); err != nil {
			return nil, err
		}
		if open, err = o.signing.signer(ctx, cmd.InOrStdin(), cmd.ErrOrStderr()); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, c *investigate.Case, e *investigate.Evidence) error {
		m, err := casefile.Make(c, e)
		if err != nil {
			return err
		}
		if open != nil {
			var session *sign.Session
			if session, err = open(ctx, where); err != nil {
				return err
			}
			if m[casefile.BundleName], err = session.Artifact(ctx, bytes.NewReader(m[casefile.ManifestName])); err != nil {
				return fmt.Errorf("the case was not signed, and not written: %w", err)
			}
		}
		if err := m.Write(o.to); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return usageError("choose another name", "--case: %v", err)
			}
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "kept in %s: manifest %s\n", o.to, casefile.Digest(m[casefile.ManifestName]))
		if ledger == nil {
			return nil
		}
		return o.report(ctx, cmd.ErrOrStderr(), ledger, c.Subject, casefile.Digest(m[casefile.ManifestName]))
	}, nil
}

// report records that the case with a manifest was signed. If that fails, the case is kept all the same: who
// investigates needs it, and the error says what is missing.
func (o *caseOptions) report(ctx context.Context, errs io.Writer, ledger *api.ClientConfig, about investigate.Subject, manifest string) error {
	ctx, cancel := withTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	r := audit.Record{Kind: audit.KindCase, Outcome: audit.Done, Evidence: []string{manifest}, About: audit.About{Digest: about.Digest, Source: about.Source}}
	switch about.Kind {
	case investigate.Commit:
		r.About.Commit = about.Name
	case investigate.Builder:
		r.About.Builder = about.Name
	}
	added, err := ledger.Report(ctx, r)
	if err != nil {
		return fmt.Errorf("the case is kept in %s, but it is not in the audit ledger: %w", o.to, err)
	}
	fmt.Fprintf(errs, "recorded in the audit ledger: %s\n", added.ID)
	return nil
}
