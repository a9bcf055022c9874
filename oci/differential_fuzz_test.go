package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// FuzzArchive: an archive that we call one image is that image for every tool.
func FuzzArchive(f *testing.F) {
	base := newArchiveBase(f)
	for _, seed := range base.seeds(f) {
		f.Add(seed.index, seed.manifest, seed.blob, seed.name, seed.link, seed.kind, seed.front)
	}
	f.Fuzz(func(t *testing.T, index, manifest, blob []byte, name, link string, kind byte, front bool) {
		base.compare(t, archiveSeed{index, manifest, blob, name, link, kind, front})
	})
}

// TestToolsTakeTheSameImage: the seeds of FuzzArchive, so that it is known that each
// tool takes an image from some of them, and another image from some that we refuse.
func TestToolsTakeTheSameImage(t *testing.T) {
	base := newArchiveBase(t)
	genuine, other := map[string]bool{}, map[string]bool{}
	for _, seed := range base.seeds(t) {
		raw := base.archive(seed)
		keys, ok := base.compare(t, seed)
		for tool, takes := range tools {
			for _, key := range takes(raw) {
				genuine[tool] = genuine[tool] || ok && slices.Contains(keys, key)
				other[tool] = other[tool] || !ok && !slices.Contains(base.keys, key)
			}
		}
	}
	for tool := range tools {
		if !genuine[tool] || !other[tool] {
			t.Errorf("%s: takes the genuine image from an archive that we pass: %v; another from one that we refuse: %v; want both", tool, genuine[tool], other[tool])
		}
	}
}

// archiveBase is a genuine image, and another that an attacker brings.
type archiveBase struct {
	blobs    map[string][]byte // by path
	keys     []string          // of the genuine image
	index    []byte            // index.json of the genuine image
	manifest []byte            // manifest.json of the genuine image
	genuine  v1.Descriptor
	evil     v1.Descriptor
	evilJSON []byte // manifest.json of the evil image
}

func newArchiveBase(tb testing.TB) *archiveBase {
	b := &archiveBase{blobs: map[string][]byte{}}
	build := func(word string) (d v1.Descriptor, manifest []byte, key string) {
		layer := gzipOf(tb, tarOf(tb, testEntry{name: "bin/sh", content: word}))
		config := []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digestOf(tarOf(tb, testEntry{name: "bin/sh", content: word})).String() + `"]}}`)
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: b.add(types.OCIConfigJSON, config), Layers: []v1.Descriptor{b.add(types.OCILayer, layer)}}
		d = b.json(tb, m.MediaType, m)
		manifest = b.marshal(tb, []map[string]any{{"Config": blobPath(m.Config.Digest), "RepoTags": []string{"team/app:v1"}, "Layers": []string{blobPath(m.Layers[0].Digest)}}})
		return d, manifest, imageKey(config, m.Layers[0].Digest.String())
	}
	var key string
	b.genuine, b.manifest, key = build("genuine")
	b.keys = []string{key}
	b.index = b.marshal(tb, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{b.genuine}})
	b.evil, b.evilJSON, _ = build("evil")
	return b
}

func (b *archiveBase) marshal(tb testing.TB, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func (b *archiveBase) add(mediaType types.MediaType, raw []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digestOf(raw), Size: int64(len(raw))}
	b.blobs[blobPath(d.Digest)] = raw
	return d
}

func (b *archiveBase) json(tb testing.TB, mediaType types.MediaType, v any) v1.Descriptor {
	return b.add(mediaType, b.marshal(tb, v))
}

// The words that a seed may have in index.json and manifest.json for its own blob.
const (
	blobDigest = "sha256:BLOB"
	blobFile   = "blobs/sha256/BLOB"
	blobSize   = `987654321`
)

