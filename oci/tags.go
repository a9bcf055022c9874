package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// attachmentTag is what clients without referrers call an attachment: the
// fallback tag of distribution spec 1.1 and cosign v2's tags.
var attachmentTag = grammar(`^sha256-[0-9a-f]{64}(\.(sig|att|sbom))?$`)

// Tags lists the repository's tags, at most limits.Images, as the registry
// orders them (distribution spec 1.1, "Listing Tags"). Those that hold what is
// attached to images are left out, and counted. A repository that the registry
// does not know is ErrNotFound.
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
			case !tagGrammar().MatchString(t):
				return nil, 0, fmt.Errorf("tags of %s: %s is not a tag", r.name, quoteUnprintable(t))
			case seen[t]:
			case attachmentTag().MatchString(t):
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
