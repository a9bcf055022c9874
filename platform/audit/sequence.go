package audit

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	records "github.com/colophon-build/colophon/audit"
)

const (
	maxBatch   = 512       // entries that are fsynced together
	maxQueued  = 256       // entries of one writer that wait
	maxWaiting = 4096      // entries that wait, of all writers
	maxRuns    = 10_000    // runs of writers whose last number is known without the index
	maxBehind  = 32 * 1024 // entries in the journal that are not in the tree
	maxAhead   = 64 << 20  // bytes of the entries that wait, or are in the journal and not in the tree, before the last batch
)

// waiting is an entry that has no index yet.
type waiting struct {
	entry
	env   *records.Envelope
	queue string     // of whom it is, see take
	epoch int        // of the writers that it was verified with
	also  []*waiting // the same entry, sent again in the meantime
	done  chan result
}

func (w *waiting) finish(r result) {
	w.done <- r
	r.Known = r.err == nil
	for _, again := range w.also {
		again.done <- r
	}
}

type result struct {
	records.Added
	err error
}

// Append adds an entry, the JSON of a records.Entry, and returns when it is on the disk. The same
// entry again has the same index. If Append fails for another reason than ErrRefused, the entry may
// still be added: send it again.
func (l *Ledger) Append(ctx context.Context, data []byte) (records.Added, error) {
	return l.append(ctx, data, "")
}

// append is Append. account is whose verdict the ledger itself signed: its records wait as those of a writer of
// their own.
func (l *Ledger) append(ctx context.Context, data []byte, account string) (records.Added, error) {
	w := l.parse(data, account)
	l.enqueue(w)
	return w.wait(ctx)
}

// parse reads an entry, and verifies its signature. The result is finished if the entry is refused, or if the ledger has
// it already and too much is waiting.
func (l *Ledger) parse(data []byte, account string) *waiting {
	w := &waiting{done: make(chan result, 1)}
	e, env, r, err := records.ParseEntry(data)
	if err != nil {
		w.finish(result{err: fmt.Errorf("%w: %w", ErrRefused, err)})
		return w
	}
	w.entry, w.env, w.queue = entry{records.Leaf{Envelope: e.Envelope}, e.Openings, r, records.ID(e.Envelope)}, env, env.KeyID()+"/"+account
	if err := l.verify(w); err != nil {
		w.finish(result{err: err})
	} else if l.crowded(w.queue) { // what the ledger has takes no place in the queue
		if index, known, err := l.find(w.id); err != nil || known {
			w.finish(result{records.Added{Index: index, ID: w.id, Known: known}, err})
		}
	}
	return w
}

// wait waits until the entry is on the disk, or is not taken.
func (w *waiting) wait(ctx context.Context) (records.Added, error) {
	select {
	case got := <-w.done:
		return got.Added, got.err
	case <-ctx.Done():
		return records.Added{}, ctx.Err()
	}
}

// verify fails unless the signature counts now.
func (l *Ledger) verify(w *waiting) error {
	l.mu.Lock()
	writers, epoch := l.writers, l.epoch
	check, err := writers.Key(w.env, w.record)
	l.mu.Unlock()
	if err == nil {
		err = w.env.Verify(check)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	w.epoch = epoch
	return nil
}

// crowded reports whether many entries of a writer wait.
func (l *Ledger) crowded(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queues[key]) >= maxQueued/4 || l.queued >= maxWaiting/4 || l.queuedBytes+l.behindBytes >= maxAhead/4
}

// enqueue puts entries that are not finished into their writers' queues, in this order. Those for which there is no room
// are finished.
func (l *Ledger) enqueue(all ...*waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range all {
		if len(w.done) > 0 {
			continue
		}
		if err := l.full(w.queue); err != nil {
			w.finish(result{err: err})
			continue
		}
		if len(l.queues[w.queue]) == 0 {
			l.order = append(l.order, w.queue)
		}
		l.queues[w.queue] = append(l.queues[w.queue], w)
		l.queued++
		l.queuedBytes += w.bytes()
		l.wake(l.sequenced)
	}
}

// full returns why an entry of a writer cannot wait. The caller holds mu.
func (l *Ledger) full(key string) error {
	switch {
	case l.broken != nil:
		return l.broken
	case l.closing, l.queued >= maxWaiting, len(l.queues[key]) >= maxQueued, len(l.behind) >= maxBehind, l.queuedBytes+l.behindBytes >= maxAhead:
		l.metrics.refused.Inc()
		return ErrBusy
	}
	return nil
}

// take returns the next entries: one of each writer in turn, so that one with many does not keep the
// others waiting.
func (l *Ledger) take() (batch []*waiting, closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(batch) < maxBatch && len(l.order) > 0 {
		key := l.order[0]
		l.order = l.order[1:]
		q := l.queues[key]
		batch = append(batch, q[0])
		l.queuedBytes -= q[0].bytes()
		if len(q) == 1 {
			delete(l.queues, key)
		} else {
			l.queues[key] = q[1:]
			l.order = append(l.order, key)
		}
	}
	l.queued -= len(batch)
	return batch, l.closing
}

