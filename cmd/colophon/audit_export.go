package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/tlog"
)

func newAuditExportCommand() *cobra.Command {
	var o output
	var l ledgerOptions
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "copy a ledger to files that verify offline",
		Long: `Export copies the files of a ledger to a new directory: checkpoint, tiles, openings and
segments. It verifies each byte of them as "colophon audit verify" does, and that the tree
extends the newest tree that this machine has seen.

The copy has the openings of hidden fields: who may read it finds what records hide.

Exit codes: 3 if anything is wrong with the ledger; the copy is kept then. 4 if the ledger
could not be read.`,
		Example: `  colophon audit export /backup/audit-2026-11`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runAuditExport(cmd, args[0], l, o) },
	}
	o.flags(cmd)
	l.flags(cmd, time.Hour)
	return cmd
}

func runAuditExport(cmd *cobra.Command, dir string, l ledgerOptions, o output) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return usageError("", "%s exists; name a new directory", printable.Line(dir))
	}
	ctx, cancel := withTimeout(cmd.Context(), l.timeout)
	defer cancel()
	ledger, err := l.openLedger(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	r, err := ledger.verify(ctx, func(src files.Source) files.Source { return saving{src, dir} })
	if err != nil {
		return ledger.exit(err)
	}
	return newAuditReport(ledger.verifier.Name(), r).finish(cmd.OutOrStdout(), dir, o)
}

// verify reads the whole ledger. through, if set, is between the ledger and who verifies it. A ledger
// that grows meanwhile no longer has some of the files that the checkpoint was about: then verify
// begins again.
func (l *auditLedger) verify(ctx context.Context, through func(files.Source) files.Source) (*files.Report, error) {
	public, err := files.PublicKey(l.vkey)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		signed, err := l.Checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		cp, err := tlog.OpenCheckpoint(signed, l.verifier)
		if err != nil {
			return nil, err
		}
		if err := l.advance(ctx, string(signed), cp); err != nil {
			return nil, err
		}
		var src files.Source = at{l.HTTP, signed}
		if through != nil {
			src = through(src)
		}
		r, err := files.Verify(ctx, src, l.verifier, public, nil)
		if err != nil || len(r.Findings) == 0 || try == 2 {
			return r, err
		}
		if now, err := l.Checkpoint(ctx); err != nil || string(now) == string(signed) {
			return r, err
		}
	}
}

// at is a ledger at one of its checkpoints.
type at struct {
	files.HTTP
	signed []byte
}

func (a at) Checkpoint(context.Context) ([]byte, error) { return a.signed, nil }

// saving writes what is read to a directory.
type saving struct {
	files.Source
	dir string
}

func (s saving) save(path string, data []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	path = filepath.Join(s.dir, filepath.FromSlash(path)) // of our own making: tlog.Tile.Path and its like
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, data, 0o600); err != nil {
		return nil, fmt.Errorf("writing the copy: %w", err)
	}
	return data, nil
}

func (s saving) Checkpoint(ctx context.Context) ([]byte, error) {
	data, err := s.Source.Checkpoint(ctx)
	return s.save("checkpoint", data, err)
}

func (s saving) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := s.Source.Tile(ctx, t)
	return s.save(t.Path(), data, err)
}

func (s saving) File(ctx context.Context, path string) ([]byte, error) {
	data, err := s.Source.File(ctx, path)
	return s.save(path, data, err)
}
