package follow

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

const (
	batchTiles = 32       // tiles of entries that are handed over at once, at most
	batchBytes = 16 << 20 // and after this many bytes no further one
	keptHashes = 256      // tiles of hashes that are kept in memory, of 8 KiB each
)

// HTTP returns the source of a log that is served over HTTP, below url. It keeps connections
// for as many requests as Follow makes at once, and follows no redirects.
func HTTP(url string) tlog.HTTP {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	return tlog.HTTP{URL: url, Client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// patient is the source of the log with a timeout for each request, which it repeats if
// that may help. It keeps tiles of hashes, which every proof reads again.
type patient struct {
	src   tlog.Source
	cfg   Config
	retry reach.Retry

	mu   sync.Mutex
	kept map[tlog.Tile][]byte
}

func newPatient(cfg Config) *patient {
	return &patient{src: cfg.Source, cfg: cfg, retry: reach.Retry{
		Server: "the log", Pause: cfg.Pause, Jitter: true, MayPass: mayPass, After: retryAfter,
	}}
}

// forget forgets all tiles.
func (p *patient) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = map[tlog.Tile][]byte{}
}

// Checkpoint implements tlog.Source.
func (p *patient) Checkpoint(ctx context.Context) (signed []byte, err error) {
	err = p.retry.Do(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
		defer cancel()
		signed, err = p.src.Checkpoint(ctx)
		return err
	})
	return signed, err
}

// Tile implements tlog.Source. It takes a partial tile that the log deleted from the full one.
func (p *patient) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	p.mu.Lock()
	data, ok := p.kept[t]
	p.mu.Unlock()
	if ok {
		return data, nil
	}
	err := p.retry.Do(ctx, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
		defer cancel()
		data, err = tlog.ReadTile(ctx, marked{p.src}, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	if t.Level != tlog.Entries {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.kept) >= keptHashes {
			clear(p.kept)
		}
		p.kept[t] = data
	}
	return data, nil
}

// marked marks errors of a source: others are about what it answered.
type marked struct{ tlog.Source }

func (m marked) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := m.Source.Tile(ctx, t)
	if _, tooLarge := errors.AsType[strict.TooLarge](err); err != nil && !tooLarge {
		err = &unanswered{err}
	}
	return data, err
}

// bundle is a tile of entries.
type bundle struct {
	tile    tlog.Tile
	data    []byte
	entries [][]byte
	leaves  []tlog.Hash
	err     error // why it could not be read and verified
}

// fetch reads a tile of entries and verifies it with the tree of cp.
func (f *Follower) fetch(ctx context.Context, cp tlog.Checkpoint, t tlog.Tile) bundle {
	b := bundle{tile: t}
	b.err = f.twice(ctx, func() (err error) {
		if b.data, err = f.src.Tile(ctx, t); err != nil {
			return err
		}
		if b.entries, err = tlog.SplitEntries(b.data); err != nil {
			return fmt.Errorf("%s: %w", t.Path(), err)
		}
		b.leaves = make([]tlog.Hash, len(b.entries))
		for i, entry := range b.entries {
			b.leaves[i] = tlog.LeafHash(entry)
		}
		if root, full := tlog.Subtree(b.leaves); full {
			// The level above has this hash, which saves reading a tile of hashes for each
			// tile of entries.
			want, err := tlog.Nodes(ctx, f.src, cp, 1, t.Index, t.Index+1)
			if err != nil || want[0] == root {
				return err
			}
		}
		return tlog.VerifyLeaves(ctx, f.src, cp, t, b.leaves) // names the entry that is wrong
	})
	return b
}

// fetchAll fetches the tiles of entries of cp from the index first on. It calls do with each
// tile in order, while further ones are fetched.
func (f *Follower) fetchAll(ctx context.Context, cp tlog.Checkpoint, first int64, do func(bundle) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var fetches sync.WaitGroup
	defer fetches.Wait()
	defer cancel()
	ahead := make(chan chan bundle, f.cfg.Parallel-1) // in order; each gets its one bundle
	fetches.Go(func() {
		defer close(ahead)
		for index := first; ; index++ {
			t, ok := tlog.Tile{Level: tlog.Entries, Index: index}.At(cp.Size)
			if !ok {
				return
			}
			fetched := make(chan bundle, 1)
			select {
			case ahead <- fetched:
				fetches.Go(func() { fetched <- f.fetch(ctx, cp, t) })
			case <-ctx.Done():
				return
			}
		}
	})
	for fetched := range ahead {
		b := <-fetched
		if b.err != nil {
			return f.tileFailure(ctx, b.err, []byte(f.state.Checkpoint), b.data)
		}
		if err := do(b); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// entries hands over the entries of the checkpoint that was seen, from the next one on.
func (f *Follower) entries(ctx context.Context) error {
	cp := f.state.seen
	if f.state.Next < cp.Size {
		var batch []bundle
		size := 0
		err := f.fetchAll(ctx, cp, f.state.Next/tlog.TileWidth, func(b bundle) error {
			batch, size = append(batch, b), size+len(b.data)
			if len(batch) < batchTiles && size < batchBytes && b.tile.Width == tlog.TileWidth && (b.tile.Index+1)*tlog.TileWidth < cp.Size {
				return nil
			}
			err := f.hand(ctx, batch)
			batch, size = nil, 0
			return err
		})
		if err != nil {
			return err
		}
	}
	if f.cfg.Copy {
		return f.publish(ctx)
	}
	return nil
}

// hand hands over verified tiles of entries, and keeps that they are done.
func (f *Follower) hand(ctx context.Context, bundles []bundle) error {
	next := f.state
	var entries [][]byte
	for _, b := range bundles {
		entries = append(entries, b.entries...)
	}
	first := bundles[0].tile.Index * tlog.TileWidth
	next.Next, next.Copy = first+int64(len(entries)), f.cfg.Copy
	if f.cfg.Copy {
		if err := f.copyEntries(ctx, bundles); err != nil {
			return err
		}
	}
	if f.cfg.Entries != nil {
		// The first tile may have been partial before.
		batch := Batch{Checkpoint: next.seen, First: f.state.Next, Entries: entries[f.state.Next-first:]}
		if err := f.cfg.Entries(ctx, batch); err != nil {
			return err
		}
	}
	return f.keep(next)
}
