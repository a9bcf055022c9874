package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// ErrNoManifest means that docker before version 25 saved the archive. It has no
// manifest, and proofs are about manifests.
var ErrNoManifest = errors.New("the archive holds no manifest")

// archiveEntries is the maximum number of files in an archive.
const archiveEntries = 100_000

// archiveStarts are the first bytes of tars, as the known writers name their first
// entry. Tools unpack a file first that begins like a compressed one, and so could find
// another tar in it.
var archiveStarts = []string{"oci-layout", "index.json", dockerManifest, dockerTags, "blobs", "./", "PaxHeader"}

// openArchive opens a tar with an OCI image layout, as `docker save` and others
// write it. It is read in place and cannot be written. An archive by docker before
// version 25 gives ErrNoManifest, with the image's id.
func openArchive(file string) (*Layout, error) {
	files, err := openTar(file)
	if err != nil {
		return nil, err
	}
	l := &Layout{dir: file, files: files}
	_, layout := files.entries["oci-layout"]
	_, docker := files.entries[dockerManifest]
	switch {
	case layout && files.odd != "":
		err = refuse("archive %s: %s", file, files.odd)
	case layout:
		err = l.checkMarker()
	case docker:
		err = l.saved()
	default:
		err = fmt.Errorf("%s is not an image: it has neither an oci-layout file nor docker's manifest.json", file)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// saved returns the error for an archive by docker before version 25, with the
// image's id: the digest of the configuration that manifest.json names.
func (l *Layout) saved() error {
	raw, err := l.read(dockerManifest, limits.Manifest)
	if err != nil {
		return err
	}
	var images []struct {
		Config string `json:"Config"`
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &images); err != nil {
		return refuse("archive %s: manifest.json: %w", l.dir, err)
	}
	if len(images) != 1 {
		return fmt.Errorf("archive %s holds %d images, want one: %w", l.dir, len(images), ErrNoManifest)
	}
	config, err := l.read(images[0].Config, limits.Config)
	if err != nil {
		return err
	}
	return fmt.Errorf("archive %s: image id %s, which is the digest of its configuration: %w", l.dir, digestOf(config), ErrNoManifest)
}

// tarFiles are the regular files of a tar, by cleaned name.
type tarFiles struct {
	name    string
	file    *os.File
	entries map[string]tarEntry
	dirs    []string
	odd     string // what another tool could read differently, such as the links that docker before version 25 wrote
}

type tarEntry struct{ offset, size int64 }

func openTar(name string) (*tarFiles, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	t := &tarFiles{name: name, file: f, entries: map[string]tarEntry{}}
	if err := t.scan(); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// scan records where the bytes of each file are. It refuses what two readers could
// read differently: a duplicate name, a sparse file, a name outside the archive.
func (t *tarFiles) scan() error {
	if info, err := t.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return refuse("archive %s is not a regular file", t.name)
	}
	start := make([]byte, len(dockerManifest))
	n, err := t.file.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("archive %s: %w", t.name, err)
	}
	if !slices.ContainsFunc(archiveStarts, func(s string) bool { return bytes.HasPrefix(start[:n], []byte(s)) }) {
		t.odd = fmt.Sprintf("it begins with %q, which other tools may unpack first", start[:n])
	}
	r := tar.NewReader(t.file)
	for n := 0; ; n++ {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && n == 0:
			return fmt.Errorf("%s is neither a directory nor a tar: a compressed archive must be unpacked first", t.name)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return refuse("archive %s ends too early", t.name)
		case err != nil:
			return refuse("archive %s: %w", t.name, err)
		case n >= archiveEntries:
			return refuse("archive %s has more than %d entries", t.name, archiveEntries)
		}
		switch {
		case h.Typeflag == tar.TypeDir:
			t.dirs = append(t.dirs, path.Clean(h.Name))
			continue
		case h.Typeflag != tar.TypeReg:
			t.odd = cmp.Or(t.odd, fmt.Sprintf("%q is neither a file nor a directory", h.Name))
			continue
		}
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse") {
				return refuse("archive %s: %q is a sparse file", t.name, h.Name)
			}
		}
		name := strings.TrimPrefix(h.Name, "./")
		if !fs.ValidPath(name) {
			return refuse("archive %s: %q is not a path within the archive", t.name, h.Name)
		}
		if _, twice := t.entries[name]; twice {
			return refuse("archive %s holds %q twice", t.name, name)
		}
		offset, err := t.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		t.entries[name] = tarEntry{offset, h.Size}
	}
}

func (t *tarFiles) open(name string) (io.ReadCloser, int64, error) {
	e, ok := t.entries[path.Clean(name)]
	if !ok {
		return nil, 0, fmt.Errorf("%s in archive %s: %w", name, t.name, ErrNotFound)
	}
	return io.NopCloser(io.NewSectionReader(t.file, e.offset, e.size)), e.size, nil
}

func (t *tarFiles) walk(visit func(name string, dir bool) error) error {
	for _, name := range t.dirs {
		if err := visit(name, true); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		if err := visit(name, false); err != nil {
			return err
		}
	}
	return nil
}

// Close implements files.
func (t *tarFiles) Close() error { return t.file.Close() }
