package verdicts

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// entryKey is everything that an entry depends on, but for the time and what is attached to
// the image.
type entryKey struct {
	repository, digest string
	ask                uint64
	trust              [sha256.Size]byte
}

// memory keeps entries up to a size. The one that was not asked for longest goes first. What was
// read ahead, before anybody asked, takes only the room that is left: it goes before everything that
// was asked for.
type memory struct {
	most int64 // bytes

	mu      sync.Mutex
	entries map[entryKey]*list.Element // of *kept
	order   list.List                  // what was asked for, the last one in front
	ahead   list.List                  // what was only read ahead, the last one in front
	bytes   int64
}

type kept struct {
	key entryKey
	*entry
	ahead bool // nobody has asked for it yet
}

// perEntry estimates what the memory itself needs for an entry, in bytes.
const perEntry = 1 << 10

// get returns an entry, or nil. ahead says that nobody waits for it.
func (m *memory) get(key entryKey, ahead bool) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.entries[key]
	if !ok {
		return nil
	}
	k := at.Value.(*kept)
	switch {
	case k.ahead && !ahead:
		m.ahead.Remove(at)
		k.ahead = false
		m.entries[key] = m.order.PushFront(k)
	case k.ahead:
		m.ahead.MoveToFront(at)
	case !ahead:
		m.order.MoveToFront(at)
	}
	return k.entry
}

// put keeps an entry, unless it alone would take a sixteenth of the memory: an image with that
// much attached is read each time. An entry that was read ahead makes others go only if they were
// read ahead, too.
func (m *memory) put(key entryKey, e *entry, ahead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.entries[key]; ok {
		ahead = ahead && at.Value.(*kept).ahead
	}
	m.remove(key)
	if e.weight > m.most/16 {
		return
	}
	if m.entries == nil {
		m.entries = map[entryKey]*list.Element{}
	}
	of := &m.order
	if ahead {
		of = &m.ahead
	}
	m.entries[key] = of.PushFront(&kept{key, e, ahead})
	for m.bytes += e.weight + perEntry; m.bytes > m.most; {
		last := m.ahead.Back()
		if last == nil {
			last = m.order.Back()
		}
		m.remove(last.Value.(*kept).key)
	}
}

func (m *memory) drop(key entryKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(key)
}

func (m *memory) remove(key entryKey) {
	if at, ok := m.entries[key]; ok {
		k := at.Value.(*kept)
		m.bytes -= k.weight + perEntry
		if k.ahead {
			m.ahead.Remove(at)
		} else {
			m.order.Remove(at)
		}
		delete(m.entries, key)
	}
}

// forbid forgets that a reader may read an image.
func (m *memory) forbid(of reading) {
	if e := m.get(of.entryKey, true); e != nil {
		e.forbid(of.reader)
	}
}

// all returns the entries, those that were asked for last first.
func (m *memory) all() (out []*kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, of := range []*list.List{&m.order, &m.ahead} {
		for at := of.Front(); at != nil; at = at.Next() {
			out = append(out, at.Value.(*kept))
		}
	}
	return out
}

func (m *memory) size() (n int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries), m.bytes
}
