package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Store is a directory of pinned trust roots, one file each. The file name contains
// what is pinned: HEX.json the SHA-256 of the file, HEX.tuf.json the SHA-256 of the
// TUF root metadata. Reading fails if content and name do not agree.
type Store struct {
	Dir string // made by Add, with mode 0700
}

// AuthorsFile is the name of a file in the directory of a Store that is no trust root: it has
// the authors of policies (policy.ParseAuthors).
const AuthorsFile = "policy-authors.json"

// DistrustDir is the name of a directory in that of a Store that holds no trust roots: it has the
// issuers of lists of what is no longer trusted (distrust.ParseIssuers), and their lists.
const DistrustDir = "distrust"

// ErrEmpty is the error of a Store without trust roots. Tell the user to add one:
// "colophon trust add".
var ErrEmpty = errors.New("this machine has no trust root yet")

// DefaultDir returns the directory of the user's Store: $COLOPHON_TRUST, or
// colophon/trust in the user's configuration directory. getenv is os.Getenv.
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

// Load returns all trust roots, ordered by Pin. It fails with ErrEmpty if
// there are none. It also fails if one of them cannot be read, because a verdict
// with fewer trust roots could differ.
func (s Store) Load() ([]*Root, error) {
	roots, err := s.List()
	if err == nil && len(roots) == 0 {
		return nil, ErrEmpty
	}
	return roots, err
}

// List is like Load, but returns no error if the store is empty or its directory
// does not exist.
func (s Store) List() ([]*Root, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var roots []*Root
	for _, e := range entries {
		// A crash during Add can leave a temporary file; its name starts with a dot.
		if name := e.Name(); !strings.HasPrefix(name, ".") && name != AuthorsFile && name != DistrustDir {
			r, err := s.read(name)
			if err != nil {
				return nil, fmt.Errorf("%w; remove this file, and add the trust root again", strict.In(filepath.Join(s.Dir, name), err))
			}
			roots = append(roots, r)
		}
	}
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

// Pin returns the fingerprint, sha256:hex, that a person compared when r was added:
// that of the TUF root metadata, or r.Fingerprint.
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

// Replaces returns the trust root that Add(r) would replace, or nil: that of the same
// platform or, from a TUF repository, with the same pin.
func (s Store) Replaces(r *Root) (*Root, error) {
	old, err := s.other(r)
	if err != nil || old != nil {
		return old, err
	}
	old, err = s.read(r.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return old, err
}

// other returns another trust root of the same platform, or nil.
func (s Store) other(r *Root) (*Root, error) {
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

// Add writes r to the store, and removes other trust roots of the same platform. r
// is on disk when Add returns. Add refuses TUF metadata that is older than what the
// store has: it could bring a revoked key back.
func (s Store) Add(r *Root) error {
	if r.Repository != nil {
		have, err := s.read(r.file())
		if err == nil && r.Repository.older(have.Repository) {
			return fmt.Errorf("TUF repository %s: got version %d with %d root metadata files, but the store already has version %d with %d", r.Repository.URL,
				r.Repository.version, len(r.Repository.Roots), have.Repository.version, len(have.Repository.Roots))
		}
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	// Write the new root before removing the old one. A crash in between leaves both,
	// and the next Add removes the old one.
	if err := durable.WriteFile(filepath.Join(s.Dir, r.file()), r.Raw, 0o600); err != nil {
		return err
	}
	for {
		old, err := s.other(r)
		if err != nil || old == nil {
			return err
		}
		if err := s.Remove(old); err != nil {
			return err
		}
	}
}

// Remove removes r from the store. The change is on disk when Remove returns.
func (s Store) Remove(r *Root) error {
	if err := os.Remove(filepath.Join(s.Dir, r.file())); err != nil {
		return err
	}
	return durable.SyncDir(s.Dir)
}
