package files

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
)

// growingTries is how often VerifyDir begins again because the ledger grew meanwhile.
const growingTries = 5

// VerifyDir verifies all files of a directory, as Verify does, whose ledger may run: it verifies what the checkpoint
// covers that it finds first. What is wrong then, and what is missing, is looked at again under the next checkpoint, which a
// ledger that runs writes within patience: a file of a tree whose checkpoint was not there yet, or a record that
// another one overtook, is not damage.
func VerifyDir(ctx context.Context, dir Dir, ledger note.Verifier, key []byte, patience time.Duration) (*Report, error) {
	list, err := dir.List() // once: the next checkpoint accounts for all that is in it
	if err != nil {
		return nil, err
	}
	var before *Report
	for try := 1; ; try++ {
		list = slices.DeleteFunc(list, func(path string) bool { // a partial or temporary file that went
			_, err := os.Lstat(filepath.Join(string(dir), filepath.FromSlash(path)))
			return errors.Is(err, fs.ErrNotExist)
		})
		signed, err := dir.Checkpoint(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return Verify(ctx, dir, ledger, key, list)
		} else if err != nil {
			return nil, err
		}
		report, err := Verify(ctx, still{dir, signed, ledger, list}, ledger, key, list)
		if err != nil {
			return nil, err
		}
		if before != nil {
			report.Missing = slices.DeleteFunc(report.Missing, func(m Missing) bool { return !slices.ContainsFunc(before.Missing, m.overlaps) })
		}
		if len(report.Findings) == 0 && (len(report.Missing) == 0 || before != nil) || try == growingTries || !moved(ctx, dir, signed, patience) {
			return report, nil
		}
		before = report
	}
}

func (m Missing) overlaps(other Missing) bool {
	return m.Run == other.Run && m.From <= other.To && other.From <= m.To
}

// moved waits until the checkpoint is another one than signed.
func moved(ctx context.Context, dir Dir, signed []byte, patience time.Duration) bool {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if now, err := dir.Checkpoint(ctx); err == nil && !bytes.Equal(now, signed) {
			return true
		}
	}
	return false
}

// still is the ledger of a directory under one of its checkpoints, also when the ledger grew since. A partial tile goes
// when there is a fuller one, which begins with the same bytes.
type still struct {
	Dir
	signed []byte
	ledger note.Verifier
	list   []string // the files that were there before the checkpoint was read
}

// Checkpoint implements tlog.Source.
func (s still) Checkpoint(context.Context) ([]byte, error) { return s.signed, nil }

// Tile implements tlog.Source.
func (s still) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	return s.orFuller(t.Path(), t, func(have tlog.Tile) ([]byte, error) {
		data, err := s.Dir.Tile(ctx, have)
		if err != nil || have == t {
			return data, err
		}
		if data, err = have.Cut(data, t.Width); err != nil {
			return nil, fs.ErrNotExist // it is not a fuller one
		}
		return data, nil
	})
}

// File implements Source.
func (s still) File(ctx context.Context, path string) ([]byte, error) {
	if t, err := tlog.ParsePath(path); err == nil {
		return s.Tile(ctx, t)
	}
	if strings.HasPrefix(path, "segments/") && !slices.Contains(s.list, path) {
		return s.closed(ctx, path)
	}
	rest, isOpenings := strings.CutPrefix(path, "openings/")
	t, err := tlog.ParsePath("tile/entries/" + rest)
	if !isOpenings || err != nil {
		return s.Dir.File(ctx, path)
	}
	return s.orFuller(path, t, func(have tlog.Tile) ([]byte, error) {
		data, err := s.Dir.File(ctx, OpeningsPath(have))
		if err != nil || have == t {
			return data, err
		}
		lines := bytes.SplitAfterN(data, []byte("\n"), t.Width+1)
		if len(lines) <= t.Width {
			return nil, fs.ErrNotExist
		}
		return data[:len(data)-len(lines[t.Width])], nil
	})
}

// closed reads the checkpoint of a segment that was closed after the files were listed. If it was closed after the
// ledger's checkpoint, too, it is not there.
func (s still) closed(ctx context.Context, path string) ([]byte, error) {
	data, err := s.Dir.File(ctx, path)
	if err != nil {
		return nil, err
	}
	of, err := tlog.OpenCheckpoint(data, s.ledger)
	if err != nil {
		return data, nil // Verify says what is wrong with it
	}
	now, err := tlog.OpenCheckpoint(s.signed, s.ledger)
	if err == nil && of.Size > now.Size {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

// orFuller reads the tile t, whose file is path. If the file was removed, it reads the wider tile that replaced it, which has
// the same first entries. A ledger that grows may replace that tile, too, before it is read: orFuller then looks again.
func (s still) orFuller(path string, t tlog.Tile, read func(tlog.Tile) ([]byte, error)) ([]byte, error) {
	data, err := read(t)
	for known := t.Width; errors.Is(err, fs.ErrNotExist) && known < tlog.TileWidth; {
		fuller := t
		fuller.Width = s.widest(path)
		if fuller.Width <= known {
			fuller.Width = tlog.TileWidth
		}
		known = fuller.Width
		data, err = read(fuller)
	}
	return data, err
}

// widest returns the width of the widest partial tile beside path, or 0 if there is no partial tile.
func (s still) widest(path string) (width int) {
	files, _ := os.ReadDir(filepath.Dir(filepath.Join(string(s.Dir), filepath.FromSlash(path)))) // none: there is a full tile, or nothing
	for _, f := range files {
		if n, err := strconv.Atoi(f.Name()); err == nil && n < tlog.TileWidth {
			width = max(width, n)
		}
	}
	return width
}
