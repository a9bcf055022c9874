package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/verify"
)

// archiveRE matches the names of release files that get an SBOM.
var archiveRE = lazyregexp.New(`(?i)\.(tar|tgz|zip|tar\.(gz|bz2|xz|zst))$`)

// sbomEnding is the ending of the SBOM of an archive.
const sbomEnding = ".spdx.json"

// newSBOM is an SBOM that is written with the list.
type newSBOM struct {
	path string
	raw  []byte
}

// addSBOMs adds the SBOM of each archive to the files: one that is there, which must not be
// that of other bytes, or else a new one, by describe. That of the same archive is the same
// each time.
func (s *fileSet) addSBOMs(describe func(path string) ([]byte, error)) error {
	there := map[string]bool{}
	for _, f := range s.files {
		there[f.Name] = true
	}
	for _, f := range s.files {
		if !archiveRE.MatchString(f.Name) {
			continue
		}
		archive := &signedFile{path: filepath.Join(s.dir, filepath.FromSlash(f.Name)), hash: f.Digest}
		if there[f.Name+sbomEnding] {
			if err := checkSBOMOf(archive); err != nil {
				return fmt.Errorf("%s: %w", archive.path, err)
			}
			continue
		}
		raw, err := describe(archive.path)
		if err != nil {
			return fmt.Errorf("%s: %w", archive.path, err)
		}
		if raw == nil {
			continue
		}
		if err := aboutArchive(raw, archive); err != nil {
			return fmt.Errorf("the SBOM of %s: %w", archive.path, err)
		}
		s.sboms = append(s.sboms, newSBOM{archive.path + sbomEnding, raw})
		sum := sha256.Sum256(raw)
		s.files = append(s.files, verify.File{Name: f.Name + sbomEnding, Size: int64(len(raw)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}})
	}
	return nil
}

// checkSBOMOf fails if the SBOM beside an archive is that of other bytes.
func checkSBOMOf(archive *signedFile) error {
	path := archive.path + sbomEnding
	raw, err := strict.ReadFile(path, limits.Statement)
	if err != nil {
		return err
	}
	if err := aboutArchive(raw, archive); err != nil {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("%s: %v", path, err), hint: "remove it, and a new one is made"}
	}
	return nil
}

// aboutArchive fails if an SBOM says that it is about other bytes than those of the archive.
func aboutArchive(raw []byte, archive *signedFile) error {
	p, err := parsePredicate("spdx", raw)
	if err != nil {
		return err
	}
	return p.about(archive)
}

// archiveSBOM returns a function that makes the SBOM of an archive; it returns nil where
// nothing can scan, which it says once.
func archiveSBOM(ctx context.Context, say func(string)) func(path string) ([]byte, error) {
	said := map[string]bool{}
	once := func(hint string) {
		if !said[hint] {
			said[hint] = true
			say(hint)
		}
	}
	return func(path string) ([]byte, error) {
		if _, err := scannerProgram(); err != nil || runtime.GOOS != "linux" {
			once("no SBOM is made: it takes Linux, and the program colophon-scan beside colophon")
			return nil, nil
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		doc, err := sbomOptions{format: "spdx", say: once}.describeFile(ctx, path)
		return append(doc, '\n'), err
	}
}
