package tlog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	merkle "golang.org/x/mod/sumdb/tlog"
)

var emptyRoot = Hash(sha256.Sum256(nil))

// EmptyRoot returns the root hash of a log without entries: the SHA-256 of no
// bytes (RFC 6962, 2.1).
func EmptyRoot() Hash { return emptyRoot }

// Inclusion makes the inclusion proof of the entry at index, counted from 0, in the
// tree of cp. It reads tiles from src, and fails if they do not belong to cp.
// VerifyInclusion then checks that the proof is for the entry the caller expects.
func Inclusion(ctx context.Context, src Source, cp Checkpoint, index int64) ([]Hash, error) {
	if index < 0 || index >= cp.Size {
		return nil, fmt.Errorf("log %s: entry %d does not exist, the log has %d entries", cp.Origin, index, cp.Size)
	}
	r, err := reader(ctx, src, cp)
	if err != nil {
		return nil, err
	}
	proof, err := merkle.ProveRecord(cp.Size, index, r)
	if err != nil {
		return nil, fmt.Errorf("log %s: proving entry %d of %d: %w", cp.Origin, index, cp.Size, err)
	}
	return proof, nil
}

var errProof = errors.New("the hashes of the proof do not lead to the root of the checkpoint")

// VerifyInclusion verifies an inclusion proof (RFC 9162, 2.1.3.2): it fails unless
// the tree of cp has the leaf hash at index. See LeafHash.
func VerifyInclusion(cp Checkpoint, index int64, leaf Hash, proof []Hash) error {
	if err := cp.checkSize(); err != nil {
		return err
	}
	if err := merkle.CheckRecord(proof, cp.Size, cp.Root, index, leaf); err != nil {
		return fmt.Errorf("log %s: entry %d of %d: %w", cp.Origin, index, cp.Size, errProof)
	}
	return nil
}

// Consistency makes the consistency proof between the tree of cp and the older
// tree of its first size entries. It reads tiles from src, and fails if they do not
// belong to cp. The proof is empty if size is 0 or the size of cp.
func Consistency(ctx context.Context, src Source, size int64, cp Checkpoint) ([]Hash, error) {
	if size < 0 || size > cp.Size {
		return nil, fmt.Errorf("log %s: size: got %d, want 0 to %d", cp.Origin, size, cp.Size)
	}
	if size == 0 || size == cp.Size {
		return nil, nil
	}
	r, err := reader(ctx, src, cp)
	if err != nil {
		return nil, err
	}
	proof, err := merkle.ProveTree(cp.Size, size, r)
	if err != nil {
		return nil, fmt.Errorf("log %s: proving %d entries within %d: %w", cp.Origin, size, cp.Size, err)
	}
	return proof, nil
}

// VerifyConsistency verifies a consistency proof (RFC 9162, 2.1.4.2): it fails
// unless newer contains all entries of older, unchanged and in the same order.
func VerifyConsistency(older, newer Checkpoint, proof []Hash) error {
	err := newer.checkSize()
	switch {
	case err != nil:
	case older.Origin != newer.Origin:
		return fmt.Errorf("the checkpoints are of different logs: %q and %q", older.Origin, newer.Origin)
	case older.Size > newer.Size:
		err = fmt.Errorf("the log has shrunk")
	case older.Size == newer.Size && older.Root != newer.Root:
		err = fmt.Errorf("roots differ: %v and %v", older.Root, newer.Root)
	case older.Size == newer.Size, older.Size == 0:
		if older.Size == 0 && older.Root != emptyRoot {
			err = fmt.Errorf("root of an empty log: got %v, want %v", older.Root, emptyRoot)
		} else if len(proof) != 0 {
			err = fmt.Errorf("proof: got %d hashes, want none", len(proof))
		}
	default:
		if merkle.CheckTree(proof, newer.Size, newer.Root, older.Size, older.Root) != nil {
			err = errProof
		}
	}
	if err != nil {
		return fmt.Errorf("log %s: %d entries are not a prefix of %d: %w", newer.Origin, older.Size, newer.Size, err)
	}
	return nil
}

