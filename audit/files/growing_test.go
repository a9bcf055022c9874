package files

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// A partial tile that was removed is read from the wider tile that replaced it: another partial tile, or the full one. A
// narrower tile, or a file that is no tile, does not replace it.
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
		t.Errorf("a wider file that is no tile: got %v", err)
	}
	if _, err := s.File(context.Background(), "openings/007.p/3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("openings that are too few: got %v", err)
	}
}

// The checkpoint of a segment that was closed after the verified checkpoint does not count, unless it was in the list of
// files: then the ledger was cut back.
func TestSegmentClosedMeanwhile(t *testing.T) {
	secret, public, err := note.GenerateKey(rand.Reader, "ledger.example.com")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(size int64) []byte {
		signed, err := note.Sign(&note.Note{Text: tlog.Checkpoint{Origin: signer.Name(), Size: size, Root: tlog.LeafHash(nil)}.String()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "segments"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"000": sign(256), "001": sign(512), "002": []byte("no checkpoint")} {
		if err := os.WriteFile(filepath.Join(dir, "segments", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, tt := range map[string]struct {
		path string
		list []string
		gone bool
	}{
		"closed before the checkpoint":     {"segments/000", nil, false},
		"closed after the checkpoint":      {"segments/001", nil, true},
		"of a ledger that was cut back":    {"segments/001", []string{"segments/001"}, false},
		"no checkpoint":                    {"segments/002", nil, false},
		"not there":                        {"segments/003", nil, true},
		"listed, and closed in good order": {"segments/000", []string{"segments/000"}, false},
	} {
		_, err := still{Dir(dir), sign(300), ledger, tt.list}.File(t.Context(), tt.path)
		if gone := errors.Is(err, fs.ErrNotExist); gone != tt.gone || !gone && err != nil {
			t.Errorf("%s: got %v, want it gone %v", what, err, tt.gone)
		}
	}
}
