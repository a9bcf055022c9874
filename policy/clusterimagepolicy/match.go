package clusterimagepolicy

import (
	"slices"
	"strings"

	"github.com/colophon-build/colophon/policy"
)

// Workload is the object of Kubernetes that runs an image.
type Workload struct {
	Group, Version, Resource string            // as in apps, v1, deployments
	Labels                   map[string]string // of the object itself

	Spec, ObjectMeta, TypeMeta any // decoded JSON, for policies that include them; nil: not known
}

// About reports whether the policy is about an image, whatever workload runs it.
func (c *ClusterImagePolicy) About(image policy.Image) bool {
	return slices.ContainsFunc(c.Spec.Images, func(i Image) bool { return policy.ImagePattern{Glob: i.Glob}.Matches(image) })
}

// AboutWorkload reports whether the policy is about images of a workload.
func (c *ClusterImagePolicy) AboutWorkload(w *Workload) bool {
	return len(c.Spec.Match) == 0 || slices.ContainsFunc(c.Spec.Match, func(m Match) bool { return m.matches(w) })
}

func (m Match) matches(w *Workload) bool {
	return m.Resource == w.Resource && (m.Version == w.Version || m.Version == "*") && m.Group == w.Group && (m.Selector == nil || m.Selector.matches(w.Labels))
}

func (s *Selector) matches(labels map[string]string) bool {
	for name, want := range s.MatchLabels {
		if got, ok := labels[name]; !ok || got != want {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		got, there := labels[r.Key]
		in := there && slices.Contains(r.Values, got)
		switch r.Operator {
		case "In":
			there = in
		case "NotIn":
			there = !in
		case "DoesNotExist":
			there = !there
		}
		if !there {
			return false
		}
	}
	return true
}

// predicateTypes are the short names of predicate types that the original still reads.
var predicateTypes = map[string]string{
	"custom":         "https://cosign.sigstore.dev/attestation/v1",
	"slsaprovenance": "https://slsa.dev/provenance/v0.2",
	"spdx":           "https://spdx.dev/Document",
	"spdxjson":       "https://spdx.dev/Document",
	"cyclonedx":      "https://cyclonedx.org/bom",
	"link":           "https://in-toto.io/Link/v1",
	"vuln":           "https://cosign.sigstore.dev/attestation/vuln/v1",

	"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
	"slsaprovenance1":  "https://slsa.dev/provenance/v1",
	"openvex":          "https://openvex.dev/ns",
}

// PredicateURI returns the predicate type that an attestation names: a URI, or the one that a
// short name of cosign stands for.
func (t *Attestation) PredicateURI() string {
	if uri, ok := predicateTypes[t.PredicateType]; ok {
		return uri
	}
	return t.PredicateType
}

// Format returns the signatureFormat, legacy if there is none.
func (a *Authority) Format() string {
	if a.SignatureFormat == "" {
		return FormatLegacy
	}
	return a.SignatureFormat
}

// CA returns the address of the certificate authority, without a slash at its end.
func (k *Keyless) CA() string {
	if k.URL == "" {
		return DefaultCA
	}
	return strings.TrimSuffix(k.URL, "/")
}
