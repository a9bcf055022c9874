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

// WorkloadOf returns the workload that an object of Kubernetes is, decoded from JSON or YAML; nil if
// it is none that the API server takes. Its resource is what the original guesses from the kind
// (meta.UnsafeGuessKindToResource of k8s.io/apimachinery), which is right for all kinds that
// Kubernetes itself runs. The labels are the object's own, not those of the pods that it makes.
func WorkloadOf(apiVersion, kind string, object map[string]any) *Workload {
	group, version, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group, version = "", apiVersion
	}
	if version == "" || kind == "" {
		return nil
	}
	w := &Workload{Group: group, Version: version, Resource: resourceOf(kind), Labels: map[string]string{}, TypeMeta: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	if spec, ok := object["spec"].(map[string]any); ok {
		w.Spec = spec
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return nil
	}
	w.ObjectMeta = metadata
	labels, ok := metadata["labels"].(map[string]any)
	if !ok && metadata["labels"] != nil {
		return nil
	}
	for name, value := range labels {
		text, ok := value.(string)
		if !ok {
			return nil
		}
		w.Labels[name] = text
	}
	return w
}

// resourceOf returns the plural of a kind, in lower case.
func resourceOf(kind string) string {
	kind = strings.ToLower(kind)
	switch {
	case kind == "endpoints":
		return kind
	case strings.HasSuffix(kind, "s"):
		return kind + "es"
	case strings.HasSuffix(kind, "y"):
		return strings.TrimSuffix(kind, "y") + "ies"
	}
	return kind + "s"
}

// DependsOnWorkload reports whether the policy may decide otherwise about images of another workload.
func (c *ClusterImagePolicy) DependsOnWorkload() bool {
	return len(c.Spec.Match) > 0 || c.LooksAtWorkload()
}

// LooksAtWorkload reports whether the policy in CUE or Rego gets something of the workload.
func (c *ClusterImagePolicy) LooksAtWorkload() bool {
	p := c.Spec.Policy
	return p != nil && (p.IncludeSpec || p.IncludeObjectMeta || p.IncludeTypeMeta)
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
