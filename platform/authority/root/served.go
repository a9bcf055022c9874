package root

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// recordFile is in the directory of the keys. It holds what clients have pinned, so that a
// lost root is noticed and never made again.
const recordFile = "tuf.json"

// record is the content of recordFile.
type record struct {
	Roots []string `json:"roots"` // SHA-256 of N.root.json, in hex; the first is that of 1.root.json
}

func readRecord(keyDir string) (r record, err error) {
	path := filepath.Join(keyDir, recordFile)
	data, err := strict.ReadFile(path, limits.TrustRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	} else if err != nil {
		return r, err
	}
	if err := strict.UnmarshalKnown(data, limits.TrustRoot, &r); err != nil {
		return r, fmt.Errorf("%s: %w; restore it from a backup", path, err)
	}
	return r, nil
}

// readRoots reads and verifies all roots, as a client that pinned any of them does. It fails
// if one that was published is missing or another one. It returns nil if there is none yet.
func readRoots(keyDir, dir string) (newest *metadata.Metadata[metadata.RootType], sums []string, err error) {
	published, err := readRecord(keyDir)
	if err != nil {
		return nil, nil, err
	}
	for version := 1; ; version++ {
		name := fmt.Sprintf("%d.root.json", version)
		data, err := strict.ReadFile(filepath.Join(dir, name), limits.TrustRoot)
		if errors.Is(err, fs.ErrNotExist) {
			if version <= len(published.Roots) {
				return nil, nil, fmt.Errorf("%s is missing, but clients have pinned it; restore it from a backup", name)
			}
			return newest, sums, nil
		} else if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(data)
		sums = append(sums, hex.EncodeToString(sum[:]))
		// The newest may have been written just before a crash, and not be recorded yet.
		if version <= len(published.Roots) && sums[version-1] != published.Roots[version-1] || version > len(published.Roots)+1 {
			return nil, nil, fmt.Errorf("%s is not the one that was published; restore it from a backup", name)
		}
		root, err := metadata.Root().FromBytes(data)
		if err == nil && root.Signed.Version != int64(version) {
			err = fmt.Errorf("version: got %d, want %d", root.Signed.Version, version)
		}
		for _, signer := range []*metadata.Metadata[metadata.RootType]{root, newest} {
			if err == nil && signer != nil {
				err = signer.VerifyDelegate(metadata.ROOT, root)
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		newest = root
	}
}

// recordRoots writes the sums of the roots that were published.
func recordRoots(keyDir string, sums []string) error {
	published, err := readRecord(keyDir)
	if err != nil || len(published.Roots) == len(sums) {
		return err
	}
	data, err := json.Marshal(record{sums})
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(keyDir, recordFile), append(data, '\n'), 0o644)
}

// readable matches the paths that are served; nothing else in the directory is.
var readable = lazyregexp.New(`^(timestamp\.json|[1-9][0-9]{0,9}\.(root|targets|snapshot)\.json|targets/[0-9a-f]{64}\.[a-z0-9_.]{1,64})$`)

// readServed reads the files that are served, and verifies each: metadata with the root, a
// target with the digest in its name. bad gets the others.
func readServed(dir string, root *metadata.Metadata[metadata.RootType], bad func(path string, err error)) (map[string][]byte, error) {
	served := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !readable.MatchString(path) {
			return err
		}
		if !e.Type().IsRegular() {
			bad(path, errors.New("not a regular file"))
			return nil
		}
		data, err := strict.ReadFile(filepath.Join(dir, path), limits.TrustRoot)
		if err == nil {
			err = verifyServed(path, data, root)
		}
		if err != nil {
			bad(path, err)
			return nil
		}
		served[path] = data
		return nil
	})
	return served, err
}

func verifyServed(path string, data []byte, root *metadata.Metadata[metadata.RootType]) error {
	if name, ok := strings.CutPrefix(path, "targets/"); ok {
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != name[:64] {
			return fmt.Errorf("got SHA-256 %x", sum)
		}
		return nil
	}
	number, kind, _ := strings.Cut(strings.TrimSuffix(path, ".json"), ".")
	version := func(got int64) error {
		if kind != "" && fmt.Sprint(got) != number {
			return fmt.Errorf("version: got %d, want %s", got, number)
		}
		return nil
	}
	switch kind {
	case "": // timestamp.json
		m, err := metadata.Timestamp().FromBytes(data)
		if err != nil {
			return err
		}
		return root.VerifyDelegate(metadata.TIMESTAMP, m)
	case metadata.SNAPSHOT:
		m, err := metadata.Snapshot().FromBytes(data)
		if err != nil {
			return err
		}
		return errors.Join(version(m.Signed.Version), root.VerifyDelegate(metadata.SNAPSHOT, m))
	case metadata.TARGETS:
		m, err := metadata.Targets().FromBytes(data)
		if err != nil {
			return err
		}
		return errors.Join(version(m.Signed.Version), root.VerifyDelegate(metadata.TARGETS, m))
	}
	return nil // a root: see readRoots
}

// Scrub verifies everything that the TUF repository in dir serves; its record is in keyDir.
func Scrub(r *intact.Report, keyDir, dir string) error {
	root, sums, err := readRoots(keyDir, dir)
	if err != nil {
		r.Found(dir, err.Error(), nil)
		return nil
	}
	if root == nil {
		return nil
	}
	served, err := readServed(dir, root, func(path string, err error) {
		r.Found(filepath.Join(dir, path), err.Error(), nil)
	})
	for _, data := range served {
		r.Read(int64(len(data)))
	}
	if err == nil && len(sums) > 0 && served["timestamp.json"] == nil {
		r.Found(filepath.Join(dir, "timestamp.json"), "it is missing or damaged", nil)
	}
	return err
}
