package tlog

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifyTile: a tile is of a tree only if each of its bytes is, and if the tree has
// all of it.
func TestVerifyTile(t *testing.T) {
	m := newMemory(70000)
	good := []Tile{{0, 0, 256}, {0, 0, 1}, {0, 272, 256}, {0, 273, 112}, {1, 0, 256}, {1, 1, 17}, {2, 0, 1}, {Entries, 0, 256}, {Entries, 273, 112}, {Entries, 273, 5}}
	cp := m.at(70000)
	for _, tile := range good {
		data, err := m.Tile(t.Context(), tile)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyTile(t.Context(), m, cp, tile, data); err != nil {
			t.Error(err)
		}
		wider, smaller := tile, m.at(int(tile.Index)<<(8*max(tile.Level, 0)+8))
		wider.Width++
		short := "got "
		if tile.Level == Entries {
			short = ": entry " // and which of them
		}
		for name, tt := range map[string]struct {
			cp   Checkpoint
			tile Tile
			data []byte
			want string
		}{
			"first byte":     {cp, tile, flip(data, 0), ""},
			"a middle byte":  {cp, tile, flip(data, len(data)/2), ""},
			"last byte":      {cp, tile, flip(data, len(data)-1), ": got "},
			"cut short":      {cp, tile, data[:len(data)-1], short},
			"a byte more":    {cp, tile, append(data[:len(data):len(data)], 0), "got "},
			"nothing":        {cp, tile, nil, "got 0 "},
			"one more":       {cp, wider, data, "want "},
			"another root":   {Checkpoint{Origin: origin, Size: cp.Size, Root: Hash{1}}, tile, data, ""},
			"a smaller tree": {smaller, tile, data, "is not in the tree of"},
		} {
			if err := VerifyTile(t.Context(), m, tt.cp, tt.tile, tt.data); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "tile/") {
				t.Errorf("%s, %s: got %v, want a refusal that says %q", tile.Path(), name, err, tt.want)
			}
		}
	}
	// Tiles that the tree does not have, or not yet. The data is that of the larger tree.
	for _, tt := range []struct {
		tile Tile
		size int
	}{{Tile{0, 273, 112}, 69999}, {Tile{0, 273, 112}, 600}, {Tile{0, 2, 256}, 600}, {Tile{1, 0, 256}, 65535}, {Tile{2, 0, 1}, 65535}, {Tile{Entries, 2, 89}, 600}, {Tile{Entries, 3, 1}, 600}} {
		data, err := m.Tile(t.Context(), tt.tile)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyTile(t.Context(), m, m.at(tt.size), tt.tile, data); err == nil || !strings.Contains(err.Error(), "is not in the tree") {
			t.Errorf("%s in a tree of %d: got %v", tt.tile.Path(), tt.size, err)
		}
	}
}

func flip(data []byte, at int) []byte {
	data = append([]byte(nil), data...)
	data[at] ^= 1
	return data
}

