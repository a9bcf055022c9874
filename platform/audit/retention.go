package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

// maxErased is how many ranges of entries one erasure has.
const maxErased = records.MaxItems

// Erase erases the openings of entries for good: nobody can find out what they hid. The entries and
// all proofs stay. by is the account that asked for it, and why it did.
func (l *Ledger) Erase(ctx context.Context, by, why string, ranges []records.Range) error {
	if len(ranges) == 0 || len(ranges) > maxErased {
		return fmt.Errorf("%w: expected 1 to %d ranges of entries, found %d", ErrRefused, maxErased, len(ranges))
	}
	for _, r := range ranges {
		if size := l.current.Load().Size; r.From < 0 || r.To <= r.From || r.To > size {
			return fmt.Errorf("%w: expected ranges of the %d entries, found %d to %d", ErrRefused, size, r.From, r.To)
		}
	}
	// A crash after the record is there finishes at the next start.
	if err := durable.WriteFile(l.erasing(), []byte("openings are being erased\n"), 0o600); err != nil {
		return err
	}
	_, err := l.Record(ctx, records.Record{Kind: records.KindErasure, Outcome: records.Done, By: records.By{User: records.Shown(by)}, Reason: records.Shown(why), Entries: ranges})
	if err != nil {
		return err
	}
	return l.finishErasure(ctx, ranges)
}

// erasing is the path of the file that is there while openings are being erased.
func (l *Ledger) erasing() string { return filepath.Join(l.cfg.Dir, "erasing") }

