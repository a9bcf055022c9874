package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/investigate"
)

// caseOptions say where to keep a case, and who signs it.
type caseOptions struct {
	to       string
	unsigned bool
	signing  signingOptions
}

func (o *caseOptions) flags(cmd *cobra.Command) {}

// prepare returns what writes the case; nil without --case.
func (o *caseOptions) prepare(ctx context.Context, cmd *cobra.Command) (func(*investigate.Case, *investigate.Evidence) error, error) {
	return nil, nil
}
