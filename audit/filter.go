package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Filter says which records somebody asks for. Empty members ask for nothing.
type Filter struct {
	Kinds     []Kind    `json:"kinds,omitempty"` // one of them
	Role      string    `json:"role,omitempty"`
	Cluster   string    `json:"cluster,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Policy    string    `json:"policy,omitempty"`  // name of a policy of which a rule decided, or sha256:HEX of all policies
	Outcome   string    `json:"outcome,omitempty"` // of the record; together with the name of a policy, of one of its rules
	Effect    string    `json:"effect,omitempty"`
	Image     string    `json:"image,omitempty"` // with its tag, or without
	Digest    string    `json:"digest,omitempty"`
	Commit    string    `json:"commit,omitempty"`
	Source    string    `json:"source,omitempty"`
	Builder   string    `json:"builder,omitempty"`
	Basis     string    `json:"basis,omitempty"` // digest of the policies, trust roots or distrust list
	From      time.Time `json:"from,omitzero"`   // the record's time: at it or later
	To        time.Time `json:"to,omitzero"`     // before it
}

// Match reports whether the filter asks for r. A hidden field matches nothing: open it first.
func (f *Filter) Match(r *Record) bool {
	for _, c := range [][2]string{
		{f.Role, r.By.Role}, {f.Cluster, r.Where.Cluster}, {f.Namespace, r.Where.Namespace.Value}, {f.Effect, r.Effect},
		{f.Digest, r.About.Digest}, {f.Commit, r.About.Commit}, {f.Source, r.About.Source}, {f.Builder, r.About.Builder},
	} {
		if c[0] != "" && c[0] != c[1] {
			return false
		}
	}
	basis := []string{r.Basis.Policy, r.Basis.Trust, r.Basis.Distrust, r.Basis.Before}
	switch {
	case len(f.Kinds) > 0 && !slices.Contains(f.Kinds, r.Kind),
		f.Image != "" && f.Image != r.About.Image.Value && f.Image != Untagged(r.About.Image.Value),
		f.Basis != "" && !slices.Contains(basis, f.Basis),
		!f.From.IsZero() && r.Time.Before(f.From), !f.To.IsZero() && !r.Time.Before(f.To):
		return false
	}
	return f.matchPolicy(r)
}

func (f *Filter) matchPolicy(r *Record) bool {
	if f.Policy == "" || strings.HasPrefix(f.Policy, "sha256:") {
		return (f.Policy == "" || f.Policy == r.Basis.Policy) && (f.Outcome == "" || f.Outcome == r.Outcome)
	}
	return slices.ContainsFunc(r.Rules, func(x Rule) bool {
		return x.Policy == f.Policy && (f.Outcome == "" || f.Outcome == x.Outcome)
	})
}

// Untagged returns the name of an image without its tag and digest.
func Untagged(image string) string {
	image, _, _ = strings.Cut(image, "@")
	slash := strings.LastIndexByte(image, '/') + 1
	name, _, _ := strings.Cut(image[slash:], ":")
	return cmp.Or(image[:slash]+name, image)
}
