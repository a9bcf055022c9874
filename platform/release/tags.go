package release

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// tagGrammar matches valid tags (OCI distribution spec 1.1, "Pulling manifests").
var tagGrammar = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// tagsOf returns the image tags of a release. A git tag gives TAG and TAG-<sha7>. A
// branch gives only BRANCH-<sha7>, because branches move and image tags never do. A
// commit id gives itself. "/" and "+", which image tags cannot contain, become "-" and
// "_".
func tagsOf(c source.Commit) ([]string, error) {
	clean := strings.NewReplacer("/", "-", "+", "_")
	var tags []string
	switch name, isTag := strings.CutPrefix(c.Ref, "refs/tags/"); {
	case isTag:
		name = clean.Replace(name)
		tags = []string{name, name + "-" + c.ID[:7]}
	case c.Ref == "":
		tags = []string{c.ID}
	default:
		name = strings.TrimPrefix(c.Ref, "refs/heads/")
		tags = []string{clean.Replace(strings.TrimPrefix(name, "refs/")) + "-" + c.ID[:7]}
	}
	for _, t := range tags {
		if !tagGrammar.MatchString(t) {
			return nil, &api.Error{Message: fmt.Sprintf("ref %s cannot become an image tag: %q does not match %s", c.Ref, t, tagGrammar), Kind: api.Usage}
		}
	}
	return tags, nil
}
