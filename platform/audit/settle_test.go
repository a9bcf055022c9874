package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestFailedSync: after an fsync failed, the ledger does not trust a later one that succeeds. It keeps its
// journal, takes no records, and writes the files again at the next start.
func TestFailedSync(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, 300)
	tile := filepath.Join(l.dir, "tile", "entries", "000")
	settle := func() error { return l.do(context.Background(), l.settle) }
	if err := os.Rename(tile, tile+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, tile); err != nil { // fsync fails of a device
		t.Fatal(err)
	}
	if err := settle(); !errors.Is(err, errSync) {
		t.Fatalf("got %v, want %v", err, errSync)
	}
	if err := os.Rename(tile+".kept", tile); err != nil {
		t.Fatal(err)
	}
	if err := settle(); !errors.Is(err, errSync) {
		t.Errorf("once more: got %v, want %v", err, errSync)
	}
	if err := l.Close(); !errors.Is(err, errSync) {
		t.Errorf("the end: got %v, want %v", err, errSync)
	}
	if b, err := readBase(dir); err == nil {
		t.Errorf("got a base of %d entries, want none", b.Size)
	}
	before, err := os.Stat(tile)
	if err != nil {
		t.Fatal(err)
	}
	l = open(t, Config{Dir: dir})
	if after, err := os.Stat(tile); err != nil || os.SameFile(before, after) {
		t.Errorf("the tile was not written anew: %v", err)
	}
	if err := settle(); err != nil {
		t.Error(err)
	}
	if b, err := readBase(dir); err != nil || b.Size != 301 {
		t.Errorf("got a base of %d entries, %v, want 301", b.Size, err)
	}
	fill(t, l, w, 300, 1)
}
