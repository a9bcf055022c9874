package gateway

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// refName is the annotation that names an image in the index of an OCI layout. In a
// mirror it is the full name with registry and tag: docker.io/library/golang:1.26.
const refName = "org.opencontainers.image.ref.name"

// Mirror serves pulls of the named images in an OCI layout.
type Mirror struct {
	dir   string
	tags  map[string]v1.Descriptor // by full name
	types map[string]string        // media type of each manifest, by digest
}

// OpenMirror reads the index of the OCI layout dir. The operator made the layout; it is
// trusted no more than a registry, and its blobs are checked by digest. Errors do not
// name the option that dir came from; the caller adds it.
func OpenMirror(dir string) (*Mirror, error) {
	raw, err := strict.ReadFile(filepath.Join(dir, "index.json"), limits.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%w (create the mirror with: make base-images)", err)
	}
	var index v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return nil, fmt.Errorf("layout %s: index.json: %w", dir, err)
	}
	m := &Mirror{dir: dir, tags: map[string]v1.Descriptor{}, types: map[string]string{}}
	for _, d := range index.Manifests {
		m.types[d.Digest.String()] = string(d.MediaType)
		if name := d.Annotations[refName]; name != "" {
			if old, ok := m.tags[name]; ok && old.Digest != d.Digest {
				return nil, fmt.Errorf("layout %s names %s twice: %s and %s", dir, name, old.Digest, d.Digest)
			}
			m.tags[name] = d
		}
	}
	return m, nil
}

// Registries returns the registries whose images the mirror has.
func (m *Mirror) Registries() []string {
	seen := map[string]bool{}
	var out []string
	for name := range m.tags {
		if host, _, ok := strings.Cut(name, "/"); ok && !seen[host] {
			seen[host] = true
			out = append(out, host)
		}
	}
	return out
}

// pull matches the path of a pull: /v2/NAME/(manifests|blobs)/REF.
var pull = lazyregexp.New(`^/v2/([a-z0-9][a-z0-9._/-]{0,254})/(manifests|blobs)/([A-Za-z0-9_][A-Za-z0-9._:-]{0,127})$`)

// digest matches the digests that a mirror supports.
var digest = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

// ServeHTTP answers pulls. The query parameter ns names the image's registry;
// containerd and BuildKit send it to their mirrors.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp := m.answer(r)
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	w.WriteHeader(resp.StatusCode)
	if r.Method != http.MethodHead {
		io.Copy(w, resp.Body)
	}
}

// answer returns the answer to a pull. It ignores Range, as RFC 9110, section 14.2,
// allows, and answers with the whole blob.
func (m *Mirror) answer(r *http.Request) *http.Response {
	no := func(status int) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody}
	}
	switch {
	case m == nil:
		return no(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return no(http.StatusMethodNotAllowed)
	case r.URL.Path == "/v2/":
		return no(http.StatusOK)
	}
	p := pull.FindStringSubmatch(r.URL.Path)
	if p == nil || strings.Contains(p[1], "..") {
		return no(http.StatusNotFound)
	}
	name, kind, ref := p[1], p[2], p[3]
	if !digest.MatchString(ref) {
		d, ok := m.tags[r.URL.Query().Get("ns")+"/"+name+":"+ref]
		if !ok || kind != "manifests" {
			return no(http.StatusNotFound)
		}
		ref = d.Digest.String()
	}
	f, err := os.Open(m.path(strings.TrimPrefix(ref, "sha256:")))
	if errors.Is(err, os.ErrNotExist) {
		return no(http.StatusNotFound)
	} else if err != nil {
		return no(http.StatusInternalServerError)
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: f}
	resp.Header.Set("Docker-Content-Digest", ref)
	resp.Header.Set("Content-Type", "application/octet-stream")
	if kind == "manifests" {
		mt, err := m.mediaType(ref, f)
		if err != nil {
			f.Close()
			return no(http.StatusNotFound)
		}
		resp.Header.Set("Content-Type", mt)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return no(http.StatusInternalServerError)
	}
	resp.ContentLength = info.Size()
	return resp
}

// blob opens the blob with the given hex sha256 and size, and checks both.
func (m *Mirror) blob(sum string, size int64) (io.ReadCloser, error) {
	if m == nil {
		return nil, os.ErrNotExist
	}
	return openVerified(m.path(sum), sum, size, nil)
}

func (m *Mirror) path(sum string) string { return filepath.Join(m.dir, "blobs", "sha256", sum) }

// mediaType returns a manifest's media type: from the layout's index, or else from the
// manifest itself.
func (m *Mirror) mediaType(ref string, f *os.File) (string, error) {
	if mt := m.types[ref]; mt != "" {
		return mt, nil
	}
	raw, err := strict.Read(f, limits.Manifest)
	if err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &head); err != nil {
		return "", err
	}
	if head.MediaType == "" {
		return "", fmt.Errorf("%s is not a manifest: it has no mediaType", ref)
	}
	return head.MediaType, nil
}
