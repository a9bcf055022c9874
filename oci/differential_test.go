package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	cas "github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A tool says which images it would take from an archive, each as the digests of the
// files with its configuration and its layers. It leaves out what it cannot run, and
// what it refuses. containerd and crane read with their own libraries, as linked here.
// The rules of docker before version 25, podman and skopeo are written down here, from
// image/tarexport of moby, and from docker/internal/tarfile and oci/layout of
// containers/image.
var tools = map[string]func(raw []byte) []string{
	"containerd, docker since 25": containerdTakes,
	"docker before 25":            dockerTakes,
	"crane":                       craneTakes,
	"podman, docker-archive":      podmanTakesDocker,
	"podman, oci-archive":         podmanTakesLayout,
}

// imageKey names an image by the content of its configuration and layers.
func imageKey(config []byte, layers ...string) string {
	return fmt.Sprint(digestOf(config), layers)
}

// fileDigests returns the digests of files; ok is false if one is missing.
func fileDigests(names []string, read func(string) []byte) (digests []string, ok bool) {
	for _, n := range names {
		raw := read(n)
		if raw == nil {
			return nil, false
		}
		digests = append(digests, digestOf(raw).String())
	}
	return digests, true
}

// weTake returns the images of an archive that CheckSole passes, and ok if it does.
func weTake(t *testing.T, file string) (keys []string, ok bool) {
	l, err := openArchive(file)
	if err != nil {
		return nil, false
	}
	defer l.Close()
	ctx := context.Background()
	d, err := l.Resolve(ctx, "")
	if err != nil || l.CheckSole(ctx, "", d) != nil {
		return nil, false
	}
	own, err := l.manifestsOf(ctx, d)
	if err != nil {
		return nil, false
	}
	for _, m := range own {
		if m.Config == nil {
			return nil, false // verify refuses an index in an index
		}
		var layers []string
		for _, p := range m.parts() {
			if err := readAll(ctx, l, p); err != nil {
				return nil, false // verify reads every byte of the image
			}
			layers = append(layers, p.Digest.String())
		}
		config, err := readBlob(ctx, l, *m.Config, int(m.Config.Size))
		if err != nil {
			return nil, false
		}
		keys = append(keys, imageKey(config, layers[1:]...))
	}
	return keys, true
}

func readAll(ctx context.Context, l *Layout, d v1.Descriptor) error {
	rc, err := l.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	_, err = io.Copy(io.Discard, rc)
	return err
}

// decompressed is the tar in a file, which docker, ctr and podman may find compressed.
func decompressed(raw []byte) []byte {
	s, err := compression.DecompressStream(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	defer s.Close()
	out, _ := io.ReadAll(io.LimitReader(s, 1<<22)) // a tool stops at the end of the tar
	return out
}

// containerdTakes imports the archive, and takes each manifest that it finds below the
// index, whatever its name and platform: docker unpacks it by the types of its layers.
func containerdTakes(raw []byte) (keys []string) {
	ctx := context.Background()
	store := memoryStore{blobs: map[string][]byte{}}
	index, err := archive.ImportIndex(ctx, store, bytes.NewReader(decompressed(raw)))
	if err != nil {
		return nil
	}
	handler := images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := images.Children(ctx, store, d)
		if err != nil || !images.IsManifestType(d.MediaType) {
			return children, err
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(store.blobs[d.Digest.String()], &m); err != nil {
			return nil, err
		}
		run := len(m.Layers) > 0
		var layers []string
		for _, l := range m.Layers {
			_, err := images.DiffCompression(ctx, l.MediaType)
			run = run && (err == nil || images.IsLayerType(l.MediaType))
			layers = append(layers, l.Digest.String())
		}
		if config := store.blobs[m.Config.Digest.String()]; run && config != nil {
			keys = append(keys, imageKey(config, layers...))
		}
		return nil, nil
	})
	_ = images.Walk(ctx, handler, index) // what it took before an error, it has
	return keys
}

