package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/distribution"
)

// The media types of manifests that the registry accepts. It refuses all others, because it
// cannot check them.
const (
	typeManifest       = "application/vnd.oci.image.manifest.v1+json"
	typeIndex          = "application/vnd.oci.image.index.v1+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// typeEmpty is the media type of the configuration of artifacts that have none.
const typeEmpty = "application/vnd.oci.empty.v1+json"

// foreignLayer has the media types of layers that may be missing in the registry, because
// their licence forbids pushing them.
var foreignLayer = map[string]bool{
	"application/vnd.oci.image.layer.nondistributable.v1.tar":      true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
}

// A descriptor has the members of an OCI descriptor that the registry needs and that
// referrers lists show.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// manifestFile has the members that the registry reads from the four kinds of manifests.
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

// parseManifest parses a manifest that all readers must understand in the same way. The bytes
// alone determine its kind, so a wrong Content-Type cannot turn an image into an index
// (CVE-2021-41190).
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
			return nil, fmt.Errorf("%s must have manifests, but no config and no layers", m.MediaType)
		}
	case typeManifest, typeDockerManifest:
		if m.Config == nil || !has("layers") || has("manifests") {
			return nil, fmt.Errorf("%s must have config and layers, but no manifests", m.MediaType)
		}
	default:
		return nil, fmt.Errorf("mediaType %q is not a type of manifest that this registry accepts", m.MediaType)
	}
	if n := len(m.Layers); n > limits.Layers {
		return nil, fmt.Errorf("got %d layers, want at most %d", n, limits.Layers)
	}
	if n := len(m.Manifests); n > limits.IndexManifests {
		return nil, fmt.Errorf("got %d manifests, want at most %d", n, limits.IndexManifests)
	}
	if m.Subject != nil {
		if _, err := parseDigest(m.Subject.Digest); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
	}
	return &m, nil
}

// describe returns the descriptor of the manifest as a referrers list shows it.
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

// putManifest serves PUT /v2/NAME/manifests/REFERENCE. A push by digest sets the tags in
// ?tag=….
func (r *Registry) putManifest(w http.ResponseWriter, req *request) error {
	d, tags, err := putReference(req)
	if err != nil {
		return err
	}
	release, err := acquire(req.Context(), req.account.pushing)
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
			return distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "got a manifest of digest %s, want %s", got, d)
		}
	}
	m, err := parseManifest(raw)
	if err != nil {
		return distribution.Failed(http.StatusBadRequest, distribution.CodeManifestInvalid, "manifest %s: %v", got, err)
	}
	if ct := req.Header.Get("Content-Type"); ct != "" {
		if base, _, err := mime.ParseMediaType(ct); err != nil || base != m.MediaType {
			return distribution.Failed(http.StatusBadRequest, distribution.CodeManifestInvalid, "got Content-Type %q for a manifest of type %q", ct, m.MediaType)
		}
	}
	if err := r.checkIntact(req.Context(), req.name, m); err != nil {
		return err
	}
	if err := r.archive(req.Context(), req.name, raw, m); err != nil {
		return err
	}
	if err := r.mayTag(w, req, got, tags, raw, m); err != nil {
		return err
	}
	if err := r.storeManifest(req.name, got, tags, raw, m); err != nil {
		return err
	}
	r.cfg.Log.InfoContext(req.Context(), "registry: manifest pushed", "repository", req.name, "digest", got, "tags", tags)
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

// maxPutTags is the limit of tags in one push; the spec requires at least ten.
const maxPutTags = 32

// putReference returns the digest in the path of a push, zero if the push is by tag, and the
// tags that the push sets.
func putReference(req *request) (d digest, tags []string, err error) {
	tags = req.URL.Query()["tag"]
	if strings.Contains(req.ref, ":") {
		if d, err = parseDigest(req.ref); err != nil {
			return d, nil, err
		}
	} else if len(tags) > 0 {
		return d, nil, distribution.Failed(http.StatusBadRequest, distribution.CodeUnsupported, "tag parameters are for a push by digest; this push is by tag %q", req.ref)
	} else {
		tags = []string{req.ref}
	}
	if len(tags) > maxPutTags {
		return d, nil, distribution.Failed(http.StatusRequestURITooLong, distribution.CodeUnsupported, "got %d tags in one push, want at most %d", len(tags), maxPutTags)
	}
	for _, tag := range tags {
		if !distribution.ValidTag(tag) {
			return d, nil, distribution.Failed(http.StatusBadRequest, distribution.CodeManifestInvalid, "tag %q does not match the grammar of the distribution spec", tag)
		}
	}
	return d, tags, nil
}