// TestVerifyLeaves: leaf hashes of another number, order or log are not those of a tile.
func TestVerifyLeaves(t *testing.T) {
	m := newMemory(600)
	tile, leaves := Tile{Entries, 1, 256}, m.leaves[256:512]
	swapped := append([]Hash(nil), leaves...)
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for name, tt := range map[string]struct {
		tile   Tile
		leaves []Hash
		want   string
	}{
		"as they are":        {tile, leaves, ""},
		"some":               {Tile{Entries, 1, 3}, leaves[:3], ""},
		"one too few":        {tile, leaves[:255], "got 255 entries, want 256"},
		"one too many":       {tile, m.leaves[256:513], "got 257 entries, want 256"},
		"of the tile before": {tile, m.leaves[:256], "leaf hash of entry 256"},
		"swapped":            {tile, swapped, "leaf hash of entry 256"},
		"past the end":       {Tile{Entries, 2, 256}, leaves, "is not in the tree of 600"},
		"past the last tile": {Tile{Entries, 3, 1}, leaves[:1], "is not in the tree of 600"},
	} {
		if err := VerifyLeaves(t.Context(), m, m.at(600), tt.tile, tt.leaves); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// counting is a Source without tiles. It remembers what it was asked for.
type counting struct{ asked []Tile }

func (c *counting) Checkpoint(context.Context) ([]byte, error) { return nil, fs.ErrNotExist }

func (c *counting) Tile(_ context.Context, t Tile) ([]byte, error) {
	c.asked = append(c.asked, t)
	return nil, fs.ErrNotExist
}

// TestMissingTiles: whatever needs a tile that the log does not have fails, and says so.
func TestMissingTiles(t *testing.T) {
	ctx, m := t.Context(), newMemory(600)
	cp, old := m.at(600), m.at(300)
	tile := Tile{Entries, 0, 256}
	data, err := m.Tile(ctx, tile)
	if err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(Source) error{
		"inclusion":   func(s Source) error { _, err := Inclusion(ctx, s, cp, 3); return err },
		"consistency": func(s Source) error { _, err := Consistency(ctx, s, 300, cp); return err },
		"extends":     func(s Source) error { return Extends(ctx, s, old, cp) },
		"root":        func(s Source) error { _, err := Root(ctx, s, 300, cp); return err },
		"leaves":      func(s Source) error { _, err := Leaves(ctx, s, cp, 0, 256); return err },
		"tile":        func(s Source) error { _, err := ReadTile(ctx, s, tile); return err },
		"verify tile": func(s Source) error { return VerifyTile(ctx, s, cp, tile, data) },
	} {
		if err := read(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := read(&counting{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want one that matches fs.ErrNotExist", name, err)
		}
	}
	// Only a partial tile can have become a full one.
	for _, tt := range []struct {
		tile Tile
		want int
	}{{Tile{0, 0, 256}, 1}, {Tile{0, 0, 255}, 2}} {
		src := &counting{}
		if _, err := ReadTile(ctx, src, tt.tile); !errors.Is(err, fs.ErrNotExist) || len(src.asked) != tt.want || src.asked[len(src.asked)-1].Width != TileWidth {
			t.Errorf("%s: got %v after %d tries, want %d", tt.tile.Path(), err, len(src.asked), tt.want)
		}
	}
}

// TestHugeTrees: a log may sign any size. For one that tiles cannot have, whoever checks
// it would compute for ever.
func TestHugeTrees(t *testing.T) {
	ctx := t.Context()
	for size, good := range map[int64]bool{MaxSize: true, MaxSize + 1: false, 1 << 62: false, math.MaxInt64: false, -1: false} {
		cp := Checkpoint{Origin: origin, Size: size}
		if got, err := ParseCheckpoint(cp.String()); (err == nil) != good || good && got.Size != size {
			t.Errorf("%d entries: got %+v, %v, want it read: %v", size, got, err, good)
		}
		src := &counting{}
		for what, err := range map[string]error{
			"inclusion":          second(Inclusion(ctx, src, cp, 0)),
			"consistency":        second(Consistency(ctx, src, 1, cp)),
			"root":               second(Root(ctx, src, 1, cp)),
			"leaves":             second(Leaves(ctx, src, cp, 0, 1)),
			"tile":               VerifyTile(ctx, src, cp, Tile{Level: 1, Width: 1}, make([]byte, 32)),
			"inclusion proof":    VerifyInclusion(cp, 0, Hash{}, []Hash{{}}),
			"consistency proof":  VerifyConsistency(Checkpoint{Origin: origin, Size: 1}, cp, []Hash{{}}),
			"one size, one root": VerifyConsistency(cp, cp, nil),
		} {
			proof := strings.HasSuffix(what, " proof")
			switch {
			case what == "one size, one root" && good:
				if err != nil {
					t.Errorf("%d entries, %s: %v", size, what, err)
				}
			case err == nil, good && !proof && !errors.Is(err, fs.ErrNotExist), !good && size > 0 && !strings.Contains(err.Error(), "checkpoint size: got "):
				t.Errorf("%d entries, %s: got %v, want a refusal: %v", size, what, err, !good)
			}
		}
		for _, tile := range src.asked {
			if _, err := ParsePath(tile.Path()); err != nil {
				t.Errorf("%d entries: the log was asked for a tile that no path names: %v", size, err)
			}
		}
		if (len(src.asked) > 0) != good {
			t.Errorf("%d entries: the log was asked for %d tiles", size, len(src.asked))
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestProofsOfNothing: where there is nothing to prove, a proof with hashes is refused:
// one statement has one proof.
func TestProofsOfNothing(t *testing.T) {
	m := newMemory(3)
	empty := Checkpoint{Origin: origin, Root: EmptyRoot()}
	for _, tt := range []struct{ older, newer Checkpoint }{{empty, empty}, {empty, m.at(3)}, {m.at(3), m.at(3)}} {
		if err := VerifyConsistency(tt.older, tt.newer, nil); err != nil {
			t.Error(err)
		}
		if err := VerifyConsistency(tt.older, tt.newer, []Hash{{}}); err == nil || !strings.Contains(err.Error(), "got 1 hashes, want none") {
			t.Errorf("%d and %d: got %v, want a refusal", tt.older.Size, tt.newer.Size, err)
		}
	}
}

// TestEntryBundles: an entry may be empty; a bundle that has fewer than are wanted, or a
// part of one, is refused.
func TestEntryBundles(t *testing.T) {
	tile := Tile{Level: Entries, Width: TileWidth}
	for _, tt := range []struct {
		data  string
		width int
		want  string // of the cut, or what the refusal says
	}{
		{"\x00\x00", 1, "\x00\x00"},
		{"\x00\x01a\x00\x00", 1, "\x00\x01a"},
		{"\x00\x01a\x00\x00", 2, "\x00\x01a\x00\x00"},
		{"\x00\x01a\x00\x00", 3, "entry 2: length: got 0 bytes, want 2"},
		{"\x00\x01a\x00", 2, "entry 1: length: got 1 bytes, want 2"},
		{"\x00\x02a", 1, "entry 0: got 1 bytes, want 2"},
	} {
		got, err := tile.Cut([]byte(tt.data), tt.width)
		if err == nil && string(got) != tt.want || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q, %d entries: got %q, %v, want %q", tt.data, tt.width, got, err, tt.want)
		}
	}
	if got, err := SplitEntries([]byte("\x00\x00")); err != nil || len(got) != 1 || len(got[0]) != 0 {
		t.Errorf("an empty entry: got %q, %v", got, err)
	}
}

// TestSourceLimits: the largest tile of each kind is read, and nothing larger.
func TestSourceLimits(t *testing.T) {
	dir := t.TempDir()
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	for _, tt := range []struct {
		tile Tile
		most int
	}{{Tile{0, 0, 256}, 256 * 32}, {Tile{Entries, 0, 256}, 256 * (2 + 65535)}} {
		path := filepath.Join(dir, tt.tile.Path())
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{tt.most, tt.most + 1} {
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, src := range []Source{Dir(dir), HTTP{URL: web.URL}} {
				if data, err := src.Tile(t.Context(), tt.tile); (err == nil) != (size == tt.most) || err == nil && len(data) != size {
					t.Errorf("%T, %s of %d bytes: got %d, %v", src, tt.tile.Path(), size, len(data), err)
				}
			}
		}
	}
}

// TestHTTPThatFails: only 404 and 410 say that the log does not have a tile. Any other
// failure is one of this moment.
func TestHTTPThatFails(t *testing.T) {
	status := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer web.Close()
	for _, tt := range []struct {
		status  int
		missing bool
	}{{404, true}, {410, true}, {204, false}, {301, false}, {403, false}, {500, false}, {503, false}} {
		status = tt.status
		if data, err := (HTTP{URL: web.URL}).Checkpoint(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) != tt.missing {
			t.Errorf("%d: got %q, %v, want missing %v", tt.status, data, err, tt.missing)
		}
	}
	web.Close()
	for _, url := range []string{web.URL, "http://log example.com", "gopher://log.example.com"} {
		if data, err := (HTTP{URL: url}).Checkpoint(t.Context()); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %q, %v, want an error", url, data, err)
		}
	}
}
