package policy

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Recipe is how a Colophon builder must have built an image: what the requester of the
// build may have chosen. In each field without a demand, the recipe must be the one by
// which the commit itself says that the image is built (attest.DefaultRecipe). So the
// zero Recipe accepts only that one. The platforms of an image are free.
type Recipe struct {
	Any        bool             // dangerous: the requester may have chosen anything; the other fields must be empty
	Image      string           // name of the image that the commit must declare the recipe for; empty: that of the image's repository
	Context    *Value           // directory that is the build context; the whole tree is "."
	Dockerfile *Value           // path of the Dockerfile
	Target     *Value           // stage of the Dockerfile; no target is the empty text
	BuildArgs  map[string]Value // build arguments by name; a missing one is only met by a pattern that matches the empty text
	Package    *Value           // directory of the main package
	Lock       string           // "sha256:HEX" of the lock file that the requester must have brought
	Hermetic   bool             // the build must be hermetic
}

// Value is what one field of a recipe must be: a text, or every text that a pattern
// matches. The zero Value is met only by the empty text.
type Value struct {
	exact   string
	expr    string         // as written in the policy; empty: exact counts
	pattern *regexp.Regexp // anchored at both ends
}

// ExactValue returns the Value that only text meets.
func ExactValue(text string) Value { return Value{exact: text} }

// ParseValue returns the Value that every text meets that a regular expression (RE2)
// matches as a whole.
func ParseValue(expr string) (Value, error) {
	if expr == "" {
		return Value{}, errors.New("policy: recipe: got an empty pattern")
	}
	pattern, err := anchored(expr)
	if err != nil {
		return Value{}, fmt.Errorf("policy: recipe: pattern: %w", err)
	}
	return Value{expr: expr, pattern: pattern}, nil
}

func (v Value) matches(text string) bool {
	if v.pattern != nil {
		return v.pattern.MatchString(text)
	}
	return v.exact == text
}

// String returns the demand in words.
func (v Value) String() string {
	if v.pattern != nil {
		return "a match of " + v.expr
	}
	return fmt.Sprintf("%q", v.exact)
}

// demandsNothing reports whether r is the zero Recipe.
func (r Recipe) demandsNothing() bool {
	return !r.Any && r.Image == "" && r.Context == nil && r.builder() == "" && r.Lock == "" && !r.Hermetic
}

// builder returns the builder that has the fields that r demands, or "".
func (r Recipe) builder() string {
	switch {
	case r.Package != nil:
		return attest.Golang
	case r.Dockerfile != nil || r.Target != nil || len(r.BuildArgs) > 0:
		return attest.BuildKit
	}
	return ""
}

