package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// RefNameAnnotation is the annotation of an entry of a layout's index.json that
// holds its tag (image-spec annotations.md).
const RefNameAnnotation = "org.opencontainers.image.ref.name"

// maxEntry is the size in bytes up to which an entry of index.json repeats the artifact
// type and the annotations of its manifest, so that limits.Referrers entries fit.
const maxEntry = limits.Manifest/limits.Referrers - 1

const layoutMarker = `{"imageLayoutVersion":"1.0.0"}`

// Layout is an OCI image layout 1.0.0 (image-spec image-layout.md) in a directory or,
// read-only, in a tar archive. It implements Source and Target. It opens only
// regular files, and follows no symbolic link.
type Layout struct {
	dir   string
	files files
	index sync.Mutex // writers of index.json in this process

	scratch bool // nothing is synced to disk

	mu    sync.Mutex
	known map[v1.Hash]document // by digest, so never stale; nobody changes them
	bytes int                  // in known
}

// files are the files of a layout. Names are relative and slash-separated.
type files interface {
	// open returns ErrNotFound if there is no such file.
	open(name string) (content io.ReadCloser, size int64, err error)
	// walk visits all files and directories. Directories come before what is in them.
	walk(visit func(name string, dir bool) error) error
	io.Closer
}

// OpenLayout opens the layout in a directory. It fails if the directory has no
// oci-layout file.
func OpenLayout(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	l := &Layout{dir: dir, files: dirFiles{dir, root}}
	if err := l.checkMarker(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Layout) checkMarker() error {
	raw, err := l.read("oci-layout", limits.Manifest)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%s is not an OCI layout: it has no oci-layout file", l.dir)
	} else if err != nil {
		return err
	}
	var marker struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &marker); err != nil || marker.Version != "1.0.0" {
		return refuse("layout %s: version: got %q, want %q", l.dir, marker.Version, "1.0.0")
	}
	return nil
}

// CreateLayout creates an empty layout in dir, or opens the layout that is there.
func CreateLayout(dir string) (*Layout, error) {
	if err := durable.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, err
	}
	empty, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}})
	if err != nil {
		return nil, err
	}
	// The marker last: it makes the directory a layout.
	for _, f := range []struct {
		name string
		data []byte
	}{{"index.json", empty}, {"oci-layout", []byte(layoutMarker)}} {
		if err := durable.CreateFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return OpenLayout(dir)
}

// CreateScratch is like CreateLayout, for a directory of which nobody needs anything after a
// crash: blobs are not synced to disk.
func CreateScratch(dir string) (*Layout, error) {
	l, err := CreateLayout(dir)
	if err == nil {
		l.scratch = true
	}
	return l, err
}

// Name returns the path that was given to OpenLayout.
func (l *Layout) Name() string { return l.dir }

// Close closes the layout's file descriptors.
func (l *Layout) Close() error { return l.files.Close() }

// dirFiles are the files of a directory.
type dirFiles struct {
	dir  string
	root *os.Root
}

// Close implements files.
func (d dirFiles) Close() error { return d.root.Close() }

func (d dirFiles) open(name string) (io.ReadCloser, int64, error) {
	// Opening a FIFO would block, and a link could lead to one.
	f, err := d.root.OpenFile(name, os.O_RDONLY|noFollow|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s in layout %s: %w", name, d.dir, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("layout %s: %w", d.dir, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = refuse("layout %s: %s is not a regular file", d.dir, name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (d dirFiles) walk(visit func(name string, dir bool) error) error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() && !e.Type().IsRegular() {
			return refuse("%s is not a regular file and not a directory", name)
		}
		return visit(name, e.IsDir())
	})
}

func (l *Layout) read(name string, max int) ([]byte, error) {
	f, size, err := l.files.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > int64(max) {
		return nil, refuse("layout %s: size of %s: got %d bytes, want at most %d", l.dir, name, size, max)
	}
	return strict.ReadSized(f, size, max)
}

// layoutFile returns the digest of the blob that a file of a layout is named for, and
// the zero hash for another file or directory of a layout. It refuses all else.
// containerd's content store leaves an empty "ingest" directory.
func layoutFile(name string, dir bool) (blob v1.Hash, err error) {
	parent, base := path.Split(name)
	switch {
	case dir && (name == "." || name == "blobs" || name == "ingest" || name == "blobs/sha256" || name == "blobs/sha512"):
		return v1.Hash{}, nil
	case !dir && (name == "oci-layout" || name == "index.json"):
		return v1.Hash{}, nil
	case !dir && (parent == "blobs/sha256/" || parent == "blobs/sha512/"):
		if h, err := v1.NewHash(path.Base(parent) + ":" + base); err == nil {
			return h, nil
		}
	}
	return v1.Hash{}, refuse("unexpected file %q: an OCI layout holds images and nothing else", name)
}

func blobPath(h v1.Hash) string { return filepath.Join("blobs", h.Algorithm, h.Hex) }

