package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/tlog"
)

// scrubTries is how often Scrub begins again because the ledger grew meanwhile.
const scrubTries = 3

// Scrub verifies the files of the ledger in dir, which may run. It reads the tree that is on the disk for good: what
// came in the last minute is in the journal. It finds damage: neither files that are too many, nor records that never
// arrived, nor what somebody with the key did.
func Scrub(ctx context.Context, r *intact.Report, dir string) error {
	key, err := recorder.Key(filepath.Join(dir, "key.pem"), func() error { return fs.ErrNotExist })
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := readBase(dir); errors.Is(err, fs.ErrNotExist) {
			return nil // it never ran
		}
	}
	if err != nil {
		r.Found(filepath.Join(dir, "key.pem"), err.Error(), nil)
		return nil
	}
	for try := 1; ; try++ {
		before, err := readBase(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing is on the disk for good yet
		}
		if err != nil {
			r.Found(filepath.Join(dir, "base.json"), err.Error(), nil)
			return nil
		}
		src := &durableTree{Dir: files.Dir(filepath.Join(dir, "ledger"))}
		found, err := src.verify(ctx, key, before)
		if err != nil {
			return err
		}
		if len(found.Findings) > 0 && try < scrubTries {
			if now, err := readBase(dir); err == nil && now.Size != before.Size {
				continue
			}
		}
		r.Files, r.Bytes = r.Files+src.files, r.Bytes+src.bytes
		for _, f := range found.Findings {
			r.Found(filepath.Join(dir, "ledger", filepath.FromSlash(f.File)), strings.TrimPrefix(f.Place+": "+f.What, ": "), nil)
		}
		if found.More > 0 {
			r.Found(filepath.Join(dir, "ledger"), fmt.Sprintf("%d findings more", found.More), nil)
		}
		return nil
	}
}

func readBase(dir string) (b base, err error) {
	raw, err := strict.ReadFile(filepath.Join(dir, "base.json"), 4096)
	if err != nil {
		return b, err
	}
	if err = strict.UnmarshalKnown(raw, 4096, &b); err == nil && (b.Size < 0 || len(b.Root) != len(tlog.Hash{})) {
		err = errors.New("expected a size and a root")
	}
	if err != nil {
		return b, fmt.Errorf("base.json is damaged; restore it from a backup: %w", err)
	}
	return b, nil
}

// durableTree is the ledger as it is on the disk for good.
type durableTree struct {
	files.Dir
	size   int64
	signed []byte
	files  int
	bytes  int64
}

// verify verifies the tree b. The checkpoint that is published says the name of the ledger.
func (s *durableTree) verify(ctx context.Context, key ed25519.PrivateKey, b base) (*files.Report, error) {
	published, err := s.Dir.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return &files.Report{Findings: []files.Finding{{File: "checkpoint", What: "it is missing"}}}, nil
	} else if err != nil {
		return nil, err
	}
	damaged := func(err error) (*files.Report, error) {
		return &files.Report{Findings: []files.Finding{{File: "checkpoint", What: err.Error()}}}, nil
	}
	origin, _, _ := strings.Cut(string(published), "\n")
	public := key.Public().(ed25519.PublicKey)
	verifier, err := tlog.NewVerifier(origin, public)
	if err != nil {
		return damaged(err)
	}
	cp, err := tlog.OpenCheckpoint(published, verifier)
	if err != nil {
		return damaged(err)
	}
	if cp.Size < b.Size {
		return damaged(fmt.Errorf("it has %d entries, and base.json says that %d are on the disk for good", cp.Size, b.Size))
	}
	signer, err := tlog.NewSigner(origin, key)
	if err != nil {
		return nil, err
	}
	s.size = b.Size
	base := tlog.Checkpoint{Origin: origin, Size: b.Size, Root: tlog.Hash(b.Root)}
	if s.signed, err = note.Sign(&note.Note{Text: base.String()}, signer); err != nil {
		return nil, err
	}
	return files.Verify(ctx, s, verifier, public, nil)
}

// Checkpoint implements files.Source.
func (s *durableTree) Checkpoint(context.Context) ([]byte, error) { return s.signed, nil }

// Tile implements files.Source.
func (s *durableTree) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	data, err := s.Dir.Tile(ctx, t)
	return s.count(data, err)
}

// File implements files.Source. Segments that were closed since are not there.
func (s *durableTree) File(ctx context.Context, path string) ([]byte, error) {
	data, err := s.Dir.File(ctx, path)
	if strings.HasPrefix(path, "segments/") && err == nil {
		text, _, _ := strings.Cut(string(data), "\n\n")
		if cp, err := tlog.ParseCheckpoint(text + "\n"); err == nil && cp.Size > s.size {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
	}
	return s.count(data, err)
}

func (s *durableTree) count(data []byte, err error) ([]byte, error) {
	if err == nil {
		s.files++
		s.bytes += int64(len(data))
	}
	return data, err
}
