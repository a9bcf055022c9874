package registry

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	maxListed = 500_000          // names that lists keeps in memory, about 50 MB
	relist    = 10 * time.Minute // after which a list is read from the disk again
)

// lists keeps the sorted names of directories that are listed in pages. Without it each page
// would cost as much as the whole list. A list is read from the disk when it is first needed;
// later changes by this process are added to it. Safe for concurrent use.
type lists struct {
	loading chan struct{} // one element for each directory that is being read

	mu    sync.Mutex
	dirs  map[string]*nameList
	total int // weight of all lists
}

type nameList struct {
	mu     sync.Mutex
	names  []string // sorted; never changed in place, because pages are sent from it
	loaded time.Time

	weight int       // in lists.total; guarded by lists.mu
	used   time.Time // guarded by lists.mu
}

func newLists() *lists {
	return &lists{loading: make(chan struct{}, 2), dirs: map[string]*nameList{}}
}

// names returns the sorted names in dir; none if it does not exist. Do not modify them.
func (l *lists) names(ctx context.Context, dir string) ([]string, error) {
	l.mu.Lock()
	e := l.dirs[dir]
	if e == nil {
		e = &nameList{}
		l.dirs[dir] = e
	}
	l.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.loaded) >= relist {
		names, err := l.read(ctx, dir)
		if err != nil {
			l.forget(dir, e)
			if missing(err) {
				return nil, nil
			}
			return nil, err
		}
		e.names, e.loaded = names, time.Now()
	}
	l.keep(dir, e)
	return e.names, nil
}

// read reads the names in dir.
func (l *lists) read(ctx context.Context, dir string) ([]string, error) {
	if ok, err := exists(dir); err != nil {
		return nil, err
	} else if !ok {
		return nil, os.ErrNotExist
	}
	release, err := acquire(ctx, l.loading)
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// forget drops a list that could not be read.
func (l *lists) forget(dir string, e *nameList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirs[dir] == e {
		l.drop(dir)
	}
}

// drop forgets a list. The caller must hold l.mu.
func (l *lists) drop(dir string) {
	l.total -= l.dirs[dir].weight
	delete(l.dirs, dir)
}

// keep marks a list as used, and drops the least recently used lists if all of them together
// are too long.
func (l *lists) keep(dir string, e *nameList) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dirs[dir] != e {
		return // dropped meanwhile
	}
	l.total -= e.weight
	e.weight, e.used = len(e.names)+64, time.Now() // the list itself counts too
	l.total += e.weight
	for l.total > maxListed && len(l.dirs) > 1 {
		oldest := ""
		for other, o := range l.dirs {
			if o != e && (oldest == "" || o.used.Before(l.dirs[oldest].used)) {
				oldest = other
			}
		}
		l.drop(oldest)
	}
}

// changed updates the list of path's directory, if there is one, after path was created or
// removed.
func (l *lists) changed(path string, exists bool) {
	dir, name := filepath.Split(path)
	l.mu.Lock()
	e := l.dirs[filepath.Clean(dir)]
	l.mu.Unlock()
	if e == nil {
		return // the next reader reads the directory
	}
	// If the list is being read, this waits until the reader has finished.
	e.mu.Lock()
	defer e.mu.Unlock()
	i, found := slices.BinarySearch(e.names, name)
	switch {
	case e.loaded.IsZero() || found == exists:
	case exists:
		e.names = slices.Insert(slices.Clone(e.names), i, name)
	default:
		e.names = slices.Delete(slices.Clone(e.names), i, i+1)
	}
}
