package main

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// logAskers returns those that ask the log. Without one, the questions are not asked, and the case
// says why.
func (o *investigateOptions) logAskers(ctx context.Context, platform *api.ClientConfig) map[investigate.ID]investigate.Asker {
	log, err := openLog(ctx, o.log)
	if err != nil {
		none := func(context.Context, *investigate.Inquiry) (investigate.Reply, error) {
			return investigate.Reply{}, investigate.NotAskedFor("%v", err)
		}
		out := investigate.LogAskers(nil, nil, nil)
		for id := range out {
			out[id] = none
		}
		return out
	}
	index, err := log.index(indexOptions{})
	if err != nil {
		return nil // the log's own key gives no other error than that it is of no known kind
	}
	asked := &askedLog{trustedLog: log, of: index}
	// An archive is that of the platform whose log is asked.
	if platform != nil && log.Root.URL == strings.TrimSuffix(platform.URL, "/") {
		out := investigate.LogAskers(asked, investigate.PlatformArchive{Platform: platform}, platform)
		maps.Copy(out, archiveAskers(platform, log))
		return out
	}
	return investigate.LogAskers(asked, nil, nil)
}

// askedLog is a log as investigations ask it, with its own index.
type askedLog struct {
	*trustedLog
	of *logIndex

	mu             sync.Mutex
	first, indexed tlog.Checkpoint // of the log and of its index, which it showed first; zero: none yet
}

// Name implements investigate.Log.
func (l *askedLog) Name() string { return l.URL }

// Keys implements investigate.Log.
func (l *askedLog) Keys() (log, index note.Verifier) { return l.Verifier, l.of.key }

// Page implements investigate.Log.
func (l *askedLog) Page(ctx context.Context, q search.Question) ([]byte, error) {
	before, indexBefore, err := l.seen(ctx)
	if err != nil {
		return nil, err
	}
	a, raw, err := l.of.page(ctx, q, search.MaxPage)
	if err != nil {
		return nil, err
	}
	v, err := a.Verify(q, l.Verifier, l.of.key)
	if err != nil {
		return nil, fmt.Errorf("the answer proves nothing: %w", err)
	}
	if err := tlog.Extends(ctx, l, before, v.Newest); err != nil {
		return nil, err
	}
	if err := tlog.Extends(ctx, l.of, indexBefore, v.Index); err != nil {
		return nil, fmt.Errorf("index log: %w", err)
	}
	return raw, nil
}

// seen returns the checkpoints that the log showed first. An answer that is older hides something.
func (l *askedLog) seen(ctx context.Context) (log, index tlog.Checkpoint, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first.Size > 0 {
		return l.first, l.indexed, nil
	}
	if _, log, err = l.open(ctx); err != nil {
		return log, index, err
	}
	signed, err := l.of.Checkpoint(ctx)
	if err != nil {
		return log, index, err
	}
	if index, err = tlog.OpenCheckpoint(signed, l.of.key); err != nil {
		return log, index, fmt.Errorf("index log: %w", err)
	}
	l.first, l.indexed = log, index
	return log, index, nil
}