// unpackedTree is a tar as docker and podman unpack it: of two entries with the same
// name the last counts. Links stay links.
func unpackedTree(raw []byte) (files map[string][]byte, links map[string]string) {
	files, links = map[string][]byte{}, map[string]string{}
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if err != nil {
			return files, links
		}
		n := path.Clean("/" + h.Name)
		delete(files, n)
		delete(links, n)
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			files[n], _ = io.ReadAll(io.LimitReader(r, 1<<20))
			if files[n] == nil {
				files[n] = []byte{}
			}
		case tar.TypeSymlink:
			links[n] = path.Join(path.Dir(n), h.Linkname)
		case tar.TypeLink:
			links[n] = path.Clean("/" + h.Linkname)
		}
	}
}

func reader(raw []byte) func(string) []byte {
	files, links := unpackedTree(raw)
	return func(n string) []byte {
		n = path.Clean("/" + n)
		for range 8 {
			if to, ok := links[n]; ok {
				n = to
			}
		}
		return files[n]
	}
}

type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerTakes reads manifest.json, or else the directories of docker before 1.10.
func dockerTakes(raw []byte) (keys []string) {
	raw = decompressed(raw)
	read := reader(raw)
	manifest := read("manifest.json")
	if manifest == nil {
		files, _ := unpackedTree(raw)
		for n := range files {
			if path.Base(n) == "json" && strings.Count(n, "/") == 2 {
				keys = append(keys, "legacy "+n)
			}
		}
		return keys
	}
	var items []dockerItem
	if err := json.NewDecoder(bytes.NewReader(manifest)).Decode(&items); err != nil {
		return nil
	}
	for _, item := range items {
		config := read(item.Config)
		layers, ok := fileDigests(item.Layers, read)
		if config == nil || !ok {
			return keys
		}
		keys = append(keys, imageKey(config, layers...))
	}
	return keys
}

// craneTakes reads manifest.json of a file that is not compressed, and finds files by
// their first entry.
func craneTakes(raw []byte) (keys []string) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	items, err := tarball.LoadManifest(open)
	if err != nil {
		return nil
	}
	tags := []*name.Tag{nil}
	for _, item := range items {
		for _, s := range item.RepoTags {
			if tag, err := name.NewTag(s); err == nil {
				tags = append(tags, &tag)
			}
		}
	}
	for _, tag := range tags {
		img, err := tarball.Image(open, tag)
		if err != nil {
			continue
		}
		if key, err := craneKey(img); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func craneKey(img v1.Image) (string, error) {
	config, err := img.RawConfigFile()
	if err != nil {
		return "", err
	}
	layers, err := img.Layers()
	if err != nil {
		return "", err
	}
	var digests []string
	for _, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return "", err
		}
		digests = append(digests, h.String())
	}
	return imageKey(config, digests...), nil
}

// firstEntry finds files as podman does: the first entry with the name, one link away.
func firstEntry(raw []byte) func(string) []byte {
	find := func(want string) ([]byte, *tar.Header) {
		r := tar.NewReader(bytes.NewReader(raw))
		for {
			h, err := r.Next()
			if err != nil {
				return nil, nil
			}
			if path.Clean(h.Name) == path.Clean(want) {
				out, _ := io.ReadAll(io.LimitReader(r, 1<<20))
				return out, h
			}
		}
	}
	return func(n string) []byte {
		out, h := find(n)
		if h != nil && h.Typeflag == tar.TypeSymlink {
			out, h = find(path.Join(path.Dir(n), h.Linkname))
		}
		switch {
		case h == nil || !h.FileInfo().Mode().IsRegular():
			return nil
		case out == nil:
			return []byte{}
		}
		return out
	}
}

