package serving

import (
	"container/list"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/platform/verdicts"
)

const (
	maxOpened = 100_000 // parts of images; the one that was opened first is closed first
	// How long a part is open after its image was accepted. Whoever needs longer for the layers
	// asks for the manifest again.
	manifestOpen = 10 * time.Minute
	blobOpen     = time.Hour
)

// part is a part of an accepted image, for one reader, in one repository, under the policies that
// accepted it: what one client's credentials opened is closed for another one's.
type part struct {
	reader     verdicts.ReaderID
	repository string
	digest     v1.Hash
	policies   string
}

type kind bool

const (
	aManifest kind = false
	aBlob     kind = true
)

type partOf struct {
	part
	kind kind
}

type state struct {
	key   partOf
	size  int64
	until time.Time
}

// opened remembers the parts of accepted images.
type opened struct {
	mu    sync.Mutex
	parts map[partOf]*list.Element // of state
	order list.List                // the last one that was opened in front
}

// add opens a part until a time. It closes none that is open for longer.
func (o *opened) add(p part, k kind, size int64, until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := partOf{p, k}
	if at, ok := o.parts[key]; ok {
		if before := at.Value.(state).until; before.After(until) {
			until = before
		}
		at.Value = state{key, size, until}
		o.order.MoveToFront(at)
		return
	}
	if o.parts == nil {
		o.parts = map[partOf]*list.Element{}
	}
	o.parts[key] = o.order.PushFront(state{key, size, until})
	if len(o.parts) > maxOpened {
		last := o.order.Back()
		o.order.Remove(last)
		delete(o.parts, last.Value.(state).key)
	}
}

// get returns a part that is open.
func (o *opened) get(p part, k kind, now time.Time) (s state, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, ok := o.parts[partOf{p, k}]
	if ok {
		s = at.Value.(state)
	}
	return s, ok && now.Before(s.until)
}
