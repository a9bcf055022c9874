package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// Provenance is what a provenance must say. Each of its Match methods compares one
// value of a verified provenance, and returns an error with both values.
type Provenance struct {
	Source        Source            // required
	Ref           Ref               // nil: any branch or tag
	Commit        string            // full id, 40 or 64 lower-case hex digits; empty: any
	Inputs        map[string]string // inputs that a person must have started the workflow on GitHub with; it may have more
	Recipe        Recipe            // how a Colophon builder must have built the image; zero: by the recipe of the commit itself
	MinLevel      int               // lowest SLSA Build level, 0 to 3, that must follow from the evidence
	Builders      []string          // accepted builder ids, as spec/policy writes them; empty: those that the trust roots name, and public builders
	Levels        map[string]int    // SLSA Build level, 0 to 3, that some of Builders are trusted for, in place of the trust roots' level
	RequireSource bool              // the repository must answer, and still have the commit

	SourceTrack     SourceTrack // what the commit must reach on SLSA's Source track
	SourceVerifiers []Verifier  // who may sign a Source VSA about it, in place of the forge's answer; Resource is by default the repository
}

// Source is the repository that an image must come from: one repository, or any. No
// repository meets the zero Source. Sources can be compared with ==.
type Source struct {
	uri string // canonical
	any bool
}

// ParseSource returns the Source that only the repository at uri meets, as in
// git.example.com/team/app. It fails if source.Canonical fails.
func ParseSource(uri string) (Source, error) {
	canonical, err := source.Canonical(uri)
	if err != nil {
		return Source{}, fmt.Errorf("policy: source: %w", err)
	}
	return Source{uri: canonical}, nil
}

// AnySource returns the Source that every repository meets. It is dangerous: everybody
// can prove that an image comes from their own repository.
func AnySource() Source { return Source{any: true} }

// URI returns the canonical address of the repository demanded, or "" for AnySource
// and the zero Source.
func (s Source) URI() string { return s.uri }

// Names reports whether uri is the repository demanded. It is false for AnySource.
func (s Source) Names(uri string) bool { return !s.any && s.match(uri) == nil }

func (s Source) match(uri string) error {
	if s.any || uri == s.uri && uri != "" {
		return nil
	}
	got, err := source.Canonical(uri)
	if err != nil {
		return err
	}
	if got != s.uri {
		return mismatch(DemandSource, got, s.uri, "source: got %q, want %q", got, s.uri)
	}
	return nil
}

// oneName lists hosts that ignore the case of a repository's name, and serve the same
// repository over https and, to the user git, over ssh.
var oneName = []string{"bitbucket.org", "github.com", "gitlab.com"}

// Misspells reports whether the demand is another spelling of the repository at uri, on
// a host that is known to take both for the same. It is for words to people: such a
// repository does not meet the demand, because elsewhere the two would be different.
func (s Source) Misspells(uri string) bool {
	want, got := hosted(s.uri), hosted(uri)
	return !s.any && want != "" && want == got && !s.Names(uri)
}

// hosted returns HOST/PATH in lower case of a repository at one of the hosts in oneName,
// and "" of any other.
func hosted(uri string) string {
	canonical, err := source.Canonical(uri)
	if err != nil {
		return ""
	}
	rest, ssh := strings.CutPrefix(canonical, "ssh://git@")
	rest, https := strings.CutPrefix(rest, "https://")
	if host, _, _ := strings.Cut(rest, "/"); ssh == https || !slices.Contains(oneName, host) {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(rest), ".git")
}

// String returns the demand in words.
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

// RefName is a full ref name, as in refs/tags/v1.2.0, or a short name, which means the
// tag or the branch of exactly that name.
type RefName string

func (n RefName) check() error {
	if n == "" {
		return errors.New("policy: ref: got an empty name")
	}
	return nil
}

func (n RefName) match(ref string) error {
	name := string(n)
	full := strings.HasPrefix(name, "refs/")
	if full && ref == name || !full && (ref == "refs/tags/"+name || ref == "refs/heads/"+name) {
		return nil
	}
	return mismatch(DemandRef, ref, name, "ref: got %q, want %q", ref, name)
}

// String returns the demand in words.
func (n RefName) String() string { return "ref " + string(n) }

// Version is the version of the tag, or the beginning of it: refs/tags/v1.2.3 meets
// v1.2, but refs/tags/v1.20.0, refs/heads/v1.2.3 and refs/tags/v1 do not. A tag with a
// pre-release or build (semver.org, 9 and 10) meets only exactly that version.
type Version string

// versionRE matches one to three numbers, and a pre-release only after three.
var versionRE = lazyregexp.New(`^v(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?)?)?$`)

func (v Version) check() error {
	if !versionRE.MatchString(string(v)) {
		return fmt.Errorf("policy: version: got %q, want the form of v1, v1.2, v1.2.3 or v1.2.3-rc.1", string(v))
	}
	return nil
}

func (v Version) match(ref string) error {
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	switch {
	case !ok || !semver.IsValid(tag):
		return mismatch(DemandRef, ref, string(v), "version: got %q, want a tag of version %q", ref, string(v))
	case tag == string(v):
		return nil
	case semver.Prerelease(tag) == "" && semver.Build(tag) == "" && strings.HasPrefix(tag, string(v)+"."):
		return nil
	}
	return mismatch(DemandRef, tag, string(v), "version: got %q, want %q", tag, string(v))
}

