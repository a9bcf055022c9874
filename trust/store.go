package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Store keeps the pinned roots, one file each, named by the fingerprint of its
// bytes: HEX.json, or of the TUF root metadata that was pinned: HEX.tuf.json. A
// file that is not what its name says is never believed.
type Store struct {
	Dir string
}

// ErrEmpty says that nothing is pinned yet. Callers hint at `trust add`.
var ErrEmpty = errors.New("this machine believes no platform yet")

// DefaultDir is COLOPHON_TRUST, or colophon/trust in the user's configuration
// directory. getenv is os.Getenv.
func DefaultDir(getenv func(string) string) (string, error) {
	if dir := getenv("COLOPHON_TRUST"); dir != "" {
		return dir, nil
	}
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "colophon", "trust"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("no directory for trust roots: set COLOPHON_TRUST, XDG_CONFIG_HOME or HOME")
	}
	return filepath.Join(home, ".config", "colophon", "trust"), nil
}

// Load returns all pinned roots, ordered by fingerprint, or ErrEmpty. One that
// cannot be read fails the whole: a missing root must not change an answer.
func (s Store) Load() ([]*Root, error) {
	roots, err := s.List()
	if err == nil && len(roots) == 0 {
		return nil, ErrEmpty
	}
	return roots, err
}

// List is Load that finds an empty store to be no error.
func (s Store) List() ([]*Root, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var roots []*Root
	for _, e := range entries {
		// Dot files are what a crash left of a write.
		if name := e.Name(); !strings.HasPrefix(name, ".") {
			r, err := s.read(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(s.Dir, name), err)
			}
			roots = append(roots, r)
		}
	}
	slices.SortFunc(roots, func(a, b *Root) int { return strings.Compare(a.Fingerprint, b.Fingerprint) })
	return roots, nil
}

func (s Store) read(name string) (*Root, error) {
	raw, err := strict.ReadFile(filepath.Join(s.Dir, name), limits.TrustRepository)
	if err != nil {
		return nil, err
	}
	r, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	if got := r.file(); got != name {
		return nil, fmt.Errorf("content is not what was pinned: got %q, want %q", got, name)
	}
	return r, nil
}

// Pin is the fingerprint that a person compared when r was added.
func (r *Root) Pin() string {
	if r.Repository != nil {
		return r.Repository.Pin()
	}
	return r.Fingerprint
}

func (r *Root) file() string {
	name := strings.TrimPrefix(r.Pin(), "sha256:")
	if r.Repository != nil {
		name += ".tuf"
	}
	return name + ".json"
}

// Replaces returns the pinned root of the same platform that Add(r) would
// replace, or nil.
func (s Store) Replaces(r *Root) (*Root, error) {
	roots, err := s.List()
	if err != nil || r.URL == "" {
		return nil, err
	}
	for _, old := range roots {
		if old.URL == r.URL && old.file() != r.file() {
			return old, nil
		}
	}
	return nil, nil
}

// Add pins r, and drops what was pinned for the same platform before. It is
// on disk when Add returns. What a TUF repository said later is not given up for
// what it said before: that may be how a key that was withdrawn comes back.
func (s Store) Add(r *Root) error {
	if r.Repository != nil {
		have, err := s.read(r.file())
		if err == nil && have.Repository.version > r.Repository.version {
			return fmt.Errorf("TUF repository %s: got its version %d, and version %d is here already", r.Repository.URL, r.Repository.version, have.Repository.version)
		}
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	// The new before the old goes: a crash between leaves both, and the next Add mends it.
	if err := durable.WriteFile(filepath.Join(s.Dir, r.file()), r.Raw, 0o600); err != nil {
		return err
	}
	for {
		old, err := s.Replaces(r)
		if err != nil || old == nil {
			return err
		}
		if err := s.Remove(old); err != nil {
			return err
		}
	}
}

// Remove unpins r.
func (s Store) Remove(r *Root) error {
	if err := os.Remove(filepath.Join(s.Dir, r.file())); err != nil {
		return err
	}
	return durable.SyncDir(s.Dir)
}
