package trust

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/colophon-build/colophon/internal/limits"
)

// Limits on an archive with a TUF repository.
const (
	maxArchive = limits.TrustRepository // bytes unpacked
	maxFiles   = 1024
)

// FromArchive returns the Root in a TUF repository that is a gzipped tar archive of at most
// 16 MiB unpacked: metadata in one directory, and below it, in the directory targets, a target,
// with its digest before the name or without. root is the root metadata to start from. As of
// Parse, the metadata may have expired.
func FromArchive(root, archive []byte, targets, target string) (*Root, error) {
	files, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("TUF repository: %w", err)
	}
	repo := &Repository{Roots: [][]byte{root}, Target: target}
	first, err := new(metadata.Metadata[metadata.RootType]).FromBytes(root)
	if err != nil {
		return nil, fmt.Errorf("TUF repository: root metadata: %w", err)
	}
	// The metadata is where timestamp.json is closest to the top: a target may have that name, too.
	at := ""
	for name := range files {
		if path.Base(name) == "timestamp.json" && (at == "" || cmp.Or(strings.Count(name, "/")-strings.Count(at, "/"), cmp.Compare(name, at)) < 0) {
			at = name
		}
	}
	dir := path.Dir(at)
	repo.Timestamp = files[at]
	for v := first.Signed.Version + 1; files[path.Join(dir, fmt.Sprintf("%d.root.json", v))] != nil; v++ {
		repo.Roots = append(repo.Roots, files[path.Join(dir, fmt.Sprintf("%d.root.json", v))])
	}
	timestamp, err := new(metadata.Metadata[metadata.TimestampType]).FromBytes(repo.Timestamp)
	if err != nil {
		return nil, errors.New("TUF repository: expected timestamp.json")
	}
	file := func(name string, meta map[string]*metadata.MetaFiles) []byte {
		if m := meta[name]; m != nil {
			if found := files[path.Join(dir, fmt.Sprintf("%d.%s", m.Version, name))]; found != nil {
				return found
			}
		}
		return files[path.Join(dir, name)]
	}
	repo.Snapshot = file("snapshot.json", timestamp.Signed.Meta)
	snapshot, err := new(metadata.Metadata[metadata.SnapshotType]).FromBytes(repo.Snapshot)
	if err != nil {
		return nil, errors.New("TUF repository: expected snapshot.json")
	}
	repo.Targets = file("targets.json", snapshot.Signed.Meta)
	listed, err := new(metadata.Metadata[metadata.TargetsType]).FromBytes(repo.Targets)
	if err != nil || listed.Signed.Targets[target] == nil {
		return nil, fmt.Errorf("TUF repository: expected targets.json with the target %q", target)
	}
	hash := listed.Signed.Targets[target].Hashes["sha256"].String()
	if repo.Content = files[path.Join(dir, targets, hash+"."+target)]; repo.Content == nil {
		repo.Content = files[path.Join(dir, targets, target)]
	}
	raw, err := repo.Encode()
	if err != nil {
		return nil, err
	}
	return Parse(raw) // which verifies all of it
}

// unpack returns the files of a gzipped tar archive by name.
func unpack(archive []byte) (map[string][]byte, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, errors.New("expected a gzipped tar archive")
	}
	files := map[string][]byte{}
	left := int64(maxArchive)
	for all := tar.NewReader(io.LimitReader(zipped, maxArchive*2)); ; {
		h, err := all.Next()
		switch {
		case errors.Is(err, io.EOF):
			return files, nil
		case err != nil:
			return nil, fmt.Errorf("expected a gzipped tar archive: %w", err)
		case h.Typeflag != tar.TypeReg:
			continue
		}
		if left -= h.Size; left < 0 || len(files) == maxFiles {
			return nil, fmt.Errorf("expected at most %d files and %d bytes", maxFiles, int64(maxArchive))
		}
		content, err := io.ReadAll(all)
		if err != nil {
			return nil, fmt.Errorf("expected a gzipped tar archive: %w", err)
		}
		files[strings.TrimPrefix(path.Clean("/"+h.Name), "/")] = content
	}
}
