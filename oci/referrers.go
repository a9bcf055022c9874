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

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// errNoReferrersAPI is a 404 from /referrers/, which a registry that has the
// API never gives (distribution spec 1.1, "Listing Referrers").
var errNoReferrersAPI = errors.New("the registry has no referrers API")

// Referrers implements Source. It asks the referrers API, or else the fallback tag.
// Only if both answer 404 are there no referrers; any other failure is an error.
func (r *Registry) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	list, err := r.listReferrers(ctx, subject)
	if errors.Is(err, errNoReferrersAPI) {
		list, err = r.fallbackList(ctx, subject)
	}
	if err != nil {
		return nil, fmt.Errorf("referrers of %s in %s: %w", subject, r.name, err)
	}
	return list, nil
}

func (r *Registry) listReferrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	header := http.Header{"Accept": {string(types.OCIImageIndex)}}
	var list referrerList
	next := r.url("referrers", subject.String())
	for next != nil {
		a, err := r.small(ctx, http.MethodGet, next, header, nil, limits.Manifest, http.StatusOK, http.StatusNotFound)
		if err != nil {
			return nil, err
		}
		if a.status == http.StatusNotFound {
			if list.pages > 0 {
				return nil, fmt.Errorf("page %d of the list: not found", list.pages+1)
			}
			return nil, errNoReferrersAPI
		}
		mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
		if mediaType != string(types.OCIImageIndex) {
			return nil, fmt.Errorf("list of referrers: got media type %s, want %s", said(mediaType), types.OCIImageIndex)
		}
		if err := list.add(a.body); err != nil {
			return nil, err
		}
		if next, err = nextPage(a); err != nil {
			return nil, err
		}
	}
	return list.entries, nil
}

// referrerList collects the pages of a listing, each entry once.
type referrerList struct {
	entries []v1.Descriptor
	pages   int
	seen    map[v1.Hash]bool
}

func (l *referrerList) add(page []byte) error {
	var index struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := strict.Unmarshal(page, limits.Manifest, &index); err != nil {
		return fmt.Errorf("list of referrers: %w", err)
	}
	if l.seen == nil {
		l.seen = map[v1.Hash]bool{}
	}
	for _, d := range index.Manifests {
		if d.Digest.Hex == "" {
			return errors.New("list of referrers has an entry without digest")
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
var linkNext = grammar(`^\s*<([^<>]+)>\s*;\s*rel="?next"?\s*$`)

func nextPage(a *answer) (*url.URL, error) {
	link := a.header.Get("Link")
	if link == "" {
		return nil, nil
	}
	m := linkNext().FindStringSubmatch(link)
	if m == nil {
		return nil, fmt.Errorf("link %s: want <URI>; rel=\"next\"", said(link))
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

func (r *Registry) fallbackList(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	raw, mediaType, err := r.fetchManifest(ctx, fallbackTag(subject))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !types.MediaType(mediaType).IsIndex() {
		return nil, refuse("tag %s is a %s, want an index of referrers", fallbackTag(subject), mediaType)
	}
	var list referrerList
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
		if err := sleep(ctx, 20*time.Millisecond+rand.N(60*time.Millisecond)); err != nil {
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
	if _, err := r.putManifest(ctx, fallbackTag(subject), raw, string(types.OCIImageIndex)); err != nil {
		if hasStatus(err, http.StatusConflict) {
			return nil, false, fmt.Errorf("the registry has no referrers API and does not let tag %s move: %w", fallbackTag(subject), err)
		}
		return nil, false, err
	}
	return merged, true, nil
}
