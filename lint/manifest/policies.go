package manifest

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/yamlfile"
	"github.com/colophon-build/colophon/policy"
)

// policies checks an object that says which images may run: of the policy-controller, Kyverno,
// Colophon, or a webhook that asks one of them.
func (c *checker) policies(n *yaml.Node) {
	version, kind := yamlfile.Value(yamlfile.Get(n, "apiVersion")), yamlfile.Value(yamlfile.Get(n, "kind"))
	group, _, _ := strings.Cut(version, "/")
	spec := yamlfile.Get(n, "spec")
	switch group + " " + kind {
	case "policy.sigstore.dev ClusterImagePolicy":
		c.clusterImagePolicy(spec)
	case "kyverno.io ClusterPolicy", "kyverno.io Policy":
		c.kyverno(spec)
	case "policies.kyverno.io ImageValidatingPolicy", "policies.kyverno.io NamespacedImageValidatingPolicy":
		c.validating(spec)
	case "colophon.build " + policy.KindPolicy, "colophon.build " + policy.KindNamespacePolicy:
		for _, r := range yamlfile.List(yamlfile.Get(spec, "rules")) {
			if mode := yamlfile.Get(r, "mode"); mode != nil && (mode.Value == string(policy.Audit) || mode.Value == string(policy.Warn)) && yamlfile.Get(r, "enforceFrom") == nil {
				c.add(ruleAudit, mode, "the rule "+yamlfile.Value(yamlfile.Get(r, "name"))+" refuses no image: its mode is "+mode.Value, "write mode: enforce, or enforceFrom with the day from which on it is")
			}
		}
		c.identities(spec)
	case "admissionregistration.k8s.io ValidatingWebhookConfiguration", "admissionregistration.k8s.io MutatingWebhookConfiguration":
		for _, w := range yamlfile.List(yamlfile.Get(n, "webhooks")) {
			c.webhook(w)
		}
	case "apiserver.config.k8s.io AdmissionConfiguration":
		for _, p := range yamlfile.List(yamlfile.Get(n, "plugins")) {
			if allow := yamlfile.Get(p, "configuration", "imagePolicy", "defaultAllow"); allow != nil && allow.Value == "true" {
				c.add(ruleIgnore, allow, "the plugin "+yamlfile.Value(yamlfile.Get(p, "name"))+" admits every image if its webhook does not answer", "write defaultAllow: false")
			}
		}
	case "v1 Namespace":
		c.namespace(yamlfile.Get(n, "metadata"))
	}
}

func (c *checker) clusterImagePolicy(spec *yaml.Node) {
	if mode := yamlfile.Get(spec, "mode"); mode != nil && mode.Value == "warn" {
		c.add(ruleAudit, mode, "the policy refuses no image: its mode is warn", "write mode: enforce")
	}
	all := slices.ContainsFunc(yamlfile.List(yamlfile.Get(spec, "images")), func(i *yaml.Node) bool {
		glob := yamlfile.Value(yamlfile.Get(i, "glob"))
		return glob == "**" || glob == "*"
	})
	for _, a := range yamlfile.List(yamlfile.Get(spec, "authorities")) {
		if action := yamlfile.Get(a, "static", "action"); all && action != nil && action.Value == "pass" {
			c.add(ruleCatchAll, action, "every image passes, whoever signed it", "name who may sign, and limit the exemption to the images that it is for")
		}
	}
	c.identities(spec)
}

// kyverno checks the rules verifyImages of a policy of Kyverno.
func (c *checker) kyverno(spec *yaml.Node) {
	global := yamlfile.Get(spec, "validationFailureAction")
	verifies := false
	for _, rule := range yamlfile.List(yamlfile.Get(spec, "rules")) {
		for _, v := range yamlfile.List(yamlfile.Get(rule, "verifyImages")) {
			verifies = true
			action := yamlfile.Get(v, "failureAction")
			if action == nil {
				action = global
			}
			const mend = "write failureAction: Enforce in verifyImages"
			switch name := yamlfile.Value(yamlfile.Get(rule, "name")); {
			case action == nil:
				c.add(ruleAudit, firstKey(v), "the rule "+name+" refuses no image: it has no failureAction, and Kyverno's default is Audit", mend)
			case strings.EqualFold(action.Value, "audit"):
				c.add(ruleAudit, action, "the rule "+name+" refuses no image: its failure action is "+action.Value, mend)
			}
			c.identities(v)
		}
	}
	if verifies {
		c.failurePolicy(spec, "the policy")
	}
}

// validating checks an ImageValidatingPolicy of Kyverno.
func (c *checker) validating(spec *yaml.Node) {
	actions := yamlfile.Scalars(yamlfile.Get(spec, "validationActions"))
	denies := slices.ContainsFunc(actions, func(a *yaml.Node) bool { return a.Value == "Deny" })
	if len(actions) > 0 && !denies {
		c.add(ruleAudit, actions[0], "the policy refuses no image: its action is "+actions[0].Value, "write validationActions: [Deny]")
	}
	c.identities(spec)
	c.failurePolicy(spec, "the policy")
}

