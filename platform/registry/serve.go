package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/distribution"
)

// maxTags is the limit of tags in one answer, and maxExamined that of referrers that are read
// for one; a Link leads to the next answer.
const (
	maxTags     = 10_000
	maxExamined = 10_000
)

// serveFile answers GET and HEAD with a file of digest d, including ranges and conditional
// requests, and closes the file.
func serveFile(w http.ResponseWriter, req *request, f *os.File, mediaType string, d digest) {
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, req.Request, "", time.Time{}, f)
}

func (r *Registry) getBlob(w http.ResponseWriter, req *request) error {
	d, err := parseDigest(req.ref)
	if err != nil {
		return err
	}
	f, err := r.store.openBlob(req.Context(), req.name, d)
	if missing(err) {
		return errBlobUnknown(req.name, d)
	} else if err != nil {
		return err
	}
	// A browser must not interpret a blob, whatever it contains.
	serveFile(w, req, f, "application/octet-stream", d)
	return nil
}

// deleteBlob deletes a blob even if manifests need it: an admin uses it for content that must
// be removed.
func (r *Registry) deleteBlob(w http.ResponseWriter, req *request) error {
	d, err := parseDigest(req.ref)
	if err != nil {
		return err
	}
	if ok, err := r.store.deleteBlob(req.name, d); err != nil {
		return err
	} else if !ok {
		return errBlobUnknown(req.name, d)
	}
	r.cfg.Log.InfoContext(req.Context(), "registry: blob deleted", "repository", req.name, "digest", d)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// getManifest answers with the bytes that were pushed and their media type. It ignores Accept:
// the registry converts nothing.
func (r *Registry) getManifest(w http.ResponseWriter, req *request) error {
	var d digest
	var err error
	if strings.Contains(req.ref, ":") {
		d, err = parseDigest(req.ref)
	} else if !distribution.ValidTag(req.ref) {
		err = errManifestUnknown(req.name, req.ref)
	} else if d, err = r.store.readTag(req.name, req.ref); missing(err) {
		err = errManifestUnknown(req.name, req.ref)
	}
	if err != nil {
		return err
	}
	f, err := r.store.openIntact(req.Context(), r.store.manifest(req.name, d), d)
	if missing(err) {
		return r.manifestGone(req, d)
	} else if err != nil {
		return err
	}
	desc, err := r.store.readDescriptor(req.name, d)
	if missing(err) { // it was deleted meanwhile
		err = r.manifestGone(req, d)
	} else if err == nil {
		err = r.mayPull(w, req, d)
	}
	if err != nil {
		f.Close()
		return err
	}
	serveFile(w, req, f, desc.MediaType, d)
	return nil
}

// manifestGone returns why a manifest, or what a tag points at, was not there a moment ago.
func (r *Registry) manifestGone(req *request, d digest) error {
	if strings.Contains(req.ref, ":") {
		return errManifestUnknown(req.name, req.ref)
	}
	if dangles, err := r.store.dangles(req.name, req.ref, d); err != nil {
		return err
	} else if dangles {
		return fmt.Errorf("tag %q of repository %q points at %s, which is missing", req.ref, req.name, d)
	}
	return errManifestUnknown(req.name, req.ref)
}

// listTags serves GET /v2/NAME/tags/list?n=COUNT&last=TAG; tags are sorted by bytes.
func (r *Registry) listTags(w http.ResponseWriter, req *request) error {
	if ok, err := exists(r.store.repo(req.name)); err != nil {
		return err
	} else if !ok {
		return distribution.Failed(http.StatusNotFound, distribution.CodeNameUnknown, "there is no repository %q", req.name)
	}
	tags, err := r.store.lists.names(req.Context(), r.store.repo(req.name, "tags"))
	if err != nil {
		return err
	}
	n, err := pageSize(req, maxTags)
	if err != nil {
		return err
	}
	if last := req.URL.Query().Get("last"); last != "" {
		tags = tags[sort.Search(len(tags), func(i int) bool { return tags[i] > last }):]
	}
	if len(tags) > n {
		tags = tags[:n]
		if n > 0 {
			link(w, req, url.Values{"n": {strconv.Itoa(n)}, "last": {tags[n-1]}})
		}
	}
	if tags == nil {
		tags = []string{}
	}
	return r.answerJSON(w, req, "application/json", map[string]any{"name": req.name, "tags": tags})
}

// listReferrers serves GET /v2/NAME/referrers/DIGEST?artifactType=TYPE. An answer is an index
// of at most limits.Manifest bytes, with the manifests of bundles and the like in it; a Link leads to the next answer. For a digest without
// referrers, even an unknown one, the list is empty.
func (r *Registry) listReferrers(w http.ResponseWriter, req *request) error {
	subject, err := parseDigest(req.ref)
	if err != nil {
		return err
	}
	names, err := r.store.lists.names(req.Context(), r.store.repo(req.name, "referrers", subject.alg, subject.hex))
	if err != nil {
		return err
	}
	q := req.URL.Query()
	only, last := q.Get("artifactType"), q.Get("last")
	names = names[sort.Search(len(names), func(i int) bool { return names[i] > last }):]
	found, size, inlined := [][]byte{}, 0, 0
	next := func(last string) {
		q := url.Values{"last": {last}}
		if only != "" {
			q.Set("artifactType", only)
		}
		link(w, req, q)
	}
	for i, name := range names {
		if i == maxExamined {
			next(names[i-1])
			break
		}
		d, err := parseDigest(strings.Replace(name, "-", ":", 1))
		if err != nil {
			return fmt.Errorf("referrer file %q: its name is not a digest", filepath.Join(req.ref, name)) // not the client's fault
		}
		desc, err := r.store.readDescriptor(req.name, d)
		if missing(err) {
			continue // its push was interrupted
		} else if err != nil {
			return err
		}
		if only != "" && desc.ArtifactType != only {
			continue
		}
		data := r.store.inlined(req.name, d, desc, maxInlined-inlined)
		inlined += len(data)
		raw, err := json.Marshal(struct {
			descriptor
			Data []byte `json:"data,omitempty"`
		}{desc, data})
		if err != nil {
			return err
		}
		if size += len(raw) + 1; size > limits.Manifest-1024 && len(found) > 0 {
			next(names[i-1])
			break
		}
		found = append(found, raw)
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	body := append([]byte(`{"schemaVersion":2,"mediaType":"`+typeIndex+`","manifests":[`), bytes.Join(found, []byte{','})...)
	return r.answerBody(w, req, typeIndex, append(body, "]}"...))
}

// Limits on the manifests in one referrers list, in bytes.
const (
	maxInline  = 256 << 10 // of one
	maxInlined = 1 << 20   // of all
)

// inlined returns the manifest of a referrer for the data of its descriptor (OCI image spec,
// descriptor.md), so that verifiers need no request for it; nil if it is none of an artifact, or larger
// than room. Clients compare it with the digest.
func (s *store) inlined(name string, d digest, desc descriptor, room int) []byte {
	if desc.MediaType != typeManifest || desc.Size > min(maxInline, int64(room)) {
		return nil
	}
	raw, err := s.readIntact(name, d)
	var m struct {
		Config struct {
			MediaType string `json:"mediaType"`
		} `json:"config"`
	}
	if err != nil || strict.Unmarshal(raw, limits.Manifest, &m) != nil || m.Config.MediaType != typeEmpty {
		return nil // whoever asks for it gets the error
	}
	return raw
}

// link sets the Link header to the next part of a list (RFC 5988).
func link(w http.ResponseWriter, req *request, q url.Values) {
	u := url.URL{Path: req.URL.Path, RawQuery: q.Encode()}
	w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// shortList is the limit of an answer that a client may read as slowly as it likes, in bytes.
// Longer ones need one of few slots, so slow readers of long lists keep nobody from a short one.
const shortList = 64 << 10

// answerJSON answers with v in JSON.
func (r *Registry) answerJSON(w http.ResponseWriter, req *request, mediaType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.answerBody(w, req, mediaType, body)
}

// answerBody answers with body. The client has a minute to read it, so that it cannot keep the
// answer in our memory.
func (r *Registry) answerBody(w http.ResponseWriter, req *request, mediaType string, body []byte) error {
	if len(body) > shortList {
		release, err := acquire(req.Context(), r.listing)
		if err != nil {
			return err
		}
		defer release()
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(stall))
	defer rc.SetWriteDeadline(time.Time{})
	if _, err := w.Write(body); err != nil {
		return err
	}
	rc.Flush() // before the deadline is lifted
	return nil
}
