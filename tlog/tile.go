package tlog

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

const (
	// TileWidth is the number of hashes or entries in a full tile.
	TileWidth = 256

	// Entries is the level of tiles that hold entries instead of hashes. C2SP
	// tlog-tiles calls them entry bundles.
	Entries = -1

	// MaxEntry is the size limit of an entry, in bytes: an entry bundle stores the
	// size in 16 bits.
	MaxEntry = 1<<16 - 1

	tileHeight = 8 // TileWidth is 1<<tileHeight
	maxLevel   = 5
)

// Tile identifies one tile of a log (c2sp.org/tlog-tiles). A tile with less than
// TileWidth hashes or entries is a partial tile.
type Tile struct {
	Level int   // 0 (leaf hashes) to 5, or Entries
	Index int64 // position among the tiles of this level, from 0
	Width int   // number of hashes or entries, 1 to TileWidth
}

// The path of a tile below the log's prefix:
//
//	"tile/" level "/" index [ ".p/" width ]
//
//	level  "0" to "5", or "entries"
//	index  groups of three digits; all but the last start with an x:
//	       1234067 is x001/x234/067; no leading x000
//	width  "1" to "255"; missing for a full tile

// Path returns the path of the tile below the log's prefix, such as
// "tile/0/x001/067.p/3".
func (t Tile) Path() string {
	level := "entries"
	if t.Level != Entries {
		level = strconv.Itoa(t.Level)
	}
	index := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		index = fmt.Sprintf("x%03d/%s", n%1000, index)
	}
	path := "tile/" + level + "/" + index
	if t.Width < TileWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return path
}

// ParsePath reads the path of a tile. It accepts exactly what Path writes.
func ParsePath(path string) (Tile, error) {
	bad := fmt.Errorf("%q is not the path of a tile", path)
	level, index, _ := strings.Cut(strings.TrimPrefix(path, "tile/"), "/")
	t := Tile{Level: Entries, Width: TileWidth}
	if level != "entries" {
		n, err := strconv.ParseUint(level, 10, 8)
		if err != nil || n > maxLevel {
			return Tile{}, bad
		}
		t.Level = int(n)
	}
	if before, width, partial := strings.Cut(index, ".p/"); partial {
		n, err := strconv.ParseUint(width, 10, 8)
		if err != nil || n == 0 {
			return Tile{}, bad
		}
		index, t.Width = before, int(n)
	}
	groups := strings.SplitN(index, "/", 7)
	if len(groups) > 6 { // 18 digits are an int64
		return Tile{}, bad
	}
	for _, group := range groups {
		n, err := strconv.ParseUint(strings.TrimPrefix(group, "x"), 10, 16)
		if err != nil {
			return Tile{}, bad
		}
		t.Index = t.Index*1000 + int64(n)
	}
	// The steps above accept more than one spelling of a path, and parts of it that are
	// missing; this refuses all but one.
	if t.Path() != path {
		return Tile{}, bad
	}
	return t, nil
}

// At returns the tile with the width that it has in a tree of size entries; ok is
// false if such a tree does not have the tile. It ignores t.Width.
func (t Tile) At(size int64) (_ Tile, ok bool) {
	n := size >> (tileHeight * max(t.Level, 0)) // hashes or entries of this level
	if t.Index > n/TileWidth {
		return Tile{}, false
	}
	t.Width = int(min(n-t.Index*TileWidth, TileWidth))
	return t, t.Width > 0
}

// Cut returns the first width hashes or entries of a tile's data. It fails if the
// data has fewer, or is malformed.
func (t Tile) Cut(data []byte, width int) ([]byte, error) {
	if t.Level != Entries {
		if len(data) < width*len(Hash{}) {
			return nil, fmt.Errorf("%s: got %d bytes, want %d", t.Path(), len(data), width*len(Hash{}))
		}
		return data[:width*len(Hash{})], nil
	}
	rest := data
	for i := range width {
		_, after, err := cutEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", t.Path(), i, err)
		}
		rest = after
	}
	return data[:len(data)-len(rest)], nil
}

// SplitEntries splits the data of a tile of the level Entries into its entries. In
// the data, each entry follows its length of 16 bits, big-endian.
func SplitEntries(data []byte) ([][]byte, error) {
	var entries [][]byte
	for len(data) > 0 {
		entry, rest, err := cutEntry(data)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(entries), err)
		}
		if len(entries) == TileWidth {
			return nil, fmt.Errorf("got more than %d entries", TileWidth)
		}
		entries, data = append(entries, entry), rest
	}
	return entries, nil
}

func cutEntry(data []byte) (entry, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, fmt.Errorf("length: got %d bytes, want 2", len(data))
	}
	n := int(binary.BigEndian.Uint16(data))
	if data = data[2:]; len(data) < n {
		return nil, nil, fmt.Errorf("got %d bytes, want %d", len(data), n)
	}
	return data[:n:n], data[n:], nil
}

// maxData returns the size limit of the tile's data, in bytes.
func (t Tile) maxData() int {
	if t.Level == Entries {
		return TileWidth * (2 + MaxEntry)
	}
	return TileWidth * len(Hash{})
}
