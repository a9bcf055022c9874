package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

// levels is how many levels of hash tiles a log can have (C2SP tlog-tiles).
const levels = 6

// tree is the right edge of the tree of the first size entries: what its partial tiles hold.
type tree struct {
	size     int64
	edges    [levels][]tlog.Hash
	entries  [][]byte // of the last bundle, less than tlog.TileWidth
	openings [][]byte // of the same entries: the lines of their file
}

// written is a file of the ledger: its path below the directory, and its content.
type written struct {
	path string
	data []byte
}

// grow returns the tree with the entries of batch, and the files that make it up and are not those
// of t. t stays as it is.
func (t *tree) grow(batch []entry) (*tree, []written, error) {
	next := &tree{size: t.size, entries: slices.Clone(t.entries), openings: slices.Clone(t.openings)}
	for i := range t.edges {
		next.edges[i] = slices.Clone(t.edges[i])
	}
	var out []written
	for _, e := range batch {
		raw := e.leaf.Bytes()
		line, err := openingsLine(e.openings)
		if err != nil {
			return nil, nil, err
		}
		out = next.push(out, 0, tlog.LeafHash(raw))
		next.entries, next.openings = append(next.entries, raw), append(next.openings, line)
		next.size++
		if len(next.entries) == tlog.TileWidth {
			out = append(out, next.bundles()...)
			next.entries, next.openings = nil, nil
		}
	}
	for level, hashes := range next.edges {
		if len(hashes) > 0 {
			out = append(out, hashTile(next.partial(level), hashes))
		}
	}
	if len(next.entries) > 0 {
		out = append(out, next.bundles()...)
	}
	return next, out, nil
}

// push adds a hash to a level, and the roots of tiles that are full to the levels above.
func (t *tree) push(out []written, level int, h tlog.Hash) []written {
	t.edges[level] = append(t.edges[level], h)
	root, full := tlog.Subtree(t.edges[level])
	if !full {
		return out
	}
	count := (t.size + 1) >> (8 * (level + 1)) // full tiles of this level, with this one
	out = append(out, hashTile(tlog.Tile{Level: level, Index: count - 1, Width: tlog.TileWidth}, t.edges[level]))
	t.edges[level] = nil
	return t.push(out, level+1, root)
}

// partial returns the last tile of a level.
func (t *tree) partial(level int) tlog.Tile {
	return tlog.Tile{Level: level, Index: t.size >> (8 * (max(level, 0) + 1)), Width: int(t.size >> (8 * max(level, 0)) % tlog.TileWidth)}
}

func hashTile(t tlog.Tile, hashes []tlog.Hash) written {
	var data []byte
	for _, h := range hashes {
		data = append(data, h[:]...)
	}
	return written{t.Path(), data}
}

// bundles returns the last bundle of entries, full or not, and the file of their openings.
func (t *tree) bundles() []written {
	tile := tlog.Tile{Level: tlog.Entries, Index: (t.size - 1) / tlog.TileWidth, Width: len(t.entries)}
	var data []byte
	for _, raw := range t.entries {
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(raw))), raw...)
	}
	return []written{{tile.Path(), data}, {files.OpeningsPath(tile), bytes.Join(t.openings, nil)}}
}

// openingsLine returns the line of one entry in the file of its bundle's openings.
func openingsLine(of []records.Opening) ([]byte, error) {
	return files.Openings([][]records.Opening{of})
}

// root returns the root of the tree (RFC 6962, 2.1): the roots of its perfect subtrees, from the
// largest to the smallest, folded from the right.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return tlog.EmptyRoot()
	}
	var perfect []tlog.Hash
	for level := levels - 1; level >= 0; level-- {
		rest := t.edges[level]
		for n := tlog.TileWidth / 2; n > 0; n /= 2 {
			if len(rest) >= n {
				perfect, rest = append(perfect, subtree(rest[:n])), rest[n:]
			}
		}
	}
	root := perfect[len(perfect)-1]
	for _, left := range slices.Backward(perfect[:len(perfect)-1]) {
		root = merkle.NodeHash(left, root)
	}
	return root
}

