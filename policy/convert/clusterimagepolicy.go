package convert

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// maxClauses limits the policies that one rule becomes.
const maxClauses = 64

// toClusterImagePolicy returns the policies of one file as ClusterImagePolicies. Of a policy, one
// authority is enough; so a rule with alternatives of which each demands several things becomes
// several policies, all of which an image must satisfy.
func toClusterImagePolicy(all []original, o Options) (*Result, error) {
	out := &Result{}
	for _, d := range all {
		if d.Kind == policy.KindNamespacePolicy {
			return nil, fmt.Errorf("%s %q: a ClusterImagePolicy is about all namespaces", d.Kind, d.Metadata.Name)
		}
		w := &cipWriter{losses: losses{policy: d.Metadata.Name}, options: o, deny: d.Spec.Unmatched == string(policy.DenyUnmatched)}
		w.unmatched(d, all)
		for i, r := range d.Spec.Rules {
			w.rule = r.Name
			policies, err := w.policies(r, d.set.Rules[i])
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", r.Name, err)
			}
			for _, p := range policies {
				out.Documents = append(out.Documents, p)
			}
		}
		out.Losses = append(out.Losses, w.list...)
	}
	return out, nil
}

type cipWriter struct {
	losses
	options Options
	deny    bool // an image that no rule is about is refused
}

// unmatched says what becomes of images that no rule is about.
func (w *cipWriter) unmatched(d original, all []original) {
	if !w.deny {
		w.stricter("unmatched", "an image that no policy is about is refused, unless the controller's ConfigMap config-policy-controller has no-match-policy: %s", d.Spec.Unmatched)
		return
	}
	w.stricter("unmatched", "the controller's ConfigMap config-policy-controller says what happens to an image that no policy is about: leave no-match-policy at deny, its default")
	for _, other := range all {
		for _, r := range other.set.Rules {
			if other != d && r.ModeAt(w.options.Now) != policy.Enforce {
				w.weaker("unmatched", "rule %s of the policy %s only warns or audits, and yet an image that only it is about is accepted", r.Name, other.Metadata.Name)
			}
		}
	}
}

// broader says that the result is about more images than the rule. It refuses more of them; but
// one that no rule is about was refused whatever it has.
func (w *cipWriter) broader(at, why string) {
	if w.deny {
		w.weaker(at, "%s: here, others are refused because no rule is about them", why)
	} else {
		w.stricter(at, "%s", why)
	}
}

