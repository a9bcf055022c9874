// Package tiles checks the directory of a log that Tessera writes, and implements Log, the log with
// one writer that the platform's small logs are. Tessera makes a new log if its own files are missing,
// and serves nothing itself; Check finds out before Tessera starts that a file is missing or damaged,
// and Scrub compares all tiles with the checkpoint.
package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// Check fails if the log in dir is damaged where Tessera would not notice: its checkpoint must
// be signed by the key, the tree that Tessera goes on with must extend the checkpoint's, and
// neither may be missing if the log has entries.
func Check(ctx context.Context, dir string, key note.Verifier) error {
	tree, err := integrated(dir)
	noState := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noState {
		return err
	}
	path := filepath.Join(dir, "checkpoint")
	signed, err := strict.ReadFile(path, tlog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		if tree.Size > 0 {
			return fmt.Errorf("%s is missing, but the log has %d entries; restore it from a backup", path, tree.Size)
		}
		return nil // new, or a crash came before the first checkpoint
	} else if err != nil {
		return err
	}
	cp, err := tlog.OpenCheckpoint(signed, key)
	if err != nil {
		return fmt.Errorf("%s is damaged: %w; restore it from a backup", path, err)
	}
	if noState {
		if cp.Size > 0 {
			return fmt.Errorf("%s is missing, but the log has %d entries; restore it from a backup", statePath(dir), cp.Size)
		}
		return nil
	}
	tree.Origin = cp.Origin
	if err := tlog.Extends(ctx, tlog.Dir(dir), cp, tree); err != nil {
		return fmt.Errorf("%s or the tiles are damaged: %w; restore the log from a backup", statePath(dir), err)
	}
	return nil
}

// statePath returns the path of the file in which Tessera keeps how far the tree is built.
func statePath(dir string) string { return filepath.Join(dir, ".state", "treeState") }

// integrated returns size and root of the tree that Tessera has built.
func integrated(dir string) (tree tlog.Checkpoint, err error) {
	data, err := strict.ReadFile(statePath(dir), 4096)
	if err != nil {
		return tree, err
	}
	var state struct {
		Size int64  `json:"size"`
		Root []byte `json:"root"`
	}
	if err := strict.UnmarshalKnown(data, len(data), &state); err != nil {
		return tree, fmt.Errorf("%s is damaged: %w; restore it from a backup", statePath(dir), err)
	}
	if state.Size < 0 || len(state.Root) != len(tree.Root) {
		return tree, fmt.Errorf("%s is damaged: got a tree of %d entries and a root of %d bytes; restore it from a backup", statePath(dir), state.Size, len(state.Root))
	}
	tree.Size, tree.Root = state.Size, tlog.Hash(state.Root)
	return tree, nil
}

// Scrub compares the checkpoint in src and all tiles under it. path returns the path of a file
// for reports, and verify checks the data of a tile: see tlog.VerifyTile.
func Scrub(ctx context.Context, r *intact.Report, src tlog.Source, key note.Verifier, path func(name string) string,
	verify func(context.Context, tlog.Source, tlog.Checkpoint, tlog.Tile, []byte) error) error {
	signed, err := src.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		r.Found(path("checkpoint"), "it is missing", nil)
		return nil
	} else if err != nil {
		return err
	}
	cp, err := tlog.OpenCheckpoint(signed, key)
	if err != nil {
		r.Found(path("checkpoint"), err.Error(), nil)
		return nil
	}
	r.Read(int64(len(signed)))
	for level := tlog.Entries; level <= 5; level++ {
		for index := int64(0); ; index++ {
			t, ok := tlog.Tile{Level: level, Index: index}.At(cp.Size)
			if !ok {
				break
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			data, err := src.Tile(ctx, t)
			if errors.Is(err, fs.ErrNotExist) && t.Width < tlog.TileWidth {
				// Tessera deletes a partial tile when it has written the full one.
				if _, fullErr := src.Tile(ctx, tlog.Tile{Level: level, Index: index, Width: tlog.TileWidth}); fullErr == nil {
					continue
				}
			}
			if err == nil {
				err = verify(ctx, src, cp, t, data)
			}
			if err != nil {
				r.Found(path(t.Path()), err.Error(), nil)
				continue
			}
			r.Read(int64(len(data)))
		}
	}
	return nil
}
