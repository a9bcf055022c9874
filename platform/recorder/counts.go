package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// countsFile is in the directory of the spool.
const countsFile = "counts.json"

// counts says which documents count, as far as the acts say that were recorded: so the next start knows
// whether other ones do.
type counts struct {
	mu      sync.Mutex
	path    string
	digests map[string]string // name → sha256:HEX; none: nothing counts

	withdrawn bool // the last act did not reach the ledger in time
}

func (c *counts) read(path string) error {
	c.path, c.digests = path, map[string]string{}
	raw, err := strict.ReadFile(path, limits.Request)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := strict.UnmarshalKnown(raw, limits.Request, &c.digests); err != nil {
		return fmt.Errorf("%s: %w; remove it: what counts is then recorded again", path, err)
	}
	return nil
}

func (c *counts) write() error {
	raw, err := json.Marshal(c.digests)
	if err != nil {
		return err
	}
	return durable.WriteFile(c.path, append(raw, '\n'), 0o600)
}

// pause is how long Replace waits before it sends a record again.
const pause = 200 * time.Millisecond

// Replace records the act that makes another document count under this name: digest is its sha256:HEX, or
// empty if none counts any more. act gets the digest of what counted before, or "". Nothing is recorded if the
// same document counts as the last act says, also one before a restart; after a crash, an act may be recorded
// twice. Replace fails as Record does, but a record that the ledger must have is sent until ctx ends, and one that
// could not be kept is made again at the next Replace.
func (r *Recorder) Replace(ctx context.Context, name, digest string, act func(before string) audit.Record) error {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	before := r.counts.digests[name]
	if digest == before {
		return nil
	}
	if !r.cfg.Required {
		if err := r.keep(act(before)); err != nil { // it counts all the same, and is not noted: so it is recorded later
			return r.fail(err)
		}
	} else if err := r.insist(ctx, act, before); err != nil {
		r.counts.withdrawn = true
		return err
	}
	r.counts.withdrawn = false
	if r.counts.digests[name] = digest; digest == "" {
		delete(r.counts.digests, name)
	}
	if err := r.counts.write(); err != nil { // the act is recorded: the next start records it again
		r.cfg.Log.Warn("what counts could not be noted, so the next start records it again", "of", name, "error", err)
	}
	return nil
}

// Names returns the names under which a document counts.
func (r *Recorder) Names() (names []string) {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	for name := range r.counts.digests {
		names = append(names, name)
	}
	return names
}

// errWaits means that the ledger does not have the last act and its end yet.
var errWaits = errors.New("the audit ledger does not take what was tried before")

// insist is Record for what the ledger must have, and sends it until ctx ends. While the act before that was withdrawn
// waits in the spool, the ledger takes nothing: a record more, at each try, would be withdrawn too.
func (r *Recorder) insist(ctx context.Context, act func(before string) audit.Record, before string) error {
	for r.counts.withdrawn && r.spool.bytes.Load() > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r.fail(errWaits)
		}
	}
	what := act(before)
	e, err := r.signer.Seal(what, r.cfg.Now())
	if err != nil {
		return r.fail(err)
	}
	sent := seal(e)
	for {
		err := r.live.send(ctx, sent)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return r.withdraw(what, sent.data, err)
		}
	}
}
