package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Finding is what Lint says about a valid policy file.
type Finding struct {
	Line   int    `json:"line"`           // in the file, from 1
	Column int    `json:"column"`         // from 1, counts bytes
	Rule   string `json:"rule,omitempty"` // empty: it is about the whole policy
	Wrong  bool   `json:"wrong"`          // the policy cannot mean this; false: worth knowing
	What   string `json:"what"`           // one line for people

	pointer string
}

// endsSoon is how long before its end an exemption is worth a look.
const endsSoon = 30 * 24 * time.Hour

// Lint parses a policy file as ParseSets does, and says what is wrong with policies that are
// valid: rules that nothing satisfies, or anybody; patterns that match nothing, or more than
// they seem to; exemptions that ended. The findings are in the order of the file.
func Lint(data []byte, now time.Time) ([]Finding, error) {
	return LintBeside(data, now, func(string) bool { return false })
}

// LintBeside is Lint for a file as of ParseSetsBeside.
func LintBeside(data []byte, now time.Time, other func(apiVersion string) bool) ([]Finding, error) {
	sets, err := ParseSetsBeside(data, other)
	if err != nil {
		return nil, err
	}
	docs, err := documentsBut(data, other)
	if err != nil || len(docs) != len(sets) {
		return nil, fmt.Errorf("policy: got %d documents and %d policies: %w", len(docs), len(sets), err)
	}
	var out []Finding
	for i, s := range sets {
		l := linter{set: s, now: now}
		l.lint()
		if version1 := isVersion1(docs[i].JSON); version1 {
			// It has no rule, no pattern and no mode of its own.
			l.found = slices.DeleteFunc(l.found, func(f Finding) bool { return !strings.Contains(f.pointer, "/accept/") })
			for j := range l.found {
				l.found[j].pointer, l.found[j].Rule = "", ""
			}
		}
		pointers := make([]string, len(l.found))
		for j, f := range l.found {
			pointers[j] = f.pointer
		}
		for j, p := range docs[i].Positions(pointers) {
			l.found[j].Line, l.found[j].Column = p.Line, p.Column
		}
		out = append(out, l.found...)
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out, nil
}

type linter struct {
	set   *Set
	now   time.Time
	found []Finding
	rule  string
}

func (l *linter) wrong(pointer, format string, args ...any) {
	l.found = append(l.found, Finding{pointer: pointer, Rule: l.rule, Wrong: true, What: fmt.Sprintf(format, args...)})
}

func (l *linter) note(pointer, format string, args ...any) {
	l.found = append(l.found, Finding{pointer: pointer, Rule: l.rule, What: fmt.Sprintf(format, args...)})
}

func (l *linter) lint() {
	if l.set.Unmatched != DenyUnmatched {
		l.note("/spec/unmatched", "an image that no rule is about is accepted")
	}
	if len(l.set.Rules) == 0 {
		l.wrong("/spec/rules", "there is no rule: every image gets the answer of unmatched, %s", l.set.Unmatched)
	}
	for i, r := range l.set.Rules {
		l.rule = r.Name
		at := fmt.Sprintf("/spec/rules/%d", i)
		for j, p := range r.Images {
			place := fmt.Sprintf("%s/images/%d", at, j)
			l.glob(place, p)
			if p.Tag != "" && l.set.Unmatched != DenyUnmatched {
				l.wrong(place, "an image that is named by its digest has no tag, so that the rule is not about it, and unmatched is %s", l.set.Unmatched)
			}
		}
		l.mode(at, r)
		for j, p := range r.Accept {
			l.accept(fmt.Sprintf("%s/accept/%d", at, j), p)
		}
		for j, e := range r.Exemptions {
			l.exemption(fmt.Sprintf("%s/exemptions/%d", at, j), e)
		}
		if r.Rebuilds != nil {
			l.wrong(at+"/rebuilds", "no check of rebuilds exists yet: every image is undecided")
		}
	}
	l.rule = ""
	l.exclusive()
}

func (l *linter) mode(at string, r Rule) {
	if r.OnRunning == EvictRunning && r.Mode != Enforce && r.EnforceFrom.IsZero() {
		l.wrong(at+"/onRunning", "the rule evicts no pod: its mode is %s, without enforceFrom", r.Mode)
	}
	switch mode := r.ModeAt(l.now); {
	case mode == Enforce:
	case r.EnforceFrom.IsZero():
		l.note(at+"/mode", "the rule never refuses an image: its mode is %s, without enforceFrom", r.Mode)
	default:
		l.note(at+"/enforceFrom", "the rule refuses images from %s on", r.EnforceFrom.UTC().Format(time.DateOnly))
	}
}

// glob says what else than it seems to a glob of a rule or of an exemption describes.
func (l *linter) glob(at string, p ImagePattern) {
	registry, _, _ := strings.Cut(p.Glob, "@")
	registry, _, _ = strings.Cut(registry, "/")
	switch {
	case strings.Contains(registry, "**") && strings.Trim(registry, "*") != "":
		l.wrong(at, "the glob %s also matches other registries: ** before the first slash stands for slashes too", p.Glob)
	case p.Glob == "*" || p.Glob == "*/*":
		l.note(at, "the glob %s means %s: images of Docker Hub only", p.Glob, p.canonical())
	}
}

func (l *linter) exemption(at string, e Exemption) {
	for j, p := range e.Images {
		l.glob(fmt.Sprintf("%s/images/%d", at, j), p)
	}
	day := e.Until.UTC().Format(time.DateOnly)
	switch left := e.Until.Sub(l.now); {
	case left <= 0:
		l.wrong(at, "the exemption of %s (%s) ended on %s", e.Owner, e.Reason, day)
	case slices.ContainsFunc(e.Images, ImagePattern.everything):
		l.wrong(at, "every image is exempt until %s", day)
	case left <= endsSoon:
		l.note(at, "the exemption of %s (%s) ends on %s", e.Owner, e.Reason, day)
	}
}

func (l *linter) accept(at string, p Policy) {
	for _, d := range p.Dangers() {
		l.note(at, "dangerous: %s", d)
	}
	l.signer(at, p.Signer())
	for _, a := range p.Attestations {
		l.signer(at, a.Signer)
		if slices.ContainsFunc(p.Absent, func(b Absent) bool {
			return b.PredicateType == a.PredicateType && b.Signer == nil && len(b.Equals) == 0
		}) {
			l.wrong(at, "nothing satisfies this: an attestation of the type %s must be there, and must not be there", a.PredicateType)
		}
	}
	for _, v := range p.allVerifiers() {
		l.signer(at, v.Signer)
	}
	demanded := p.Provenance()
	best := -1
	for _, id := range demanded.Builders {
		level, ok := demanded.Levels[id]
		if !ok {
			return // its level is that of the trust root
		}
		best = max(best, level)
	}
	if best >= 0 && best < demanded.MinLevel {
		l.wrong(at, "nothing satisfies this: minLevel is %d, and no builder here is trusted for more than %d", demanded.MinLevel, best)
	}
}

// strangers are identities that no pattern should match which means somebody.
var strangers = []string{
	"https://evil.invalid/x", "nobody@evil.invalid", "spiffe://evil.invalid/x",
	"https://github.com/evil-stranger/evil/.github/workflows/evil.yml@refs/heads/evil",
	"https://gitlab.com/evil-stranger/evil//.gitlab-ci.yml@refs/heads/evil",
}

// Stranger returns an identity of nobody in particular that a pattern matches: such a pattern is
// met by anybody who gets a certificate, of any provider or of one that everybody can use.
func Stranger(matches func(identity string) bool) (identity string, ok bool) {
	if i := slices.IndexFunc(strangers, matches); i >= 0 {
		return strangers[i], true
	}
	return "", false
}

// signer says who may sign besides those who are meant.
func (l *linter) signer(at string, s Signer) {
	p, ok := s.(Pattern)
	if !ok {
		return
	}
	if stranger, ok := Stranger(p.name.MatchString); ok {
		l.wrong(at, "the pattern %s is met by strangers, such as %s", p.expr, stranger)
		return
	}
	// https://github\.com/team.* is met by the owner team-evil, and .*example\.com by
	// the domain evil-example.com.
	bare, err := regexp.Compile(p.expr) // what begins with an anchor has no literal prefix
	if err != nil {
		return
	}
	prefix, _ := bare.LiteralPrefix()
	for _, longer := range []string{"-evil/app/.github/workflows/evil.yml@refs/heads/evil", "-evil/app//.gitlab-ci.yml@refs/heads/evil"} {
		if strings.Count(prefix, "/") == 3 && !strings.HasSuffix(prefix, "/") && p.name.MatchString(prefix+longer) {
			l.wrong(at, "the pattern %s is also met by others, such as %s: end the name with a slash", p.expr, prefix+longer)
			return
		}
	}
}

// exclusive finds pairs of rules about the same images that demand different repositories: an
// image must satisfy both.
func (l *linter) exclusive() {
	first := map[ImagePattern]int{}
	for i, r := range l.set.Rules {
		for _, p := range r.Images {
			j, twice := first[p]
			if !twice {
				first[p] = i
				continue
			}
			if j != i && disjoint(l.set.Rules[j].Accept, r.Accept) {
				l.rule = r.Name
				l.wrong(fmt.Sprintf("/spec/rules/%d", i), "nothing satisfies this rule and the rule %q: both are about %s, and demand different repositories", l.set.Rules[j].Name, p)
				l.rule = ""
				break
			}
		}
	}
}

// disjoint reports whether each alternative of a demands another repository than each of b.
func disjoint(a, b []Policy) bool {
	for _, p := range a {
		for _, q := range b {
			x, y := p.Provenance().Source, q.Provenance().Source
			if x.URI() == "" || y.URI() == "" || x.Names(y.URI()) {
				return false
			}
		}
	}
	return true
}