// String returns the demand in words, or "" for the recipe of the commit itself.
func (r Recipe) String() string {
	var out []string
	for _, f := range []struct {
		name   string
		demand *Value
	}{{"context", r.Context}, {"dockerfile", r.Dockerfile}, {"target", r.Target}, {"package", r.Package}} {
		if f.demand != nil {
			out = append(out, f.name+" "+f.demand.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		out = append(out, "build argument "+name+" "+r.BuildArgs[name].String())
	}
	switch {
	case r.Any:
		out = append(out, "any recipe")
	case r.Image != "":
		out = append(out, "recipe of the image "+r.Image)
	}
	if r.Lock != "" {
		out = append(out, "lock "+r.Lock)
	}
	if r.Hermetic {
		out = append(out, "hermetic")
	}
	return strings.Join(out, ", ")
}

func (r Recipe) check() error {
	rest := r
	rest.Any = false
	switch {
	case r.Any && !rest.demandsNothing():
		return errors.New("policy: recipe: got a demand and anyRecipe, want at most one of them")
	case r.Package != nil && (r.Dockerfile != nil || r.Target != nil || len(r.BuildArgs) > 0):
		return errors.New("policy: recipe: got a package and a Dockerfile, target or build argument: no builder has both")
	case r.Lock != "" && r.Hermetic:
		return errors.New("policy: recipe: got lock and hermetic, want at most one of them: a hermetic build writes its own lock")
	case r.Lock != "" && r.Package != nil:
		return errors.New("policy: recipe: got lock and package: the golang builder takes no lock")
	}
	if sum, ok := strings.CutPrefix(r.Lock, "sha256:"); r.Lock != "" {
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != 32 || sum != strings.ToLower(sum) {
			return fmt.Errorf("policy: recipe: lock: got %q, want sha256:HEX", r.Lock)
		}
	}
	return nil
}

// Built says how an image was built, as a verified provenance of a Colophon builder
// says it.
type Built struct {
	Image    string                // name of the image to verify, REGISTRY/NAME; empty if it has none
	Recipe   attest.Recipe         // how it was built
	Default  *attest.DefaultRecipe // how the commit itself says that it is built; nil if it does not say
	Hermetic bool
	Lock     string // "sha256:HEX" of the lock file that the requester brought, or empty
}

// MatchRecipe fails unless the image was built as demanded. b is nil if the provenance
// is not from a Colophon builder: it then fails if the policy demands anything of a
// recipe.
func (p Provenance) MatchRecipe(b *Built) error {
	r := p.Recipe
	switch {
	case r.Any || b == nil && r.demandsNothing():
		return nil
	case b == nil:
		return errors.New("recipe: the policy demands one, and only provenance of a Colophon builder has it")
	case r.Hermetic && !b.Hermetic:
		return errors.New("hermetic: got a build that is not hermetic, want a hermetic one")
	case r.Lock != "" && r.Lock != b.Lock:
		return mismatch(DemandRecipe, b.Lock, r.Lock, "recipe: lock that the requester brought: got %q, want %q", b.Lock, r.Lock)
	}
	want, err := r.base(b)
	if err != nil {
		return err
	}
	if want, err = r.demanded(b.Recipe, want); err != nil {
		return err
	}
	chosen := b.Recipe.Differences(want)
	if b.Lock != r.Lock {
		chosen = append(chosen, "lock "+b.Lock)
	}
	if len(chosen) > 0 {
		return &ChosenError{chosen}
	}
	return nil
}

// ChosenError means that the requester of the build chose something that the policy
// does not allow, in place of what the commit says.
type ChosenError struct {
	Chosen []string // for people, as in "target debug"; see attest.Recipe.Differences
}

func (e *ChosenError) Error() string {
	return "recipe: the requester of the build chose " + strings.Join(e.Chosen, ", ") + "; want the recipe of the commit itself"
}

// base returns the recipe that counts where the policy demands nothing: the commit's
// own or, if the policy demands another builder, that builder's defaults. Of a commit
// without a recipe of its own, a context alone means the Dockerfile in it.
func (r Recipe) base(b *Built) (attest.Recipe, error) {
	d := b.Default
	if builder := r.builder(); builder != "" && (d == nil || d.Recipe.Builder != builder) {
		if r.Image != "" {
			return attest.Recipe{}, mismatch(DemandRecipe, "", r.Image, "recipe: the commit declares none for the image %q and the %s builder", r.Image, builder)
		}
		return attest.Recipe{Builder: builder}, nil
	}
	switch {
	case d == nil && r.Image == "" && r.Context != nil:
		return attest.Recipe{Builder: attest.BuildKit}, nil
	case d == nil && r.Image == "":
		return attest.Recipe{}, nil
	case d == nil || r.Image != "" && d.Image != r.Image:
		declared := ""
		if d != nil {
			declared = d.Image
		}
		return attest.Recipe{}, mismatch(DemandRecipe, declared, r.Image, "recipe: image that the commit declares it for: got %q, want %q", declared, r.Image)
	case r.Image == "" && b.Image == "" && d.Image != "":
		return attest.Recipe{}, mismatch(DemandRecipe, d.Image, "", "recipe: the commit declares it for the image %q, and a file does not say which image it is; if it is that one, demand its recipe by that name (--declared-as)", d.Image)
	case r.Image == "" && !d.For(b.Image):
		return attest.Recipe{}, mismatch(DemandRecipe, d.Image, b.Image, "recipe: the commit declares it for the image %q, and this image is %q; of a copy, demand the recipe by the image's name in %s", d.Image, b.Image, d.File)
	}
	return d.Recipe, nil
}

// demanded compares the fields that the policy demands, and returns want with them as
// they are in got.
func (r Recipe) demanded(got, want attest.Recipe) (attest.Recipe, error) {
	got, want = got.Filled(), want.Filled()
	if r.Context != nil {
		demand := *r.Context
		if demand.pattern == nil {
			demand.exact = path.Clean(demand.exact)
		}
		if is := path.Clean(got.Context); !demand.matches(is) { // the whole tree is "."
			return want, fmt.Errorf("recipe: context: got %q, want %s", is, demand)
		}
		want = want.WithContext(got.Context)
	}
	for _, f := range []struct {
		name   string
		demand *Value
		got    string
		want   *string
	}{
		{"dockerfile", r.Dockerfile, got.Dockerfile, &want.Dockerfile},
		{"target", r.Target, got.Target, &want.Target},
		{"package", r.Package, got.Package, &want.Package},
	} {
		if f.demand == nil {
			continue
		}
		if !f.demand.matches(f.got) && (f.name != "package" || !f.demand.matches(strings.TrimPrefix(f.got, "./"))) {
			return want, mismatch(DemandRecipe, f.got, f.demand.String(), "recipe: %s: got %q, want %s", f.name, f.got, *f.demand)
		}
		*f.want = f.got
	}
	want.BuildArgs = maps.Clone(want.BuildArgs)
	for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		demand := r.BuildArgs[name]
		value, there := got.BuildArgs[name]
		switch {
		case !there && (demand.pattern == nil || !demand.matches("")):
			return want, mismatch(DemandRecipe, "", demand.String(), "recipe: build argument %s: got none, want %s", name, demand)
		case !there:
			delete(want.BuildArgs, name)
		case !demand.matches(value):
			return want, mismatch(DemandRecipe, value, demand.String(), "recipe: build argument %s: got %q, want %s", name, value, demand)
		default:
			if want.BuildArgs == nil {
				want.BuildArgs = map[string]string{}
			}
			want.BuildArgs[name] = value
		}
	}
	return want, nil
}

// DocumentRecipe is a Recipe in a policy document.
type DocumentRecipe struct {
	Image      string                   `json:"image,omitempty"`
	Context    *DocumentValue           `json:"context,omitempty"`
	Dockerfile *DocumentValue           `json:"dockerfile,omitempty"`
	Target     *DocumentValue           `json:"target,omitempty"`
	BuildArgs  map[string]DocumentValue `json:"buildArgs,omitempty"`
	Package    *DocumentValue           `json:"package,omitempty"`
	Lock       string                   `json:"lock,omitempty"`
	Hermetic   bool                     `json:"hermetic,omitempty"`
}

// DocumentValue is a Value in a policy document: a string, which is compared whole, or
// an object {"pattern": "RE2"}.
type DocumentValue struct {
	Exact   string
	Pattern string // in place of Exact
}

type documentPattern struct {
	Pattern string `json:"pattern"`
}

// MarshalJSON implements json.Marshaler.
func (v DocumentValue) MarshalJSON() ([]byte, error) {
	if v.Pattern != "" {
		return json.Marshal(documentPattern{v.Pattern})
	}
	return json.Marshal(v.Exact)
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *DocumentValue) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return strict.UnmarshalKnown(data, limits.Request, &v.Exact)
	}
	var p documentPattern
	if err := strict.UnmarshalKnown(data, limits.Request, &p); err != nil {
		return err
	}
	if v.Pattern = p.Pattern; v.Pattern == "" {
		return errors.New("want a string or an object with a pattern")
	}
	return nil
}

