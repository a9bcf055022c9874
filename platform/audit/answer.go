package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

// Answer answers which records the filter asks for: the newest of those before the entry before, at
// most limit of them. It verifies what it answers. The answer has all entries under its checkpoint.
func (l *Ledger) Answer(ctx context.Context, f records.Filter, before int64, limit int) (a *records.Answer, err error) {
	err = l.at(ctx, func(v *view) error {
		found, err := l.index.query(ctx, f, min(before, v.Size), limit+1)
		if err != nil {
			return err
		}
		if a, err = l.prove(ctx, v, found[:min(len(found), limit)]); err == nil {
			a.More = len(found) > limit
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, _, err := a.Verify(f, l.verifier); err != nil {
		return nil, fmt.Errorf("the ledger or its index is damaged; run colophon audit verify: %w", err)
	}
	return a, nil
}

// at calls f with the newest checkpoint, when the index has all entries under it. If partial tiles of it go
// meanwhile, since the tree has grown, it calls f again.
func (l *Ledger) at(ctx context.Context, f func(*view) error) error {
	for {
		v := l.current.Load()
		if err := l.await(ctx, func() bool { return l.indexed.Load() >= v.Size }); err != nil {
			return fmt.Errorf("the index does not have all entries: %w", err)
		}
		err := f(v)
		if !errors.Is(err, fs.ErrNotExist) || l.current.Load() == v {
			return err
		}
	}
}

// entry returns an entry of the log, verified.
func (l *Ledger) entry(ctx context.Context, at int64) (raw []byte, err error) {
	err = l.at(ctx, func(v *view) error {
		raw, _, err = tlog.Entry(ctx, tlog.Dir(l.dir), v.Checkpoint, at)
		return err
	})
	return raw, err
}

// Get returns the record with an index or an ID, sha256:HEX. Of an ID, the first 12 digits are enough.
func (l *Ledger) Get(ctx context.Context, name string) (a *records.Answer, err error) {
	digits, isID := strings.CutPrefix(name, "sha256:")
	at, err := strconv.ParseInt(name, 10, 64)
	if isID {
		if len(digits) < 12 || len(digits) > 64 {
			return nil, fmt.Errorf("%w: ID: expected 12 to 64 hex digits", ErrRefused)
		}
		found, err := l.index.prefix(ctx, strings.ToLower(digits))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: ID: %w", ErrRefused, err)
		case len(found) > 1:
			return nil, fmt.Errorf("%w: more than one record has an ID that starts with %s", ErrRefused, name)
		case len(found) == 0:
			return nil, ErrNotFound
		}
		at = found[0]
	} else if err != nil || at < 0 {
		return nil, fmt.Errorf("%w: expected the index of an entry, or sha256: and hex digits", ErrRefused)
	}
	err = l.at(ctx, func(v *view) error {
		if at >= v.Size {
			return ErrNotFound
		}
		a, err = l.prove(ctx, v, []int64{at})
		return err
	})
	return a, err
}

// prove reads entries, with the proofs that the tree of v has them.
func (l *Ledger) prove(ctx context.Context, v *view, entries []int64) (*records.Answer, error) {
	a := &records.Answer{Checkpoint: string(l.cosigned(v)), Records: []records.Found{}}
	src := &memory{Source: files.Dir(l.dir), tiles: map[tlog.Tile][]byte{}, openings: map[tlog.Tile][][]records.Opening{}}
	for _, at := range entries {
		raw, proof, err := tlog.Entry(ctx, src, v.Checkpoint, at)
		if err != nil {
			return nil, err
		}
		t, _ := tlog.Tile{Level: tlog.Entries, Index: at / tlog.TileWidth}.At(v.Size)
		openings, err := src.open(ctx, t)
		if err != nil {
			return nil, err
		}
		found := records.Found{Index: at, Leaf: raw, Proof: proof}
		if i := int(at % tlog.TileWidth); i < len(openings) {
			found.Openings = openings[i]
		}
		a.Records = append(a.Records, found)
	}
	return a, nil
}

// memory keeps the tiles and openings that one answer needs.
type memory struct {
	files.Source
	tiles    map[tlog.Tile][]byte
	openings map[tlog.Tile][][]records.Opening
}

// Tile implements tlog.Source.
func (m *memory) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	if data, ok := m.tiles[t]; ok {
		return data, nil
	}
	data, err := m.Source.Tile(ctx, t)
	if err == nil {
		m.tiles[t] = data
	}
	return data, err
}

func (m *memory) open(ctx context.Context, t tlog.Tile) ([][]records.Opening, error) {
	if of, ok := m.openings[t]; ok {
		return of, nil
	}
	of, err := files.ReadOpenings(ctx, m.Source, t)
	if errors.Is(err, fs.ErrNotExist) {
		of, err = nil, nil // retention deleted them
	}
	if err == nil {
		m.openings[t] = of
	}
	return of, err
}