// finishErasure erases openings that are recorded as erased, from all places.
func (l *Ledger) finishErasure(ctx context.Context, ranges []records.Range) error {
	if err := l.do(ctx, func() error { return l.erase(ctx, ranges) }); err != nil {
		return err
	}
	// The journal has them too, in the file that sequence writes and in older ones.
	turned := make(chan int64, 1)
	select {
	case l.turns <- turned:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.Await(ctx, <-turned); err != nil {
		return err
	}
	if err := l.do(ctx, l.settle); err != nil {
		return err
	}
	left, err := journalFiles(filepath.Join(l.cfg.Dir, "journal"))
	if err == nil && len(left) > 1 {
		err = errors.New("the journal still has what was erased: it could not begin a new file")
	}
	if err != nil {
		return err
	}
	if err := os.Remove(l.erasing()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(l.cfg.Dir)
}

// resumeErasure finishes what a crash interrupted.
func (l *Ledger) resumeErasure(ctx context.Context) error {
	if _, err := os.Lstat(l.erasing()); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	ranges, err := l.ranges(ctx, records.KindErasure)
	if err != nil {
		return err
	}
	return l.finishErasure(ctx, ranges)
}

// ranges returns the entries that records of a kind took away.
func (l *Ledger) ranges(ctx context.Context, kind records.Kind) (all []records.Range, err error) {
	entries, err := l.index.ofKind(ctx, kind)
	if err != nil {
		return nil, err
	}
	for _, at := range entries {
		raw, err := l.entry(ctx, at)
		if err != nil {
			return nil, err
		}
		_, _, r, err := records.ParseLeaf(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, r.Entries...)
	}
	return all, nil
}

// do runs f between two batches.
func (l *Ledger) do(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	select {
	case l.tasks <- func() { done <- f() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// erase takes openings away from the files, the tree in memory and the index.
func (l *Ledger) erase(ctx context.Context, ranges []records.Range) error {
	none, err := openingsLine(nil)
	if err != nil {
		return err
	}
	size := l.tree.size
	for _, r := range ranges {
		for tile := r.From / tlog.TileWidth; tile*tlog.TileWidth < min(r.To, size); tile++ {
			if err := l.eraseBundle(tile, r); err != nil {
				return err
			}
		}
		for i := range l.tree.openings {
			if at := size - int64(len(l.tree.openings)-i); r.From <= at && at < r.To {
				l.tree.openings[i] = none
			}
		}
	}
	// The index gets these too, if it could not grow with the tree.
	l.mu.Lock()
	for i, e := range l.behind {
		if at := l.taken + int64(i); at < size && slices.ContainsFunc(ranges, func(r records.Range) bool { return r.From <= at && at < r.To }) {
			e.openings = nil
			l.behind[i] = e
		}
	}
	l.mu.Unlock()
	return l.index.forget(ctx, files.Dir(l.dir), l.current.Load().Checkpoint, ranges)
}

// eraseBundle erases the openings of a range in one bundle, in each width that there is of it.
func (l *Ledger) eraseBundle(tile int64, r records.Range) error {
	for _, path := range l.openingsOf(tile) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		of, err := files.ParseOpenings(data, bytes.Count(data, []byte("\n")))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i := range of {
			if at := tile*tlog.TileWidth + int64(i); r.From <= at && at < r.To {
				of[i] = nil
			}
		}
		out, err := files.Openings(of)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(path, out, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// openingsOf returns the paths of the files that have openings of a bundle.
func (l *Ledger) openingsOf(tile int64) []string {
	full := filepath.Join(l.dir, filepath.FromSlash(files.OpeningsPath(tlog.Tile{Level: tlog.Entries, Index: tile, Width: tlog.TileWidth})))
	paths := []string{full}
	if parts, err := os.ReadDir(full + ".p"); err == nil {
		for _, p := range parts {
			paths = append(paths, filepath.Join(full+".p", p.Name()))
		}
	}
	return paths
}

// Retire deletes the leaves and openings of closed segments whose last entry is older than age. The
// tree stays, and proves what is left. The IDs of the records stay, so that nobody can record them again. Bundles in which a writer was enrolled stay: without them,
// nobody could check the signatures of what is left.
func (l *Ledger) Retire(ctx context.Context, age time.Duration) error {
	until := l.cfg.Now().Add(-age)
	size, end := l.current.Load().Size, int64(0)
	for next := l.cfg.Segment; next <= size; next += l.cfg.Segment {
		raw, err := l.entry(ctx, next-1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			leaf, _, _, err := records.ParseLeaf(raw)
			if err != nil {
				return err
			}
			if !leaf.Received.Before(until) {
				break
			}
		}
		end = next
	}
	ranges, err := l.ranges(ctx, records.KindRetention)
	if err != nil {
		return err
	}
	retired := int64(0)
	for _, r := range ranges {
		retired = max(retired, r.To)
	}
	if end > retired {
		if _, err := l.Record(ctx, records.Record{Kind: records.KindRetention, Outcome: records.Done, Entries: []records.Range{{From: 0, To: end}}}); err != nil {
			return err
		}
		retired = end
	}
	return l.do(ctx, func() error { return l.retire(ctx, retired) })
}

// retire deletes the bundles before end, and what the index has of them.
func (l *Ledger) retire(ctx context.Context, end int64) error {
	var kept []int64
	for _, kind := range []records.Kind{records.KindWriter, records.KindRetention, records.KindErasure} {
		entries, err := l.index.ofKind(ctx, kind)
		if err != nil {
			return err
		}
		for _, at := range entries {
			kept = append(kept, at/tlog.TileWidth)
		}
	}
	if l.index.Size < end { // it says which bundles to keep
		return fmt.Errorf("the index has %d entries, and retention ends at %d", l.index.Size, end)
	}
	l.cfg.step("retire")
	for tile := int64(0); (tile+1)*tlog.TileWidth <= end; tile++ {
		if slices.Contains(kept, tile) {
			continue
		}
		if err := l.keepIDs(ctx, tile); err != nil {
			return err
		}
		t := tlog.Tile{Level: tlog.Entries, Index: tile, Width: tlog.TileWidth}
		for _, path := range append(l.openingsOf(tile), filepath.Join(l.dir, filepath.FromSlash(t.Path()))) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := l.index.drop(ctx, tile*tlog.TileWidth, (tile+1)*tlog.TileWidth); err != nil {
			return err
		}
	}
	return l.index.flush(ctx)
}

// retired is the directory with the IDs of the records that retention deleted: a file for each bundle,
// with the 32 bytes of each ID, in order.
func (l *Ledger) retired() string { return filepath.Join(l.cfg.Dir, "retired") }

func (l *Ledger) retiredPath(tile int64) string {
	t := tlog.Tile{Level: tlog.Entries, Index: tile, Width: tlog.TileWidth}
	return filepath.Join(l.retired(), filepath.FromSlash(strings.TrimPrefix(t.Path(), "tile/entries/")))
}

// keepIDs writes the IDs of a bundle that is about to be deleted.
func (l *Ledger) keepIDs(ctx context.Context, tile int64) error {
	path := l.retiredPath(tile)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	var ids []byte
	err := files.Bundle(ctx, files.Dir(l.dir), l.current.Load().Checkpoint, tile, func(e files.Entry) error {
		ids = append(ids, sum(e.Leaf.ID())...)
		return nil
	})
	if errors.Is(err, files.ErrGone) { // a version that kept no IDs deleted it
		return nil
	} else if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, ids, 0o600)
}

// retiredIDs returns the IDs of a bundle that was deleted; none if they were not kept.
func (l *Ledger) retiredIDs(tile int64) ([][]byte, error) {
	const size = tlog.TileWidth * sha256.Size
	data, err := strict.ReadFile(l.retiredPath(tile), size)
	if errors.Is(err, fs.ErrNotExist) {
		l.cfg.Log.Warn("the IDs of records that retention deleted are missing: the ledger takes these records again", "file", l.retiredPath(tile))
		return nil, nil
	} else if err == nil && len(data) != size {
		err = fmt.Errorf("%s: expected %d bytes, found %d; restore it from a backup", l.retiredPath(tile), size, len(data))
	}
	return slices.Collect(slices.Chunk(data, sha256.Size)), err
}
