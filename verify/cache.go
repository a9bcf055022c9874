package verify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
)

// Cache remembers images that Image accepted. It answers again for the same digest
// in the same registry or layout, under the same trust roots and policy, for at
// most Age. It resolves a tag each time and makes no other request.
//
// It remembers neither rejections, which a new attestation can change, nor verdicts
// that need a fresh answer: of a repository (SourceCheck), a forge (TrackCheck), a verifier or a list of
// what is no longer trusted. It forgets
// an answer when the validity of any trust root or key in it ends. A Cache is safe
// for concurrent use, and must not be copied.
type Cache struct {
	Age  time.Duration // how long an answer is valid; required
	Size int           // maximum number of answers; the oldest is dropped first; required

	mu    sync.Mutex
	kept  map[[sha256.Size]byte]kept
	order [][sha256.Size]byte // keys of kept, oldest first
}

type kept struct {
	verdict     Verdict
	from, until time.Time
}

// Image is like the function Image, and answers from memory if it can. It remembers
// nothing about layouts, where a verdict depends on the other images in them.
func (c *Cache) Image(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options) *Verdict {
	if _, layout := src.(*oci.Layout); layout || opts.SourceCheck != nil || opts.TrackCheck != nil || demandsTrack(opts.Policy) || opts.Distrust.asked() || len(opts.Policy.Verifiers) > 0 || now.IsZero() {
		return Image(ctx, src, reference, now, opts)
	}
	ev := newEvidence(src, reference, now, opts, Ask{Policies: []policy.Policy{opts.Policy}})
	if !ev.ready() {
		return ev.closed().Verdicts()[0]
	}
	if strings.Contains(reference, ":") {
		key, ok := cacheKey(src.Name(), reference, opts)
		if again := c.recall(key, ok, ev.name(), now); again != nil {
			return again
		}
		v := Image(ctx, src, reference, now, opts)
		c.keep(key, ok && v.Digest == reference, v, now, opts)
		return v
	}
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		return Image(ctx, src, reference, now, opts)
	}
	key, ok := cacheKey(src.Name(), d.Digest.String(), opts)
	if again := c.recall(key, ok, ev.name(), now); again != nil {
		return again
	}
	v := ev.gather(ctx, d).Verdicts()[0]
	c.keep(key, ok, v, now, opts)
	return v
}

// cacheKey is a hash of everything that a verdict depends on, except the time: the
// image and all fields of Options (a test lists them). The JSON of a policy is its
// document, which contains all of it (package policy tests that).
func cacheKey(name, digest string, opts Options) (key [sha256.Size]byte, ok bool) {
	if _, err := v1.NewHash(digest); err != nil {
		return key, false
	}
	k := struct {
		Name, Digest string
		Layout       bool
		Platform     *v1.Platform
		Whole        bool
		Pinned       bool
		Trust        []string
		Policy       policy.Policy
		Bundles      [][]byte
	}{Name: name, Digest: digest, Layout: opts.Layout, Platform: opts.Platform, Whole: opts.Whole, Pinned: opts.Pinned, Policy: opts.Policy, Bundles: opts.Bundles}
	for _, r := range opts.Trust {
		k.Trust = append(k.Trust, r.Fingerprint, r.Expires.UTC().Format(time.RFC3339Nano), strings.Join(r.Issuers(), " "))
	}
	raw, err := json.Marshal(k)
	return sha256.Sum256(raw), err == nil
}

// recall returns the remembered verdict under the name image, or nil.
func (c *Cache) recall(key [sha256.Size]byte, ok bool, image string, now time.Time) *Verdict {
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.kept[key]
	if !ok || now.Before(k.from) || !now.Before(k.until) {
		return nil
	}
	v := k.verdict.clone()
	v.Image = image
	return v
}

// keep remembers an accepted verdict.
func (c *Cache) keep(key [sha256.Size]byte, ok bool, v *Verdict, now time.Time, opts Options) {
	if !ok || v.Outcome != Accepted {
		return
	}
	k := kept{verdict: *v.clone(), from: now, until: now.Add(c.Age)}
	for _, r := range opts.Trust {
		if end := r.Until(now); !end.IsZero() && end.Before(k.until) {
			k.until = end
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = make(map[[sha256.Size]byte]kept)
	}
	if _, again := c.kept[key]; !again {
		for len(c.order) > 0 && len(c.order) >= c.Size {
			delete(c.kept, c.order[0])
			c.order = slices.Delete(c.order, 0, 1)
		}
		c.order = append(c.order, key)
	}
	c.kept[key] = k
}

// clone returns a copy that callers may change; only Facts are shared.
func (v *Verdict) clone() *Verdict {
	c := *v
	c.Links, c.Requirements, c.Unsigned = slices.Clone(v.Links), slices.Clone(v.Requirements), slices.Clone(v.Unsigned)
	c.Dangers, c.Missing = slices.Clone(v.Dangers), slices.Clone(v.Missing)
	return &c
}
