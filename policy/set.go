package policy

import (
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/policy/expr"
)

// Limits on one Set.
const (
	maxRules      = 10_000
	maxImages     = 256 // patterns of one rule
	maxAccept     = 32
	maxConditions = 16
	maxExemptions = 256
	maxBuilders   = 64 // names in Rebuilds
	maxText       = 1024
)

// Set is a set of rules about images, as a policy document of version 2 has it (spec/policy).
// An image must satisfy each rule that is about it. Check refuses the zero Set.
type Set struct {
	Name       string    // as Kubernetes names objects; required
	Namespace  string    // of a NamespacedImagePolicy, if the document says it
	Namespaced bool      // the rules are about the images of one namespace only
	Unmatched  Unmatched // what happens to an image that no rule is about; required
	Rules      []Rule    // at most 10,000
}

// InNamespace returns the sets that count in a namespace: those of the whole cluster, those of
// the namespace, and those about the images of one namespace that do not say which.
func InNamespace(sets []*Set, namespace string) (out []*Set) {
	for _, s := range sets {
		if !s.Namespaced || s.Namespace == "" || s.Namespace == namespace {
			out = append(out, s)
		}
	}
	return out
}

// Unmatched is what happens to an image that no rule is about.
type Unmatched string

const (
	DenyUnmatched  Unmatched = "deny"
	WarnUnmatched  Unmatched = "warn"
	AllowUnmatched Unmatched = "allow"
)

// Rule is what images that match one of its patterns must satisfy: one of the alternatives in
// Accept, with every condition and freshness demanded.
type Rule struct {
	Name   string         // unique in its set, as Kubernetes names objects; required
	Images []ImagePattern // 1 to 256
	Accept []Policy       // alternatives: one of them is enough; 1 to 32

	Mode        Mode      // what a violation does; required
	EnforceFrom time.Time // from then on the mode is Enforce; zero: never
	OnRunning   OnRunning // what an enforced violation does to what runs already; empty: ReportRunning

	Conditions []Condition // what fields cannot say; at most 16
	Exemptions []Exemption // images that need not satisfy the rule; at most 256
	Rebuilds   *Rebuilds   // nil: none is demanded

	DistrustMaxAge time.Duration // greatest age of the lists of what is no longer trusted (package distrust); 0: none is demanded
}

// Mode is what it does if an image violates a rule.
type Mode string

const (
	Audit   Mode = "audit" // it is recorded
	Warn    Mode = "warn"  // it is recorded, and whoever asked is warned
	Enforce Mode = "enforce"
)

// OnRunning is what is done about a pod that runs an image which violates a rule that enforces.
type OnRunning string

const (
	ReportRunning OnRunning = "report" // it is reported
	EvictRunning  OnRunning = "evict"  // the pod is evicted, too, if the image is rejected
)

func (o OnRunning) check() error {
	switch o {
	case "", ReportRunning, EvictRunning:
		return nil
	}
	return fmt.Errorf("onRunning: got %q, want report or evict", string(o))
}

// ModeAt returns the mode of the rule at a time. Before EnforceFrom, a rule whose Mode is
// Enforce warns.
func (r Rule) ModeAt(now time.Time) Mode {
	switch {
	case r.EnforceFrom.IsZero():
		return r.Mode
	case !now.Before(r.EnforceFrom):
		return Enforce
	case r.Mode == Enforce:
		return Warn
	}
	return r.Mode
}

// Matches reports whether the rule is about an image.
func (r Rule) Matches(image Image) bool {
	return slices.ContainsFunc(r.Images, func(p ImagePattern) bool { return p.Matches(image) })
}

// Exemption frees images from a rule for a time. All fields are required.
type Exemption struct {
	Images []ImagePattern
	Reason string
	Owner  string    // who answers for it
	Until  time.Time // from then on it counts no more
}

// Exempt returns the exemption of an image from the rule at a time, or nil. If one ended that
// was about the image, and there is no other, it is ended.
func (r Rule) Exempt(image Image, now time.Time) (exemption, ended *Exemption) {
	for i := range r.Exemptions {
		e := &r.Exemptions[i]
		if !slices.ContainsFunc(e.Images, func(p ImagePattern) bool { return p.Matches(image) }) {
			continue
		}
		if now.Before(e.Until) {
			return e, nil
		}
		if ended == nil || e.Until.After(ended.Until) {
			ended = e
		}
	}
	return nil, ended
}

