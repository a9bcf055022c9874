package log

import (
	"fmt"
	"testing"

	"github.com/colophon-build/colophon/tlog"
)

// TestProofs: the proofs that a view makes are those of tlog.Inclusion, also if its cache of
// nodes is full, and a wrong node never leads to an answer.
func TestProofs(t *testing.T) {
	r := start(t, config(t.TempDir()))
	first := request(t, "0")
	r.add(t, first)
	for i := range 4 {
		r.add(t, request(t, fmt.Sprint(i+1)))
	}
	for _, full := range []bool{false, true} {
		v := newView(r.current.Load().Checkpoint, r.current.Load().signed, r.tiles)
		for i := int64(0); full && i < maxNodes; i++ {
			v.nodes[1<<40+i] = tlog.Hash{}
		}
		for i := range v.Size {
			got, err := v.prove(t.Context(), i)
			want, wantErr := tlog.Inclusion(t.Context(), source{v}, v.Checkpoint, i)
			if err != nil || wantErr != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("entry %d: got %v, %v, want %v, %v", i, got, err, want, wantErr)
			}
		}
		if len(v.nodes) > maxNodes {
			t.Errorf("got %d nodes in memory, want at most %d", len(v.nodes), maxNodes)
		}
	}
	if _, err := r.current.Load().prove(t.Context(), 5); err == nil {
		t.Error("an entry that does not exist was proven")
	}
	r.add(t, first) // again: its proof is now in memory
	v := r.current.Load()
	v.proving.Lock()
	for at := range v.nodes {
		v.nodes[at] = tlog.Hash{1}
	}
	v.proving.Unlock()
	if resp, answer := post(t, r.url, wire(t, first)); resp.StatusCode != 500 {
		t.Errorf("of wrong nodes: got %s %s, want 500", resp.Status, answer)
	}
}
