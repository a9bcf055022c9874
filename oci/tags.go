package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// fallbackTag names the index that lists a subject's referrers in a registry
// without the referrers API (distribution spec 1.1, "Unavailable Referrers API").
func fallbackTag(subject v1.Hash) string { return subject.Algorithm + "-" + subject.Hex }

// attachmentTag matches fallback tags, whose digest is cut to 64 digits, and cosign's.
var attachmentTag = lazyregexp.New(`^(sha256|sha512)-[0-9a-f]{64}(?:\.(sig|att|sbom))?$`)

// ParseAttachmentTag parses a fallback tag ("sha256-HEX", kind "") or one of cosign's
// tags ("sha256-HEX.sig"). The algorithm is sha256 or sha512; ok is false for any
// other tag.
func ParseAttachmentTag(tag string) (algorithm string, kind CosignTag, ok bool) {
	m := attachmentTag.FindStringSubmatch(tag)
	if m == nil {
		return "", "", false
	}
	return m[1], CosignTag(m[2]), true
}

// isAttachment reports whether a tag is for attachments of an image. Images have
// sha256 digests, so a tag with sha512 is an ordinary tag.
func isAttachment(tag string) bool {
	algorithm, _, ok := ParseAttachmentTag(tag)
	return ok && algorithm == "sha256"
}

// Tags returns the tags of the repository in the registry's order (distribution spec
// 1.1, "Listing Tags"), at most limits.Images (10,000). It leaves out tags that hold
// attachments of images, and returns their number. If the registry does not know the
// repository, the error is ErrNotFound.
func (r *Registry) Tags(ctx context.Context) (tags []string, attachments int, err error) {
	seen := map[string]bool{}
	next := r.url("tags", "list")
	for next != nil {
		a, err := r.small(ctx, http.MethodGet, next, nil, nil, limits.Manifest, http.StatusOK)
		if err != nil {
			return nil, 0, fmt.Errorf("tags of %s: %w", r.name, err)
		}
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := strict.Unmarshal(a.body, limits.Manifest, &page); err != nil {
			return nil, 0, fmt.Errorf("tags of %s: %w", r.name, err)
		}
		before := len(seen)
		for _, t := range page.Tags {
			switch {
			case !tagGrammar.MatchString(t):
				return nil, 0, fmt.Errorf("tags of %s: %s is not a tag", r.name, a.spoken.said(t))
			case seen[t]:
			case isAttachment(t):
				attachments++
			default:
				tags = append(tags, t)
			}
			seen[t] = true
		}
		if len(seen) > 2*limits.Images || len(tags) > limits.Images {
			return nil, 0, fmt.Errorf("tags of %s: more than %d", r.name, limits.Images)
		}
		if next, err = nextPage(a); err != nil {
			return nil, 0, fmt.Errorf("tags of %s: %w", r.name, err)
		}
		if next != nil && len(seen) == before {
			return nil, 0, errors.New("tags of " + r.name + ": a page without a new tag names another page")
		}
	}
	return tags, attachments, nil
}