// sequence gives entries their indexes, in batches that share an fsync. Entries that arrive meanwhile
// are the next batch.
func (l *Ledger) sequence() {
	for {
		batch, closing := l.take()
		if len(batch) > 0 {
			l.add(batch)
			continue
		}
		if closing {
			l.mu.Lock()
			l.drained = true
			l.mu.Unlock()
			l.wake(l.grown)
			return
		}
		select {
		case <-l.sequenced:
		case turned := <-l.turns:
			if l.journal.good > 0 {
				if err := l.journal.begin(); err != nil {
					l.cfg.Log.Error("beginning a file of the journal", "error", err)
				}
			}
			turned <- l.journal.next
		}
	}
}

// add appends a batch to the journal.
func (l *Ledger) add(batch []*waiting) {
	var fresh []*waiting
	at := map[string]*waiting{}
	for _, w := range batch {
		first := at[w.id]
		switch index, known, err := l.lookup(w); {
		case err != nil:
			w.finish(result{err: err})
		case known:
			w.finish(result{Added: records.Added{Index: index, ID: w.id, Known: true}})
		case first != nil:
			first.also = append(first.also, w)
		default:
			if err := l.recheck(w); err != nil {
				w.finish(result{err: err})
				continue
			}
			at[w.id] = w
			fresh = append(fresh, w)
			if w.record.Kind == records.KindWriter { // counts from the next entry on
				l.journalize(fresh)
				fresh, at = nil, map[string]*waiting{}
			}
		}
	}
	l.journalize(fresh)
}

// recheck verifies again what was verified with other writers.
func (l *Ledger) recheck(w *waiting) error {
	l.mu.Lock()
	same := w.epoch == l.epoch
	l.mu.Unlock()
	if same {
		return nil
	}
	return l.verify(w)
}

// lookup returns the index of an entry that the ledger has.
func (l *Ledger) lookup(w *waiting) (index int64, known bool, err error) {
	if last, err := l.lastOf(w.record.By.Run); err != nil {
		return 0, false, fmt.Errorf("index of the audit ledger: %w", err)
	} else if w.record.By.Number > last {
		return 0, false, nil // no record of this run with such a number ever came
	}
	return l.find(w.id)
}

// find returns the index of the entry with an ID.
func (l *Ledger) find(id string) (index int64, known bool, err error) {
	l.mu.Lock()
	index, known = l.recent[id]
	l.mu.Unlock()
	if known {
		return index, true, nil
	}
	index, known, err = l.index.lookup(sum(id))
	if err != nil {
		err = fmt.Errorf("index of the audit ledger: %w", err)
	}
	return index, known, err
}

// lastOf returns the largest number of a record of a run that ever came; 0 if none did.
func (l *Ledger) lastOf(run string) (last int64, err error) {
	if last, ok := l.runs[run]; ok {
		return last, nil
	}
	l.mu.Lock() // before the index: it gets what then goes from here
	for _, e := range l.behind {
		if e.record.By.Run == run {
			last = max(last, e.record.By.Number)
		}
	}
	l.mu.Unlock()
	indexed, err := l.index.last(run)
	if err != nil {
		return 0, err
	}
	if len(l.runs) >= maxRuns {
		clear(l.runs)
	}
	l.runs[run] = max(last, indexed)
	return l.runs[run], nil
}

// journalize writes entries to the journal, and acknowledges them.
func (l *Ledger) journalize(batch []*waiting) {
	if len(batch) == 0 {
		return
	}
	now := l.cfg.Now().UTC().Round(0)
	entries := make([]entry, len(batch))
	for i, w := range batch {
		w.leaf.Received = now
		entries[i] = w.entry
	}
	first, began := l.journal.next, time.Now()
	l.cfg.step("journal")
	if err := l.journal.append(entries); err != nil {
		l.cfg.Log.Error("AUDIT LEDGER TAKES NO RECORDS", "error", err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		l.metrics.failed.Add(float64(len(batch)))
		for _, w := range batch {
			w.finish(result{err: err})
		}
		return
	}
	l.cfg.step("acknowledge")
	l.metrics.appended(len(batch), time.Since(began))
	for _, w := range batch {
		if last, ok := l.runs[w.record.By.Run]; ok { // else lastOf finds it
			l.runs[w.record.By.Run] = max(last, w.record.By.Number)
		}
	}
	l.mu.Lock()
	for i, w := range batch {
		l.recent[w.id] = first + int64(i)
		if w.record.Kind == records.KindWriter {
			// It was checked before: ParseEnvelope and Enrol refuse what Add does.
			next := l.writers.Clone()
			if err := next.Add(w.record); err == nil {
				l.writers, l.epoch = next, l.epoch+1
			}
		}
	}
	l.behind = append(l.behind, entries...)
	l.behindBytes += bytesOf(entries)
	l.mu.Unlock()
	for i, w := range batch {
		w.finish(result{Added: records.Added{Index: first + int64(i), ID: w.id}})
	}
	l.wake(l.grown)
}
