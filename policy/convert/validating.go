package convert

import (
	"github.com/colophon-build/colophon/policy"
)

// validating is an ImageValidatingPolicy, as far as it is written here.
type validating struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   policy.MetadataDocument `json:"metadata"`
	Spec       validatingSpec          `json:"spec"`
}

type validatingSpec struct {
	Constraints    constraints    `json:"matchConstraints"`
	FailurePolicy  string         `json:"failurePolicy"`
	Actions        []string       `json:"validationActions"`
	Configurations configurations `json:"validationConfigurations"`
	References     []glob         `json:"matchImageReferences"`
	Images         []extractor    `json:"images"`
	Variables      []extractor    `json:"variables"`
	Attestors      []attestor     `json:"attestors"`
	Attestations   []inToto       `json:"attestations,omitempty"`
	Validations    []validation   `json:"validations"`
}

type constraints struct {
	Rules []resourceRule `json:"resourceRules"`
}

type resourceRule struct {
	Groups     []string `json:"apiGroups"`
	Versions   []string `json:"apiVersions"`
	Operations []string `json:"operations"`
	Resources  []string `json:"resources"`
}

type configurations struct {
	MutateDigest bool `json:"mutateDigest"`
	VerifyDigest bool `json:"verifyDigest"`
	Required     bool `json:"required"`
}

type glob struct {
	Glob string `json:"glob"`
}

type extractor struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

type attestor struct {
	Name   string `json:"name"`
	Cosign cosign `json:"cosign"`
}

type cosign struct {
	Key     *keyData `json:"key,omitempty"`
	Keyless *keyless `json:"keyless,omitempty"`
	Log     *log     `json:"ctlog,omitempty"`
	TUF     *mirror  `json:"tuf,omitempty"`
}

type keyData struct {
	Data string `json:"data"`
}

type keyless struct {
	Identities []subject `json:"identities"`
}

type subject struct {
	Issuer        string `json:"issuer"`
	Subject       string `json:"subject,omitempty"`
	SubjectRegExp string `json:"subjectRegExp,omitempty"`
}

type log struct {
	IgnoreTlog bool `json:"insecureIgnoreTlog"`
	IgnoreSCT  bool `json:"insecureIgnoreSCT"`
}

type mirror struct {
	Mirror string `json:"mirror"`
}

type inToto struct {
	Name   string     `json:"name"`
	InToto inTotoType `json:"intoto"`
}

type inTotoType struct {
	Type string `json:"type"`
}

type validation struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

// newValidating returns a policy that looks at each image of a pod, whatever its name, and
// demands only that names are canonical. Each image i of variables.images has its reference as
// the pod writes it, and its name, NAME@sha256:HEX, tag and registry.
func newValidating(set *policy.SetDocument, action string) *validating {
	name := set.Metadata.Name
	if action != "Deny" {
		name += map[string]string{"Warn": "-warn", "Audit": "-audit"}[action]
	}
	p := &validating{APIVersion: kyvernoVersion, Kind: kyvernoKind, Metadata: policy.MetadataDocument{Name: name, Namespace: set.Metadata.Namespace}}
	if set.Kind == policy.KindNamespacePolicy {
		p.Kind = kyvernoNamespace
	}
	p.Spec = validatingSpec{
		Constraints: constraints{[]resourceRule{{
			Groups: []string{""}, Versions: []string{"v1"}, Operations: []string{"CREATE", "UPDATE"}, Resources: []string{"pods", "pods/ephemeralcontainers"},
		}}},
		FailurePolicy: "Fail", Actions: []string{action},
		// The validations say which images need evidence: not all, if unmatched is allow.
		Configurations: configurations{MutateDigest: true, VerifyDigest: true, Required: false},
		References:     []glob{{"**"}},
		Images:         []extractor{{"volumes", "object.spec.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.reference)"}},
		Variables: []extractor{{"images", `(images.containers + images.initContainers + images.ephemeralContainers + images.volumes).map(i, {` +
			`"reference": i, "name": parseImageReference(i).registry() + "/" + parseImageReference(i).repository() + "@" + parseImageReference(i).digest(), ` +
			`"tag": parseImageReference(i).tag(), "registry": parseImageReference(i).registry()})`}},
		Validations: []validation{{
			`variables.images.all(i, i.registry.matches("^([a-z0-9_-]+(\\.[a-z0-9_-]+)*|\\[[0-9a-f:.]+\\])(:[1-9][0-9]{0,4})?$") && !i.registry.endsWith(":443") && !(i.registry in ["registry-1.docker.io", "registry.hub.docker.com"]))`,
			"write the registry in lower case, and without :443",
		}},
	}
	return p
}
