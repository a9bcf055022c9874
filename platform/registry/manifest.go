package registry

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// The media types that are taken for manifests. There are no others: what is
// not understood cannot be checked.
const (
	typeManifest       = "application/vnd.oci.image.manifest.v1+json"
	typeIndex          = "application/vnd.oci.image.index.v1+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// foreignLayer holds the layers that may be absent, because their licence
// forbids to push them.
var foreignLayer = map[string]bool{
	"application/vnd.oci.image.layer.nondistributable.v1.tar":      true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
}

// A descriptor is the part of an OCI descriptor that the registry needs and
// that referrers lists show.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// manifestFile is what is read of any of the four kinds of manifest.
type manifestFile struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseManifest reads a manifest of which every reader makes the same: its
// bytes alone say which kind it is, so that a wrong Content-Type cannot turn
// it into another (CVE-2021-41190).
func parseManifest(raw []byte) (*manifestFile, error) {
	var m manifestFile
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := strict.Unmarshal(raw, limits.Manifest, &members); err != nil {
		return nil, err
	}
	has := func(name string) bool { _, ok := members[name]; return ok }
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("got schemaVersion %d, want 2", m.SchemaVersion)
	}
	if m.MediaType == "" && !has("mediaType") {
		m.MediaType = typeManifest
		if has("manifests") {
			m.MediaType = typeIndex
		}
	}
	switch m.MediaType {
	case typeIndex, typeDockerList:
		if !has("manifests") || has("layers") || has("config") {
			return nil, fmt.Errorf("%s must have manifests, and neither config nor layers", m.MediaType)
		}
	case typeManifest, typeDockerManifest:
		if m.Config == nil || !has("layers") || has("manifests") {
			return nil, fmt.Errorf("%s must have config and layers, and no manifests", m.MediaType)
		}
	default:
		return nil, fmt.Errorf("got mediaType %q, which is not a manifest's", m.MediaType)
	}
	if n := len(m.Layers); n > limits.Layers {
		return nil, fmt.Errorf("got %d layers, at most %d are taken", n, limits.Layers)
	}
	if n := len(m.Manifests); n > limits.IndexManifests {
		return nil, fmt.Errorf("got %d manifests, at most %d are taken", n, limits.IndexManifests)
	}
	if m.Subject != nil {
		if _, err := parseDigest(m.Subject.Digest); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
	}
	return &m, nil
}

// describe is the manifest as a referrers list shows it.
func (m *manifestFile) describe(d digest, size int) descriptor {
	desc := descriptor{MediaType: m.MediaType, Digest: d.String(), Size: int64(size)}
	if m.Subject != nil {
		desc.ArtifactType, desc.Annotations = m.ArtifactType, m.Annotations
		if desc.ArtifactType == "" && m.Config != nil {
			desc.ArtifactType = m.Config.MediaType
		}
	}
	return desc
}

