package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

// noAPIError means that the registry did not answer as one with the referrers API does
// (distribution spec 1.1, "Listing Referrers").
type noAPIError struct {
	answer string
	sure   bool // the registry said so; otherwise a login page or a proxy may have answered
}

func (e *noAPIError) Is(target error) bool { return target == ErrFailing && !e.sure }

func (e *noAPIError) Error() string { return "the registry has no referrers API: " + e.answer }

// noAPI returns the noAPIError in err, or nil if there is none.
func noAPI(err error) *noAPIError {
	e, _ := errors.AsType[*noAPIError](err)
	return e
}

// withoutAPI are the statuses of registries without the API. The spec says 404; others
// refuse the path, the method or the media type. A registry that denies access or fails
// (401, 403, 500) may have the API.
var withoutAPI = []int{http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented}

// errNoListing means that the fallback tag names something else than a list of
// referrers. GitLab gives the image itself this tag.
var errNoListing = errors.New("not an index of referrers")

// Referrers implements Source. It asks the referrers API or, if the registry has none,
// the fallback tag. If there is no list under that tag either, there are no referrers,
// provided that the registry itself said that it has no API. Any other failure is an error.
func (r *Registry) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	list, err := r.listReferrers(ctx, subject)
	if missing := noAPI(err); missing != nil {
		r.mu.Lock()
		r.noAPI = missing.Error()
		r.mu.Unlock()
		tagged, tagErr := r.fallbackList(ctx, subject)
		none := tagErr == nil && tagged == nil || errors.Is(tagErr, errNoListing)
		switch {
		case none && missing.sure:
			return nil, nil
		case !none:
			list, err = tagged, tagErr
		}
	}
	if err != nil {
		return nil, fmt.Errorf("referrers of %s in %s: %w", subject, r.name, err)
	}
	return list, nil
}

// WithoutReferrersAPI says, for people, how the registry answered when it was asked for
// referrers, if that was not the answer of a registry with the referrers API. It
// returns "" if the registry has the API, or was not asked.
func (r *Registry) WithoutReferrersAPI() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.noAPI
}

func (r *Registry) listReferrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	var list referrerList
	next := r.url("referrers", subject.String())
	for next != nil {
		a, entries, err := r.referrersPage(ctx, next)
		if missing := noAPI(err); missing != nil && list.pages > 0 {
			return nil, fmt.Errorf("page %d of the list of referrers: %s", list.pages+1, missing.answer)
		}
		if err != nil {
			return nil, err
		}
		if err := list.page(entries, len(a.body)); err != nil {
			return nil, err
		}
		if next, err = nextPage(a); err != nil {
			return nil, err
		}
	}
	return list.entries, nil
}

// referrersPage fetches one page of the list. A page of HTML, or JSON of another kind,
// is no answer of the referrers API, and so is a redirect that is not followed.
func (r *Registry) referrersPage(ctx context.Context, u *url.URL) (*answer, []v1.Descriptor, error) {
	header := http.Header{"Accept": {string(types.OCIImageIndex)}}
	a, err := r.small(ctx, http.MethodGet, u, header, nil, limits.Manifest, http.StatusOK)
	_, redirected := errors.AsType[*redirectError](err)
	if said, answered := errors.AsType[*statusError](err); answered && said.status < 400 || redirected {
		return nil, nil, &noAPIError{answer: err.Error()}
	}
	if hasStatus(err, withoutAPI...) {
		return nil, nil, &noAPIError{err.Error(), true}
	}
	if err != nil {
		return nil, nil, err
	}
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	ours := mediaType == string(types.OCIImageIndex)
	var page referrersDocument[v1.Descriptor]
	err = strict.Unmarshal(a.body, limits.Manifest, &page)
	listing := err == nil && page.is(ours)
	if err != nil { // is it a list whose entries are wrong, or something else?
		var any referrersDocument[json.RawMessage]
		if strict.Unmarshal(a.body, limits.Manifest, &any) == nil {
			listing = any.is(ours)
		} else {
			listing = ours
		}
	}
	switch {
	case !listing:
		return nil, nil, &noAPIError{answer: fmt.Sprintf("GET %s: got %s, want a list of type %s", shown(a.url), a.spoken.said(mediaType), types.OCIImageIndex)}
	case err != nil:
		return nil, nil, fmt.Errorf("list of referrers: %w", err)
	}
	return a, page.Manifests, nil
}

// referrersDocument is one page of the list.
type referrersDocument[Entry any] struct {
	SchemaVersion int64           `json:"schemaVersion"`
	MediaType     types.MediaType `json:"mediaType"`
	Manifests     []Entry         `json:"manifests"`
}

// is reports whether the document is a list of referrers. ours says that the registry calls it one.
func (d *referrersDocument[_]) is(ours bool) bool {
	index := d.SchemaVersion == 2 && (d.MediaType == "" || d.MediaType == types.OCIImageIndex)
	return ours && (index || len(d.Manifests) > 0) ||
		index && len(d.Manifests) > 0 // entries speak for themselves; an empty list of another type does not
}

// maxListed limits the pages of a listing of which more than the digests is kept, in bytes: a hostile
// registry may send 4096 pages of 4 MiB.
const maxListed = 16 << 20

// referrerList collects the pages of a listing, each entry once.
type referrerList struct {
	entries []v1.Descriptor
	pages   int
	bytes   int // of the pages
	seen    map[v1.Hash]bool
}

