package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// bounded is a source whose files that are too large are findings, and else as if they were missing.
type bounded struct {
	Source
	report *Report
	told   map[string]bool
}

func (b *bounded) read(path string, data []byte, err error) ([]byte, error) {
	if max, tooLarge := errors.AsType[strict.TooLarge](err); tooLarge {
		if !b.told[path] {
			b.told[path] = true
			b.report.found(path, fmt.Sprintf("byte %d", int(max)), "it is longer than such a file can be")
		}
		return nil, fs.ErrNotExist
	}
	return data, err
}

// Tile implements tlog.Source.
func (b *bounded) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := b.Source.Tile(ctx, t)
	return b.read(t.Path(), data, err)
}

// File implements Source.
func (b *bounded) File(ctx context.Context, path string) ([]byte, error) {
	data, err := b.Source.File(ctx, path)
	return b.read(path, data, err)
}

// Checkpoint implements tlog.Source.
func (b *bounded) Checkpoint(ctx context.Context) ([]byte, error) {
	data, err := b.Source.Checkpoint(ctx)
	return b.read("checkpoint", data, err)
}
