package verdicts

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Limits on what is read at once.
const (
	maxFlights = 4096 // images and tags that are read, or wait for that
	maxReading = 64
	maxOfHost  = 16 // of one registry, so that one that hangs does not keep the others from being read
)

var errBusy = fmt.Errorf("%d images are being read already; try again", maxFlights)

// flights does each work once for all who wait for it.
type flights[K comparable, V any] struct {
	mu    sync.Mutex
	all   map[K]*flight[V]
	hosts map[string]*host
	slots chan struct{} // maxReading
}

// flight is one work. Its fields are set once done is closed.
type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// host lets maxOfHost works of one registry run at once.
type host struct {
	slots chan struct{}
	users int
}

// do returns what work returns, or an error when ctx ends. The work does not end with ctx: it
// has readTimeout.
func (f *flights[K, V]) do(ctx context.Context, key K, registry string, work func(context.Context) (V, error)) (V, error) {
	var none V
	one := f.start(key, registry, work)
	if one == nil {
		return none, errBusy
	}
	select {
	case <-one.done:
		return one.value, one.err
	case <-ctx.Done():
		return none, fmt.Errorf("%s did not answer in time: %w", registry, context.Cause(ctx))
	}
}

// start begins the work, unless somebody has begun it. It returns nil if there is too much.
func (f *flights[K, V]) start(key K, registry string, work func(context.Context) (V, error)) *flight[V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one, ok := f.all[key]; ok {
		return one
	}
	if f.all == nil {
		f.all, f.hosts, f.slots = map[K]*flight[V]{}, map[string]*host{}, make(chan struct{}, maxReading)
	}
	if len(f.all) >= maxFlights {
		return nil
	}
	at := f.hosts[registry]
	if at == nil {
		at = &host{slots: make(chan struct{}, maxOfHost)}
		f.hosts[registry] = at
	}
	at.users++
	one := &flight[V]{done: make(chan struct{}), err: errors.New("it was not read")}
	f.all[key] = one
	go f.run(key, registry, at, one, work)
	return one
}

func (f *flights[K, V]) run(key K, registry string, at *host, one *flight[V], work func(context.Context) (V, error)) {
	defer func() {
		// A fault in what reads strangers' bytes is no answer, and does not end the process.
		if fault := recover(); fault != nil {
			one.err = fmt.Errorf("the reading ended with a fault: %v", fault)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if at.users--; at.users == 0 {
			delete(f.hosts, registry)
		}
		delete(f.all, key)
		close(one.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	for _, slots := range []chan struct{}{at.slots, f.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			one.err = fmt.Errorf("%s did not answer in time: others wait for it, too", registry)
			return
		}
	}
	one.value, one.err = work(ctx)
}
