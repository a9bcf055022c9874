// Package files reads and checks the files of an audit ledger (spec/audit/v1), in a directory or
// served over HTTP:
//
//	checkpoint            C2SP tlog-checkpoint, signed by the ledger's key
//	tile/…                C2SP tlog-tiles
//	openings/…            the openings of the entries of each bundle: openings/x001/234
//	segments/NNN          the checkpoint with which the segment NNN, of SegmentSize entries, was closed
//
// Verify names every byte of them that was edited, is missing or was added.
package files

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// Source reads the files of a ledger. Errors match fs.ErrNotExist if there is no such file.
type Source interface {
	tlog.Source
	// File returns the content of openings and segments, at most MaxFile bytes.
	File(ctx context.Context, path string) ([]byte, error)
}

// MaxFile is the size limit of a file of openings or of a segment, in bytes.
const MaxFile = tlog.TileWidth * 5 * (2*audit.MaxText + 1<<10)

// Dir is the Source of a directory.
type Dir string

// Checkpoint implements tlog.Source.
func (d Dir) Checkpoint(ctx context.Context) ([]byte, error) { return tlog.Dir(d).Checkpoint(ctx) }

// Tile implements tlog.Source.
func (d Dir) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) { return tlog.Dir(d).Tile(ctx, t) }

// File implements Source.
func (d Dir) File(_ context.Context, path string) ([]byte, error) {
	return strict.ReadFile(filepath.Join(string(d), filepath.FromSlash(path)), MaxFile)
}

// OpeningsPath returns the path of the openings of a bundle, t of the level tlog.Entries.
func OpeningsPath(t tlog.Tile) string {
	return "openings/" + strings.TrimPrefix(t.Path(), "tile/entries/")
}

// SegmentSize is how many entries a segment has.
const SegmentSize = 1 << 16

// SegmentPath returns the path of the checkpoint of a segment, counted from 0.
func SegmentPath(segment int64) string {
	t := tlog.Tile{Level: tlog.Entries, Index: segment, Width: tlog.TileWidth}
	return "segments/" + strings.TrimPrefix(t.Path(), "tile/entries/")
}

// Openings returns the content of a file of openings: one line for each entry of the bundle, with the
// JSON of a list.
func Openings(of [][]audit.Opening) ([]byte, error) {
	var b bytes.Buffer
	for _, list := range of {
		if list == nil {
			list = []audit.Opening{}
		}
		raw, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		b.Write(append(raw, '\n'))
	}
	return b.Bytes(), nil
}

// ParseOpenings reads a file of openings of a bundle of width entries. It accepts exactly what
// Openings writes.
func ParseOpenings(data []byte, width int) (of [][]audit.Opening, err error) {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if len(lines) != width+1 || len(lines[width]) > 0 {
		return nil, fmt.Errorf("expected %d lines, found %d", width, bytes.Count(data, []byte("\n")))
	}
	for i, line := range lines[:width] {
		var list []audit.Opening
		if err := strict.UnmarshalKnown(line, len(line), &list); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if again, err := Openings([][]audit.Opening{list}); err != nil || !bytes.Equal(again, line) {
			return nil, fmt.Errorf("line %d: the text is not the only one for these openings", i+1)
		}
		of = append(of, list)
	}
	return of, nil
}

// ReadOpenings reads the openings of a bundle; t has the width that it has in the tree, or less.
func ReadOpenings(ctx context.Context, src Source, t tlog.Tile) ([][]audit.Opening, error) {
	have := t
	data, err := src.File(ctx, OpeningsPath(t))
	if errors.Is(err, fs.ErrNotExist) && t.Width < tlog.TileWidth {
		have.Width = tlog.TileWidth
		data, err = src.File(ctx, OpeningsPath(have))
	}
	if err != nil {
		return nil, err
	}
	of, err := ParseOpenings(data, have.Width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", OpeningsPath(have), err)
	}
	return of[:t.Width], nil
}

// Entry is an entry of a ledger, verified: the tree of the checkpoint has it.
type Entry struct {
	Index    int64
	Leaf     audit.Leaf
	Envelope *audit.Envelope
	Record   *audit.Record // as it was signed
	Openings []audit.Opening
	Opened   *audit.Record // with the values that the openings show
}

// ErrGone matches the errors about entries that are not there: retention deleted them, or somebody else.
var ErrGone = errors.New("the entries are not there")

// Bundle reads the entries of the bundle at index, in order, and verifies that the tree of cp has them.
func Bundle(ctx context.Context, src Source, cp tlog.Checkpoint, index int64, each func(Entry) error) error {
	t, ok := tlog.Tile{Level: tlog.Entries, Index: index}.At(cp.Size)
	if !ok {
		return fmt.Errorf("a ledger of %d entries has no bundle %d", cp.Size, index)
	}
	data, err := tlog.ReadTile(ctx, src, t)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrGone, t.Path())
	} else if err != nil {
		return err
	}
	raws, err := tlog.SplitEntries(data)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Path(), err)
	}
	leaves := make([]tlog.Hash, len(raws))
	for i, raw := range raws {
		leaves[i] = tlog.LeafHash(raw)
	}
	if err := tlog.VerifyLeaves(ctx, src, cp, t, leaves); err != nil {
		return err
	}
	openings, err := ReadOpenings(ctx, src, t)
	if errors.Is(err, fs.ErrNotExist) {
		openings, err = make([][]audit.Opening, len(raws)), nil // erased with their segment
	}
	if err != nil {
		return err
	}
	for i, raw := range raws {
		e := Entry{Index: t.Index*tlog.TileWidth + int64(i), Openings: openings[i]}
		if e.Leaf, e.Envelope, e.Record, err = audit.ParseLeaf(raw); err == nil {
			e.Opened, err = e.Record.Open(e.Openings)
		}
		if err == nil {
			err = each(e)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", e.Index, err)
		}
	}
	return nil
}

// List returns the paths of all files below the directory, sorted.
func (d Dir) List() (list []string, err error) {
	err = filepath.WalkDir(string(d), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		path, err = filepath.Rel(string(d), path)
		list = append(list, filepath.ToSlash(path))
		return err
	})
	return list, err
}

// PublicKey returns the Ed25519 key in the verifier key of a ledger (C2SP signed-note).
func PublicKey(vkey string) (ed25519.PublicKey, error) {
	if _, err := note.NewVerifier(vkey); err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	_, encoded, _ := strings.Cut(vkey[strings.Index(vkey, "+")+1:], "+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != 1 {
		return nil, errors.New("verifier key: expected an Ed25519 key")
	}
	return raw[1:], nil
}
