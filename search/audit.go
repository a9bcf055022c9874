package search

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

// Audited is what an audit found to be right.
type Audited struct {
	Index    tlog.Checkpoint // of the index log: all its entries were compared
	Indexed  tlog.Checkpoint // of the log, in the last entry of the index log
	Newest   tlog.Checkpoint // of the log: all its entries were read
	Keys     int64           // keys of the map
	Root     tlog.Hash       // of the map
	Map      prefix.Map      // of the entries under Indexed
	Unparsed int64           // entries with the key Unparsed

	IndexCheckpoint, Checkpoint []byte // Index and Newest, signed
}

// ErrContradiction matches the errors of an audit that found that the log, its index log and
// what they signed contradict each other. Other errors say nothing about them.
var ErrContradiction = errors.New("the index contradicts the log")

// Audit reads all entries of a log and of its index log, computes the map again, and compares
// the root in every entry of the index log, and every tree of which a checkpoint is signed.
// done, if it is not nil, is called now and then with the number of entries that were read.
func Audit(ctx context.Context, log tlog.Source, logKey note.Verifier, index tlog.Source, indexKey note.Verifier, done func(entries, of int64)) (*Audited, error) {
	a := auditor{log: log, logKey: logKey, done: done}
	a.extend = func(_ context.Context, m prefix.Map, from int64, entries [][]byte) (prefix.Map, error) {
		return Extend(m, from, entries)
	}
	return a.audit(ctx, index, indexKey)
}

func (a *auditor) audit(ctx context.Context, index tlog.Source, indexKey note.Verifier) (*Audited, error) {
	// The index first: the log's checkpoint is then at least as new.
	var err error
	if a.IndexCheckpoint, a.Index, err = open(ctx, index, indexKey); err != nil {
		return nil, err
	}
	if a.Checkpoint, a.Newest, err = open(ctx, a.log, a.logKey); err != nil {
		return nil, err
	}
	a.entries = ranges.NewEmptyRange(0)
	leaves := ranges.NewEmptyRange(0)
	err = Entries(ctx, index, a.Index.Size, 0, a.Index.Size, func(from int64, entries [][]byte) error {
		for i, entry := range entries {
			if err := leaves.Append(rfc6962.DefaultHasher.HashLeaf(entry), nil); err != nil {
				return err
			}
			if err := a.leaf(ctx, from+int64(i), entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := sameRoot(leaves, a.Index); err != nil {
		return nil, fmt.Errorf("%w: index log: %w", ErrContradiction, err)
	}
	// The rest, that is not in the index yet: it shows that the newest tree has all entries
	// that were compared.
	if err := a.read(ctx, a.Newest.Size, func(int64, [][]byte) error { return nil }); err != nil {
		return nil, err
	}
	if err := sameRoot(a.entries, a.Newest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContradiction, err)
	}
	a.Keys, a.Root = a.Map.Len(), a.Map.Root()
	a.Unparsed, err = a.Map.Count(Key{Kind: Unparsed}.Prefix())
	return &a.Audited, err
}

var ranges = &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

type auditor struct {
	Audited
	log     tlog.Source
	logKey  note.Verifier
	entries *compact.Range // leaf hashes of the entries read so far
	done    func(entries, of int64)
	extend  func(ctx context.Context, m prefix.Map, from int64, entries [][]byte) (prefix.Map, error)
}

// leaf compares the entry of the index log at this position.
func (a *auditor) leaf(ctx context.Context, at int64, entry []byte) error {
	bad := func(err error) error {
		return fmt.Errorf("%w: entry %d of the index log: %w", ErrContradiction, at, err)
	}
	leaf, cp, err := ParseLeaf(entry, a.logKey)
	if err != nil {
		return bad(err)
	}
	if cp.Size <= a.Indexed.Size && at > 0 {
		return bad(fmt.Errorf("it is about %d entries of the log, and the one before about %d", cp.Size, a.Indexed.Size))
	}
	if cp.Size > a.Newest.Size {
		return bad(fmt.Errorf("it is about %d entries, and the log has %d", cp.Size, a.Newest.Size))
	}
	if err := a.read(ctx, cp.Size, func(from int64, entries [][]byte) (err error) {
		a.Map, err = a.extend(ctx, a.Map, from, entries)
		return err
	}); err != nil {
		return err
	}
	if err := sameRoot(a.entries, cp); err != nil {
		return bad(err)
	}
	if root := a.Map.Root(); leaf.Root != root || leaf.Keys != a.Map.Len() {
		return bad(fmt.Errorf("the map of %d entries: expected the root %v of %d keys, found %v of %d; entries from %d on were left out or changed in the index",
			cp.Size, root, a.Map.Len(), leaf.Root, leaf.Keys, a.Indexed.Size))
	}
	a.Indexed = cp
	return nil
}

// read reads the entries of the log up to size, and yields those that were not read before.
func (a *auditor) read(ctx context.Context, size int64, yield func(from int64, entries [][]byte) error) error {
	return Entries(ctx, a.log, a.Newest.Size, int64(a.entries.End()), size, func(from int64, entries [][]byte) error {
		for _, entry := range entries {
			if err := a.entries.Append(rfc6962.DefaultHasher.HashLeaf(entry), nil); err != nil {
				return err
			}
		}
		if a.done != nil {
			a.done(int64(a.entries.End()), a.Newest.Size)
		}
		return yield(from, entries)
	})
}

// sameRoot fails unless the leaf hashes have the checkpoint's root.
func sameRoot(r *compact.Range, cp tlog.Checkpoint) error {
	root := tlog.EmptyRoot()
	if r.End() > 0 {
		got, err := r.GetRootHash(nil)
		if err != nil {
			return err
		}
		root = tlog.Hash(got)
	}
	if int64(r.End()) != cp.Size || root != cp.Root {
		return fmt.Errorf("%s: its entries have the root %v, and the checkpoint of %d entries has %v", cp.Origin, root, cp.Size, cp.Root)
	}
	return nil
}

// open reads a log's newest checkpoint.
func open(ctx context.Context, src tlog.Source, key note.Verifier) (signed []byte, cp tlog.Checkpoint, err error) {
	signed, err = src.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cp, fmt.Errorf("log %s serves no checkpoint: %w", key.Name(), err)
	} else if err != nil {
		return nil, cp, err
	}
	cp, err = tlog.OpenCheckpoint(signed, key)
	return signed, cp, err
}
