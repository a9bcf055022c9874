// Package contents finds out from the layers of an image which packages are
// installed in it, and compares them with an SBOM. It reads the module lists in Go
// binaries, the databases of dpkg and apk, and the manifests of installed npm and
// Python packages. It knows fewer kinds of packages than the tools that write SBOMs,
// and shares no code with them.
package contents

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// Package is one installed package.
type Package struct {
	Type    string // type in a package URL: one of Types
	Name    string // name in a package URL, with the namespace of golang and npm; Python's in the form of PEP 503
	Version string // "" if the image does not say, as for the main module of a Go binary
}

// Types are the types of the packages that Read finds (package URL specification,
// PURL-TYPES). Callers must not change it.
var Types = []string{"apk", "deb", "golang", "npm", "pypi"}

// errUnread means that a part of the image could not be read, so that there may be
// more packages.
var errUnread = errors.New("cannot be read")

// Limits on one image. Honest images stay far below.
const (
	maxPackages = 500_000
	maxFiles    = 500_000    // files that hold packages
	maxWork     = 20_000_000 // steps that whiteouts may cost
	maxDatabase = 128 << 20  // bytes of a dpkg or apk database
	maxManifest = 4 << 20    // bytes of an npm or Python manifest
)

// Read returns the packages installed in the image with the given digest, of a
// manifest or an index; of an index, those of all platforms together. It fails if
// any part that could name packages cannot be read. It reads layer by layer, and
// keeps nothing larger than a package database in memory.
func Read(ctx context.Context, src oci.Source, digest v1.Hash) (map[Package]bool, error) {
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	manifests := []v1.Hash{digest}
	if types.MediaType(mediaType).IsIndex() {
		var index v1.IndexManifest
		if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
			return nil, fmt.Errorf("%w: index %s: %w", oci.ErrMismatch, digest, err)
		}
		if manifests = nil; len(index.Manifests) > limits.IndexManifests {
			return nil, fmt.Errorf("%w: index: got %d manifests, want at most %d", oci.ErrMismatch, len(index.Manifests), limits.IndexManifests)
		}
		for _, d := range index.Manifests {
			// BuildKit's attestations are in the index, too, with this platform.
			if d.Platform == nil || d.Platform.OS != "unknown" {
				manifests = append(manifests, d.Digest)
			}
		}
	}
	scratch, err := os.CreateTemp("", "colophon-contents-")
	if err != nil {
		return nil, err
	}
	defer scratch.Close()
	if err := os.Remove(scratch.Name()); err != nil {
		return nil, err
	}
	all := map[Package]bool{}
	for _, m := range manifests {
		t := tree{scratch: scratch}
		if err := oci.Entries(ctx, src, m, t.entry); err != nil {
			return nil, err
		}
		t.root.each(func(p Package) { all[p] = true })
	}
	return all, nil
}

// tree is the part of the image's file system that holds packages, after the layers
// read so far.
type tree struct {
	root     node
	scratch  *os.File // copy of one binary at a time
	packages int
	files    int
	work     int
}

type node struct {
	children map[string]*node
	layer    int       // layer that wrote it last
	found    []Package // packages that the file names
}

func (n *node) each(f func(Package)) {
	for _, p := range n.found {
		f(p)
	}
	for _, c := range n.children {
		c.each(f)
	}
}

// entry applies one entry of a layer.
func (t *tree) entry(layer int, h *tar.Header, content io.Reader) error {
	name := strings.Trim(path.Clean("/"+h.Name), "/")
	if len(name) > limits.TreePath {
		return fmt.Errorf("%w: name of an entry: got %d bytes, want at most %d", oci.ErrMismatch, len(name), limits.TreePath)
	}
	dir, base := path.Split(name)
	if rest, ok := strings.CutPrefix(base, ".wh."); ok {
		if rest == ".wh..opq" {
			return t.hide(strings.Trim(dir, "/"), layer, true)
		}
		return t.hide(dir+rest, layer, false)
	}
	if h.Typeflag == tar.TypeDir {
		if n := t.find(name); n != nil {
			n.found = nil // the directory replaces a file
		}
		return nil
	}
	if err := t.hide(name, layer+1, false); err != nil {
		return err
	}
	kind := kindOf(name)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeLink:
		// The same file under another name. A file that was not read under its
		// first name cannot be read here.
		target := t.find(strings.Trim(path.Clean("/"+h.Linkname), "/"))
		if target == nil && kind != nil {
			return fmt.Errorf("%s: a hard link to %s, which %w", name, h.Linkname, errUnread)
		}
		if target != nil {
			return t.add(name, layer, target.found)
		}
		return nil
	default:
		return nil
	}
	if kind == nil {
		kind = t.binary // whatever its mode: a hard link can give it another one
	}
	found, err := kind(content, h.Size)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(found) == 0 {
		return nil
	}
	return t.add(name, layer, found)
}

func (t *tree) add(name string, layer int, found []Package) error {
	if t.packages += len(found); t.packages > maxPackages {
		return fmt.Errorf("more than %d packages: the rest %w", maxPackages, errUnread)
	}
	if t.files++; t.files > maxFiles {
		return fmt.Errorf("more than %d files with packages: the rest %w", maxFiles, errUnread)
	}
	n := &t.root
	for part := range strings.SplitSeq(name, "/") {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		next := n.children[part]
		if next == nil {
			next = &node{layer: layer}
			n.children[part] = next
		}
		n = next
	}
	n.layer, n.found = layer, found
	return nil
}

func (t *tree) find(name string) *node {
	n := &t.root
	for part := range strings.SplitSeq(name, "/") {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// hide removes what layers before the given one put at name and below it or, if
// inside is set, only below it.
func (t *tree) hide(name string, before int, inside bool) error {
	n := &t.root
	if name != "" {
		n = t.find(name)
	}
	if n == nil {
		return nil
	}
	if !inside && n.layer < before {
		n.found = nil
	}
	t.prune(n, before)
	if t.work > maxWork {
		return fmt.Errorf("%w: whiteouts: got more than %d steps", oci.ErrMismatch, maxWork)
	}
	return nil
}

func (t *tree) prune(n *node, before int) {
	for part, c := range n.children {
		t.work++
		if c.layer < before {
			c.found = nil
		}
		t.prune(c, before)
		if len(c.found) == 0 && len(c.children) == 0 {
			delete(n.children, part)
		}
	}
}