// seeds are archives of all kinds that tools read differently, and some that they do not.
func (b *archiveBase) seeds(tb testing.TB) []archiveSeed {
	plain := archiveSeed{index: b.index, kind: tar.TypeDir, name: "blobs/"}
	var all []archiveSeed
	add := func(bend func(*archiveSeed)) {
		s := plain
		bend(&s)
		all = append(all, s)
	}
	index := func(entries ...v1.Descriptor) []byte {
		return b.marshal(tb, v1.IndexManifest{SchemaVersion: 2, Manifests: append([]v1.Descriptor{b.genuine}, entries...)})
	}
	named := func(d v1.Descriptor, key, value string) v1.Descriptor {
		d.Annotations = map[string]string{key: value}
		return d
	}
	fits := func(raw []byte) []byte { // index.json names the seed's own blob by a descriptor of another size
		return bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte(digestOf([]byte(blobDigest)).String()), []byte(blobDigest)), []byte(`"size":0`), []byte(`"size":`+blobSize))
	}
	own := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digestOf([]byte(blobDigest))}
	evil := b.blobs[blobPath(b.evil.Digest)]
	add(func(*archiveSeed) {})
	add(func(s *archiveSeed) { s.manifest = b.manifest })
	add(func(s *archiveSeed) { s.manifest = b.evilJSON })
	add(func(s *archiveSeed) { s.index = index(b.evil) })
	add(func(s *archiveSeed) { s.index = index(named(b.evil, imageNameAnnotation, "docker.io/team/app:v1")) })
	add(func(s *archiveSeed) {
		s.index = index(named(b.evil, RefNameAnnotation, CosignSignatures.Of(b.genuine.Digest)))
	})
	add(func(s *archiveSeed) {
		s.blob = bytes.Replace(evil, []byte(`{"schemaVersion":2`), []byte(`{"schemaVersion":2,"subject":`+string(b.marshal(tb, b.genuine))), 1)
		s.index = fits(index(own))
	})
	add(func(s *archiveSeed) {
		s.blob = b.marshal(tb, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{b.evil}})
		list := named(own, RefNameAnnotation, fallbackTag(b.genuine.Digest))
		list.MediaType = types.OCIImageIndex
		s.index = fits(index(list))
	})
	add(func(s *archiveSeed) { // an attachment as it should be
		s.blob = b.marshal(tb, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Subject: &b.genuine,
			Config: b.add(noConfig, []byte("{}")), Layers: []v1.Descriptor{b.add(signature, []byte(`{"critical":{}}`))}})
		s.index = fits(index(own))
	})
	add(func(s *archiveSeed) {
		s.index = bytes.Replace(b.index, []byte(`{"schemaVersion":2`), []byte(`{"schemaVersion":2,"Manifests":`+string(b.marshal(tb, []v1.Descriptor{b.evil}))), 1)
	})
	for _, front := range []bool{true, false} {
		for _, n := range []string{"index.json", "./index.json", "manifest.json", "./manifest.json", "index.json/", "x/../manifest.json", "manifest.json/x", "oci-layout", "repositories", strings.Repeat("ab", 32) + "/json"} {
			content := b.evilJSON
			if strings.Contains(n, "index") {
				content = b.marshal(tb, v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{b.evil}})
			}
			add(func(s *archiveSeed) { s.name, s.kind, s.front, s.blob = n, tar.TypeReg, front, content })
			add(func(s *archiveSeed) {
				s.name, s.kind, s.front, s.blob, s.link = n, tar.TypeSymlink, front, content, blobFile
			})
			add(func(s *archiveSeed) {
				s.name, s.kind, s.front, s.blob, s.link = n, tar.TypeLink, front, content, blobFile
			})
		}
	}
	return all
}

// archive writes the tar of a seed. An entry of type 'x' is the comment of a PAX header
// that is named by the seed and holds its blob; another one holds the blob, too.
func (b *archiveBase) archive(s archiveSeed) []byte {
	digest := digestOf(s.blob)
	own := func(raw []byte) []byte {
		raw = bytes.ReplaceAll(raw, []byte("sha256:BLOB"), []byte(digest.String()))
		raw = bytes.ReplaceAll(raw, []byte(blobFile), []byte(blobPath(digest)))
		return bytes.ReplaceAll(raw, []byte(blobSize), fmt.Append(nil, len(s.blob)))
	}
	var out, extra []byte
	file := func(name string, kind byte, link string, content []byte) []byte {
		raw := append(tarHeader(name, kind, link, len(content)), content...)
		return append(raw, make([]byte, -len(raw)&511)...)
	}
	switch s.kind {
	case tar.TypeReg:
		extra = file(s.name, s.kind, "", s.blob)
	case tar.TypeXHeader:
		record := " comment=" + string(s.blob) + "\n"
		extra = file(s.name, s.kind, "", fmt.Appendf(nil, "%07d%s", len(record)+7, record))
	default:
		extra = file(s.name, s.kind, string(own([]byte(s.link))), nil)
	}
	if s.front {
		out = extra
	}
	out = append(out, file("oci-layout", tar.TypeReg, "", []byte(layoutMarker))...)
	if s.index != nil {
		out = append(out, file("index.json", tar.TypeReg, "", own(s.index))...)
	}
	if s.manifest != nil {
		out = append(out, file("manifest.json", tar.TypeReg, "", own(s.manifest))...)
	}
	for _, name := range slices.Sorted(maps.Keys(b.blobs)) {
		out = append(out, file(name, tar.TypeReg, "", b.blobs[name])...)
	}
	if name := blobPath(digest); b.blobs[name] == nil {
		out = append(out, file(name, tar.TypeReg, "", s.blob)...)
	}
	if !s.front {
		out = append(out, extra...)
	}
	return append(out, make([]byte, 1024)...)
}

// archiveSeed says what an archive holds beside the blobs: index.json and
// manifest.json (nil: none), a blob under its digest, and one entry more, before or
// after the others.
type archiveSeed struct {
	index, manifest, blob []byte
	name, link            string
	kind                  byte
	front                 bool
}

func (b *archiveBase) compare(t *testing.T, seed archiveSeed) (keys []string, ok bool) {
	raw := b.archive(seed)
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if keys, ok = weTake(t, file); !ok {
		return nil, false
	}
	for tool, takes := range tools {
		for _, key := range takes(raw) {
			if !slices.Contains(keys, key) {
				t.Errorf("%s takes %s, and we take %q", tool, key, keys)
			}
		}
	}
	return keys, true
}
