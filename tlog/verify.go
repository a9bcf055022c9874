package tlog

import (
	"context"
	"fmt"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// VerifyTile fails unless data is the tile t of the tree of cp. It reads hash tiles from
// src, and fails if they do not belong to cp. Entries of the level Entries are those
// of C2SP tlog-tiles; for another format see VerifyLeaves.
func VerifyTile(ctx context.Context, src Source, cp Checkpoint, t Tile, data []byte) error {
	if t.Level == Entries {
		entries, err := SplitEntries(data)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Path(), err)
		}
		leaves := make([]Hash, len(entries))
		for i, entry := range entries {
			leaves[i] = LeafHash(entry)
		}
		return VerifyLeaves(ctx, src, cp, t, leaves)
	}
	if want := t.Width * len(Hash{}); len(data) != want {
		return fmt.Errorf("%s: got %d bytes, want %d", t.Path(), len(data), want)
	}
	if err := t.within(cp); err != nil {
		return err
	}
	r, err := reader(ctx, src, cp)
	if err != nil {
		return err
	}
	indexes := make([]int64, t.Width)
	for i := range indexes {
		indexes[i] = merkle.StoredHashIndex(tileHeight*t.Level, t.Index*TileWidth+int64(i))
	}
	hashes, err := r.ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Path(), err)
	}
	for i, want := range hashes {
		if got := Hash(data[i*len(want) : (i+1)*len(want)]); got != want {
			return fmt.Errorf("%s: hash %d: got %v, want %v", t.Path(), i, got, want)
		}
	}
	return nil
}

// VerifyLeaves fails unless leaves are the leaf hashes of the entries of t, a tile of the
// level Entries, in the tree of cp. It reads hash tiles from src, and fails if they do
// not belong to cp.
func VerifyLeaves(ctx context.Context, src Source, cp Checkpoint, t Tile, leaves []Hash) error {
	if len(leaves) != t.Width {
		return fmt.Errorf("%s: got %d entries, want %d", t.Path(), len(leaves), t.Width)
	}
	if err := t.within(cp); err != nil {
		return err
	}
	from := t.Index * TileWidth
	want, err := Leaves(ctx, src, cp, from, from+int64(t.Width))
	if err != nil {
		return fmt.Errorf("%s: %w", t.Path(), err)
	}
	for i := range want {
		if leaves[i] != want[i] {
			return fmt.Errorf("%s: leaf hash of entry %d: got %v, want %v", t.Path(), from+int64(i), leaves[i], want[i])
		}
	}
	return nil
}

// within fails unless the tree of cp has all of the tile.
func (t Tile) within(cp Checkpoint) error {
	if have, ok := t.At(cp.Size); !ok || have.Width < t.Width {
		return fmt.Errorf("%s is not in the tree of %d entries", t.Path(), cp.Size)
	}
	return nil
}
