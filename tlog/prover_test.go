package tlog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
)

// TestProver: its proofs are those of Inclusion, also if it keeps no hashes or few, and it fails for
// entries that do not exist.
func TestProver(t *testing.T) {
	for _, size := range []int{1, 5, 256, 300, 513} {
		l := logtest.New("log.example", size)
		cp := l.At(int64(size))
		for _, most := range []int{0, 3, 10000} {
			p := tlog.NewProver(l, cp, most)
			for i := range int64(size) {
				got, err := p.Inclusion(t.Context(), i)
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.VerifyInclusion(cp, i, tlog.LeafHash(fmt.Appendf(nil, "entry %d", i)), got); err != nil {
					t.Fatalf("%d of %d, %d hashes kept: %v", i, size, most, err)
				}
			}
			for _, i := range []int64{-1, int64(size)} {
				if _, err := p.Inclusion(t.Context(), i); err == nil {
					t.Errorf("entry %d of %d was proven", i, size)
				}
			}
		}
	}
	if _, err := tlog.NewProver(flat{}, tlog.Checkpoint{Origin: "log.example", Size: 3}, 10).Inclusion(t.Context(), 1); err == nil {
		t.Error("a tile that is too short was read")
	}
}

// flat is a log whose tiles are too short.
type flat struct{}

func (flat) Checkpoint(context.Context) ([]byte, error)      { return nil, nil }
func (flat) Tile(context.Context, tlog.Tile) ([]byte, error) { return []byte("x"), nil }
