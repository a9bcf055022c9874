// Package search keeps the map of the entries of a log (spec/search/v1), and answers which
// entries it has about something. It holds no key: it computes the root of the next map, has
// the index log commit to it, and only then answers from it. Whoever reads the log can compute
// every root again, so nobody needs to trust it.
//
// The log is the journal of the map. A file has the map as it was at some entry of the index
// log; a start reads the rest from the log, and compares the root with that of the last entry
// of the index log. If they differ, the map is made again from all entries; if they still
// differ, one of the two logs was changed, and nothing is answered.
package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/prefix"
)

const (
	mapFile   = "map"       // in Config.Dir
	saveAfter = 16384       // entries after which the file is written again
	pause     = time.Second // between two looks at the log, and after an error

	saveAfterKeys = 500_000 // keys after which the file is written again, if entries have many
)

// Config of a Service.
type Config struct {
	Dir string // of the map's file; created by the caller

	Log      tlog.Source   // what the log serves
	LogKey   note.Verifier // of its checkpoints
	Index    tlog.Source   // what the index log serves
	IndexKey note.Verifier // of its checkpoints

	// Append adds an entry to the index log, and returns when Index serves it. The last
	// entry again is not added again.
	Append func(ctx context.Context, entry []byte) error

	Metrics prometheus.Registerer // nil: metrics are not registered

	// Extend returns the map with the keys of these entries too; nil: search.Extend. If its
	// error matches search.ErrContradiction, the service stops.
	Extend func(ctx context.Context, m prefix.Map, from int64, entries [][]byte) (prefix.Map, error)

	Logger *slog.Logger // gets messages for the operator; nil: slog.Default()
}

// Service keeps the map and answers. Safe for concurrent use, but for Run.
type Service struct {
	cfg        Config
	log, index *cache
	state      atomic.Pointer[search.State] // what is answered from; nil: nothing yet
	stopped    atomic.Pointer[error]        // why nothing is answered any more
	saved      int64                        // entries in the map's file
	savedKeys  int64                        // keys in the map's file
	unsure     bool                         // state may not be that of the last entry of the index log
	damaged    atomic.Bool                  // keys could not be read from the map's file: it is made again from the log
	slots      chan struct{}
	metrics    *metrics
}

// errContradiction matches the errors after which the service stops: what the logs signed does
// not fit together.
var errContradiction = errors.New("the log, its index log and the map contradict each other")

func contradiction(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errContradiction, fmt.Errorf(format, args...))
}

// New returns a Service that answers nothing before Run has opened the map.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Extend == nil {
		cfg.Extend = func(_ context.Context, m prefix.Map, from int64, entries [][]byte) (prefix.Map, error) {
			return search.Extend(m, from, entries)
		}
	}
	return &Service{cfg: cfg, log: newCache(cfg.Log), index: newCache(cfg.Index), slots: make(chan struct{}, maxAsking), metrics: newMetrics(cfg.Metrics)}
}