// String returns the demand in words.
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
	default:
		return fmt.Errorf("policy: ref: got %T, want RefName or Version by value", p.Ref)
	}
	if p.Commit != "" {
		if raw, err := hex.DecodeString(p.Commit); err != nil || (len(raw) != 20 && len(raw) != 32) || p.Commit != strings.ToLower(p.Commit) {
			return fmt.Errorf("policy: commit: got %q, want 40 or 64 lower-case hex digits", p.Commit)
		}
	}
	for id, level := range p.Levels {
		if !slices.Contains(p.Builders, id) {
			return fmt.Errorf("policy: levels: got %q, want one of the builders %q", id, p.Builders)
		}
		if err := checkLevel(level); err != nil {
			return fmt.Errorf("%w, of builder %q", err, id)
		}
	}
	if err := p.Recipe.check(); err != nil {
		return err
	}
	if err := p.checkTrack(); err != nil {
		return err
	}
	return checkLevel(p.MinLevel)
}

func (p Provenance) checkTrack() error {
	switch {
	case len(p.SourceVerifiers) > maxVerifiers:
		return fmt.Errorf("policy: got %d verifiers of the source, want at most %d", len(p.SourceVerifiers), maxVerifiers)
	case len(p.SourceVerifiers) > 0 && p.SourceTrack == (SourceTrack{}):
		return errors.New("policy: verifiers of the source: the policy demands no Source level and no reviewers")
	case p.SourceTrack != (SourceTrack{}) && p.Source.any:
		return errors.New("policy: Source level and reviewers: name a source: any repository could have been reviewed by its attacker")
	}
	for _, v := range p.SourceVerifiers {
		if err := v.check(); err != nil {
			return err
		}
	}
	return p.SourceTrack.Check()
}

func checkLevel(level int) error {
	if level < 0 || level > 3 {
		return fmt.Errorf("policy: level: got %d, want 0 to 3", level)
	}
	return nil
}

// checkBuilderIDs fails unless each id has a form that a trusted builder can have.
func checkBuilderIDs(ids []string) error {
	for _, id := range ids {
		if err := trust.CheckBuilderID(id); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	return nil
}

// checkBuilderURLs fails unless each id is a URL. Provenance by a named signer may
// have any builder id.
func checkBuilderURLs(ids []string) error {
	for _, id := range ids {
		if u, err := url.Parse(id); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("policy: builder id: got %q, want a URL", id)
		}
	}
	return nil
}

// Demand names what a policy compares.
type Demand string

const (
	DemandSource Demand = "source"
	DemandRef    Demand = "ref" // or version
	DemandCommit Demand = "commit"
	DemandInput  Demand = "workflow input"
	DemandRecipe Demand = "recipe"
	DemandLevel  Demand = "Build level"
)

// MismatchError means that the provenance says something else than the policy demands.
type MismatchError struct {
	Demand    Demand
	Got, Want string // for people; Got is empty if the provenance does not say
	text      string
}

func (e *MismatchError) Error() string { return e.text }

func mismatch(d Demand, got, want, format string, args ...any) error {
	return &MismatchError{d, got, want, fmt.Sprintf(format, args...)}
}

// MatchSource fails unless uri is the repository demanded. It compares canonical
// addresses.
func (p Provenance) MatchSource(uri string) error { return p.Source.match(uri) }

// MatchRef fails unless ref, a full ref name, is the ref demanded or a tag of the
// version demanded. If none is demanded, ref must be a branch or a tag, or empty: on many
// hosts, strangers can write others, such as refs/pull/7/head.
func (p Provenance) MatchRef(ref string) error {
	if p.Ref == nil {
		if ref != "" && !strings.HasPrefix(ref, "refs/heads/") && !strings.HasPrefix(ref, "refs/tags/") {
			return mismatch(DemandRef, ref, "", "ref: got %q, which is neither a branch nor a tag, and the policy demands none by name", ref)
		}
		return nil
	}
	return p.Ref.match(ref)
}

// MatchCommit fails unless commit is the commit demanded.
func (p Provenance) MatchCommit(commit string) error {
	if p.Commit != "" && commit != p.Commit {
		return mismatch(DemandCommit, commit, p.Commit, "commit: got %q, want %q", commit, p.Commit)
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
			return mismatch(DemandInput, "", name+"="+want, "workflow input %s: the provenance has none, want %q", name, want)
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
			return mismatch(DemandInput, fmt.Sprintf("%s=%v", name, got), name+"="+want, "workflow input %s: got %q, want %q", name, fmt.Sprint(got), want)
		}
	}
	return nil
}

// MatchLevel fails if level, a SLSA Build level, is lower than demanded.
func (p Provenance) MatchLevel(level int) error { return matchLevel(level, p.MinLevel) }

func matchLevel(got, want int) error {
	if got < want {
		return mismatch(DemandLevel, strconv.Itoa(got), strconv.Itoa(want), "Build level: got %d, want at least %d", got, want)
	}
	return nil
}

// Level returns the SLSA Build level that the policy trusts a builder for. ok is false
// if the policy does not say.
func (p Provenance) Level(builder string) (level int, ok bool) {
	level, ok = p.Levels[builder]
	return level, ok
}

// String returns the demand in words. Values are not escaped.
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
	if r := p.Recipe.String(); r != "" {
		out = append(out, r)
	}
	if p.MinLevel > 0 {
		out = append(out, fmt.Sprintf("Build level %d or more", p.MinLevel))
	}
	return strings.Join(out, ", ")
}
