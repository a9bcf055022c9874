package search

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// Extend returns the map with the keys of these entries too; the first is the entry at index
// from. entries are not kept.
func Extend(m prefix.Map, from int64, entries [][]byte) (prefix.Map, error) {
	workers := min(runtime.GOMAXPROCS(0), len(entries)/64+1)
	parts := make([][][]byte, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(entries); i += workers {
				for _, key := range KeysOf(entries[i]) {
					parts[w] = append(parts[w], key.At(from+int64(i)))
				}
			}
		})
	}
	wg.Wait()
	var keys [][]byte
	for _, part := range parts {
		keys = append(keys, part...)
	}
	return m.Insert(keys)
}

// chunk is how many entries are added to a map at once.
const chunk = 64 * tlog.TileWidth

// Entries reads the entries [from, to) of a log of size entries from its tiles, and yields them
// in portions. It verifies nothing.
func Entries(ctx context.Context, src tlog.Source, size, from, to int64, yield func(from int64, entries [][]byte) error) error {
	if from < 0 || to < from || to > size {
		return fmt.Errorf("cannot read the entries [%d, %d) of %d", from, to, size)
	}
	for from < to {
		first := from
		var portion [][]byte
		for from < to && len(portion) < chunk {
			t, _ := tlog.Tile{Level: tlog.Entries, Index: from / tlog.TileWidth}.At(size)
			data, err := tlog.ReadTile(ctx, src, t)
			if err != nil {
				return err
			}
			entries, err := tlog.SplitEntries(data)
			if err != nil {
				return fmt.Errorf("%s: %w", t.Path(), err)
			}
			start := t.Index * tlog.TileWidth
			entries = entries[from-start : min(int64(len(entries)), to-start)]
			portion, from = append(portion, entries...), from+int64(len(entries))
		}
		if err := yield(first, portion); err != nil {
			return err
		}
	}
	return nil
}

// maxNodes is how many hashes of the log are kept while an answer is made.
const maxNodes = 64 * MaxPage

// State is what answers questions: a map, and the entry of the index log that commits to it.
// It never changes. Safe for concurrent use.
type State struct {
	Map     prefix.Map
	Leaf    []byte          // the last entry of the index log
	Indexed tlog.Checkpoint // the log's, in Leaf

	Index           tlog.Checkpoint // of the index log; Leaf is its last entry
	IndexCheckpoint []byte          // signed
}

// Answer answers a question with at most limit entries. newest is the log's newest checkpoint,
// and signed its note; log and index have the tiles. Whoever serves the answer verifies it, as a
// client does.
func (s *State) Answer(ctx context.Context, q Question, limit int, log, index tlog.Source, newest tlog.Checkpoint, signed []byte) (*Answer, error) {
	if limit < 1 || limit > MaxPage {
		return nil, fmt.Errorf("limit: got %d, want 1 to %d", limit, MaxPage)
	}
	if q.From < 0 {
		return nil, fmt.Errorf("from: got %d, want 0 or more", q.From)
	}
	r := prefix.Range{Prefix: q.Prefix(), From: binary.BigEndian.AppendUint64(nil, uint64(q.From))}
	keys, to, err := s.Map.Page(r, limit)
	if err != nil {
		return nil, err
	}
	a, err := s.frame(ctx, log, index, newest, signed)
	if err != nil {
		return nil, err
	}
	if to != nil {
		next := int64(binary.BigEndian.Uint64(to))
		a.To, r.To = &next, to
	}
	if err := s.prove(a, r); err != nil {
		return nil, err
	}
	indices := make([]int64, len(keys))
	for i, key := range keys {
		indices[i] = int64(binary.BigEndian.Uint64(key[len(r.Prefix):]))
	}
	a.Entries, err = s.entries(ctx, log, indices)
	return a, err
}

// frame returns an answer without entries and their proof.
func (s *State) frame(ctx context.Context, log, index tlog.Source, newest tlog.Checkpoint, signed []byte) (*Answer, error) {
	a := &Answer{Entries: []Entry{}, Leaf: s.Leaf, Index: s.Index.Size - 1, IndexCheckpoint: string(s.IndexCheckpoint), Checkpoint: string(signed)}
	inIndex, err := tlog.Inclusion(ctx, index, s.Index, a.Index)
	if err != nil {
		return nil, err
	}
	extends, err := tlog.Consistency(ctx, log, s.Indexed.Size, newest)
	if err != nil {
		return nil, err
	}
	a.InIndex, a.Extends = raws(inIndex), raws(extends)
	return a, nil
}

// prove adds the proof of the range.
func (s *State) prove(a *Answer, r prefix.Range) (err error) {
	if a.Proof, err = s.Map.Prove(r); err == nil && a.Proof == nil {
		a.Proof = []byte{} // of an empty map
	}
	return err
}

// entries reads entries of the log that the index covers, with their proofs.
func (s *State) entries(ctx context.Context, log tlog.Source, indices []int64) ([]Entry, error) {
	out := make([]Entry, len(indices))
	return out, inParts(len(indices), func(from, to int) (err error) {
		r := &reader{log: log, tree: s.Indexed, prover: tlog.NewProver(log, s.Indexed, maxNodes)}
		for i := from; i < to && err == nil; i++ {
			out[i], err = r.entry(ctx, indices[i])
		}
		return err
	})
}

// inParts calls f for consecutive parts of n things, at the same time, and returns the error of the first part that
// has one.
func inParts(n int, f func(from, to int) error) error {
	const fewest = 4 // in a part
	parts := max(1, min(2*runtime.GOMAXPROCS(0), n/fewest))
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() { errs[p] = f(p*n/parts, (p+1)*n/parts) })
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// reader reads entries one after another. It keeps the last tile, and hashes for the proofs.
type reader struct {
	log    tlog.Source
	tree   tlog.Checkpoint
	prover *tlog.Prover

	tile   tlog.Tile
	bodies [][]byte // of tile
}

// entry returns the entry at an index.
func (r *reader) entry(ctx context.Context, index int64) (e Entry, err error) {
	inLog, err := r.prover.Inclusion(ctx, index)
	if err != nil {
		return e, err
	}
	if at, _ := (tlog.Tile{Level: tlog.Entries, Index: index / tlog.TileWidth}).At(r.tree.Size); at != r.tile || r.bodies == nil {
		data, err := tlog.ReadTile(ctx, r.log, at)
		if err != nil {
			return e, err
		}
		if r.bodies, err = tlog.SplitEntries(data); err != nil {
			return e, fmt.Errorf("%s: %w", at.Path(), err)
		}
		r.tile = at
	}
	return Entry{index, r.bodies[index%tlog.TileWidth], raws(inLog)}, nil
}

func raws(list []tlog.Hash) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}
