// Package clusterimagepolicy reads the policies of sigstore's policy-controller:
// ClusterImagePolicy (policy.sigstore.dev, v1alpha1 and v1beta1) and TrustRoot (v1alpha1), as
// clusters have them. The source is config/300-clusterimagepolicy.yaml and
// config/300-trustroot.yaml of github.com/sigstore/policy-controller v0.14.0.
//
// Parse reads them strictly: an unknown member, and a value that the original refuses, is an
// error with its place in the file. The package does no I/O and verifies nothing; package
// verify/cluster answers what a policy says about an image.
//
// A ConfigMap and a Secret (v1) in the same file have the texts and keys that policies refer to,
// and the ConfigMap config-policy-controller says what happens to an image that no policy is
// about.
package clusterimagepolicy

import "github.com/colophon-build/colophon/policy"

// What the documents call themselves.
const (
	Group         = "policy.sigstore.dev"
	APIVersion    = Group + "/v1beta1"  // of a policy
	OldAPIVersion = Group + "/v1alpha1" // of a policy with the same members, and of a trust root

	KindPolicy    = "ClusterImagePolicy"
	KindTrustRoot = "TrustRoot"
)

// ClusterImagePolicy demands that images are signed.
type ClusterImagePolicy struct {
	APIVersion string                  `json:"apiVersion"`
	Kind       string                  `json:"kind"`
	Metadata   policy.MetadataDocument `json:"metadata"`
	Spec       Spec                    `json:"spec"`
	Status     any                     `json:"status,omitempty"` // what the controller writes there: it decides nothing
}

// Spec is what a ClusterImagePolicy demands of the images that match it: that one of the
// authorities accepts the image, and then that Policy holds.
type Spec struct {
	Images      []Image     `json:"images"`                // the policy is about images that match one of these
	Authorities []Authority `json:"authorities,omitempty"` // one of them is enough; none: no image is accepted
	Policy      *Policy     `json:"policy,omitempty"`      // about all authorities that accepted the image
	Mode        string      `json:"mode,omitempty"`        // enforce or warn; if absent: enforce
	Match       []Match     `json:"match,omitempty"`       // the policy is about workloads that match one of these; none: all
}

// Image is a pattern of image names.
type Image struct {
	// Glob is matched with NAME@sha256:HEX as a whole: "**" stands for any text, "*" for any text
	// without "/". "*" alone means index.docker.io/library/*, and "*/*" index.docker.io/*/*.
	Glob string `json:"glob"`
}

// Match says which workloads a policy is about. All members are compared whole, and an empty one
// too: the group of pods is empty.
type Match struct {
	Group    string    `json:"group,omitempty"`
	Version  string    `json:"version,omitempty"`  // "*": any
	Resource string    `json:"resource,omitempty"` // pods, deployments, ...
	Selector *Selector `json:"selector,omitempty"` // needs one of the others
}

// Selector selects by labels, as LabelSelector of Kubernetes does: all must hold.
type Selector struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitempty"`
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty"`
}

// LabelRequirement compares one label.
type LabelRequirement struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"` // In, NotIn, Exists or DoesNotExist
	Values   []string `json:"values,omitempty"`
}

// Authority says who must have signed: exactly one of Key, Keyless and Static.
type Authority struct {
	Name             string        `json:"name,omitempty"` // if absent: authority-N, N from 0
	Key              *Key          `json:"key,omitempty"`
	Keyless          *Keyless      `json:"keyless,omitempty"`
	Static           *Static       `json:"static,omitempty"`
	Source           []Source      `json:"source,omitempty"`           // where signatures are, in place of the image's repository; at most 1
	CTLog            *Log          `json:"ctlog,omitempty"`            // the transparency log that must have the signature
	Attestations     []Attestation `json:"attestations,omitempty"`     // if there are any, these must be signed, and not the image
	RFC3161Timestamp *Timestamp    `json:"rfc3161timestamp,omitempty"` // a timestamp authority that must have seen the signature
	SignatureFormat  string        `json:"signatureFormat,omitempty"`  // legacy (tags of cosign v2) or bundle (Sigstore bundles); if absent: legacy
}