// putManifest is PUT /v2/NAME/manifests/REFERENCE, with ?tag=… for tags to be
// set on a manifest that is pushed by digest.
func (r *Registry) putManifest(w http.ResponseWriter, req *request) error {
	d, tags, err := putReference(req)
	if err != nil {
		return err
	}
	release, err := acquire(req.Context(), r.pushing)
	if err != nil {
		return err
	}
	defer release()
	raw, err := readManifest(w, req)
	if err != nil {
		return err
	}
	h := d.newHash()
	h.Write(raw)
	got := digest{"sha256", hex.EncodeToString(h.Sum(nil))}
	if d.alg != "" {
		got.alg = d.alg
		if got != d {
			return failed(http.StatusBadRequest, codeDigestInvalid, "got a manifest of digest %s, want %s", got, d)
		}
	}
	m, err := parseManifest(raw)
	if err != nil {
		return failed(http.StatusBadRequest, codeManifestInvalid, "manifest %s: %v", got, err)
	}
	if ct := req.Header.Get("Content-Type"); ct != "" {
		if base, _, err := mime.ParseMediaType(ct); err != nil || base != m.MediaType {
			return failed(http.StatusBadRequest, codeManifestInvalid, "got Content-Type %q for a manifest of type %q", ct, m.MediaType)
		}
	}
	if err := r.storeManifest(req.name, got, tags, raw, m); err != nil {
		return err
	}
	r.cfg.Log.Info("registry: manifest pushed", "repository", req.name, "digest", got, "tags", tags)
	hd := w.Header()
	hd.Set("Location", "/v2/"+req.name+"/manifests/"+got.String())
	hd.Set("Docker-Content-Digest", got.String())
	if m.Subject != nil {
		hd.Set("OCI-Subject", m.Subject.Digest)
	}
	for _, tag := range req.URL.Query()["tag"] {
		hd.Add("OCI-Tag", tag)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// maxPutTags is the number of tags of one push; the spec asks for ten.
const maxPutTags = 32

// putReference returns the digest that a push is to have, if it says one, and
// the tags it sets.
func putReference(req *request) (d digest, tags []string, err error) {
	tags = req.URL.Query()["tag"]
	if strings.Contains(req.ref, ":") {
		if d, err = parseDigest(req.ref); err != nil {
			return d, nil, err
		}
	} else if len(tags) > 0 {
		return d, nil, failed(http.StatusBadRequest, codeUnsupported, "tag parameters go with a push by digest, not by tag %q", req.ref)
	} else {
		tags = []string{req.ref}
	}
	if len(tags) > maxPutTags {
		return d, nil, failed(http.StatusRequestURITooLong, codeUnsupported, "got %d tags in one push, at most %d are taken", len(tags), maxPutTags)
	}
	for _, tag := range tags {
		if !validTag(tag) {
			return d, nil, failed(http.StatusBadRequest, codeManifestInvalid, "got tag %q, which is not of the spec's grammar", tag)
		}
	}
	return d, tags, nil
}

func readManifest(w http.ResponseWriter, req *request) ([]byte, error) {
	tooBig := failed(http.StatusRequestEntityTooLarge, codeSizeInvalid, "the manifest has more than %d bytes, the most that are taken", limits.Manifest)
	if req.ContentLength > limits.Manifest {
		return nil, tooBig
	}
	// Its place is one of few: a slow client may not keep it.
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(stall))
	defer rc.SetReadDeadline(time.Time{})
	raw, err := io.ReadAll(io.LimitReader(req.Body, limits.Manifest+1))
	if err != nil {
		return nil, failed(http.StatusBadRequest, codeManifestInvalid, "the body ended after %d bytes: %v", len(raw), err)
	}
	if len(raw) > limits.Manifest {
		return nil, tooBig
	}
	return raw, nil
}

// storeManifest makes a manifest and its tags durable. Everything that could
// refuse it is asked before anything is written.
func (r *Registry) storeManifest(name string, d digest, tags []string, raw []byte, m *manifestFile) error {
	s := r.store
	defer s.change(name)()
	if err := s.complete(name, m); err != nil {
		return err
	}
	for _, tag := range tags {
		have, err := s.readTag(name, tag)
		if err != nil && !missing(err) {
			return err
		}
		if err == nil && have != d && !r.mutable(name, tag, m.MediaType) {
			return &failure{
				status: http.StatusConflict, code: codeDenied,
				message: fmt.Sprintf("tag %q of repository %q is immutable: it points at %s and may not move to %s", tag, name, have, d),
				detail:  map[string]string{"tag": tag, "repository": name, "have": have.String(), "want": d.String()},
			}
		}
	}
	if err := s.writeDerived(name, d, m, len(raw)); err != nil {
		return err
	}
	if err := s.write(s.manifest(name, d), raw); err != nil {
		return err
	}
	// One that is there already is written too: a killed process may have left
	// it unsynced, and the answer says that it is durable.
	for _, tag := range tags {
		if err := s.write(s.tag(name, tag), []byte(d.String()+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// complete checks that all that a manifest needs is in the repository, in the
// size it says. The subject may come later.
func (s *store) complete(name string, m *manifestFile) error {
	blobs := m.Layers
	if m.Config != nil {
		blobs = append([]descriptor{*m.Config}, blobs...)
	}
	for _, b := range blobs {
		d, err := parseDigest(b.Digest)
		if err != nil {
			return err
		}
		if err := s.present(b, s.blob(name, d)); missing(err) && !foreignLayer[b.MediaType] {
			return failed(http.StatusNotFound, codeManifestBlobUnknown, "repository %q has no blob %s, which the manifest needs", name, d)
		} else if err != nil && !missing(err) {
			return err
		}
	}
	for _, c := range m.Manifests {
		d, err := parseDigest(c.Digest)
		if err != nil {
			return err
		}
		err = s.present(c, s.manifest(name, d))
		if missing(err) {
			err = s.present(c, s.blob(name, d)) // BuildKit's cache lists layers in an index
		}
		if missing(err) {
			return failed(http.StatusNotFound, codeManifestBlobUnknown, "repository %q has no manifest %s, which the index needs", name, d)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *store) present(want descriptor, path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if fi.Size() != want.Size {
		return failed(http.StatusBadRequest, codeSizeInvalid, "got size %d for %s, which has %d bytes", want.Size, want.Digest, fi.Size())
	}
	return nil
}

// writeDerived writes what can be told from a manifest, before it. The
// descriptor saves readers from parsing the manifest, which they do where it
// is not whole; so it is not synced.
func (s *store) writeDerived(name string, d digest, m *manifestFile, size int) error {
	desc, err := json.Marshal(m.describe(d, size))
	if err != nil {
		return err
	}
	unsynced := func(*os.File) error { return nil }
	if err := s.place(s.manifest(name, d)+".json", desc, unsynced); err != nil {
		return err
	}
	if m.Subject == nil {
		return nil
	}
	subject, err := parseDigest(m.Subject.Digest)
	if err != nil {
		return err
	}
	return s.mark(s.referrer(name, subject, d))
}

// readDescriptor returns the descriptor of a manifest, or an error matching
// fs.ErrNotExist where there is no such manifest.
func (s *store) readDescriptor(name string, d digest) (descriptor, error) {
	path := s.manifest(name, d)
	if _, err := os.Lstat(path); err != nil {
		return descriptor{}, err
	}
	data, err := os.ReadFile(path + ".json")
	var desc descriptor
	if err == nil && json.Unmarshal(data, &desc) == nil && desc.Digest == d.String() {
		return desc, nil
	}
	if err != nil && !missing(err) {
		return descriptor{}, err
	}
	raw, m, err := s.readManifest(name, d)
	if err != nil {
		return descriptor{}, err
	}
	return m.describe(d, len(raw)), nil
}

func (s *store) readManifest(name string, d digest) ([]byte, *manifestFile, error) {
	raw, err := os.ReadFile(s.manifest(name, d))
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("stored manifest %s of repository %q: %w", d, name, err)
	}
	return raw, m, nil
}

// deleteManifest is DELETE /v2/NAME/manifests/REFERENCE: of a tag, the tag
// alone; of a digest, the manifest, every tag to it, and its place among the
// referrers of its subject.
func (r *Registry) deleteManifest(w http.ResponseWriter, req *request) error {
	s := r.store
	defer s.change(req.name)()
	if !strings.Contains(req.ref, ":") {
		ok := false
		var err error
		if validTag(req.ref) {
			ok, err = s.remove(s.tag(req.name, req.ref))
		}
		if err != nil {
			return err
		} else if !ok {
			return errManifestUnknown(req.name, req.ref)
		}
	} else {
		d, err := parseDigest(req.ref)
		if err != nil {
			return err
		}
		if err := s.removeManifest(req.name, d); missing(err) {
			return errManifestUnknown(req.name, req.ref)
		} else if err != nil {
			return err
		}
	}
	r.cfg.Log.Info("registry: manifest deleted", "repository", req.name, "ref", req.ref)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeManifest takes the tags first: a tag that outlived its manifest would
// come back to life with it.
func (s *store) removeManifest(name string, d digest) error {
	_, m, err := s.readManifest(name, d)
	if err != nil {
		return err
	}
	tags, err := s.list(name, "tags")
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if to, err := s.readTag(name, tag); err != nil {
			return err
		} else if to == d {
			if _, err := s.remove(s.tag(name, tag)); err != nil {
				return err
			}
		}
	}
	if _, err := s.remove(s.manifest(name, d)); err != nil {
		return err
	}
	_, err = s.remove(s.manifest(name, d) + ".json")
	if m.Subject != nil {
		if subject, perr := parseDigest(m.Subject.Digest); perr == nil {
			_, rerr := s.remove(s.referrer(name, subject, d))
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// Rebuild writes anew what is derived from the manifests: their descriptors
// and the lists of referrers. Needed only where those were lost.
func (r *Registry) Rebuild() error {
	root := r.store.path("repositories")
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.IsDir() || e.Name() != "_" {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if err := r.rebuild(filepath.ToSlash(name)); err != nil {
			return fmt.Errorf("rebuilding repository %q: %w", name, err)
		}
		return filepath.SkipDir
	})
}

func (r *Registry) rebuild(name string) error {
	s := r.store
	defer s.change(name)()
	for _, alg := range []string{"sha256", "sha512"} {
		files, err := s.list(name, "manifests", alg)
		if err != nil {
			return err
		}
		for _, f := range files {
			d, err := parseDigest(alg + ":" + f)
			if err != nil {
				continue // a descriptor
			}
			raw, m, err := s.readManifest(name, d)
			if err != nil {
				return err
			}
			if err := s.writeDerived(name, d, m, len(raw)); err != nil {
				return err
			}
		}
	}
	return nil
}
