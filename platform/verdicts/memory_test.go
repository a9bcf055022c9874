package verdicts

import (
	"fmt"
	"testing"
)

// TestAheadDisplacesNothing: entries that were read ahead go before those that somebody asked for,
// however new they are, and stay once somebody asked.
func TestAheadDisplacesNothing(t *testing.T) {
	m := &memory{most: 64 * (perEntry + 1<<10)}
	of := func(n int) entryKey { return entryKey{digest: fmt.Sprint(n)} }
	put := func(n int, ahead bool) { m.put(of(n), &entry{weight: 1 << 10}, ahead) }
	for n := range 32 {
		put(n, false)
	}
	for n := 100; n < 300; n++ {
		put(n, true)
	}
	for n := range 32 {
		if m.get(of(n), true) == nil {
			t.Fatalf("entry %d, which was asked for, is gone", n)
		}
	}
	if m.get(of(299), true) == nil || m.get(of(100), true) != nil {
		t.Error("of what was read ahead, want the newest")
	}
	m.get(of(299), false)
	put(299, true) // read again
	for n := range 31 {
		put(1000+n, false)
	}
	if m.get(of(299), true) == nil {
		t.Error("an entry that was asked for is gone as if nobody had")
	}
	if n, bytes := m.size(); n != 64 || bytes != m.most {
		t.Errorf("got %d entries, %d bytes", n, bytes)
	}
	if m.ahead.Len() != 0 || m.order.Len() != 64 {
		t.Errorf("got %d read ahead and %d asked for", m.ahead.Len(), m.order.Len())
	}
}
