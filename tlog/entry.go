package tlog

import (
	"context"
	"fmt"
)

// Entry returns the entry at index, counted from 0, and its inclusion proof in the tree
// of cp. It reads tiles from src, makes the proof from them, and verifies it with the
// entry: what it returns is in the log.
func Entry(ctx context.Context, src Source, cp Checkpoint, index int64) (entry []byte, proof []Hash, err error) {
	if proof, err = Inclusion(ctx, src, cp, index); err != nil {
		return nil, nil, err
	}
	t, _ := Tile{Level: Entries, Index: index / TileWidth}.At(cp.Size)
	data, err := ReadTile(ctx, src, t)
	if err != nil {
		return nil, nil, err
	}
	entries, err := SplitEntries(data)
	if err != nil {
		return nil, nil, fmt.Errorf("log %s: %s: %w", cp.Origin, t.Path(), err)
	}
	entry = entries[index%TileWidth]
	return entry, proof, VerifyInclusion(cp, index, LeafHash(entry), proof)
}
