package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// Provenance is what a provenance must say. Its Match methods compare one value
// of a verified provenance each, and fail with both values.
type Provenance struct {
	Source        Source            // required
	Ref           Ref               // nil: any
	Commit        string            // full id, 40 or 64 lower-case hex digits; empty: any
	Inputs        map[string]string // what a workflow on GitHub must have been started with by hand; it may have more
	MinLevel      int               // SLSA Build level, 0 to 3, that must follow from the evidence
	Builders      []string          // builder ids to accept, spelled as in spec/policy; empty: those that the trust roots name, and public builders
	Levels        map[string]int    // SLSA Build level, 0 to 3, to trust one of Builders for, in place of what trust roots say
	RequireSource bool              // the repository must be reachable, and still hold the commit
}

// Source is the repository that an image must come from: one, or any. The zero
// Source is met by no repository. Sources can be compared with ==.
type Source struct {
	uri string // canonical
	any bool
}

// ParseSource returns the Source that only the repository at uri meets. It fails
// if source.Canonical does.
func ParseSource(uri string) (Source, error) {
	canonical, err := source.Canonical(uri)
	if err != nil {
		return Source{}, fmt.Errorf("policy: source: %w", err)
	}
	return Source{uri: canonical}, nil
}

// AnySource returns the Source that every repository meets. It is dangerous:
// anybody can prove that an image comes from a repository of their own.
func AnySource() Source { return Source{any: true} }

// URI returns the canonical address of the repository demanded, or "" if the
// policy demands no particular one.
func (s Source) URI() string { return s.uri }

// Names reports whether uri is the one repository demanded. AnySource names none.
func (s Source) Names(uri string) bool { return !s.any && s.match(uri) == nil }

func (s Source) match(uri string) error {
	if s.any {
		return nil
	}
	got, err := source.Canonical(uri)
	if err != nil {
		return err
	}
	if got != s.uri {
		return fmt.Errorf("source: got %q, want %q", got, s.uri)
	}
	return nil
}

// String is the demand in words.
func (s Source) String() string {
	switch {
	case s.any:
		return "any source"
	case s.uri == "":
		return "no source"
	}
	return "source " + s.uri
}

// Ref is the ref that an image must have been built at: a RefName or a Version.
type Ref interface {
	fmt.Stringer // the demand in words
	check() error
	match(ref string) error
}

// RefName is a full ref name, as refs/tags/v1.2.0; or a short name, which stands
// for the tag or the branch of exactly that name.
type RefName string

func (n RefName) check() error {
	if n == "" {
		return errors.New("policy: the name of the ref is empty")
	}
	return nil
}

func (n RefName) match(ref string) error {
	name := string(n)
	full := strings.HasPrefix(name, "refs/")
	if full && ref == name || !full && (ref == "refs/tags/"+name || ref == "refs/heads/"+name) {
		return nil
	}
	return fmt.Errorf("ref: got %q, want %q", ref, name)
}

// String is the demand in words.
func (n RefName) String() string { return "ref " + string(n) }

// Version is the version that the tag must be of, or as much of it as matters:
// v1.2 is met by refs/tags/v1.2.3, and never by refs/tags/v1.20.0,
// refs/heads/v1.2.3 or refs/tags/v1. A pre-release or a build (semver.org, 9 and
// 10) meets only a demand for itself.
type Version string

// versionRE takes as many numbers as matter, and a pre-release only after all
// three.
var versionRE = regexp.MustCompile(`^v(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?)?$`)

func (v Version) check() error {
	if !versionRE.MatchString(string(v)) {
		return fmt.Errorf("policy: version: got %q, want one as v1, v1.2, v1.2.3 or v1.2.3-rc.1", string(v))
	}
	return nil
}

func (v Version) match(ref string) error {
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	switch {
	case !ok || !semver.IsValid(tag):
		return fmt.Errorf("version: got %q, want a tag of version %q", ref, string(v))
	case tag == string(v):
		return nil
	case semver.Prerelease(tag) == "" && semver.Build(tag) == "" && strings.HasPrefix(tag, string(v)+"."):
		return nil
	}
	return fmt.Errorf("version: got %q, want %q", tag, string(v))
}

