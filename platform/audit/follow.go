package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/tlog"

	"github.com/colophon-build/colophon/audit/files"
)

const (
	growEvery   = 200 * time.Millisecond // how long entries wait to be in the tree, at most, together
	againAfter  = time.Second            // after the tree or the index could not grow
	settleAfter = 8 * 1024               // entries after which the tree is made durable, and older files of the journal go
	settleBytes = maxAhead               // the same, as bytes: a start reads into memory what is not durable
	settleAge   = time.Minute            // the same, as time
)

// follow makes the tree grow after the journal.
func (l *Ledger) follow() {
	ctx := context.Background()
	settled := time.Now()
	timer := time.NewTimer(settleAge)
	for {
		select {
		case <-l.grown:
		case task := <-l.tasks:
			task()
			continue
		case <-timer.C:
			timer.Reset(settleAge)
		}
		l.mu.Lock()
		batch, closing := l.behind, l.drained
		l.mu.Unlock()
		if len(batch) > 0 {
			if err := l.advance(ctx, batch); err != nil {
				l.fail(err)
				if closing {
					return
				}
				time.Sleep(againAfter)
				l.wake(l.grown)
				continue
			}
		}
		if l.stuck != nil || l.tree.size-l.base >= settleAfter || l.unsettled >= settleBytes || l.tree.size > l.base && time.Since(settled) > settleAge {
			settled = time.Now()
			if err := l.settle(); err != nil {
				l.fail(err)
				if closing { // Close tries it once more, and says why
					return
				}
				continue
			}
		}
		l.fail(nil)
		l.mu.Lock()
		more := len(l.behind)
		l.mu.Unlock()
		switch {
		case closing && more == 0:
			return
		case more > 0:
			l.wake(l.grown)
		case !closing:
			time.Sleep(growEvery)
		}
	}
}

// advance puts entries of the journal, the first of l.behind, into the tree and the index.
func (l *Ledger) advance(ctx context.Context, batch []entry) error {
	if grown := l.tree.size - l.taken; grown < int64(len(batch)) { // more if the index failed after the tree grew
		if err := l.grow(ctx, batch[grown:], l.current.Load()); err != nil {
			return err
		}
	}
	if have := l.index.Size - l.taken; have < int64(len(batch)) {
		l.cfg.step("index")
		if err := l.index.append(ctx, batch[have:], l.current.Load().Checkpoint); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.indexed.Store(l.index.Size)
	l.change()
	for _, e := range batch {
		delete(l.recent, e.id)
	}
	l.behind = slices.Clone(l.behind[len(batch):])
	l.behindBytes -= bytesOf(batch)
	l.taken += int64(len(batch))
	return nil
}

// fail notes why the ledger takes nothing, or that it does again.
func (l *Ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.cfg.Log.Error("the audit ledger cannot publish what it recorded", "error", err)
		defer l.change()
		err = fmt.Errorf("the audit ledger takes no records: %w", err)
	}
	l.broken = err
}

// grow adds entries to the tree, and publishes its checkpoint. before is what was published.
func (l *Ledger) grow(ctx context.Context, batch []entry, before *view) error {
	next, out, err := l.tree.grow(batch)
	if err != nil {
		return err
	}
	l.cfg.step("tiles")
	if err := write(l.dir, out); err != nil {
		return err
	}
	for _, f := range out {
		l.unsynced[f.path] = true
	}
	cp := tlog.Checkpoint{Origin: l.cfg.Origin, Size: next.size, Root: next.root()}
	if err := tlog.Extends(ctx, tlog.Dir(l.dir), before.Checkpoint, cp); err != nil {
		return fmt.Errorf("the journal contradicts what was published: %w", err)
	}
	signed, err := l.sign(cp)
	if err != nil {
		return err
	}
	l.cfg.step("checkpoint")
	if err := durable.WriteFile(filepath.Join(l.dir, "checkpoint"), signed, 0o644); err != nil {
		return err
	}
	if err := l.seal(ctx, cp); err != nil {
		return err
	}
	old := l.tree
	l.tree = next
	l.unsettled += bytesOf(batch)
	l.publish(&view{cp, signed})
	l.dropPartial(old)
	return nil
}

func (l *Ledger) sign(cp tlog.Checkpoint) ([]byte, error) {
	return note.Sign(&note.Note{Text: cp.String()}, l.signer)
}

func (l *Ledger) publish(v *view) {
	l.current.Store(v)
	l.metrics.size.Set(float64(v.Size))
	if l.cfg.Witnesses != nil {
		l.cfg.Witnesses.Offer(witnesses.Offer{Checkpoint: v.Checkpoint, Signed: v.signed, Source: tlog.Dir(l.dir)})
	}
	l.mu.Lock()
	l.change()
	l.mu.Unlock()
}

// dropPartial removes the partial tiles of a tree that is no longer the newest, but for those that
// the tree would grow from after a crash.
func (l *Ledger) dropPartial(old *tree) {
	at := tree{size: l.base}
	for level := tlog.Entries; level < levels; level++ {
		t := old.partial(level)
		if t.Width == 0 || t == at.partial(level) || t == l.tree.partial(level) {
			continue
		}
		_ = os.Remove(filepath.Join(l.dir, filepath.FromSlash(t.Path()))) // harmless: it is a part of a tile that is there
		delete(l.unsynced, t.Path())
		if level == tlog.Entries {
			_ = os.Remove(filepath.Join(l.dir, filepath.FromSlash(files.OpeningsPath(t))))
			delete(l.unsynced, files.OpeningsPath(t))
		}
	}
}

// seal closes the segments that are full.
func (l *Ledger) seal(ctx context.Context, cp tlog.Checkpoint) error {
	for ; (l.sealed+1)*l.cfg.Segment <= cp.Size; l.sealed++ {
		path := filepath.Join(l.dir, filepath.FromSlash(files.SegmentPath(l.sealed)))
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		end := tlog.Checkpoint{Origin: cp.Origin, Size: (l.sealed + 1) * l.cfg.Segment}
		var err error
		if end.Root, err = tlog.Root(ctx, tlog.Dir(l.dir), end.Size, cp); err != nil {
			return err
		}
		signed, err := l.sign(end)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		l.cfg.step("segment")
		if err := durable.WriteFile(path, signed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// settle makes the tree durable: it no longer needs what the journal has of it.
func (l *Ledger) settle() error {
	if l.tree.size == l.base {
		return dropJournal(filepath.Join(l.cfg.Dir, "journal"), l.base)
	}
	if l.stuck != nil {
		return l.stuck
	}
	if err := syncFiles(l.dir, l.unsynced); errors.Is(err, errSync) {
		l.stuck = fmt.Errorf("the ledger takes nothing until the next start, which writes its last files anew: %w", err)
		return l.stuck
	} else if err != nil {
		return err
	}
	l.cfg.step("base")
	if err := l.writeBase(); err != nil {
		return err
	}
	old := &tree{size: l.base}
	l.base, l.unsettled, l.unsynced = l.tree.size, 0, map[string]bool{}
	l.dropPartial(old)
	l.cfg.step("drop")
	return dropJournal(filepath.Join(l.cfg.Dir, "journal"), l.base)
}
