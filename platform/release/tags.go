package release

import (
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

var (
	// tagGrammar matches valid tags (OCI distribution spec 1.1, "Pulling manifests").
	tagGrammar = lazyregexp.New(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	// attachmentTag matches the tags under which registries without a referrers API, and
	// cosign, keep what is attached to an image.
	attachmentTag = lazyregexp.New(`^sha(256|384|512)-[0-9a-f]{64}`)
)

// cleanRef maps the name of a git tag or branch to that of an image tag, which may contain
// fewer characters. A name with others cannot be mapped; the requester has to name the tag.
var cleanRef = strings.NewReplacer("/", "-", "@", "-", "+", "_")

// tagsOf returns the image tags of a release. A git tag gives NAME and NAME-<sha7>. A
// branch gives only NAME-<sha7>, because branches move and image tags never do. A commit
// id gives itself. NAME is chosen, which the requester may have named, or else that of the
// git tag or branch through cleanRef, without a leading "@". With chosen, a commit id gives
// NAME-<sha7>: only a git tag gives a tag without the commit in it.
func tagsOf(c source.Commit, chosen string) ([]string, error) {
	ref, isTag := strings.CutPrefix(c.Ref, "refs/tags/")
	ref = strings.TrimPrefix(ref, "refs/heads/")
	name := chosen
	if name == "" {
		name = cleanRef.Replace(strings.TrimPrefix(ref, "@"))
	}
	tags := []string{name + "-" + c.ID[:7]}
	switch {
	case isTag:
		tags = []string{name, tags[0]}
	case c.Ref == "" && chosen == "":
		tags = []string{c.ID}
	}
	for _, t := range tags {
		if err := checkTag(t); err != nil && chosen != "" {
			return nil, &api.Error{Message: fmt.Sprintf("tag: %v", err), Hint: "choose another --tag", Kind: api.Usage}
		} else if err != nil {
			return nil, &api.Error{Message: fmt.Sprintf("ref %s cannot become an image tag: %v", c.Ref, err), Hint: "name the image's tag: --tag NAME", Kind: api.Usage}
		}
	}
	return tags, nil
}

func checkTag(tag string) error {
	if !tagGrammar.MatchString(tag) {
		return fmt.Errorf("%q does not match %s", tag, tagGrammar)
	}
	if attachmentTag.MatchString(tag) {
		return fmt.Errorf("%q is where registries keep what is attached to an image", tag)
	}
	return nil
}