func (l *referrerList) add(page []byte) error {
	var index struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := strict.Unmarshal(page, limits.Manifest, &index); err != nil {
		return fmt.Errorf("list of referrers: %w", err)
	}
	return l.page(index.Manifests, len(page))
}

// page adds the entries of a page that has so many bytes.
func (l *referrerList) page(entries []v1.Descriptor, bytes int) error {
	if l.seen == nil {
		l.seen = map[v1.Hash]bool{}
	}
	l.bytes += bytes
	for _, d := range entries {
		if d.Digest.Hex == "" {
			return errors.New("list of referrers has an entry without digest")
		}
		if l.bytes > maxListed {
			d = v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest}
		}
		if !l.seen[d.Digest] {
			l.seen[d.Digest] = true
			l.entries = append(l.entries, d)
		}
	}
	// A list that is cut off would let people who may attach something hide the rest.
	if l.pages++; len(l.entries) > limits.Referrers || l.pages > limits.Referrers {
		return fmt.Errorf("more than %d referrers", limits.Referrers)
	}
	return nil
}

// linkNext is the only form of RFC 8288 that the distribution spec uses:
// <URI>; rel="next".
var linkNext = lazyregexp.New(`^\s*<([^<>]+)>\s*;\s*rel="?next"?\s*$`)

func nextPage(a *answer) (*url.URL, error) {
	link := a.header.Get("Link")
	if link == "" {
		return nil, nil
	}
	m := linkNext.FindStringSubmatch(link)
	if m == nil {
		return nil, fmt.Errorf("link %s: want <URI>; rel=\"next\"", a.spoken.said(link))
	}
	u, err := a.url.Parse(m[1])
	if err != nil {
		return nil, err
	}
	if u.Host != a.url.Host || u.Scheme != a.url.Scheme {
		return nil, fmt.Errorf("next page of referrers is at %s://%s, want %s://%s", u.Scheme, u.Host, a.url.Scheme, a.url.Host)
	}
	return u, nil
}

// fallbackList returns the entries of the index under the fallback tag, nil if there is
// no such tag, and errNoListing if it names something else.
func (r *Registry) fallbackList(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	raw, mediaType, err := r.fetchManifest(ctx, fallbackTag(subject))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !types.MediaType(mediaType).IsIndex() {
		return nil, &refusal{fmt.Errorf("tag %s is a %s: %w", fallbackTag(subject), mediaType, errNoListing)}
	}
	list := referrerList{entries: []v1.Descriptor{}}
	if err := list.add(raw); err != nil {
		return nil, err
	}
	return list.entries, nil
}

const (
	settleFloor  = 250 * time.Millisecond
	attachWithin = 60 * time.Second
)

// attachByTag adds entry to the index under the fallback tag. Registries have no
// compare-and-swap for tags: an entry that is written between another client's read
// and write is lost. So each writer keeps reading, and writes what is missing again,
// until the index had every entry that it ever saw for longer than such a gap lasts.
func (r *Registry) attachByTag(ctx context.Context, subject v1.Hash, entry v1.Descriptor) error {
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	known := []v1.Descriptor{entry}
	var slowest time.Duration
	complete := time.Time{} // when the index became complete
	for {
		began := time.Now()
		merged, wrote, err := r.mergeIntoTag(ctx, subject, known)
		if err != nil {
			return err
		}
		known = merged
		slowest = max(slowest, time.Since(began))
		if wrote || complete.IsZero() {
			complete = time.Now()
		} else if time.Since(complete) > settleFloor+4*slowest {
			return nil
		}
		if err := reach.Sleep(ctx, 20*time.Millisecond+rand.N(60*time.Millisecond)); err != nil {
			return err
		}
	}
}

// mergeIntoTag reads the index and adds the known entries that are missing. It
// writes right after it reads, to keep the gap small.
func (r *Registry) mergeIntoTag(ctx context.Context, subject v1.Hash, known []v1.Descriptor) (merged []v1.Descriptor, wrote bool, err error) {
	r.attaching.Lock()
	defer r.attaching.Unlock()
	merged, err = r.fallbackList(ctx, subject)
	if err != nil {
		return nil, false, err
	}
	there := map[v1.Hash]bool{}
	for _, d := range merged {
		there[d.Digest] = true
	}
	for _, d := range known {
		if !there[d.Digest] {
			merged, wrote = append(merged, d), true
		}
	}
	if !wrote {
		return merged, false, nil
	}
	if len(merged) > min(limits.Referrers, limits.IndexManifests) {
		return nil, false, fmt.Errorf("more than %d referrers", min(limits.Referrers, limits.IndexManifests))
	}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: merged})
	if err != nil {
		return nil, false, err
	}
	if len(raw) > limits.Manifest { // nobody could read it
		return nil, false, fmt.Errorf("tag %s is full: the list would have %d bytes, and may have %d", fallbackTag(subject), len(raw), limits.Manifest)
	}
	if _, err := r.putManifest(ctx, fallbackTag(subject), raw, string(types.OCIImageIndex)); err != nil {
		if hasStatus(err, http.StatusConflict) {
			return nil, false, fmt.Errorf("the registry has no referrers API and does not let tag %s move: %w", fallbackTag(subject), err)
		}
		return nil, false, err
	}
	return merged, true, nil
}