// subtree returns the root of a number of hashes that is a power of two.
func subtree(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	return merkle.NodeHash(subtree(hashes[:len(hashes)/2]), subtree(hashes[len(hashes)/2:]))
}

// loadTree reads the right edge of the tree of a checkpoint, and verifies it.
func loadTree(ctx context.Context, dir string, cp tlog.Checkpoint) (*tree, error) {
	t := &tree{size: cp.Size}
	src := tlog.Dir(dir)
	for level := range levels {
		tile := t.partial(level)
		if tile.Width == 0 {
			continue
		}
		data, err := tlog.ReadTile(ctx, src, tile)
		if err != nil {
			return nil, err
		}
		for hash := range slices.Chunk(data, len(tlog.Hash{})) {
			t.edges[level] = append(t.edges[level], tlog.Hash(hash))
		}
	}
	if root := t.root(); root != cp.Root {
		return nil, fmt.Errorf("the tiles in %s are damaged: expected the root %v of %d entries, found %v; restore them from a backup", dir, cp.Root, cp.Size, root)
	}
	if tile := t.partial(tlog.Entries); tile.Width > 0 {
		data, err := tlog.ReadTile(ctx, src, tile)
		if err != nil {
			return nil, err
		}
		if t.entries, err = tlog.SplitEntries(data); err != nil {
			return nil, fmt.Errorf("%s: %w", tile.Path(), err)
		}
		for i, raw := range t.entries {
			if tlog.LeafHash(raw) != t.edges[0][i] {
				return nil, fmt.Errorf("%s: entry %d is damaged; restore it from a backup", tile.Path(), t.size-int64(len(t.entries)-i))
			}
		}
		openings, err := files.ReadOpenings(ctx, files.Dir(dir), tile)
		if err != nil {
			return nil, err
		}
		for _, of := range openings {
			line, err := openingsLine(of)
			if err != nil {
				return nil, err
			}
			t.openings = append(t.openings, line)
		}
	}
	return t, nil
}

// write writes files of the ledger. A crash of the machine may lose them: until sync, the journal
// has what they are made from.
func write(dir string, out []written) error {
	for _, f := range out {
		path := filepath.Join(dir, filepath.FromSlash(f.path))
		old, err := os.ReadFile(path)
		if err == nil && bytes.Equal(old, f.data) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp-")
		if err := os.WriteFile(tmp, f.data, 0o644); err != nil {
			return errors.Join(err, os.Remove(tmp))
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return nil
}

// anew writes files of the ledger once more, and to the disk. A file whose fsync failed before the
// start may be in memory alone, where it looks as if it were there.
func anew(dir string, paths map[string]bool) error {
	for path := range paths {
		path = filepath.Join(dir, filepath.FromSlash(path))
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // as in syncFiles
			continue
		}
		if err == nil {
			err = durable.WriteFile(path, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errSync is in the chain of an error after which nobody knows what is on the disk: the next fsync
// may succeed, and the bytes are still not there.
var errSync = errors.New("not written to the disk")

// syncFiles fsyncs files of the ledger and the directories that they are in. What it fails with is
// an errSync if an fsync failed.
func syncFiles(dir string, paths map[string]bool) error {
	dirs := map[string]bool{}
	for path := range paths {
		path = filepath.Join(dir, filepath.FromSlash(path))
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) { // a partial tile, of which there is a larger one
			continue
		} else if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("%w: %w", errSync, err)
		}
		for d := filepath.Dir(path); len(d) >= len(dir); d = filepath.Dir(d) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		if err := durable.SyncDir(d); err != nil {
			return fmt.Errorf("%w: %w", errSync, err)
		}
	}
	return nil
}

// base is the tree that is on the disk for good: after a crash, it grows again from the journal.
type base struct {
	Size int64  `json:"size"`
	Root []byte `json:"root"`
}

func (b base) bytes() []byte {
	raw, _ := json.Marshal(b) // numbers and bytes always marshal
	return append(raw, '\n')
}
