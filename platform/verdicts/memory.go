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

// memory keeps entries up to a size. The one that was not asked for longest goes first.
type memory struct {
	most int64 // bytes

	mu      sync.Mutex
	entries map[entryKey]*list.Element // of *kept
	order   list.List                  // the last one that was asked for in front
	bytes   int64
}

type kept struct {
	key entryKey
	*entry
}

// perEntry estimates what the memory itself needs for an entry, in bytes.
const perEntry = 1 << 10

func (m *memory) get(key entryKey) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.entries[key]
	if !ok {
		return nil
	}
	m.order.MoveToFront(at)
	return at.Value.(*kept).entry
}

// put keeps an entry, unless it alone would take a sixteenth of the memory: an image with that
// much attached is read each time.
func (m *memory) put(key entryKey, e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(key)
	if e.weight > m.most/16 {
		return
	}
	if m.entries == nil {
		m.entries = map[entryKey]*list.Element{}
	}
	m.entries[key] = m.order.PushFront(&kept{key, e})
	for m.bytes += e.weight + perEntry; m.bytes > m.most; {
		m.remove(m.order.Back().Value.(*kept).key)
	}
}

func (m *memory) drop(key entryKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(key)
}

func (m *memory) remove(key entryKey) {
	if at, ok := m.entries[key]; ok {
		m.bytes -= at.Value.(*kept).weight + perEntry
		m.order.Remove(at)
		delete(m.entries, key)
	}
}

// forbid forgets that a reader may read an image.
func (m *memory) forbid(of reading) {
	if e := m.get(of.entryKey); e != nil {
		e.forbid(of.reader)
	}
}

func (m *memory) size() (n int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries), m.bytes
}