// Run keeps the map until ctx is done. What can pass, such as a full disk or a log that does
// not answer, it tries again. After a contradiction it returns an error, and the service
// answers nothing any more.
func (s *Service) Run(ctx context.Context) error {
	logged := ""
	for {
		err := s.step(ctx)
		if ctx.Err() != nil {
			return s.save()
		}
		if errors.Is(err, errContradiction) {
			s.stopped.Store(&err)
			s.metrics.stopped.Set(1)
			s.cfg.Logger.Error("the search stops; compare with colophon log audit", "error", err)
			return err
		}
		if err == nil {
			logged = ""
		} else {
			s.metrics.failed.Inc()
			s.log.forget()
			s.index.forget()
		}
		if err != nil && err.Error() != logged {
			logged = err.Error()
			s.cfg.Logger.Warn("the map of the log cannot be continued now", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// step opens the map if it is not open, and indexes what is new in the log.
func (s *Service) step(ctx context.Context) error {
	state, damaged := s.state.Load(), s.damaged.Load()
	if state == nil || s.unsure || damaged {
		var err error
		if state, err = s.restore(ctx); err != nil {
			return s.noteDamage(err)
		}
		if s.unsure = false; state.Leaf != nil {
			s.show(state)
		}
	}
	if damaged {
		if err := s.save(); err != nil {
			return err
		}
		s.damaged.Store(false)
		if now := s.state.Load(); now != nil {
			state = now
		}
	}
	return s.noteDamage(s.extend(ctx, state))
}

// noteDamage returns err. If keys could not be read, the next step makes the map again.
func (s *Service) noteDamage(err error) error {
	if errors.Is(err, prefix.ErrDamaged) {
		s.damaged.Store(true)
	}
	return err
}

// restore returns the state of the last entry of the index log. Leaf is nil if the index log
// has no entry.
func (s *Service) restore(ctx context.Context) (*search.State, error) {
	state, leaf, err := s.last(ctx)
	if err != nil {
		return nil, err
	}
	m, size, err := s.open(state, leaf)
	if err != nil {
		return nil, err
	}
	if state.Leaf == nil {
		return state, nil
	}
	newest, _, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	if newest.Size < state.Indexed.Size {
		return nil, contradiction("the log has %d entries, and the index log is about %d", newest.Size, state.Indexed.Size)
	}
	for {
		s.saved, s.savedKeys = size, m.Len()
		if m, err = s.read(ctx, m, size, state.Indexed, newest); err != nil {
			return nil, err
		}
		if m.Root() == leaf.Root && m.Len() == leaf.Keys {
			state.Map = m
			return state, nil
		}
		if size == 0 {
			return nil, contradiction("the map of %d entries has the root %v and %d keys, and the index log has %v and %d", state.Indexed.Size, m.Root(), m.Len(), leaf.Root, leaf.Keys)
		}
		s.cfg.Logger.Warn("the map does not have the root that the index log has; making it again from the log", "entries", size)
		m, size = prefix.Map{}, 0
	}
}

// last returns a state with the last entry of the index log and no map.
func (s *Service) last(ctx context.Context) (*search.State, search.Leaf, error) {
	var state search.State
	var err error
	state.IndexCheckpoint, err = s.cfg.Index.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return &state, search.Leaf{}, nil
	} else if err != nil {
		return nil, search.Leaf{}, err
	}
	if state.Index, err = tlog.OpenCheckpoint(state.IndexCheckpoint, s.cfg.IndexKey); err != nil {
		return nil, search.Leaf{}, contradiction("index log: %w", err)
	}
	if state.Index.Size == 0 {
		return &state, search.Leaf{}, nil
	}
	if state.Leaf, _, err = tlog.Entry(ctx, s.index, state.Index, state.Index.Size-1); err != nil {
		return nil, search.Leaf{}, err
	}
	leaf, indexed, err := search.ParseLeaf(state.Leaf, s.cfg.LogKey)
	if err != nil {
		return nil, search.Leaf{}, contradiction("%w", err)
	}
	state.Indexed = indexed
	return &state, leaf, nil
}

// open opens the map's file, if it can be the beginning of the state's map. A damaged one
// counts as if there were none. size is the number of entries that it has.
func (s *Service) open(state *search.State, leaf search.Leaf) (m prefix.Map, size int64, err error) {
	if err := durable.Sweep(s.cfg.Dir); err != nil { // a crash while the map was saved
		return prefix.Map{}, 0, err
	}
	path := filepath.Join(s.cfg.Dir, mapFile)
	m, saved, err := prefix.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return prefix.Map{}, 0, nil
	case errors.Is(err, prefix.ErrDamaged):
		s.cfg.Logger.Warn("the map is damaged; making it again from the log", "error", err)
		return prefix.Map{}, 0, nil
	case err != nil:
		return prefix.Map{}, 0, err
	}
	then, cp, err := search.ParseLeaf(saved, s.cfg.LogKey)
	if err != nil || then.Root != m.Root() || then.Keys != m.Len() {
		s.cfg.Logger.Warn("the map does not fit its own entry of the index log; making it again from the log", "path", path)
		return prefix.Map{}, 0, nil
	}
	// The map is written after the index log has published its entry.
	if cp.Size > state.Indexed.Size || cp.Size == state.Indexed.Size && !bytes.Equal(saved, state.Leaf) {
		return prefix.Map{}, 0, contradiction("%s is about %d entries, and the last entry of the index log about %d: the index log was rolled back or changed; restore it from a backup", path, cp.Size, state.Indexed.Size)
	}
	if s.damaged.Load() {
		s.cfg.Logger.Warn("keys of the map are damaged; making it again from the log", "path", path)
		return prefix.Map{}, 0, nil
	}
	return m, cp.Size, nil
}

// newest returns the log's newest checkpoint, verified.
func (s *Service) newest(ctx context.Context) (tlog.Checkpoint, []byte, error) {
	signed, err := s.cfg.Log.Checkpoint(ctx)
	if err != nil {
		return tlog.Checkpoint{}, nil, err
	}
	cp, err := tlog.OpenCheckpoint(signed, s.cfg.LogKey)
	if err != nil {
		return cp, nil, contradiction("%w", err)
	}
	return cp, signed, nil
}

// read returns m, which has the first size entries, with those under cp too. It reads the tiles
// of the newer tree newest, which must extend cp.
func (s *Service) read(ctx context.Context, m prefix.Map, size int64, cp, newest tlog.Checkpoint) (prefix.Map, error) {
	if err := s.extends(ctx, cp, newest); err != nil {
		return m, err
	}
	err := search.Entries(ctx, s.log, newest.Size, size, cp.Size, func(from int64, entries [][]byte) (err error) {
		for at := 0; at < len(entries); {
			to := min(len(entries), at+tlog.TileWidth-int(from+int64(at))%tlog.TileWidth)
			want, err := tlog.Leaves(ctx, s.log, newest, from+int64(at), from+int64(to))
			if err != nil {
				return err
			}
			for i, leaf := range want {
				if tlog.LeafHash(entries[at+i]) != leaf {
					return fmt.Errorf("entry %d of the log is not the one in its tree", from+int64(at+i))
				}
			}
			at = to
		}
		m, err = s.cfg.Extend(ctx, m, from, entries)
		return err
	})
	if errors.Is(err, search.ErrContradiction) {
		err = contradiction("%w", err)
	}
	return m, err
}

// extends fails with a contradiction unless the tree of newer extends that of older.
func (s *Service) extends(ctx context.Context, older, newer tlog.Checkpoint) error {
	if older.Size > newer.Size {
		return contradiction("the log has %d entries, and had %d", newer.Size, older.Size)
	}
	proof, err := tlog.Consistency(ctx, s.log, older.Size, newer)
	if err != nil {
		return err
	}
	if err := tlog.VerifyConsistency(older, newer, proof); err != nil {
		return contradiction("%w", err)
	}
	return nil
}

// extend indexes the entries that the log has and the state has not: it computes the new root,
// has it published in the index log, and only then answers from the new map.
func (s *Service) extend(ctx context.Context, state *search.State) error {
	newest, signed, err := s.newest(ctx)
	if err != nil {
		return err
	}
	s.metrics.behind.Set(float64(newest.Size - state.Indexed.Size))
	if state.Leaf != nil && newest.Size <= state.Indexed.Size {
		if err := s.extends(ctx, state.Indexed, newest); err != nil { // it has neither shrunk nor changed
			return err
		}
		return s.cosigned(ctx, state)
	}
	indexed := state.Indexed
	if state.Leaf == nil {
		indexed = tlog.Checkpoint{Origin: newest.Origin, Root: tlog.EmptyRoot()}
	}
	if err := s.extends(ctx, indexed, newest); err != nil {
		return err
	}
	m, err := s.read(ctx, state.Map, indexed.Size, newest, newest)
	if err != nil {
		return err
	}
	leaf := search.Leaf{Root: m.Root(), Keys: m.Len(), Checkpoint: string(signed)}.Bytes()
	if err := s.cfg.Append(ctx, leaf); err != nil {
		s.unsure = true // the entry may be in the index log, or another one
		return err
	}
	next, _, err := s.last(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(next.Leaf, leaf) {
		return contradiction("the index log has another last entry than the one that was added")
	}
	if state.Leaf != nil {
		if err := tlog.Extends(ctx, s.index, state.Index, next.Index); err != nil {
			return contradiction("index log: %w", err)
		}
	}
	next.Map = m
	s.show(next)
	s.metrics.behind.Set(0)
	if next.Indexed.Size-s.saved >= saveAfter || m.Len()-s.savedKeys >= max(saveAfterKeys, s.savedKeys/8) {
		return s.save()
	}
	return nil
}

// cosigned takes over cosignatures of the index log's checkpoint that came after its entry.
func (s *Service) cosigned(ctx context.Context, state *search.State) error {
	signed, err := s.cfg.Index.Checkpoint(ctx)
	if err != nil || bytes.Equal(signed, state.IndexCheckpoint) {
		return err
	}
	cp, err := tlog.OpenCheckpoint(signed, s.cfg.IndexKey)
	if err != nil {
		return contradiction("index log: %w", err)
	}
	if cp.Size != state.Index.Size || cp.Root != state.Index.Root {
		s.unsure = true // somebody else added to the index log, or it changed
		return nil
	}
	now := *state
	now.IndexCheckpoint = signed
	s.show(&now)
	return nil
}

// show makes state what is answered from.
func (s *Service) show(state *search.State) {
	s.state.Store(state)
	s.metrics.indexed.Set(float64(state.Indexed.Size))
	s.metrics.keys.Set(float64(state.Map.Len()))
}

// save writes the map's file, if it is behind, and goes on with the map that is in the file.
func (s *Service) save() error {
	state := s.state.Load()
	if state == nil || state.Indexed.Size == s.saved {
		return nil
	}
	path := filepath.Join(s.cfg.Dir, mapFile)
	if err := state.Map.Write(path, state.Leaf); err != nil {
		return fmt.Errorf("saving the map: %w", err)
	}
	m, _, err := prefix.Open(path)
	if err != nil {
		return err
	}
	if m.Root() != state.Map.Root() {
		return fmt.Errorf("%s: the map was not saved as it was", path)
	}
	now := *state
	now.Map = m
	s.show(&now)
	s.saved, s.savedKeys = state.Indexed.Size, m.Len()
	return nil
}

// Ready fails if the service cannot answer.
func (s *Service) Ready() error {
	if err := s.stopped.Load(); err != nil {
		return *err
	}
	return nil
}
