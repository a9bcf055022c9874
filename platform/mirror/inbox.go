package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// maxPending is how many checkpoints of a log an upload may be for, the newest ones.
const maxPending = 8

// inbox has what a log pushed and the copy does not have yet: pending checkpoints, and entries that are
// proven to be under one of them. It is the tlog.Source from which the follower makes the copy.
//
//	pending/SIZE   a checkpoint with the signature of the log
//	tile/…         tiles of entries, and the full tiles of hashes
//
// A file of entries is written after the tiles of hashes that it completes.
type inbox struct {
	dir    string
	copied tlog.Dir
	key    note.Verifier

	mu      sync.Mutex
	pending []pending       // by size
	last    tlog.Checkpoint // the newest that was seen, which the next one has to extend; zero: none
	next    int64           // the first entry that neither the inbox nor the copy has
	goal    *pending        // what Checkpoint returns; nil: what the copy has
}

type pending struct {
	tlog.Checkpoint
	signed []byte
}

// openInbox opens the inbox in dir, and creates it at first start.
func openInbox(dir string, key note.Verifier, copied tlog.Dir) (*inbox, error) {
	b := &inbox{dir: dir, key: key, copied: copied}
	if err := durable.MkdirAll(b.path("pending"), 0o700); err != nil {
		return nil, err
	}
	if err := durable.Sweep(b.path("pending")); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(b.path("pending"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		signed, err := strict.ReadFile(b.path("pending", f.Name()), tlog.MaxCheckpoint)
		if err != nil {
			return nil, err
		}
		cp, err := tlog.OpenCheckpoint(signed, key)
		if err != nil || strconv.FormatInt(cp.Size, 10) != f.Name() {
			return nil, fmt.Errorf("%s is damaged, or of another log: %w", b.path("pending", f.Name()), err)
		}
		b.pending = append(b.pending, pending{cp, signed})
	}
	slices.SortFunc(b.pending, func(x, y pending) int { return int(x.Size - y.Size) })
	if n := len(b.pending); n > 0 {
		b.last = b.pending[n-1].Checkpoint
	}
	return b, nil
}

func (b *inbox) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// resume finds the first entry that is missing, when the copy has those before copied of a log whose
// checkpoint seen is the newest that the follower knows: an inbox that somebody deleted forgets no history.
func (b *inbox) resume(copied int64, seen tlog.Checkpoint) error {
	if b.last.Origin == "" || b.last.Size < seen.Size {
		b.last = seen
	}
	b.next = copied
	for {
		data, err := b.entries(b.next / tlog.TileWidth)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		all, err := tlog.SplitEntries(data)
		if err != nil {
			return err
		}
		end := b.next/tlog.TileWidth*tlog.TileWidth + int64(len(all))
		if end <= b.next {
			return nil
		}
		b.next = end
	}
}

// entries returns the widest tile of entries that the inbox has at an index.
func (b *inbox) entries(index int64) ([]byte, error) {
	full := tlog.Tile{Level: tlog.Entries, Index: index, Width: tlog.TileWidth}
	data, err := tlog.Dir(b.dir).Tile(context.Background(), full)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	parts, err := os.ReadDir(b.path(filepath.FromSlash(full.Path()) + ".p"))
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if width, err := strconv.Atoi(p.Name()); err == nil && width > 0 && width < tlog.TileWidth {
			full.Width = max(full.Width%tlog.TileWidth, width)
		}
	}
	if full.Width == tlog.TileWidth {
		return nil, fs.ErrNotExist
	}
	return tlog.Dir(b.dir).Tile(context.Background(), full)
}

// newest returns the newest pending checkpoint, and the first missing entry.
func (b *inbox) newest() (cp tlog.Checkpoint, next int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.next
}

// at returns the pending checkpoint of a size.
func (b *inbox) at(size int64) (pending, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.pending, func(p pending) bool { return p.Size == size })
	if i < 0 {
		return pending{}, false
	}
	return b.pending[i], true
}

// extend keeps a checkpoint if it extends the newest pending one. Its error is a *witness.Refusal, or
// means that it could not be kept.
func (b *inbox) extend(r witness.Request) error {
	cp, _, err := r.Open(b.key.Name(), b.key)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := r.Extends(b.last, cp); err != nil {
		return err
	}
	if slices.ContainsFunc(b.pending, func(p pending) bool { return p.Size == cp.Size }) {
		return nil
	}
	if err := durable.WriteFile(b.path("pending", strconv.FormatInt(cp.Size, 10)), r.Checkpoint, 0o600); err != nil {
		return err
	}
	b.pending, b.last = append(b.pending, pending{cp, r.Checkpoint}), cp
	for len(b.pending) > maxPending {
		if err := os.Remove(b.path("pending", strconv.FormatInt(b.pending[0].Size, 10))); err != nil {
			return err
		}
		b.pending = b.pending[1:]
	}
	return nil
}