func readManifest(w http.ResponseWriter, req *request) ([]byte, error) {
	tooBig := distribution.Failed(http.StatusRequestEntityTooLarge, distribution.CodeSizeInvalid, "the manifest has more than %d bytes, the limit of this registry", limits.Manifest)
	if req.ContentLength > limits.Manifest {
		return nil, tooBig
	}
	// The request holds one of few slots of its account, so a slow client must be cut off.
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(stall))
	defer rc.SetReadDeadline(time.Time{})
	raw, err := io.ReadAll(io.LimitReader(req.Body, limits.Manifest+1))
	if err != nil {
		return nil, distribution.Failed(http.StatusBadRequest, distribution.CodeManifestInvalid, "the body ended after %d bytes: %v", len(raw), err)
	}
	if len(raw) > limits.Manifest {
		return nil, tooBig
	}
	return raw, nil
}

// checkIntact compares everything that a manifest lists with its digests. It leaves what is
// missing to checkContent, and runs without the repository's lock because it may have to hash
// large blobs.
func (r *Registry) checkIntact(ctx context.Context, name string, m *manifestFile) error {
	listed := slices.Concat(m.Layers, m.Manifests)
	if m.Config != nil {
		listed = append(listed, *m.Config)
	}
	for _, l := range listed {
		d, err := parseDigest(l.Digest)
		if err != nil {
			return err
		}
		f, err := r.store.openIntact(ctx, r.store.manifest(name, d), d)
		if missing(err) {
			f, err = r.store.openBlob(ctx, name, d)
		}
		switch {
		case missing(err):
		case damaged(err):
			r.alarm(err, name)
			return distribution.Failed(http.StatusNotFound, distribution.CodeManifestBlobUnknown, "%s in repository %q, which the manifest lists, is damaged on the registry's disk; push it again first", d, name)
		case err != nil:
			return err
		default:
			f.Close()
		}
	}
	return nil
}

// archive has the archive keep the evidence that a manifest attaches. It comes before the
// manifest is stored: what a client sees in the registry is archived.
func (r *Registry) archive(ctx context.Context, name string, raw []byte, m *manifestFile) error {
	if r.cfg.Archive == nil {
		return nil
	}
	if err := r.store.checkContent(name, m); err != nil {
		return err
	}
	return r.cfg.Archive(ctx, raw, func(listed string) (io.ReadCloser, error) {
		f, d, err := r.openListed(ctx, name, listed)
		if missing(err) {
			return nil, distribution.Failed(http.StatusNotFound, distribution.CodeManifestBlobUnknown, "repository %q has no blob %s, which the manifest lists; push it first", name, d)
		} else if err != nil {
			return nil, err
		}
		return f, nil
	})
}

// openListed opens a blob that a manifest lists.
func (r *Registry) openListed(ctx context.Context, name, listed string) (*os.File, digest, error) {
	d, err := parseDigest(listed)
	if err != nil {
		return nil, d, err
	}
	f, err := r.store.openBlob(ctx, name, d)
	return f, d, err
}

