package tlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// SplitView proves that a log has shown two histories: it signed Older and Newer, and the first
// Older.Size entries of Newer's tree are not those of Older. Everybody who has the log's key can
// verify that.
type SplitView struct {
	Older, Newer Checkpoint
	Prefix       Hash   // root of the first Older.Size entries in the tree of Newer; not that of Older
	Proof        []Hash // consistency proof from Prefix to Newer; none if both have the same size
}

// Verify fails unless s proves that the two checkpoints contradict each other. That the log signed
// both, OpenCheckpoint verifies.
func (s SplitView) Verify() error {
	within := Checkpoint{Origin: s.Newer.Origin, Size: s.Older.Size, Root: s.Prefix}
	switch {
	case s.Older.Origin != s.Newer.Origin:
		return fmt.Errorf("the checkpoints are of different logs: %q and %q", s.Older.Origin, s.Newer.Origin)
	case s.Prefix == s.Older.Root:
		return errors.New("the checkpoints do not contradict each other")
	case s.Older.Size == 0:
		return errors.New("a log without entries contradicts no other")
	}
	return VerifyConsistency(within, s.Newer, s.Proof)
}

// ErrUndecided means that no source has the tiles that would show whether two checkpoints are of one
// history.
var ErrUndecided = errors.New("no source has the tiles to compare the checkpoints")

// Compare compares checkpoints of one log that several parties showed. It returns nil if all are of
// one history, and a SplitView if two contradict each other. The tiles come from any of sources, and
// are verified. If no source has those that it needs, the error matches ErrUndecided.
func Compare(ctx context.Context, shown []Checkpoint, sources []Source) (*SplitView, error) {
	shown = slices.Clone(shown)
	slices.SortStableFunc(shown, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
	for i, cp := range shown[:max(0, len(shown)-1)] {
		if next := shown[i+1]; cp.Size == next.Size && cp.Root != next.Root {
			return &SplitView{Older: cp, Newer: next, Prefix: next.Root}, nil
		}
	}
	shown = slices.CompactFunc(shown, func(a, b Checkpoint) bool { return a.Size == b.Size })
	// If each is a prefix of a larger one, all are prefixes of the largest.
	var undecided error
	for i, older := range shown {
		var answered bool
		for _, newer := range shown[i+1:] {
			split, err := compare(ctx, older, newer, sources)
			if split != nil {
				return split, nil
			}
			if answered = err == nil; answered {
				break
			}
		}
		if !answered && i+1 < len(shown) {
			undecided = fmt.Errorf("%d entries and %d entries: %w", older.Size, shown[i+1].Size, ErrUndecided)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, undecided
}

// compare returns nil if older is of the history of newer.
func compare(ctx context.Context, older, newer Checkpoint, sources []Source) (*SplitView, error) {
	if older.Size == 0 {
		return nil, nil
	}
	for _, src := range sources {
		prefix, err := Root(ctx, src, older.Size, newer)
		if err != nil {
			continue // the tiles are not those of newer; another source may have them
		}
		if prefix == older.Root {
			return nil, nil
		}
		proof, err := Consistency(ctx, src, older.Size, newer)
		if err != nil {
			continue
		}
		split := &SplitView{older, newer, prefix, proof}
		if err := split.Verify(); err != nil {
			return nil, err
		}
		return split, nil
	}
	return nil, ErrUndecided
}