// before returns the entries of a tile of entries before a width, as the tile has them.
func (b *inbox) before(ctx context.Context, index int64, width int) ([]byte, error) {
	if width == 0 {
		return nil, nil
	}
	return tlog.ReadTile(ctx, b, tlog.Tile{Level: tlog.Entries, Index: index, Width: width})
}

// keep keeps a tile of entries, of which it is proven that the log has it. What is there already stays.
func (b *inbox) keep(ctx context.Context, index int64, data []byte, leaves []tlog.Hash) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := index*tlog.TileWidth + int64(len(leaves))
	if end <= b.next {
		return nil
	}
	entries := tlog.Tile{Level: tlog.Entries, Index: index, Width: len(leaves)}
	if len(leaves) < tlog.TileWidth {
		if err := b.write(entries, data); err != nil {
			return err
		}
		b.next = end
		return nil
	}
	if err := b.write(tlog.Tile{Index: index, Width: tlog.TileWidth}, concat(leaves)); err != nil {
		return err
	}
	for level, n := 1, index+1; n%tlog.TileWidth == 0; level++ {
		n /= tlog.TileWidth
		t := tlog.Tile{Level: level, Index: n - 1, Width: tlog.TileWidth}
		hashes, err := b.hashes(ctx, t)
		if err == nil {
			err = b.write(t, hashes)
		}
		if err != nil {
			return err
		}
	}
	if err := b.write(entries, data); err != nil {
		return err
	}
	b.next = end
	return os.RemoveAll(b.path(filepath.FromSlash(entries.Path()) + ".p"))
}

func (b *inbox) write(t tlog.Tile, data []byte) error {
	path := b.path(filepath.FromSlash(t.Path()))
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

// aim makes cp what the copy is made up to.
func (b *inbox) aim(cp pending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.goal = &cp
}

// done removes what the copy has: all entries before copied.
func (b *inbox) done(copied int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next > copied {
		return nil // later entries need the tiles before them
	}
	return os.RemoveAll(b.path("tile"))
}

// Checkpoint implements tlog.Source.
func (b *inbox) Checkpoint(ctx context.Context) ([]byte, error) {
	b.mu.Lock()
	goal := b.goal
	b.mu.Unlock()
	if goal == nil {
		return b.copied.Checkpoint(ctx)
	}
	return goal.signed, nil
}

// Tile implements tlog.Source.
func (b *inbox) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := b.own(ctx, t)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	return tlog.ReadTile(ctx, b.copied, t)
}

// own returns a tile of the inbox.
func (b *inbox) own(ctx context.Context, t tlog.Tile) ([]byte, error) {
	switch {
	case t.Level == tlog.Entries:
		data, err := b.entries(t.Index)
		if err != nil {
			return nil, err
		}
		if data, err = t.Cut(data, t.Width); err != nil {
			return nil, fs.ErrNotExist // it is narrower
		}
		return data, nil
	case t.Width == tlog.TileWidth:
		return tlog.Dir(b.dir).Tile(ctx, t)
	}
	return b.hashes(ctx, t)
}

// hashes computes a tile of hashes from the tiles below it.
func (b *inbox) hashes(ctx context.Context, t tlog.Tile) ([]byte, error) {
	var out bytes.Buffer
	if t.Level == 0 {
		data, err := b.before(ctx, t.Index, t.Width)
		if err != nil {
			return nil, err
		}
		leaves, err := leavesOf(data)
		return concat(leaves), err
	}
	for i := range int64(t.Width) {
		below := tlog.Tile{Level: t.Level - 1, Index: t.Index*tlog.TileWidth + i, Width: tlog.TileWidth}
		data, err := b.Tile(ctx, below)
		if err != nil {
			return nil, err
		}
		var nodes []tlog.Hash
		for node := range slices.Chunk(data, len(tlog.Hash{})) {
			nodes = append(nodes, tlog.Hash(node))
		}
		root := rootOf(nodes)
		out.Write(root[:])
	}
	return out.Bytes(), nil
}

// leavesOf returns the leaf hashes of a tile of entries.
func leavesOf(data []byte) (leaves []tlog.Hash, err error) {
	all, err := tlog.SplitEntries(data)
	for _, e := range all {
		leaves = append(leaves, tlog.LeafHash(e))
	}
	return leaves, err
}

// rootOf returns the root of a tree with these leaf hashes, at least one (RFC 9162, 2.1.1).
func rootOf(leaves []tlog.Hash) tlog.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	left := 1
	for 2*left < len(leaves) {
		left *= 2
	}
	return merkle.NodeHash(rootOf(leaves[:left]), rootOf(leaves[left:]))
}

func concat(hashes []tlog.Hash) []byte {
	var out []byte
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out
}
