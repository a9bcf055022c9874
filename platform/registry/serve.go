package registry

import (
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
)

// maxTags is the most tags in one answer; a Link leads to the next.
const maxTags = 10_000

// serveFile answers GET and HEAD, ranges and conditions, by sendfile.
func serveFile(w http.ResponseWriter, req *request, path, mediaType string, d digest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, req.Request, "", time.Time{}, f)
	return nil
}

func (r *Registry) getBlob(w http.ResponseWriter, req *request) error {
	d, err := parseDigest(req.ref)
	if err != nil {
		return err
	}
	// Whatever the blob is, a browser must take it for bytes.
	err = serveFile(w, req, r.store.blob(req.name, d), "application/octet-stream", d)
	if missing(err) {
		return errBlobUnknown(req.name, d)
	}
	return err
}

// deleteBlob does not ask which manifests need the blob: an admin's deletion
// is for content that must go.
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
	r.cfg.Log.Info("registry: blob deleted", "repository", req.name, "digest", d)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// getManifest returns the bytes that were pushed, with the media type they
// were pushed with, whatever Accept says: nothing is converted here.
func (r *Registry) getManifest(w http.ResponseWriter, req *request) error {
	var d digest
	var err error
	if strings.Contains(req.ref, ":") {
		d, err = parseDigest(req.ref)
	} else if !validTag(req.ref) {
		err = errManifestUnknown(req.name, req.ref)
	} else if d, err = r.store.readTag(req.name, req.ref); missing(err) {
		err = errManifestUnknown(req.name, req.ref)
	}
	if err != nil {
		return err
	}
	desc, err := r.store.readDescriptor(req.name, d)
	if err == nil {
		err = serveFile(w, req, r.store.manifest(req.name, d), desc.MediaType, d)
	}
	if missing(err) {
		return errManifestUnknown(req.name, req.ref)
	}
	return err
}

// listTags is GET /v2/NAME/tags/list?n=COUNT&last=TAG, in the order of bytes.
func (r *Registry) listTags(w http.ResponseWriter, req *request) error {
	if ok, err := exists(r.store.repo(req.name)); err != nil {
		return err
	} else if !ok {
		return failed(http.StatusNotFound, codeNameUnknown, "there is no repository %q", req.name)
	}
	tags, err := r.store.list(req.name, "tags")
	if err != nil {
		return err
	}
	q := req.URL.Query()
	n := maxTags
	if q.Has("n") {
		got, err := strconv.ParseUint(q.Get("n"), 10, 31)
		if err != nil {
			return failed(http.StatusBadRequest, codeUnsupported, "got n=%q, want a number", q.Get("n"))
		}
		n = min(int(got), maxTags)
	}
	if last := q.Get("last"); last != "" {
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
	return answerJSON(w, "application/json", map[string]any{"name": req.name, "tags": tags})
}

// listReferrers is GET /v2/NAME/referrers/DIGEST?artifactType=TYPE. An answer
// is an index of at most limits.Manifest bytes; a Link leads to the next. What
// has no referrers, known or not, has an empty list.
func (r *Registry) listReferrers(w http.ResponseWriter, req *request) error {
	subject, err := parseDigest(req.ref)
	if err != nil {
		return err
	}
	release, err := acquire(req.Context(), r.listing)
	if err != nil {
		return err
	}
	defer release()
	names, err := r.store.list(req.name, "referrers", subject.alg, subject.hex)
	if err != nil {
		return err
	}
	q := req.URL.Query()
	only, last := q.Get("artifactType"), q.Get("last")
	found, size := []json.RawMessage{}, 0
	for i, name := range names {
		if name <= last {
			continue
		}
		d, err := parseDigest(strings.Replace(name, "-", ":", 1))
		if err != nil {
			return fmt.Errorf("referrer file %q: %w", filepath.Join(req.ref, name), err)
		}
		desc, err := r.store.readDescriptor(req.name, d)
		if missing(err) {
			continue // its push did not come to the end
		} else if err != nil {
			return err
		}
		if only != "" && desc.ArtifactType != only {
			continue
		}
		raw, err := json.Marshal(desc)
		if err != nil {
			return err
		}
		if size += len(raw) + 1; size > limits.Manifest-1024 && len(found) > 0 {
			next := url.Values{"last": {names[i-1]}}
			if only != "" {
				next.Set("artifactType", only)
			}
			link(w, req, next)
			break
		}
		found = append(found, raw)
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return answerJSON(w, typeIndex, struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Manifests     []json.RawMessage `json:"manifests"`
	}{2, typeIndex, found})
}

// link says where the list goes on (RFC 5988).
func link(w http.ResponseWriter, req *request, q url.Values) {
	u := url.URL{Path: req.URL.Path, RawQuery: q.Encode()}
	w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// answerJSON gives a client a minute to take the answer, so that it cannot
// keep it in our memory.
func answerJSON(w http.ResponseWriter, mediaType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(stall))
	defer rc.SetWriteDeadline(time.Time{})
	if _, err := w.Write(body); err != nil {
		return err
	}
	rc.Flush() // within the deadline, and not after this function
	return nil
}