// Condition is an expression over verified facts that must be true. The zero Condition is
// never true.
type Condition struct {
	expression, message string
	program             *expr.Program // nil until it is compiled
}

// ParseCondition returns the Condition of an expression (CEL, package expr) of at most 4,096
// bytes, and of what to tell people if it is not true. Both are required.
func ParseCondition(expression, message string) (Condition, error) {
	program, err := expr.Compile(expression)
	c := Condition{expression, message, program}
	if err != nil {
		return c, in(&expressionError{expression, err}, "expression")
	}
	return c, c.check()
}

// Expression returns the expression.
func (c Condition) Expression() string { return c.expression }

// Message returns what to tell people if the expression is not true.
func (c Condition) Message() string { return c.message }

// Holds reports whether the expression is true of the facts. An error means that it is not
// known, as if a fact is missing.
func (c Condition) Holds(facts *expr.Facts) (bool, error) {
	if c.program == nil {
		return false, errNoProgram
	}
	return c.program.Eval(facts)
}

var errNoProgram = errors.New("policy: condition: want one from ParseCondition")

// expressionError is an error in an expression, whose place is that in the text.
type expressionError struct {
	text string
	err  error
}

func (e *expressionError) Error() string { return e.err.Error() }
func (e *expressionError) Unwrap() error { return e.err }

// Rebuilds demands that others built the image again with the same result.
type Rebuilds struct {
	AtLeast int      // 1 to the number of By
	By      []string // ids of the builders that count, URIs
}

var nameRE = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// checkName fails unless name is one that an object of Kubernetes can have.
func checkName(what, name string) error {
	if len(name) > 253 || !nameRE.MatchString(name) {
		return fmt.Errorf("%s: got %q, want lower-case letters, digits, - and . as Kubernetes names objects", what, name)
	}
	return nil
}

// checkUnmatched fails unless the set says what happens to images that no rule is about.
func (u Unmatched) check() error {
	switch u {
	case DenyUnmatched, WarnUnmatched, AllowUnmatched:
		return nil
	case "":
		return errors.New("unmatched: want deny, warn or allow: what happens to an image that no rule is about? There is no default")
	}
	return fmt.Errorf("unmatched: got %q, want deny, warn or allow", string(u))
}

func (m Mode) check() error {
	switch m {
	case Audit, Warn, Enforce:
		return nil
	}
	return fmt.Errorf("mode: got %q, want audit, warn or enforce", string(m))
}

// Check returns an error if the set contradicts itself or leaves out what is required. Every
// Set from ParseSets has passed it.
func (s *Set) Check() error {
	if err := checkName("name", s.Name); err != nil {
		return in(err, "metadata", "name")
	}
	if err := s.Unmatched.check(); err != nil {
		return in(err, "spec", "unmatched")
	}
	if len(s.Rules) > maxRules {
		return in(fmt.Errorf("rules: got %d, want at most %d", len(s.Rules), maxRules), "spec", "rules")
	}
	seen := map[string]bool{}
	for i, r := range s.Rules {
		if seen[r.Name] {
			return in(fmt.Errorf("rule: got the name %q twice", r.Name), "spec", "rules", i, "name")
		}
		seen[r.Name] = true
		if err := r.check(); err != nil {
			return in(err, "spec", "rules", i)
		}
	}
	return nil
}

func (r Rule) check() error {
	if err := checkName("rule: name", r.Name); err != nil {
		return in(err, "name")
	}
	if err := checkPatterns(r.Images); err != nil {
		return err
	}
	if err := r.Mode.check(); err != nil {
		return in(err, "mode")
	}
	if err := r.OnRunning.check(); err != nil {
		return in(err, "onRunning")
	}
	if n := len(r.Accept); n == 0 || n > maxAccept {
		return in(fmt.Errorf("accept: got %d alternatives, want 1 to %d", n, maxAccept), "accept")
	}
	for i, p := range r.Accept {
		if err := p.Check(); err != nil {
			return in(err, "accept", i)
		}
	}
	if n := len(r.Conditions); n > maxConditions {
		return in(fmt.Errorf("conditions: got %d, want at most %d", n, maxConditions), "conditions")
	}
	for i, c := range r.Conditions {
		if err := c.check(); err != nil {
			return in(err, "conditions", i)
		}
	}
	if n := len(r.Exemptions); n > maxExemptions {
		return in(fmt.Errorf("exemptions: got %d, want at most %d", n, maxExemptions), "exemptions")
	}
	for i, e := range r.Exemptions {
		if err := e.check(); err != nil {
			return in(err, "exemptions", i)
		}
	}
	if r.DistrustMaxAge < 0 {
		return errors.New("maxAge: got a negative one, want more than 0s")
	}
	return in(r.Rebuilds.check(), "rebuilds")
}

