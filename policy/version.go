package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// versionRE is what a version may be demanded as: with as many numbers as
// matter, and a pre-release only after all three.
var versionRE = regexp.MustCompile(`^v(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?)?$`)

// MatchVersion fails unless ref is a tag of the version demanded: v1.2 is met by
// refs/tags/v1.2.3, and never by refs/tags/v1.20.0, refs/heads/v1.2.3 or
// refs/tags/v1.2. A pre-release or a build (semver.org, 9 and 10) meets only a
// demand for itself.
func (p Policy) MatchVersion(ref string) error {
	if p.Version == "" {
		return nil
	}
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	switch {
	case !ok || !semver.IsValid(tag):
		return fmt.Errorf("version: got %q, want a tag of version %q", ref, p.Version)
	case tag == p.Version:
		return nil
	case semver.Prerelease(tag) == "" && semver.Build(tag) == "" && strings.HasPrefix(tag, p.Version+"."):
		return nil
	}
	return fmt.Errorf("version: got %q, want %q", tag, p.Version)
}

// MatchInputs fails unless the run was started with every input that is
// demanded. What inputs are said to be, is as it was decoded; nil: nothing is.
func (p Policy) MatchInputs(inputs map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(p.WorkflowInputs)) {
		want := p.WorkflowInputs[name]
		got, ok := inputs[name]
		if !ok {
			return fmt.Errorf("workflow input %s: the provenance says nothing of it, want %q", name, want)
		}
		switch v := got.(type) {
		case string:
			ok = v == want
		case bool:
			ok = strconv.FormatBool(v) == want
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("workflow input %s: got %q, want %q", name, fmt.Sprint(got), want)
		}
	}
	return nil
}
