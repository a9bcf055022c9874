package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/source"
)

// files reads the files of a directory, as lint does.
func (o *levelOptions) files(ctx context.Context, cmd *cobra.Command, d *report.Document, e *level.Evidence) error {
	resolve := o.resolve // a file with resolutions is about the files: the repository can be asked
	resolver, keep, err := resolve.resolver(cmd)
	if err != nil {
		return err
	}
	tree, err := finding.OpenTree(ctx, d.Directory)
	if err != nil {
		return err
	}
	defer tree.Close()
	if e.Lint, err = lint.Run(ctx, tree, lint.Checkers(resolver)); err != nil {
		return err
	}
	e.Files = tree.Files()
	keep()
	return nil
}

// checkout asks about the commit that is checked out in a directory. What cannot be asked is not
// known, and no error: the files were read.
func (o *levelOptions) checkout(ctx context.Context, d *report.Document, e *level.Evidence) error {
	from, err := source.ReadCheckout(ctx, d.Directory)
	if err != nil {
		e.NoTrack = "git does not say what is checked out: " + err.Error()
		return nil
	}
	address := from.Origin
	if o.source != "" {
		address = o.source
	}
	switch {
	case o.resolve.offline:
		e.NoTrack = "the repository was not asked: --offline"
	case address == "":
		e.NoTrack = `the directory has no remote "origin": name the repository with --source`
	case o.source == "" && (o.forge.token != "" || o.forge.api != ""):
		return usageError("add --source URI", "--forge-token-file and --forge-api need the name of the repository: the directory must not choose who gets a token")
	}
	if e.NoTrack != "" {
		return nil
	}
	if d.Repository, err = source.Canonical(address); err != nil {
		if o.source != "" {
			return usageError("", "--source: %v", err)
		}
		e.NoTrack = "the address of the remote \"origin\" cannot be used: name the repository with --source"
		return nil
	}
	if o.ref == "" && o.commit == "" {
		o.ref, o.commit = from.Ref, from.Commit
	}
	err = o.track(ctx, d, e)
	if _, usage := errors.AsType[*exitError](err); err != nil && !usage {
		e.NoTrack, err = "the repository did not answer: "+err.Error(), nil
	}
	return err
}
