package logtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"runtime"
	"sync"

	"golang.org/x/mod/sumdb/note"
	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/colophon-build/colophon/tlog"
)

// Large is a log whose entries are made when they are read, so that it needs no memory but for their
// hashes. It is a tlog.Source, and never changes. Safe for concurrent use.
type Large struct {
	Size   int64
	log    *Log
	entry  func(i int64) []byte
	levels [][]tlog.Hash // the nodes of full tiles, by level of tiles
}

// NewLarge returns a log of these entries. entry is called concurrently.
func NewLarge(origin string, size int64, entry func(i int64) []byte) *Large {
	leaves := make([]tlog.Hash, size)
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for i := int64(w); i < size; i += int64(workers) {
				leaves[i] = tlog.LeafHash(entry(i))
			}
		})
	}
	group.Wait()
	l := &Large{Size: size, log: &Log{Origin: origin, Key: Key(origin)}, entry: entry, levels: [][]tlog.Hash{leaves}}
	for nodes := leaves; len(nodes) >= tlog.TileWidth; {
		var above []tlog.Hash
		for i := 0; i+tlog.TileWidth <= len(nodes); i += tlog.TileWidth {
			above = append(above, rootOf(nodes[i:i+tlog.TileWidth]))
		}
		l.levels = append(l.levels, above)
		nodes = above
	}
	return l
}

// Root returns the root hash of the first size entries (RFC 6962, 2.1).
func (l *Large) Root(size int64) tlog.Hash {
	if size == 0 {
		return tlog.EmptyRoot()
	}
	// The complete subtrees from the left, each of which is a run of nodes of one tile.
	var roots []tlog.Hash
	at := int64(0)
	for level := len(l.levels) - 1; level >= 0; level-- {
		width := int64(1) << (8 * level)
		for n := int64(tlog.TileWidth) / 2; n > 0; n /= 2 {
			if size-at >= n*width {
				first := at / width
				roots = append(roots, rootOf(l.levels[level][first:first+n]))
				at += n * width
			}
		}
	}
	root := roots[len(roots)-1]
	for i := len(roots) - 2; i >= 0; i-- {
		root = merkle.NodeHash(roots[i], root)
	}
	return root
}

// rootOf returns the root of a power of two of nodes.
func rootOf(nodes []tlog.Hash) tlog.Hash {
	if len(nodes) == 1 {
		return nodes[0]
	}
	return merkle.NodeHash(rootOf(nodes[:len(nodes)/2]), rootOf(nodes[len(nodes)/2:]))
}

// Signed returns the signed checkpoint of the first size entries.
func (l *Large) Signed(size int64) []byte {
	return l.log.Sign(tlog.Checkpoint{Origin: l.log.Origin, Size: size, Root: l.Root(size)})
}

// Verifier returns the verifier of the log's checkpoints.
func (l *Large) Verifier() note.Verifier { return l.log.Verifier() }

// Checkpoint implements tlog.Source.
func (l *Large) Checkpoint(context.Context) ([]byte, error) { return l.Signed(l.Size), nil }

// Tile implements tlog.Source.
func (l *Large) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	if have, ok := t.At(l.Size); !ok || have.Width < t.Width {
		return nil, fs.ErrNotExist
	}
	var b bytes.Buffer
	for i := range int64(t.Width) {
		at := t.Index*tlog.TileWidth + i
		if t.Level != tlog.Entries {
			b.Write(l.levels[t.Level][at][:])
			continue
		}
		e := l.entry(at)
		b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(e))))
		b.Write(e)
	}
	return b.Bytes(), nil
}