func podmanTakesDocker(raw []byte) (keys []string) {
	read := firstEntry(decompressed(raw))
	var items []dockerItem
	if json.Unmarshal(read("manifest.json"), &items) != nil {
		return nil
	}
	for _, item := range items {
		config := read(item.Config)
		layers, ok := fileDigests(item.Layers, read)
		if config != nil && ok {
			keys = append(keys, imageKey(config, layers...))
		}
	}
	return keys
}

// podmanTakesLayout takes any entry of index.json, by its name or its number. It opens
// blobs by the name of their file. It refuses an OCI manifest whose configuration is not
// an image's, and unpacks layers of any type.
func podmanTakesLayout(raw []byte) (keys []string) {
	read := reader(decompressed(raw))
	blob := func(d ocispec.Descriptor) []byte {
		if d.Digest.Validate() != nil {
			return nil
		}
		return read("blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded())
	}
	var index ocispec.Index
	if json.NewDecoder(bytes.NewReader(read("index.json"))).Decode(&index) != nil {
		return nil
	}
	var take func(d ocispec.Descriptor, depth int)
	take = func(d ocispec.Descriptor, depth int) {
		var list ocispec.Index
		if raw := blob(d); images.IsIndexType(d.MediaType) && depth < 3 && json.Unmarshal(raw, &list) == nil {
			for _, m := range list.Manifests {
				take(m, depth+1)
			}
			return
		}
		var m ocispec.Manifest
		if !images.IsManifestType(d.MediaType) || json.Unmarshal(blob(d), &m) != nil {
			return
		}
		config := blob(m.Config)
		if config == nil || d.MediaType == ocispec.MediaTypeImageManifest && m.Config.MediaType != ocispec.MediaTypeImageConfig {
			return
		}
		var layers []string
		run := len(m.Layers) > 0
		for _, l := range m.Layers {
			_, err := tar.NewReader(bytes.NewReader(decompressed(blob(l)))).Next()
			run = run && (err == nil || images.IsLayerType(l.MediaType))
			layers = append(layers, l.Digest.String())
		}
		if run {
			keys = append(keys, imageKey(config, layers...))
		}
	}
	for _, d := range index.Manifests {
		take(d, 0)
	}
	return keys
}

// memoryStore is as much of a content store of containerd as ImportIndex needs.
type memoryStore struct {
	cas.Store
	blobs map[string][]byte
}

type memoryReader struct{ *bytes.Reader }

func (memoryReader) Close() error { return nil }

func (s memoryStore) ReaderAt(_ context.Context, d ocispec.Descriptor) (cas.ReaderAt, error) {
	raw, ok := s.blobs[d.Digest.String()]
	if !ok {
		return nil, errors.New("not found")
	}
	return memoryReader{bytes.NewReader(raw)}, nil
}

func (s memoryStore) Walk(context.Context, cas.WalkFunc, ...string) error { return nil }

func (s memoryStore) Writer(context.Context, ...cas.WriterOpt) (cas.Writer, error) {
	return &memoryWriter{store: s}, nil
}

type memoryWriter struct {
	cas.Writer
	bytes.Buffer
	store  memoryStore
	digest digest.Digest
}

func (w *memoryWriter) Write(p []byte) (int, error) { return w.Buffer.Write(p) }
func (w *memoryWriter) Truncate(int64) error        { w.Buffer.Reset(); return nil }
func (w *memoryWriter) Status() (cas.Status, error) { return cas.Status{}, nil }
func (w *memoryWriter) Digest() digest.Digest       { return w.digest }
func (w *memoryWriter) Close() error                { return nil }
func (w *memoryWriter) Commit(_ context.Context, size int64, want digest.Digest, _ ...cas.Opt) error {
	if w.digest = digest.FromBytes(w.Bytes()); want != "" && want != w.digest || size != 0 && size != int64(w.Len()) {
		return errors.New("other bytes")
	}
	w.store.blobs[w.digest.String()] = bytes.Clone(w.Bytes())
	return nil
}