// Extends fails unless newer contains all entries of older, unchanged and in the
// same order. It makes the proof from the tiles of src: see Consistency and
// VerifyConsistency.
func Extends(ctx context.Context, src Source, older, newer Checkpoint) error {
	var proof []Hash
	if older.Size <= newer.Size {
		var err error
		if proof, err = Consistency(ctx, src, older.Size, newer); err != nil {
			return err
		}
	}
	return VerifyConsistency(older, newer, proof)
}

// Root returns the root hash of the tree of the first size entries of cp. It reads
// tiles from src, and fails if they do not belong to cp.
func Root(ctx context.Context, src Source, size int64, cp Checkpoint) (Hash, error) {
	switch {
	case size < 0 || size > cp.Size:
		return Hash{}, fmt.Errorf("log %s: size: got %d, want 0 to %d", cp.Origin, size, cp.Size)
	case size == 0:
		return emptyRoot, nil
	}
	r, err := reader(ctx, src, cp)
	if err != nil {
		return Hash{}, err
	}
	return merkle.TreeHash(size, r)
}

// Leaves returns the leaf hashes of the entries [from, to) in the tree of cp, at
// most TileWidth of them. It reads tiles from src, and fails if they do not belong
// to cp.
func Leaves(ctx context.Context, src Source, cp Checkpoint, from, to int64) ([]Hash, error) {
	return Nodes(ctx, src, cp, 0, from, to)
}

// Nodes returns the hashes [from, to) of a level of tiles in the tree of cp, at most
// TileWidth of them. Level 0 has the leaf hashes, and each hash of a higher level is
// the root of TileWidth hashes of the level below. Nodes reads tiles from src, and
// fails if they do not belong to cp.
func Nodes(ctx context.Context, src Source, cp Checkpoint, level int, from, to int64) ([]Hash, error) {
	if err := cp.checkSize(); err != nil {
		return nil, err
	}
	if level < 0 || level > maxLevel || from < 0 || to < from || to > cp.Size>>(tileHeight*level) || to-from > TileWidth {
		return nil, fmt.Errorf("log %s: cannot read the hashes [%d, %d) of level %d, the log has %d entries", cp.Origin, from, to, level, cp.Size)
	}
	indexes := make([]int64, 0, to-from)
	for i := from; i < to; i++ {
		indexes = append(indexes, merkle.StoredHashIndex(tileHeight*level, i))
	}
	r, err := reader(ctx, src, cp)
	if err != nil {
		return nil, err
	}
	return r.ReadHashes(indexes)
}

// Subtree returns the root of a full tile of hashes, and false if there are not
// TileWidth of them. This root is a hash of the level above: see Nodes.
func Subtree(hashes []Hash) (root Hash, ok bool) {
	if len(hashes) != TileWidth {
		return Hash{}, false
	}
	var nodes [TileWidth]Hash
	copy(nodes[:], hashes)
	for n := TileWidth; n > 1; n /= 2 {
		for i := range n / 2 {
			nodes[i] = merkle.NodeHash(nodes[2*i], nodes[2*i+1])
		}
	}
	return nodes[0], true
}

// reader reads hashes from tiles. It fails for hashes that the root of cp does not
// commit to.
func reader(ctx context.Context, src Source, cp Checkpoint) (merkle.HashReader, error) {
	if err := cp.checkSize(); err != nil {
		return nil, err
	}
	return merkle.TileHashReader(merkle.Tree{N: cp.Size, Hash: cp.Root}, tiles{ctx, src}), nil
}

type tiles struct {
	ctx context.Context
	src Source
}

func (r tiles) Height() int                       { return tileHeight }
func (r tiles) SaveTiles([]merkle.Tile, [][]byte) {}

func (r tiles) ReadTiles(want []merkle.Tile) ([][]byte, error) {
	data := make([][]byte, len(want))
	for i, t := range want {
		var err error
		if data[i], err = ReadTile(r.ctx, r.src, Tile{Level: t.L, Index: t.N, Width: t.W}); err != nil {
			return nil, err
		}
	}
	return data, nil
}