// String is the demand in words.
func (v Version) String() string { return "version " + string(v) }

func (p Provenance) check() error {
	if p.Source == (Source{}) {
		return errNoSource
	}
	switch p.Ref.(type) {
	case nil:
	case RefName, Version:
		if err := p.Ref.check(); err != nil {
			return err
		}
	default: // a pointer to one of them
		return fmt.Errorf("policy: ref: got a %T", p.Ref)
	}
	if p.Commit != "" {
		if raw, err := hex.DecodeString(p.Commit); err != nil || (len(raw) != 20 && len(raw) != 32) || p.Commit != strings.ToLower(p.Commit) {
			return fmt.Errorf("policy: commit: got %q, want 40 or 64 lower-case hex digits", p.Commit)
		}
	}
	for id, level := range p.Levels {
		if !slices.Contains(p.Builders, id) {
			return fmt.Errorf("policy: level of %q: it is not among the builders %q", id, p.Builders)
		}
		if err := checkLevel(level); err != nil {
			return fmt.Errorf("%w, of builder %q", err, id)
		}
	}
	return checkLevel(p.MinLevel)
}

func checkLevel(level int) error {
	if level < 0 || level > 3 {
		return fmt.Errorf("policy: level: got %d, want 0 to 3", level)
	}
	return nil
}

// checkBuilderIDs fails unless each id names a builder that can be trusted.
func checkBuilderIDs(ids []string) error {
	for _, id := range ids {
		if err := trust.CheckBuilderID(id); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	return nil
}

// checkBuilderURLs is for ids that a named signer's provenance may hold, which
// are whatever its maker calls itself.
func checkBuilderURLs(ids []string) error {
	for _, id := range ids {
		if u, err := url.Parse(id); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("policy: builder id: got %q, want a URL", id)
		}
	}
	return nil
}

// MatchSource fails unless uri is the repository demanded. Both are compared
// whole, in canonical form.
func (p Provenance) MatchSource(uri string) error { return p.Source.match(uri) }

// MatchRef fails unless ref, a full ref name, is the one demanded or a tag of the
// version demanded.
func (p Provenance) MatchRef(ref string) error {
	if p.Ref == nil {
		return nil
	}
	return p.Ref.match(ref)
}

// MatchCommit fails unless commit is the one demanded.
func (p Provenance) MatchCommit(commit string) error {
	if p.Commit != "" && commit != p.Commit {
		return fmt.Errorf("commit: got %q, want %q", commit, p.Commit)
	}
	return nil
}

// MatchInputs fails unless the run was started with every input demanded. inputs
// are the decoded JSON values from the provenance, or nil if it has none.
func (p Provenance) MatchInputs(inputs map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(p.Inputs)) {
		want := p.Inputs[name]
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

// MatchLevel fails if level, a SLSA Build level, is lower than demanded.
func (p Provenance) MatchLevel(level int) error { return matchLevel(level, p.MinLevel) }

func matchLevel(got, want int) error {
	if got < want {
		//lint:ignore ST1005 Build is the name of SLSA's track
		return fmt.Errorf("Build level: got %d, want at least %d", got, want)
	}
	return nil
}

// Level returns the SLSA Build level that the policy trusts a builder for, and
// whether it says any.
func (p Provenance) Level(builder string) (level int, ok bool) {
	level, ok = p.Levels[builder]
	return level, ok
}

// String is the demand in words, on one line but for what the values hold.
func (p Provenance) String() string {
	out := []string{p.Source.String()}
	if p.Ref != nil {
		out = append(out, p.Ref.String())
	}
	for _, name := range slices.Sorted(maps.Keys(p.Inputs)) {
		out = append(out, "workflow input "+name+"="+p.Inputs[name])
	}
	if p.Commit != "" {
		out = append(out, "commit "+p.Commit)
	}
	if p.MinLevel > 0 {
		out = append(out, fmt.Sprintf("Build level %d or more", p.MinLevel))
	}
	return strings.Join(out, ", ")
}