func (c *checker) failurePolicy(n *yaml.Node, what string) {
	if p := yamlfile.Get(n, "failurePolicy"); p != nil && p.Value == "Ignore" {
		c.add(ruleIgnore, p, what+" admits every image if it cannot be asked", "write failurePolicy: Fail")
	}
}

// verifier matches names of webhooks and services that verify images.
var verifier = lazyregexp.New(`(?i)sigstore|cosign|notation|notary|connaisseur|portieris|ratify|colophon|image-?(policy|verif|sign|trust)|(verify|signed|trusted)-?images?`)

// webhook checks a webhook of an admission configuration, if its name says that it verifies images.
func (c *checker) webhook(w *yaml.Node) {
	name := yamlfile.Value(yamlfile.Get(w, "name"))
	service := yamlfile.Value(yamlfile.Get(w, "clientConfig", "service", "name"))
	if verifier.MatchString(name) || verifier.MatchString(service) {
		if !reviewsPolicies(w) {
			c.failurePolicy(w, "the webhook "+name)
		}
	}
}

// reviewsPolicies reports whether a webhook is asked about policies only, and not about what runs.
func reviewsPolicies(w *yaml.Node) bool {
	resources := []*yaml.Node{}
	for _, r := range yamlfile.List(yamlfile.Get(w, "rules")) {
		resources = append(resources, yamlfile.Scalars(yamlfile.Get(r, "resources"))...)
	}
	return len(resources) > 0 && !slices.ContainsFunc(resources, func(r *yaml.Node) bool {
		name, _, _ := strings.Cut(r.Value, "/")
		return slices.Contains([]string{"*", "pods", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs", "replicationcontrollers", "podtemplates"}, name)
	})
}

// identities looks for identities that strangers have in all of a policy. The members are those of
// cosign's policies and Kyverno's (subjectRegExp, issuerRegExp, subject of keyless), and of Colophon's
// (identity: {matches: …}).
func (c *checker) identities(n *yaml.Node) {
	n = yamlfile.Resolve(n)
	switch {
	case n == nil:
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			c.identities(item)
		}
	case n.Kind == yaml.MappingNode:
		yamlfile.Pairs(n, func(key, value *yaml.Node) bool {
			switch key.Value {
			case "subjectRegExp", "issuerRegExp":
				c.pattern(key.Value, value, value.Value)
			case "subject", "issuer":
				if value.Kind == yaml.ScalarNode && strings.Contains(value.Value, "*") {
					c.pattern(key.Value, value, "^"+wildcards.Replace(regexp.QuoteMeta(value.Value))+"$")
				}
			case "identity":
				if m := yamlfile.Get(value, "matches"); m != nil {
					c.pattern("matches", m, "^(?:"+m.Value+")$")
				}
			case "keyless":
				c.keyless(key, value)
			}
			c.identities(value)
			return true
		})
	}
}

// wildcards makes a regular expression of the pattern of Kyverno, of which QuoteMeta has quoted the signs.
var wildcards = strings.NewReplacer(`\*`, `.*`, `\?`, `.`)

func (c *checker) pattern(member string, at *yaml.Node, expression string) {
	re, err := regexp.Compile(expression)
	if err != nil || at.Kind != yaml.ScalarNode || at.Value == "" {
		return // whoever reads the policy refuses it
	}
	if stranger, ok := policy.Stranger(re.MatchString); ok {
		c.add(ruleCatchAll, at, member+" "+at.Value+" is met by strangers, such as "+stranger, "name the workflow or the person that signs, and the issuer, whole")
	}
}

// keyless finds an attestor of Kyverno that says nothing about who signs.
func (c *checker) keyless(key, n *yaml.Node) {
	if n.Kind != yaml.MappingNode || yamlfile.Get(n, "roots") != nil {
		return // certificates of an authority of one's own
	}
	for _, member := range []string{"subject", "subjectRegExp", "identities", "url", "ca-cert", "trustRootRef", "additionalExtensions"} {
		if yamlfile.Get(n, member) != nil {
			return
		}
	}
	c.add(ruleCatchAll, key, "keyless without subject accepts the certificate of anybody whom the issuer knows", "add subject with the workflow or person that signs")
}

// firstKey returns a value that has a place of its own: the first key of a mapping.
func firstKey(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		return n.Content[0]
	}
	return n
}

// namespace checks that a namespace has the label of the policy-controller, if others in the tree do.
func (c *checker) namespace(metadata *yaml.Node) {
	name := yamlfile.Get(metadata, "name")
	if !c.in.optIn || name == nil || name.Kind != yaml.ScalarNode || strings.HasPrefix(name.Value, "kube-") || name.Value == "cosign-system" {
		return
	}
	labels := yamlfile.Get(metadata, "labels")
	if yamlfile.Value(yamlfile.Get(labels, includeLabel)) != "true" && yamlfile.Get(labels, "policy.sigstore.dev/exclude") == nil {
		c.add(ruleNamespace, name, "the images of the namespace "+name.Value+" are not verified", "add the label "+includeLabel+`: "true"`)
	}
}

const includeLabel = "policy.sigstore.dev/include"