// storeManifest writes a manifest and its tags durably. It makes all checks before it writes
// anything, except checkIntact.
func (r *Registry) storeManifest(name string, d digest, tags []string, raw []byte, m *manifestFile) error {
	s := r.store
	defer s.lockRepo(name)()
	if err := s.checkContent(name, m); err != nil {
		return err
	}
	if err := r.checkTags(name, d, tags, m); err != nil {
		return err
	}
	if err := s.writeDerived(name, d, m, len(raw)); err != nil {
		return err
	}
	if err := s.write(s.manifest(name, d), raw); err != nil {
		return err
	}
	// Write tags that exist already too: a killed process may have left them unsynced, and
	// the answer promises that they are durable.
	for _, tag := range tags {
		if err := s.write(s.tag(name, tag), []byte(d.String()+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// checkTags fails if one of the tags points at another manifest and may not move.
func (r *Registry) checkTags(name string, d digest, tags []string, m *manifestFile) error {
	for _, tag := range tags {
		have, err := r.store.readTag(name, tag)
		if err != nil && !missing(err) {
			return err
		}
		if err == nil && have != d && !r.mutable(name, tag, m.MediaType) {
			return &distribution.Failure{
				Status: http.StatusConflict, Code: distribution.CodeDenied,
				Message: fmt.Sprintf("tag %q of repository %q is immutable: it points at %s and cannot move to %s", tag, name, have, d),
				Detail:  map[string]string{"tag": tag, "repository": name, "have": have.String(), "want": d.String()},
			}
		}
	}
	return nil
}

// checkContent checks that the repository has everything that a manifest lists, with the
// size in its descriptor. The subject may be pushed later.
func (s *store) checkContent(name string, m *manifestFile) error {
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
			return distribution.Failed(http.StatusNotFound, distribution.CodeManifestBlobUnknown, "repository %q has no blob %s, which the manifest lists; push it first", name, d)
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
			return distribution.Failed(http.StatusNotFound, distribution.CodeManifestBlobUnknown, "repository %q has no manifest %s, which the index lists; push it first", name, d)
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
		return distribution.Failed(http.StatusBadRequest, distribution.CodeSizeInvalid, "size of %s: got %d in the descriptor, want %d", want.Digest, want.Size, fi.Size())
	}
	return nil
}

// writeDerived writes the files derived from a manifest: its descriptor and its place among
// the referrers of its subject. Call it before writing the manifest. The descriptor saves
// readers from parsing the manifest. It is not synced: if it is missing or broken, readers
// parse the manifest.
func (s *store) writeDerived(name string, d digest, m *manifestFile, size int) error {
	desc, err := m.encode(d, size)
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

// encode returns the content of the file with the manifest's descriptor.
func (m *manifestFile) encode(d digest, size int) ([]byte, error) {
	desc, err := json.Marshal(m.describe(d, size))
	return sealed(desc), err
}

// sealed appends a line with the SHA-256 of data, which has no line breaks.
func sealed(data []byte) []byte { return fmt.Appendf(slices.Clip(data), "\n%x\n", sha256.Sum256(data)) }

// readDescriptor returns the descriptor of a manifest. If there is no such manifest, the error
// matches fs.ErrNotExist.
func (s *store) readDescriptor(name string, d digest) (descriptor, error) {
	path := s.manifest(name, d)
	if _, err := os.Lstat(path); err != nil {
		return descriptor{}, err
	}
	data, err := os.ReadFile(path + ".json")
	if err != nil && !missing(err) {
		return descriptor{}, err
	}
	var desc descriptor
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if bytes.Equal(data, sealed(line)) && json.Unmarshal(line, &desc) == nil && desc.Digest == d.String() {
		return desc, nil
	}
	raw, m, err := s.readManifest(name, d)
	if err != nil {
		return descriptor{}, err
	}
	return m.describe(d, len(raw)), nil
}

// readIntact reads a manifest, and compares it with its digest.
func (s *store) readIntact(name string, d digest) ([]byte, error) {
	path := s.manifest(name, d)
	raw, err := strict.ReadFile(path, limits.Manifest)
	if err != nil {
		return nil, err
	}
	h := d.newHash()
	h.Write(raw)
	if got := hex.EncodeToString(h.Sum(nil)); got != d.hex {
		return nil, &damagedError{path, d, d.alg + ":" + got}
	}
	return raw, nil
}

func (s *store) readManifest(name string, d digest) ([]byte, *manifestFile, error) {
	raw, err := s.readIntact(name, d)
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("stored manifest %s of repository %q: %w", d, name, err)
	}
	return raw, m, nil
}

// deleteManifest serves DELETE /v2/NAME/manifests/REFERENCE. For a tag it deletes only the
// tag. For a digest it deletes the manifest, all tags that point at it, and its place among
// the referrers of its subject.
func (r *Registry) deleteManifest(w http.ResponseWriter, req *request) error {
	s := r.store
	defer s.lockRepo(req.name)()
	if !strings.Contains(req.ref, ":") {
		ok := false
		var err error
		if distribution.ValidTag(req.ref) {
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
		if err := s.removeManifest(req.Context(), req.name, d); missing(err) {
			return errManifestUnknown(req.name, req.ref)
		} else if err != nil {
			return err
		}
	}
	r.cfg.Log.InfoContext(req.Context(), "registry: manifest deleted", "repository", req.name, "ref", req.ref)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// removeManifest removes a manifest, but first the tags that point at it: if a tag outlived
// its manifest, pushing the manifest again would restore the tag. Of a damaged manifest the
// subject is unknown, so its place among the referrers stays; lists leave it out.
func (s *store) removeManifest(ctx context.Context, name string, d digest) error {
	_, m, err := s.readManifest(name, d)
	if damaged(err) {
		m = &manifestFile{}
	} else if err != nil {
		return err
	}
	tags, err := s.lists.names(ctx, s.repo(name, "tags"))
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
