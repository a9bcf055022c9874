package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/investigate/casefile"
	"github.com/colophon-build/colophon/sign"
)

// caseOptions say where to keep a case, and who signs it.
type caseOptions struct {
	to       string
	unsigned bool
	signing  signingOptions
}

func (o *caseOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.to, "case", "", "keep the case with all evidence in this `FILE`, a zip if it ends in .zip, else a directory; it is signed and logged")
	f.BoolVar(&o.unsigned, "unsigned", false, "with --case: do not sign it; nobody can check then who made it")
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
		return nil, nil
	}
	if entries, err := os.ReadDir(o.to); err == nil && len(entries) > 0 {
		return nil, usageError("choose another name", "--case: %s exists, and is not empty", o.to)
	} else if _, err := os.Lstat(o.to); err == nil && entries == nil {
		return nil, usageError("choose another name", "--case: %s exists", o.to)
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
		return nil
	}, nil
}
