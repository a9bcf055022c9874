package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
)

// smallBlob is the size, in bytes, up to which a blob is sent without asking first whether
// the registry has it.
const smallBlob = 64 << 10

// PushBlob implements Target.
func (r *Registry) PushBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.pushBlob(ctx, d, "", open)
}

// pushBlob is PushBlob. If from is not "", it is a repository of the same registry that has
// the blob, and the registry may take the blob from there.
func (r *Registry) pushBlob(ctx context.Context, d v1.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	if d.Size < 0 || d.Size > limits.LayerPacked {
		return refuse("size of blob %s: got %d bytes, want at most %d", d.Digest, d.Size, int64(limits.LayerPacked))
	}
	atOnce := from == "" && d.Size <= smallBlob && !r.inParts.Load()
	if !atOnce || d.Digest == digestOf(emptyConfig) { // it is part of most attachments: the registry has it, as a rule
		_, err := r.small(ctx, http.MethodHead, r.url("blobs", d.Digest.String()), nil, nil, 0, http.StatusOK)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if atOnce {
		if err := r.pushAtOnce(ctx, d, open); !errors.Is(err, errInParts) {
			return pushingBlob(d, r, err)
		}
	}
	err := again.Do(ctx, func() error { return r.upload(ctx, d, from, open) })
	return pushingBlob(d, r, err)
}

// pushingBlob says which push failed.
func pushingBlob(d v1.Descriptor, r *Registry, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pushing blob %s to %s: %w", d.Digest, r.name, err)
}

// errInParts means that the registry wants uploads to be started, and then sent.
var errInParts = errors.New("the registry takes no blob in one request")

// pushAtOnce uploads a small blob in one request (distribution spec 1.1, "Single POST"). Registries
// need not support that: they start an upload then, which pushAtOnce goes on with, or refuse.
func (r *Registry) pushAtOnce(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	var content []byte
	err := again.Do(ctx, func() error {
		checked, err := openVerifying(open, d)
		if err != nil {
			return err
		}
		defer checked.Close()
		content, err = io.ReadAll(checked)
		return err
	})
	if err != nil {
		return err
	}
	to := r.uploads(url.Values{"digest": {d.Digest.String()}})
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	started := false
	err = again.Do(ctx, func() error {
		a, err := r.once(ctx, http.MethodPost, to, header, content, maxErrorBody, []int{http.StatusCreated, http.StatusAccepted})
		if err != nil || a.status == http.StatusCreated {
			return err
		}
		started = true
		r.inParts.Store(true)
		return r.goOn(ctx, a, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	})
	if !started && hasStatus(err, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusLengthRequired, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusNotImplemented) {
		r.inParts.Store(true)
		return errInParts
	}
	return err
}

// uploads returns the URL that starts an upload.
func (r *Registry) uploads(query url.Values) *url.URL {
	u := r.url("blobs", "uploads")
	u.Path += "/"
	u.RawQuery = query.Encode()
	return u
}

func (r *Registry) upload(ctx context.Context, d v1.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	start := r.uploads(nil)
	good := []int{http.StatusAccepted}
	if from != "" {
		start = r.uploads(url.Values{"mount": {d.Digest.String()}, "from": {from}})
		good = append(good, http.StatusCreated)
	}
	a, err := r.once(ctx, http.MethodPost, start, nil, nil, maxErrorBody, good)
	if err != nil || a.status == http.StatusCreated {
		return err
	}
	return r.goOn(ctx, a, d, open)
}

// goOn sends a blob to where the answer to the start of its upload says.
func (r *Registry) goOn(ctx context.Context, a *answer, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	location, err := a.url.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		return fmt.Errorf("location of the upload: got %q, want a URL", a.spoken.said(a.header.Get("Location")))
	}
	query := location.Query()
	query.Set("digest", d.Digest.String())
	location.RawQuery = query.Encode()
	return r.putBlob(ctx, location, d, open)
}

func (r *Registry) putBlob(ctx context.Context, location *url.URL, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body := func() (io.ReadCloser, error) {
		// Checked while sending, so that a source that changed does not look like
		// a fault of the registry.
		checked, err := openVerifying(open, d)
		if err != nil {
			return nil, err
		}
		return guardSending(checked, cancel), nil
	}
	first, err := body()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, location.String(), first)
	if err != nil {
		first.Close()
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.ContentLength, req.GetBody = d.Size, body
	if d.Size == 0 {
		first.Close()
		req.Body = http.NoBody
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return r.unreached(err)
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated {
		return r.statusError(resp)
	}
	return nil
}

// PushManifest implements Target.
func (r *Registry) PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: digestOf(raw), Size: int64(len(raw))}
	c, err := parseContent(raw, d.MediaType)
	if err != nil {
		return d, err
	}
	a, err := r.putManifest(ctx, d.Digest.String(), raw, mediaType)
	if err != nil {
		return d, fmt.Errorf("pushing manifest %s to %s: %w", d.Digest, r.name, err)
	}
	r.remember(d.Digest, raw, mediaType)
	if c.Subject == nil || a.header.Get("OCI-Subject") == c.Subject.Digest.String() {
		return d, nil
	}
	// The registry did not confirm that its referrers API lists this manifest.
	if _, err := r.listReferrers(ctx, c.Subject.Digest); noAPI(err) == nil || !noAPI(err).sure {
		return d, err
	}
	entry := d
	entry.ArtifactType, entry.Annotations = c.kind(), c.Annotations
	if err := r.attachByTag(ctx, c.Subject.Digest, entry); err != nil {
		return d, fmt.Errorf("attaching %s to %s in %s: %w", d.Digest, c.Subject.Digest, r.name, err)
	}
	return d, nil
}