func checkPatterns(patterns []ImagePattern) error {
	if n := len(patterns); n == 0 || n > maxImages {
		return in(fmt.Errorf("images: got %d, want 1 to %d", n, maxImages), "images")
	}
	for i, p := range patterns {
		if err := p.check(); err != nil {
			return in(err, "images", i)
		}
	}
	return nil
}

func (e Exemption) check() error {
	if err := checkPatterns(e.Images); err != nil {
		return err
	}
	if err := checkText("reason", e.Reason); err != nil {
		return in(err, "reason")
	}
	if err := checkText("owner", e.Owner); err != nil {
		return in(err, "owner")
	}
	if e.Until.IsZero() {
		return in(errors.New("until: got none, want the date at which the exemption ends"), "until")
	}
	return nil
}

func checkText(what, text string) error {
	if strings.TrimSpace(text) == "" || len(text) > maxText {
		return fmt.Errorf("%s: got %d bytes, want text of 1 to %d", what, len(text), maxText)
	}
	return nil
}

func (c Condition) check() error {
	if c.program == nil {
		return errNoProgram
	}
	return in(checkText("message", c.message), "message")
}

// compile checks the types of all expressions of the set, each once. Most of the time to read a
// set goes into this, so that the work is shared.
func (s *Set) compile() error {
	compiled := map[string]func() (*expr.Program, error){}
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for _, r := range s.Rules {
		for _, c := range r.Conditions {
			if compiled[c.expression] != nil {
				continue
			}
			once := sync.OnceValues(func() (*expr.Program, error) { return expr.Compile(c.expression) })
			compiled[c.expression] = once
			work.Go(func() error {
				_, _ = once() // each condition asks again
				return nil
			})
		}
	}
	_ = work.Wait() // no task returns an error
	for i, r := range s.Rules {
		for j := range r.Conditions {
			c := &r.Conditions[j]
			var err error
			if c.program, err = compiled[c.expression](); err != nil {
				return in(&expressionError{c.expression, err}, "spec", "rules", i, "conditions", j, "expression")
			}
		}
	}
	return nil
}

func (r *Rebuilds) check() error {
	if r == nil {
		return nil
	}
	if n := len(r.By); n == 0 || n > maxBuilders {
		return fmt.Errorf("rebuilds: by: got %d builders, want 1 to %d", n, maxBuilders)
	}
	seen := map[string]bool{}
	for _, id := range r.By {
		if u, err := url.Parse(id); err != nil || u.Scheme == "" {
			return fmt.Errorf("rebuilds: by: got %q, want the URI of a builder", id)
		}
		if seen[id] {
			return fmt.Errorf("rebuilds: by: got %q twice", id)
		}
		seen[id] = true
	}
	if r.AtLeast < 1 || r.AtLeast > len(r.By) {
		return fmt.Errorf("rebuilds: atLeast: got %d, want 1 to the number of builders, %d", r.AtLeast, len(r.By))
	}
	return nil
}

// Every returns the set with one rule, which is about every image: what a policy of version 1
// means.
func Every(p Policy) *Set {
	return &Set{Name: "policy", Unmatched: DenyUnmatched, Rules: []Rule{{
		Name: "every-image", Images: []ImagePattern{{Glob: "**"}}, Mode: Enforce, Accept: []Policy{p},
	}}}
}

// Dangers returns the dangerous options of the set, one line each for people.
func (s *Set) Dangers() (out []string) {
	if s.Unmatched != DenyUnmatched {
		out = append(out, "an image that no rule is about is accepted")
	}
	for _, r := range s.Rules {
		for _, p := range r.Accept {
			for _, d := range p.Dangers() {
				out = append(out, fmt.Sprintf("rule %q: %s", r.Name, d))
			}
		}
		for _, e := range r.Exemptions {
			if slices.ContainsFunc(e.Images, ImagePattern.everything) {
				out = append(out, fmt.Sprintf("rule %q: every image is exempt until %s", r.Name, e.Until.UTC().Format(time.DateOnly)))
			}
		}
	}
	return out
}