func (l *Layout) entries() (*v1.IndexManifest, error) {
	raw, err := l.read("index.json", limits.Manifest)
	if err != nil {
		return nil, err
	}
	c, err := parseListing(raw, types.OCIImageIndex, limits.Referrers)
	if err != nil {
		return nil, refuse("layout %s: index.json: %w", l.dir, err)
	}
	return &v1.IndexManifest{SchemaVersion: c.SchemaVersion, MediaType: c.MediaType, Manifests: c.Manifests, Annotations: c.Annotations, Subject: c.Subject, ArtifactType: c.ArtifactType}, nil
}

// Resolve implements Source. A tag is the RefNameAnnotation of an entry. The empty
// reference means the only entry that is not attached to another one or, in a layout
// by `cosign save`, the image.
func (l *Layout) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if h, err := v1.NewHash(reference); err == nil {
		return l.describe(ctx, h)
	}
	index, err := l.entries()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if d, ok := savedByCosign(index)[reference]; ok {
		return l.entry(ctx, d)
	}
	var found []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case reference != "" && d.Annotations[RefNameAnnotation] != reference:
			continue
		case reference == "" && attachmentTag.MatchString(d.Annotations[RefNameAnnotation]):
			continue
		case reference == "":
			if c, err := l.content(ctx, d.Digest); err != nil {
				return v1.Descriptor{}, err
			} else if c.Subject != nil {
				continue
			}
		}
		found = append(found, d)
	}
	if len(found) == 0 {
		return v1.Descriptor{}, &noImageError{l.dir, reference}
	}
	for _, d := range found[1:] {
		if d.Digest != found[0].Digest && reference == "" {
			return v1.Descriptor{}, fmt.Errorf("layout %s has %d images: name one, as in %[1]s:TAG or %[1]s@sha256:HEX", l.dir, len(found))
		} else if d.Digest != found[0].Digest {
			return v1.Descriptor{}, fmt.Errorf("layout %s has %d images %q: name one by its digest", l.dir, len(found), reference)
		}
	}
	return l.entry(ctx, found[0])
}

// noImageError means that a layout has no image of this name, or none at all.
type noImageError struct{ dir, name string }

func (e *noImageError) Error() string {
	if e.name == "" {
		return fmt.Sprintf("layout %s has no image", e.dir)
	}
	return fmt.Sprintf("layout %s has no image %q", e.dir, e.name)
}

func (e *noImageError) Unwrap() error { return ErrNotFound }

// entry returns the descriptor of an entry of index.json, if the content matches it.
func (l *Layout) entry(ctx context.Context, named v1.Descriptor) (v1.Descriptor, error) {
	d, err := l.describe(ctx, named.Digest)
	if err == nil && (d.Size != named.Size || d.MediaType != named.MediaType) {
		err = refuse("layout %s, %s: got %s of %d bytes, index.json says %s of %d", l.dir, d.Digest, d.MediaType, d.Size, named.MediaType, named.Size)
	}
	return d, err
}

func (l *Layout) describe(ctx context.Context, h v1.Hash) (v1.Descriptor, error) {
	raw, mediaType, err := l.Manifest(ctx, h)
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: h, Size: int64(len(raw))}, err
}

func (l *Layout) content(_ context.Context, h v1.Hash) (*content, error) {
	_, c, err := l.document(h)
	return c, err
}

// Manifest implements Source. The media type is the one that the manifest gives.
func (l *Layout) Manifest(_ context.Context, digest v1.Hash) ([]byte, string, error) {
	raw, c, err := l.document(digest)
	if err != nil {
		return nil, "", err
	}
	return raw, string(c.MediaType), nil
}

