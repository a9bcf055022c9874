package files

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/tlog"
)

// A partial tile that went is read from the fuller one that took its place, also if that is full, or went again; and from
// no other.
func TestFullerTiles(t *testing.T) {
	dir := t.TempDir()
	write := func(path string, data []byte) {
		t.Helper()
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hashes := func(n int) (data []byte) {
		for i := range n {
			data = append(data, slices.Repeat([]byte{byte(i)}, 32)...)
		}
		return data
	}
	entries := func(n int) (data []byte) {
		for i := range n {
			data = append(binary.BigEndian.AppendUint16(data, uint16(i)), strings.Repeat("x", i)...)
		}
		return data
	}
	openings := func(n int) []byte { return []byte(strings.Repeat("[]\n", n)) }
	for index, widths := range [][]int{{7, 200}, {256}, {2}, {7, 256}} {
		for _, width := range widths {
			hash := tlog.Tile{Level: 0, Index: int64(index), Width: width}
			bundle := tlog.Tile{Level: tlog.Entries, Index: int64(index), Width: width}
			write(hash.Path(), hashes(width))
			write(bundle.Path(), entries(width))
			write(OpeningsPath(bundle), openings(width))
		}
	}
	s := still{Dir: Dir(dir)}
	for _, index := range []int64{0, 1, 3} {
		bundle := tlog.Tile{Level: tlog.Entries, Index: index, Width: 3}
		for what, c := range map[string]struct {
			read func() ([]byte, error)
			want []byte
		}{
			"hashes": {func() ([]byte, error) {
				return s.Tile(context.Background(), tlog.Tile{Level: 0, Index: index, Width: 3})
			}, hashes(3)},
			"entries":         {func() ([]byte, error) { return s.Tile(context.Background(), bundle) }, entries(3)},
			"entries by path": {func() ([]byte, error) { return s.File(context.Background(), bundle.Path()) }, entries(3)},
			"openings":        {func() ([]byte, error) { return s.File(context.Background(), OpeningsPath(bundle)) }, openings(3)},
		} {
			if got, err := c.read(); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("tile %d, %s: got %d bytes, %v", index, what, len(got), err)
			}
		}
	}
	for what, tile := range map[string]tlog.Tile{"only a smaller one": {Level: 0, Index: 2, Width: 3}, "none": {Level: 0, Index: 9, Width: 3}, "a full one": {Level: 0, Index: 0, Width: 256}} {
		if _, err := s.Tile(context.Background(), tile); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	write("tile/entries/007.p/9", []byte("no entries"))
	write("openings/007.p/9", []byte("one line\n"))
	if _, err := s.Tile(context.Background(), tlog.Tile{Level: tlog.Entries, Index: 7, Width: 3}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a fuller one that is none: got %v", err)
	}
	if _, err := s.File(context.Background(), "openings/007.p/3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("openings that are too few: got %v", err)
	}
}
