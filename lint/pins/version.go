package pins

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// version makes a version of a tag as semver reads it.
func version(tag string) string {
	if strings.HasPrefix(tag, "v") {
		return tag
	}
	return "v" + tag
}

// IsVersion reports whether a tag is a version, which may be one that moves: v4, v4.2, 4.2.1.
func IsVersion(tag string) bool { return semver.IsValid(version(tag)) }

// Exact reports whether a tag names one version: v4.2.1, and not v4. Such a tag must not move.
func Exact(tag string) bool {
	v := version(tag)
	return IsVersion(tag) && semver.Canonical(v)+semver.Build(v) == v
}

// Newer reports whether the version of the tag a is greater than that of b.
func Newer(a, b string) bool { return semver.Compare(version(a), version(b)) > 0 }

// Releases returns the tags of exact versions that are no prereleases, the newest first. major is a
// tag whose major version they must have, or "" for any.
func Releases(tags map[string]string, major string) (out []string) {
	for tag := range tags {
		v := version(tag)
		if Exact(tag) && semver.Prerelease(v) == "" && (major == "" || semver.Major(v) == semver.Major(version(major))) {
			out = append(out, tag)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(semver.Compare(version(b), version(a)), cmp.Compare(a, b)) })
	return out
}

// Precise returns the version among the tags of a commit that says most, or "": v4.2.1 before v4,
// and the newest of several.
func Precise(tags []string) (best string) {
	for _, tag := range tags {
		if !IsVersion(tag) {
			continue
		}
		if best == "" || Exact(tag) && !Exact(best) || Exact(tag) == Exact(best) && Newer(tag, best) {
			best = tag
		}
	}
	return best
}
