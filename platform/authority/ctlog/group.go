package ctlog

import (
	"context"
	"errors"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"

	"github.com/colophon-build/colophon/internal/together"
)

var errClosed = errors.New("the log is closed")

// waiting is an entry and the channel for its result.
type waiting struct {
	entry *ctonly.Entry
	done  chan<- sequenced // of capacity 1
}

type sequenced struct {
	index uint64
	err   error
}

// sequence returns the leaf index once the entry is in the tree on disk.
func (s *Service) sequence(ctx context.Context, e *ctonly.Entry) (uint64, error) {
	done := make(chan sequenced, 1)
	select {
	case s.waiting <- &waiting{e, done}:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closed.Done():
		return 0, errClosed
	}
	select {
	case r := <-done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closed.Done():
		return 0, errClosed
	}
}

// group gives Tessera at once all entries that arrived while it wrote the last group, so
// that they share the next write. With its timer alone, Tessera would split them into
// many small writes, and a small write takes as long as a large one.
func (s *Service) group() {
	for {
		all := together.Next(s.closed, s.waiting, batchSize)
		if all == nil {
			return
		}
		futures := make([]tessera.IndexFuture, len(all))
		for i, w := range all {
			futures[i] = s.add(s.closed, w.entry)
		}
		for i, w := range all {
			index, err := futures[i]()
			w.done <- sequenced{index.Index, err}
		}
	}
}