// Recipe returns the Recipe of the document. It fails if members contradict each other.
func (d DocumentRecipe) Recipe() (r Recipe, err error) {
	r = Recipe{Image: d.Image, Lock: d.Lock, Hermetic: d.Hermetic}
	for _, f := range []struct {
		from *DocumentValue
		to   **Value
	}{{d.Context, &r.Context}, {d.Dockerfile, &r.Dockerfile}, {d.Target, &r.Target}, {d.Package, &r.Package}} {
		if f.from == nil {
			continue
		}
		v, err := f.from.value()
		if err != nil {
			return Recipe{}, err
		}
		*f.to = &v
	}
	for name, from := range d.BuildArgs {
		if r.BuildArgs == nil {
			r.BuildArgs = map[string]Value{}
		}
		if r.BuildArgs[name], err = from.value(); err != nil {
			return Recipe{}, err
		}
	}
	return r, r.check()
}

func (v DocumentValue) value() (Value, error) {
	if v.Pattern != "" {
		return ParseValue(v.Pattern)
	}
	return ExactValue(v.Exact), nil
}

// document returns nil for a Recipe that demands nothing.
func (r Recipe) document() *DocumentRecipe {
	if r.Any || r.demandsNothing() {
		return nil
	}
	d := &DocumentRecipe{Image: r.Image, Lock: r.Lock, Hermetic: r.Hermetic}
	for _, f := range []struct {
		from *Value
		to   **DocumentValue
	}{{r.Context, &d.Context}, {r.Dockerfile, &d.Dockerfile}, {r.Target, &d.Target}, {r.Package, &d.Package}} {
		if f.from != nil {
			*f.to = &DocumentValue{f.from.exact, f.from.expr}
		}
	}
	for name, v := range r.BuildArgs {
		if d.BuildArgs == nil {
			d.BuildArgs = map[string]DocumentValue{}
		}
		d.BuildArgs[name] = DocumentValue{v.exact, v.expr}
	}
	return d
}
