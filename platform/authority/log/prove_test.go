package log

import (
	"context"
	"testing"

	"github.com/colophon-build/colophon/tlog"
)

// TestWrongNodes: a wrong tile never leads to an answer.
func TestWrongNodes(t *testing.T) {
	r := start(t, config(t.TempDir()))
	first := request(t, "0")
	r.add(t, first)
	r.add(t, request(t, "1"))
	v := r.current.Load()
	v.prover = tlog.NewProver(zeros{}, v.Checkpoint, maxNodes)
	if resp, answer := post(t, r.url, wire(t, first)); resp.StatusCode != 500 { // again: its proof is made anew
		t.Errorf("of wrong nodes: got %s %s, want 500", resp.Status, answer)
	}
}

// zeros is a log whose hashes are all zero.
type zeros struct{}

func (zeros) Checkpoint(context.Context) ([]byte, error) { return nil, nil }
func (zeros) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	return make([]byte, t.Width*len(tlog.Hash{})), nil
}
