package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

const (
	copyWriters = 16 // files written at once: each waits for the disk
	topLevel    = 5  // of tiles
)

// file is a tile of the copy.
type file struct {
	tile tlog.Tile
	data []byte
}

// checkCopy fails if state and copy cannot be of one time. The state is always on disk before the
// copy: a copy without it, or a newer one, means that what the log signed last was forgotten.
func (f *Follower) checkCopy() error {
	dir := string(f.Copy())
	_, err := os.Stat(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if f.cfg.Copy && f.state.Next > 0 {
		switch {
		case !f.state.Copy:
			return fmt.Errorf("%s was followed without a copy up to entry %d: use another directory", f.cfg.Dir, f.state.Next)
		case missing:
			return fmt.Errorf("%s is missing, and should have %d entries: use another directory", dir, f.state.Next)
		}
	}
	if missing {
		return nil
	}
	if f.state.Checkpoint == "" {
		return fmt.Errorf("%s is there, and the file \"state\" of %s is missing: use another directory", dir, f.cfg.Dir)
	}
	signed, err := f.Copy().Checkpoint(context.Background())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	switch cp, err := tlog.OpenCheckpoint(signed, f.cfg.Key); {
	case err != nil:
		return fmt.Errorf("%s is damaged, or the copy of another log: %w", dir, err)
	case cp.Size > f.state.seen.Size || cp.Size == f.state.seen.Size && cp.Root != f.state.seen.Root:
		return fmt.Errorf("%s has %d entries with root %v, and the file \"state\" has seen %d with root %v: it is older, or of another history", dir, cp.Size, cp.Root, f.state.seen.Size, f.state.seen.Root)
	}
	return nil
}

// copyEntries writes verified tiles of entries into the copy, and the full tiles of hashes
// that they complete.
func (f *Follower) copyEntries(ctx context.Context, bundles []bundle) error {
	var files []file
	for _, b := range bundles {
		files = append(files, file{b.tile, b.data})
		if b.tile.Width < tlog.TileWidth {
			continue // publish writes the tiles at the edge of the tree
		}
		files = append(files, file{tlog.Tile{Index: b.tile.Index, Width: tlog.TileWidth}, concat(b.leaves)})
		for level, n := 1, b.tile.Index+1; n%tlog.TileWidth == 0; level++ {
			n /= tlog.TileWidth
			t, err := f.hashTile(ctx, tlog.Tile{Level: level, Index: n - 1, Width: tlog.TileWidth})
			if err != nil {
				return err
			}
			files = append(files, t)
		}
	}
	return f.write(files)
}

// publish writes the partial tiles of hashes of the checkpoint that was seen, and then that
// checkpoint: whoever reads it from the copy finds all of its tiles there.
func (f *Follower) publish(ctx context.Context) error {
	path := filepath.Join(string(f.Copy()), "checkpoint")
	old, err := strict.ReadFile(path, tlog.MaxCheckpoint)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if bytes.Equal(old, []byte(f.state.Checkpoint)) {
		return nil
	}
	size := f.state.seen.Size
	var files []file
	for level := 0; size>>(8*level) > 0; level++ {
		edge, ok := tlog.Tile{Level: level, Index: size >> (8 * level) / tlog.TileWidth}.At(size)
		if !ok {
			continue
		}
		t, err := f.hashTile(ctx, edge)
		if err != nil {
			return err
		}
		files = append(files, t)
	}
	if err := f.write(files); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, []byte(f.state.Checkpoint), 0o600)
}

// sweep removes what a crash left half-written: beside the state, and where the tiles of the
// next batch go.
func (f *Follower) sweep() error {
	dirs := map[string]bool{f.cfg.Dir: true, filepath.Join(f.cfg.Dir, "evidence"): true, string(f.Copy()): true}
	for level := tlog.Entries; level <= topLevel; level++ {
		index := f.state.Next >> (8 * (max(level, 0) + 1))
		for _, index := range []int64{index, index + batchTiles} {
			t := tlog.Tile{Level: level, Index: index, Width: tlog.TileWidth}
			path := filepath.Join(string(f.Copy()), filepath.FromSlash(t.Path()))
			dirs[filepath.Dir(path)], dirs[path+".p"] = true, true
		}
	}
	for dir := range dirs {
		if err := durable.Sweep(dir); err != nil {
			return err
		}
	}
	return nil
}

// hashTile reads and verifies a tile of hashes.
func (f *Follower) hashTile(ctx context.Context, t tlog.Tile) (file, error) {
	var hashes []tlog.Hash
	err := f.twice(ctx, func() (err error) {
		from := t.Index * tlog.TileWidth
		hashes, err = tlog.Nodes(ctx, f.src, f.state.seen, t.Level, from, from+int64(t.Width))
		return err
	})
	if err != nil {
		return file{}, f.tileFailure(ctx, err, []byte(f.state.Checkpoint))
	}
	return file{t, concat(hashes)}, nil
}

// write writes tiles. They are on disk when it returns nil.
func (f *Follower) write(files []file) error {
	var group errgroup.Group
	group.SetLimit(copyWriters)
	for _, w := range files {
		group.Go(func() error {
			path := filepath.Join(string(f.Copy()), filepath.FromSlash(w.tile.Path()))
			if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := durable.WriteFile(path, w.data, 0o600); err != nil {
				return err
			}
			if w.tile.Width < tlog.TileWidth {
				return nil
			}
			return os.RemoveAll(path + ".p") // partial versions of the tile
		})
	}
	return group.Wait()
}

func concat(hashes []tlog.Hash) []byte {
	data := make([]byte, 0, len(hashes)*len(tlog.Hash{}))
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return data
}