// document reads and parses a manifest or index. It remembers up to maxCached bytes of them: whoever
// resolves, lists, compares and copies asks for each several times.
func (l *Layout) document(digest v1.Hash) ([]byte, *content, error) {
	l.mu.Lock()
	d, ok := l.known[digest]
	l.mu.Unlock()
	if ok {
		return d.raw, d.content, nil
	}
	raw, err := l.read(blobPath(digest), limits.Manifest)
	if err != nil {
		return nil, nil, err
	}
	if err := checkDigest(raw, digest); err != nil {
		return nil, nil, fmt.Errorf("layout %s: manifest %w", l.dir, err)
	}
	c, err := parseUntyped(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("layout %s, %s: %w", l.dir, digest, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.known[digest]; !ok && l.bytes+len(raw) <= maxCached {
		if l.known == nil {
			l.known = map[v1.Hash]document{}
		}
		l.bytes += len(raw)
		l.known[digest] = document{raw: raw, content: c}
	}
	return raw, c, nil
}

// Blob implements Source.
func (l *Layout) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	f, size, err := l.files.open(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if size != d.Size {
		f.Close()
		return nil, fmt.Errorf("layout %s, blob %s: got %d bytes, want %d: %w", l.dir, d.Digest, size, d.Size, ErrMismatch)
	}
	return verifying(f, d)
}

// Referrers implements Source. It returns the entries of index.json, of the index under
// the fallback tag and, in a layout by `cosign save`, of the blobs, whose manifests name
// the subject.
func (l *Layout) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	index, err := l.entries()
	if err != nil {
		return nil, err
	}
	candidates := index.Manifests
	for _, d := range index.Manifests {
		if d.Annotations[RefNameAnnotation] != fallbackTag(subject) {
			continue
		}
		c, err := l.content(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		candidates = append(candidates[:len(candidates):len(candidates)], c.Manifests...)
	}
	if savedByCosign(index) != nil {
		unlisted, err := l.unlisted(subject)
		if err != nil {
			return nil, err
		}
		candidates = append(candidates[:len(candidates):len(candidates)], unlisted...)
	}
	var found []v1.Descriptor
	seen := map[v1.Hash]bool{}
	for _, d := range candidates {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		c, err := l.content(ctx, d.Digest)
		if errors.Is(err, ErrNotFound) {
			continue // a platform that was left out, or an attachment that was
		} else if err != nil {
			return nil, err
		}
		if c.Subject != nil && c.Subject.Digest == subject {
			d.ArtifactType = c.kind()
			found = append(found, d)
		}
	}
	return found, nil
}

// PushBlob implements Target. It compares a blob that the layout has already, and
// replaces it if it is damaged.
func (l *Layout) PushBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if have, err := l.Blob(ctx, d); err == nil {
		_, err = io.Copy(io.Discard, have)
		if err = errors.Join(err, have.Close()); err == nil {
			return nil
		}
	}
	checked, err := openVerifying(open, d)
	if err != nil {
		return err
	}
	defer checked.Close()
	return l.store(d.Digest, checked)
}

// store writes a blob under its digest: complete and, unless the layout is scratch, synced to
// disk, or not at all.
func (l *Layout) store(h v1.Hash, r io.Reader) (err error) {
	dir := filepath.Join(l.dir, "blobs", h.Algorithm)
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".blob-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	sync, syncDir := tmp.Sync, durable.SyncDir
	if l.scratch {
		sync, syncDir = func() error { return nil }, func(string) error { return nil }
	}
	_, err = io.Copy(tmp, r)
	if err = errors.Join(err, tmp.Chmod(0o644), sync(), tmp.Close()); err != nil {
		return fmt.Errorf("layout %s: writing %s: %w", l.dir, h, err)
	}
	if err := os.Rename(tmp.Name(), filepath.Join(dir, h.Hex)); err != nil {
		return err
	}
	return syncDir(dir)
}

// PushManifest implements Target. It adds a manifest with a subject to index.json;
// Tag adds others.
func (l *Layout) PushManifest(_ context.Context, raw []byte, mediaType string) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: digestOf(raw), Size: int64(len(raw))}
	c, err := parseContent(raw, d.MediaType)
	if err != nil {
		return d, err
	}
	if err := l.store(d.Digest, bytes.NewReader(raw)); err != nil || c.Subject == nil {
		return d, err
	}
	entry := d
	entry.ArtifactType, entry.Annotations = c.kind(), maps.Clone(c.Annotations)
	// Whoever attaches something chooses its annotations. It must not get the name of an image.
	delete(entry.Annotations, RefNameAnnotation)
	delete(entry.Annotations, imageNameAnnotation)
	if size, err := json.Marshal(entry); err != nil || len(size) > maxEntry {
		entry = d // who needs to know more reads the manifest
	}
	return d, l.update(func(index *v1.IndexManifest) error {
		for _, e := range index.Manifests {
			if e.Digest == d.Digest {
				return nil
			}
		}
		index.Manifests = append(index.Manifests, entry)
		return nil
	})
}

// Tag implements Target. A tag of a layout never moves: ErrTagExists.
func (l *Layout) Tag(ctx context.Context, tag string, d v1.Descriptor) error {
	if !tagGrammar.MatchString(tag) {
		return fmt.Errorf("tag %q is not a tag", tag)
	}
	entry, err := l.describe(ctx, d.Digest)
	if err != nil {
		return err
	}
	entry.Annotations = map[string]string{RefNameAnnotation: tag}
	return l.update(func(index *v1.IndexManifest) error {
		for _, e := range index.Manifests {
			switch {
			case e.Annotations[RefNameAnnotation] != tag:
			case e.Digest == d.Digest:
				return nil
			default:
				return fmt.Errorf("tag %s of layout %s: got %s, want %s: %w", tag, l.dir, e.Digest, d.Digest, ErrTagExists)
			}
		}
		index.Manifests = append(index.Manifests, entry)
		return nil
	})
}

// update changes index.json. Only one process may write a layout at a time.
func (l *Layout) update(change func(*v1.IndexManifest) error) error {
	l.index.Lock()
	defer l.index.Unlock()
	index, err := l.entries()
	if err != nil {
		return err
	}
	before := len(index.Manifests)
	if err := change(index); err != nil || len(index.Manifests) == before {
		return err
	}
	index.SchemaVersion, index.MediaType = 2, types.OCIImageIndex
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if len(index.Manifests) > limits.Referrers || len(raw) > limits.Manifest { // nobody could read it
		return refuse("layout %s: index.json is full: it may have %d entries and %d bytes", l.dir, limits.Referrers, limits.Manifest)
	}
	return durable.WriteFile(filepath.Join(l.dir, "index.json"), raw, 0o644)
}
