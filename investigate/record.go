package investigate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// Record is what a registry answered, without the contents, which are evidence of their own. A
// verification with a Record and its evidence in place of the registry sees what the first one saw,
// but for the layers of the image.
type Record struct {
	Name      string                     `json:"name"`
	Layout    bool                       `json:"layout,omitempty"`    // it is no registry
	Resolved  map[string]RecordedAnswer  `json:"resolved,omitempty"`  // by tag or digest
	Manifests map[string]RecordedAnswer  `json:"manifests,omitempty"` // by digest
	Blobs     map[string]RecordedAnswer  `json:"blobs,omitempty"`     // by digest
	Referrers map[string]RecordedReferrs `json:"referrers,omitempty"` // by digest of the subject
}

// RecordedAnswer is one answer.
type RecordedAnswer struct {
	Descriptor *v1.Descriptor `json:"descriptor,omitempty"`
	MediaType  string         `json:"mediaType,omitempty"`
	Evidence   string         `json:"evidence,omitempty"` // sha256:HEX of the content
	Error      string         `json:"error,omitempty"`
	Kind       string         `json:"kind,omitempty"` // of the error: one of failures
}

// RecordedReferrs is a listing.
type RecordedReferrs struct {
	List []v1.Descriptor `json:"list"`
	RecordedAnswer
}

// failures are the errors of a registry that verification tells apart.
var failures = map[string]error{"not found": oci.ErrNotFound, "mismatch": oci.ErrMismatch, "denied": oci.ErrDenied}

func (a *RecordedAnswer) fail(err error) {
	a.Error = err.Error()
	for kind, is := range failures {
		if errors.Is(err, is) {
			a.Kind = kind
		}
	}
}

// failed is an error that was recorded.
type failed struct {
	text string
	kind error // may be nil
}

func (f failed) Error() string { return f.text }
func (f failed) Unwrap() error { return f.kind }

func (a RecordedAnswer) err() error {
	if a.Error == "" {
		return nil
	}
	return failed{a.Error, failures[a.Kind]}
}

// recorder is a source that keeps what it returns as evidence.
type recorder struct {
	oci.Source
	mu       sync.Mutex
	record   Record
	evidence *Evidence
	used     []string // digests of evidence
	full     error    // evidence did not fit
}

func newRecorder(src oci.Source, e *Evidence) *recorder {
	return &recorder{Source: src, evidence: e, record: Record{Name: src.Name(), Resolved: map[string]RecordedAnswer{}, Manifests: map[string]RecordedAnswer{}, Blobs: map[string]RecordedAnswer{}, Referrers: map[string]RecordedReferrs{}}}
}

// WithoutReferrersAPI says what a registry without the API of referrers says about that.
func (r *recorder) WithoutReferrersAPI() string {
	if w, ok := r.Source.(interface{ WithoutReferrersAPI() string }); ok {
		return w.WithoutReferrersAPI()
	}
	return ""
}

// keep adds evidence. mu is held.
func (r *recorder) keep(data []byte) string {
	digest, err := r.evidence.Add(data)
	if err != nil {
		r.full = err
		return ""
	}
	r.used = append(r.used, digest)
	return digest
}

func (r *recorder) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	d, err := r.Source.Resolve(ctx, reference)
	a := RecordedAnswer{Descriptor: &d}
	if err != nil {
		a.Descriptor = nil
		a.fail(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Resolved[reference] = a
	return d, err
}

func (r *recorder) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	raw, mediaType, err := r.Source.Manifest(ctx, digest)
	r.mu.Lock()
	defer r.mu.Unlock()
	a := RecordedAnswer{MediaType: mediaType}
	if err != nil {
		a.fail(err)
	} else {
		a.Evidence = r.keep(raw)
	}
	r.record.Manifests[digest.String()] = a
	return raw, mediaType, err
}