// Key is a public key: exactly one of Data, SecretRef and KMS.
type Key struct {
	Data          string           `json:"data,omitempty"`          // PEM (PKIX)
	SecretRef     *SecretReference `json:"secretRef,omitempty"`     // secret of the controller's namespace with one entry, PEM
	KMS           string           `json:"kms,omitempty"`           // URI of a key in a key management service
	HashAlgorithm string           `json:"hashAlgorithm,omitempty"` // sha224, sha256, sha384 or sha512; if absent: sha256
}

// SecretReference names a secret.
type SecretReference struct {
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// Keyless is a certificate of a Sigstore instance: exactly one of URL and CACert.
type Keyless struct {
	URL               string     `json:"url,omitempty"`               // of the certificate authority; if absent: https://fulcio.sigstore.dev
	Identities        []Identity `json:"identities"`                  // the certificate must have one of these
	CACert            *Key       `json:"ca-cert,omitempty"`           // the original reads it, and then accepts no image
	TrustRootRef      string     `json:"trustRootRef,omitempty"`      // name of the TrustRoot that has the certificate authority
	InsecureIgnoreSCT bool       `json:"insecureIgnoreSCT,omitempty"` // dangerous: the certificate needs no proof of a certificate transparency log
}

// Identity is in a certificate: one of Issuer and IssuerRegExp, and one of Subject and
// SubjectRegExp. A regular expression (RE2) may match a part of the text.
type Identity struct {
	Issuer        string `json:"issuer,omitempty"`
	Subject       string `json:"subject,omitempty"`
	IssuerRegExp  string `json:"issuerRegExp,omitempty"`
	SubjectRegExp string `json:"subjectRegExp,omitempty"`
}

// Static decides without evidence.
type Static struct {
	Action  string `json:"action"`            // pass or fail
	Message string `json:"message,omitempty"` // why it fails, for people
}

// Source is a repository with signatures about the image.
type Source struct {
	OCI                  string            `json:"oci,omitempty"` // REGISTRY/NAME; if absent: the image's repository
	SignaturePullSecrets []ObjectReference `json:"signaturePullSecrets,omitempty"`
	TagPrefix            *string           `json:"tagPrefix,omitempty"` // before the tags of signatures
}

// ObjectReference names an object in the workload's namespace.
type ObjectReference struct {
	Name string `json:"name"`
}

// Log is a transparency log.
type Log struct {
	URL          string `json:"url,omitempty"`
	TrustRootRef string `json:"trustRootRef,omitempty"` // name of the TrustRoot that has its key
}

// Timestamp is a timestamp authority.
type Timestamp struct {
	TrustRootRef string `json:"trustRootRef,omitempty"` // name of the TrustRoot that has its certificates
}

// Attestation is a signed statement that an image must have.
type Attestation struct {
	Name          string  `json:"name"`
	PredicateType string  `json:"predicateType"`    // URI, or a short name of cosign
	Policy        *Policy `json:"policy,omitempty"` // about the statement
}

// Policy is a policy in CUE or Rego: exactly one of Data, Remote and ConfigMapRef. The last four
// members add to its input, and belong to the policy of a Spec only.
type Policy struct {
	Type         string        `json:"type"` // cue or rego
	Data         string        `json:"data,omitempty"`
	Remote       *Remote       `json:"remote,omitempty"`
	ConfigMapRef *ConfigMapKey `json:"configMapRef,omitempty"`

	FetchConfigFile   bool `json:"fetchConfigFile,omitempty"`   // configuration of the image, by platform
	IncludeSpec       bool `json:"includeSpec,omitempty"`       // spec of the workload
	IncludeObjectMeta bool `json:"includeObjectMeta,omitempty"` // its metadata
	IncludeTypeMeta   bool `json:"includeTypeMeta,omitempty"`   // its kind and apiVersion
}

// Remote is a file on a server.
type Remote struct {
	URL       string `json:"url"` // https
	SHA256Sum string `json:"sha256sum"`
}

// ConfigMapKey is an entry of a ConfigMap.
type ConfigMapKey struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // the original ignores it: the controller's counts
	Key       string `json:"key"`
}