// policies returns the policies of a rule. All of them must be satisfied.
func (w *cipWriter) policies(r policy.RuleDocument, rule policy.Rule) ([]*clusterimagepolicy.ClusterImagePolicy, error) {
	images := w.globs(rule.Images)
	if len(images) == 0 {
		return nil, nil
	}
	w.lostOfRule(r)
	for i, e := range rule.Exemptions {
		if w.options.Now.Before(e.Until) {
			w.stricter(fmt.Sprintf("exemptions[%d]", i), "the target has no exemptions: these images must satisfy the rule")
		}
	}
	mode := clusterimagepolicy.Enforce
	switch now := rule.ModeAt(w.options.Now); {
	case now == policy.Enforce:
	case !rule.EnforceFrom.IsZero():
		w.stricter("enforceFrom", "the target has no dates: the rule enforces now")
	case now == policy.Audit:
		w.stricter("mode", "the target does not audit: the rule warns")
		fallthrough
	default:
		mode = clusterimagepolicy.Warn
	}
	clauses, err := w.clauses(w.alternatives(r))
	if err != nil {
		return nil, err
	}
	if len(clauses) == 0 {
		why, refuses := refusal(r)
		if !refuses {
			w.stricter("accept", "the target can ask for none of the alternatives: the rule refuses every image")
		}
		clauses = []authorities{{{Static: &clusterimagepolicy.Static{Action: clusterimagepolicy.ActionFail, Message: why}}}}
	}
	var out []*clusterimagepolicy.ClusterImagePolicy
	for i, authorities := range clauses {
		name := w.policy + "-" + w.rule
		if len(clauses) > 1 {
			name = fmt.Sprintf("%s-%d", name, i+1)
		}
		p := &clusterimagepolicy.ClusterImagePolicy{
			APIVersion: clusterimagepolicy.APIVersion, Kind: clusterimagepolicy.KindPolicy, Metadata: metadata(name),
			Spec: clusterimagepolicy.Spec{Images: images, Authorities: authorities, Mode: mode},
		}
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// globs returns the patterns of a rule as globs, which have the same meaning.
func (w *cipWriter) globs(patterns []policy.ImagePattern) (out []clusterimagepolicy.Image) {
	for i, p := range patterns {
		at, glob := fmt.Sprintf("images[%d]", i), p.Glob
		if p.Tag != "" {
			w.broader(at+".tag", "the target does not see tags, so that the rule is about images with any tag")
		}
		switch name, digests, pinned := strings.Cut(glob, "@"); {
		case p.Digest == "":
		case pinned: // names have no @, so that the rest is a pattern of digests
			if !(policy.ImagePattern{Glob: "**@" + digests}).Matches(policy.Image{Name: "any", Digest: p.Digest}) {
				continue // no image matches, there or here
			}
			glob = name + "@" + p.Digest
		case glob == "":
			glob = "**@" + p.Digest
		case glob == "*":
			glob = "index.docker.io/library/*@" + p.Digest
		case glob == "*/*":
			glob = "index.docker.io/*/*@" + p.Digest
		case strings.HasSuffix(glob, "*"):
			glob += "@" + p.Digest
		default: // the glob has the end of the digest
			w.broader(at+".digest", "the glob names a digest already, so that the rule is about all images that the glob matches")
		}
		out = append(out, clusterimagepolicy.Image{Glob: glob})
	}
	return out
}

// authorities are alternatives of one policy.
type authorities = []clusterimagepolicy.Authority

// clauses returns what alternatives, of which each demands several things, mean as a list of
// policies: of each, one authority is enough, and each must be satisfied. It is the conjunctive
// normal form. There are none if the target can ask for none of the alternatives.
func (w *cipWriter) clauses(alternatives [][]evidence) ([]authorities, error) {
	clauses, found := []authorities{nil}, false
	for _, all := range alternatives {
		demands, ok := w.demands(all)
		if !ok {
			continue // without it, fewer images are accepted
		}
		found = true
		var next []authorities
		for _, clause := range clauses {
			for _, d := range demands {
				if c := union(clause, d); !slices.ContainsFunc(next, func(there authorities) bool { return reflect.DeepEqual(there, c) }) {
					next = append(next, c)
				}
			}
			if len(next) > maxClauses {
				return nil, fmt.Errorf("accept: as ClusterImagePolicies, the alternatives are more than %d policies: write fewer of them, or fewer attestations", maxClauses)
			}
		}
		clauses = next
	}
	if !found {
		return nil, nil
	}
	for _, c := range clauses {
		for i := range c {
			c[i].Name = fmt.Sprintf("authority-%d", i)
		}
	}
	return clauses, nil
}

// union returns the authorities of both, each once.
func union(a, b authorities) authorities {
	out := slices.Clone(a)
	for _, more := range b {
		if !slices.ContainsFunc(out, func(there clusterimagepolicy.Authority) bool { return reflect.DeepEqual(there, more) }) {
			out = append(out, more)
		}
	}
	return out
}

// demands returns a list of authorities for each thing that the evidence demands.
func (w *cipWriter) demands(all []evidence) (out []authorities, ok bool) {
	for _, e := range all {
		a, ok := w.authority(e.by)
		if !ok {
			return nil, false
		}
		bundle := a
		bundle.SignatureFormat = clusterimagepolicy.FormatBundle
		bundle.Attestations = []clusterimagepolicy.Attestation{{Name: "signature", PredicateType: attest.PredicateSign}}
		if e.predicateType != "" {
			t := clusterimagepolicy.Attestation{Name: "attestation", PredicateType: e.predicateType}
			if len(e.values) > 0 {
				t.Policy = &clusterimagepolicy.Policy{Type: clusterimagepolicy.TypeRego, Data: rego(e.values)}
			}
			a.Attestations = []clusterimagepolicy.Attestation{t}
			bundle.Attestations = a.Attestations
		}
		if a.Keyless == nil {
			w.stricter("accept", "what a key signed counts in cosign's older format only (cosign 2): the target reads no Sigstore bundles by keys")
			out = append(out, authorities{a})
		} else {
			out = append(out, authorities{a, bundle})
		}
	}
	return out, true
}

// authority returns the authority of a signer. ok is false if the target cannot name it.
func (w *cipWriter) authority(s signer) (a clusterimagepolicy.Authority, ok bool) {
	ref := ""
	switch {
	case s.unlogged:
	case s.root == "" || s.root == PublicRoot:
		w.onlyPublic(s.root)
		a.CTLog = &clusterimagepolicy.Log{URL: publicLog}
	default:
		ref = objectName(s.root)
		a.CTLog = &clusterimagepolicy.Log{TrustRootRef: ref}
		if strings.HasPrefix(s.root, "http") {
			a.CTLog.URL = s.root
		}
		w.stricter("accept", "add a TrustRoot with the name %s that has the keys of %s: without, the target refuses its signatures", ref, s.root)
	}
	if s.key != "" {
		a.Key = &clusterimagepolicy.Key{Data: s.key}
		return a, true
	}
	a.Keyless = &clusterimagepolicy.Keyless{URL: clusterimagepolicy.DefaultCA, TrustRootRef: ref}
	if ref != "" && strings.HasPrefix(s.root, "http") {
		a.Keyless.URL = s.root
	}
	for _, id := range s.identities {
		a.Keyless.Identities = append(a.Keyless.Identities, clusterimagepolicy.Identity{Issuer: id.issuer, Subject: id.subject, SubjectRegExp: id.subjectRegExp})
	}
	return a, true
}

const publicLog = "https://rekor.sigstore.dev"

var notInNames = lazyregexp.New(`[^a-z0-9.]+`)

// objectName returns a name for an object of Kubernetes about a trust root.
func objectName(root string) string {
	root = strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(root), "https://"), "http://")
	return strings.Trim(notInNames.ReplaceAllString(root, "-"), "-.")
}

// rego returns a policy that holds if a statement's predicate has the values. What is not there
// has no value, so that the policy does not hold.
func rego(values []policy.PredicateDocument) string {
	var lines []string
	for _, v := range values {
		lines = append(lines, fmt.Sprintf("  input.predicate%s == %s", path(v.Pointer), literal(v)))
	}
	return regoBegin + strings.Join(lines, "\n") + regoEnd
}

const (
	regoBegin = "package sigstore\n\ndefault isCompliant = false\n\nisCompliant {\n"
	regoEnd   = "\n}\n"
)
