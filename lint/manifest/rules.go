package manifest

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleBroken    = "manifest/syntax"
	ruleImage     = "manifest/image-by-tag"
	ruleAudit     = "manifest/audit-mode"
	ruleCatchAll  = "manifest/identity-catch-all"
	ruleIgnore    = "manifest/webhook-ignored"
	ruleMissing   = "manifest/verification-missing"
	ruleNamespace = "manifest/namespace-unverified"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleBroken, Severity: finding.Error, Title: "a manifest or compose file cannot be read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleImage, Severity: finding.Warning, Title: "an image is named by tag", Fixes: true, Link: "https://kubernetes.io/docs/concepts/containers/images/#image-names",
			Why: "Whoever can push to the registry decides what runs, and two nodes, or the same one tomorrow, may run different images."},
		{ID: ruleAudit, Severity: finding.Warning, Title: "a policy about images refuses nothing", Link: "https://docs.sigstore.dev/policy-controller/overview/",
			Why: "A policy in audit or warn mode writes down that an image has no proof, and the image runs."},
		{ID: ruleCatchAll, Severity: finding.Error, Title: "a policy accepts the signature of anybody",
			Why: "Everybody can get a certificate of the public Sigstore, so an image of anybody passes."},
		{ID: ruleIgnore, Severity: finding.Error, Title: "images are admitted if the webhook that verifies them does not answer", Link: "https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#failure-policy",
			Why: "Whoever makes the webhook slow or unreachable, with a large image or many requests, runs any image."},
		{ID: ruleMissing, Severity: finding.Note, Title: "a cluster is managed from here, and no policy verifies its images", Link: "https://slsa.dev/spec/v1.2/verifying-artifacts",
			Why: "Signatures and provenance protect nobody as long as the cluster runs images without them."},
		{ID: ruleNamespace, Severity: finding.Warning, Title: "a namespace is left out of the verification of images", Link: "https://docs.sigstore.dev/policy-controller/overview/",
			Why: "The policy-controller verifies only the images of namespaces with its label: in the others, any image runs."},
	}
}