func (r *recorder) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	list, err := r.Source.Referrers(ctx, subject)
	a := RecordedReferrs{List: list}
	if err != nil {
		a.fail(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.Referrers[subject.String()] = a
	return list, err
}

// Blob keeps what can be a document: a layer of an image is too large to be evidence.
func (r *recorder) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Size > limits.Bundle || isLayer(d) {
		return r.Source.Blob(ctx, d)
	}
	var data []byte
	body, err := r.Source.Blob(ctx, d)
	if err == nil {
		data, err = strict.Read(body, limits.Bundle)
		err = errors.Join(err, body.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var a RecordedAnswer
	if err != nil {
		a.fail(err)
	} else {
		a.Evidence = r.keep(data)
	}
	r.record.Blobs[d.Digest.String()] = a
	return io.NopCloser(bytes.NewReader(data)), err
}

// isLayer reports whether a blob is a layer of an image, by its media type.
func isLayer(d v1.Descriptor) bool {
	return d.MediaType.IsLayer() || strings.Contains(string(d.MediaType), ".layer.") || strings.HasSuffix(string(d.MediaType), ".tar") || strings.HasSuffix(string(d.MediaType), "+gzip") || strings.HasSuffix(string(d.MediaType), "+zstd")
}

// close adds the record itself, and returns the digests of all evidence, that of the record first.
func (r *recorder) close() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full != nil {
		return nil, r.full
	}
	raw, err := json.Marshal(r.record)
	if err != nil {
		return nil, err
	}
	used := r.used
	r.used = nil
	return append([]string{r.keep(raw)}, used...), r.full
}

// replay is a source that returns what a recorder kept.
type replay struct {
	record   Record
	evidence *Evidence
}

var errNotInCase = errors.New("it is not in the case")

// newReplay reads a record.
func newReplay(raw []byte, e *Evidence) (*replay, error) {
	r := &replay{evidence: e}
	return r, strict.UnmarshalKnown(raw, MaxCase, &r.record)
}

func (r *replay) Name() string { return r.record.Name }

func (r *replay) Resolve(_ context.Context, reference string) (v1.Descriptor, error) {
	a, ok := r.record.Resolved[reference]
	if err := a.err(); err != nil {
		return v1.Descriptor{}, err
	}
	if !ok || a.Descriptor == nil {
		return v1.Descriptor{}, errNotInCase
	}
	if asked, err := v1.NewHash(reference); err == nil && asked != a.Descriptor.Digest {
		return v1.Descriptor{}, fmt.Errorf("%w: expected %s, found %s", oci.ErrMismatch, asked, a.Descriptor.Digest)
	}
	return *a.Descriptor, nil
}

// content returns evidence that has the digest of a manifest or blob.
func (r *replay) content(a RecordedAnswer, ok bool, digest v1.Hash) ([]byte, error) {
	if err := a.err(); err != nil {
		return nil, err
	}
	data := r.evidence.Get(a.Evidence)
	if !ok || data == nil {
		return nil, errNotInCase
	}
	if a.Evidence != digest.String() {
		return nil, fmt.Errorf("%w: expected %s, found %s", oci.ErrMismatch, digest, a.Evidence)
	}
	return data, nil
}

func (r *replay) Manifest(_ context.Context, digest v1.Hash) ([]byte, string, error) {
	a, ok := r.record.Manifests[digest.String()]
	raw, err := r.content(a, ok, digest)
	return raw, a.MediaType, err
}

func (r *replay) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	a, ok := r.record.Blobs[d.Digest.String()]
	data, err := r.content(a, ok, d.Digest)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size {
		return nil, fmt.Errorf("%w: expected %d bytes, found %d", oci.ErrMismatch, d.Size, len(data))
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (r *replay) Referrers(_ context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	a, ok := r.record.Referrers[subject.String()]
	if err := a.err(); err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNotInCase
	}
	return a.List, nil
}

// attachedBundle returns the Sigstore bundle in an attached manifest, or the content of a layer that
// has the digest itself.
func attachedBundle(ctx context.Context, src *replay, digest v1.Hash) ([]byte, error) {
	if a, ok := src.record.Blobs[digest.String()]; ok {
		return src.content(a, ok, digest)
	}
	raw, err := src.attachment(ctx, digest)
	if err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return nil, err
	}
	if len(m.Layers) != 1 {
		return nil, fmt.Errorf("attachment %s: expected one layer, found %d", digest, len(m.Layers))
	}
	return oci.Content(ctx, src, m.Layers[0], limits.Bundle)
}

// attachment returns an attached manifest. A registry may answer with it in the list of referrers; then nobody asked for it
// (OCI image spec, descriptor, "data").
func (r *replay) attachment(ctx context.Context, digest v1.Hash) ([]byte, error) {
	for _, a := range r.record.Referrers {
		for _, d := range a.List {
			if d.Digest == digest && len(d.Data) > 0 {
				return oci.Content(ctx, r, d, limits.Manifest)
			}
		}
	}
	raw, _, err := r.Manifest(ctx, digest)
	return raw, err
}

func parseDigest(s string) (v1.Hash, error) { return v1.NewHash(s) }
