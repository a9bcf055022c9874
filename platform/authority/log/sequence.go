package log

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/colophon-build/colophon/tlog"
)

// errBusy means that too many entries are pending or that the log is closing. The client
// should try again later.
var errBusy = errors.New("the log is busy; try again")

// pending is an entry that is not in the index yet. All requests for the same entry share
// it.
type pending struct {
	leaf  tlog.Hash
	entry []byte
	done  chan struct{} // closed when the fields below are set

	err   error
	index int64
	known bool  // the entry was already in the log
	view  *view // a published checkpoint that covers the entry
}

// place returns the entry with its index and a view that covers it. It adds the entry if
// the log does not have it. joined means that another request was adding it already. The
// entry is added even if ctx is cancelled. most is how many entries may be pending.
func (s *Server) place(ctx context.Context, entry []byte, most int) (p *pending, joined bool, err error) {
	leaf := tlog.LeafHash(entry)
	s.mu.Lock()
	p, joined = s.pending[leaf]
	switch {
	case joined:
	case s.closing || len(s.pending) >= most:
		s.mu.Unlock()
		return nil, false, errBusy
	default:
		p = &pending{leaf: leaf, entry: entry, done: make(chan struct{})}
		s.pending[leaf] = p
		s.queue = append(s.queue, p)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-p.done:
		return p, joined, p.err
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}

// sequence is the only writer of the log. It takes a batch of queued entries, has Tessera
// sequence them, waits until a checkpoint covers them, acknowledges them, and adds them to
// the index. Entries that arrive meanwhile form the next batch, so batches grow with the
// load.
func (s *Server) sequence() {
	defer close(s.stopped)
	last := 0
	for {
		if last > 1 {
			s.gather(last)
		}
		s.mu.Lock()
		batch := s.queue[:min(len(s.queue), batchSize)]
		s.queue = s.queue[len(batch):]
		closing := s.closing
		s.mu.Unlock()
		last = len(batch)
		if len(batch) > 0 {
			s.addBatch(batch)
			continue
		}
		if closing {
			return
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// gather waits for the next entries of the clients that just got their answers: without it,
// the first of them would get a batch of its own. It returns once as many are queued as
// were answered, or when no more arrive, and in any case after gatherMost.
func (s *Server) gather(answered int) {
	queued := 0
	for began := time.Now(); time.Since(began) < gatherMost; {
		time.Sleep(gatherStep)
		s.mu.Lock()
		before := queued
		queued = len(s.queue)
		s.mu.Unlock()
		if queued >= answered || queued == before {
			return
		}
	}
}

func (s *Server) addBatch(batch []*pending) {
	var added []*pending
	var futures []tessera.IndexFuture
	for _, p := range batch {
		if p.index, p.known, p.err = s.index.lookup(p.leaf); p.err != nil || p.known {
			p.view = s.current.Load()
			s.finish(p)
			continue
		}
		added = append(added, p)
		futures = append(futures, s.appender.Add(s.ctx, tessera.NewEntry(p.entry)))
	}
	var size int64
	for i, p := range added {
		at, err := futures[i]()
		p.index, p.err = int64(at.Index), err
		if err == nil {
			size = max(size, p.index+1)
		}
	}
	view, err := s.await(s.ctx, size)
	if err == nil {
		err = s.recordEntries(view)
	}
	for _, p := range added {
		if p.view = view; p.err == nil {
			p.err = err
		}
		close(p.done)
	}
	if err == nil {
		if err := s.index.extend(s.ctx, source{view}, view.Checkpoint); err != nil {
			// Entries stay pending until the index has them, so duplicates are still
			// found. If too many are pending, the log answers that it is busy.
			s.log.Error("indexing the log", "error", err)
		}
	}
	s.dropIndexed()
}

// finish completes an entry that need not be sequenced: it is in the log already, or the
// lookup failed.
func (s *Server) finish(p *pending) {
	if p.err != nil {
		p.err = fmt.Errorf("index of the log: %w", p.err)
	}
	s.mu.Lock()
	delete(s.pending, p.leaf)
	s.mu.Unlock()
	close(p.done)
}

// dropIndexed removes pending entries that have failed or that the index has.
func (s *Server) dropIndexed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for leaf, p := range s.pending {
		select {
		case <-p.done:
			if p.err != nil || p.index < s.index.Size {
				delete(s.pending, leaf)
			}
		default:
		}
	}
}