func (r *Registry) putManifest(ctx context.Context, reference string, raw []byte, mediaType string) (*answer, error) {
	header := http.Header{"Content-Type": {mediaType}}
	return r.small(ctx, http.MethodPut, r.url("manifests", reference), header, raw, maxErrorBody, http.StatusCreated, http.StatusOK)
}

// Tag implements Target. The registry decides whether a tag may move.
func (r *Registry) Tag(ctx context.Context, tag string, d v1.Descriptor) error {
	if !tagGrammar.MatchString(tag) {
		return fmt.Errorf("tag %q is not a tag", tag)
	}
	raw, mediaType, err := r.Manifest(ctx, d.Digest)
	if err != nil {
		return fmt.Errorf("tag %s of %s: %w", tag, r.name, err)
	}
	return r.tag(ctx, tag, d, raw, mediaType)
}

// tag stores the manifest d, which has no subject or is there already, under a tag.
func (r *Registry) tag(ctx context.Context, tag string, d v1.Descriptor, raw []byte, mediaType string) error {
	if !tagGrammar.MatchString(tag) {
		return fmt.Errorf("tag %q is not a tag", tag)
	}
	a, refusal := r.putManifest(ctx, tag, raw, mediaType)
	if refusal == nil {
		if claim := a.header.Get("Docker-Content-Digest"); strings.HasPrefix(claim, "sha256:") && claim != digestOf(raw).String() {
			return refuse("tag %s of %s: the registry says %s, want %s", tag, r.name, a.spoken.said(claim), digestOf(raw))
		}
		return nil
	}
	// Registries refuse to move a tag in many ways; what the tag names now shows
	// whether this was one.
	if !hasStatus(refusal, http.StatusConflict, http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusPreconditionFailed) {
		return fmt.Errorf("tag %s of %s: %w", tag, r.name, refusal)
	}
	now, err := r.Resolve(ctx, tag)
	switch {
	case err != nil:
		return fmt.Errorf("tag %s of %s: %w", tag, r.name, refusal)
	case now.Digest == d.Digest:
		return nil
	}
	return fmt.Errorf("tag %s of %s: got %s, want %s: %w", tag, r.name, now.Digest, d.Digest, ErrTagExists)
}
