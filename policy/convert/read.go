package convert

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// fromClusterImagePolicy returns ClusterImagePolicies as one policy with a name: each is a rule
// of it. Each authority becomes as many alternatives as it has identities.
func fromClusterImagePolicy(in *clusterimagepolicy.Objects, o Options) (*Result, error) {
	if len(in.Policies) == 0 {
		return nil, errors.New("expected a ClusterImagePolicy, found none")
	}
	d := &policy.SetDocument{APIVersion: policy.APIVersion, Kind: policy.KindPolicy, Metadata: metadata(o.Name), Spec: policy.SpecDocument{Unmatched: string(policy.DenyUnmatched), Rules: []policy.RuleDocument{}}}
	r := &cipReader{losses: losses{policy: o.Name}, roots: in.TrustRoots, options: o}
	r.stricter("", "unmatched is deny, the controller's default: its ConfigMap config-policy-controller may say something else")
	for _, p := range in.Policies {
		r.policy = p.Metadata.Name
		if rule, ok := r.read(p); ok {
			d.Spec.Rules = append(d.Spec.Rules, rule)
		}
	}
	if _, err := d.Set(); err != nil {
		return nil, err
	}
	return &Result{[]any{d}, r.list}, nil
}

type cipReader struct {
	losses
	roots   []*clusterimagepolicy.TrustRoot
	options Options
}

// read returns the rule of a policy; ok is false if it is about no image.
func (r *cipReader) read(p *clusterimagepolicy.ClusterImagePolicy) (rule policy.RuleDocument, ok bool) {
	rule = policy.RuleDocument{Name: p.Metadata.Name, Mode: p.Spec.Mode, Images: r.patterns(p.Spec.Images)}
	if len(rule.Images) == 0 {
		r.stricter("images", "no glob matches an image, there or here: the policy is left out")
		return rule, false
	}
	if len(p.Spec.Match) > 0 {
		r.weaker("match", "rules are about images, whatever the workload: images that only other workloads may have are accepted in all")
	}
	if p.Spec.Policy != nil {
		r.weaker("policy", "no rule can say what a policy in %s says about all authorities: write conditions", p.Spec.Policy.Type)
	}
	for i := range p.Spec.Authorities {
		a := &p.Spec.Authorities[i]
		if at := fmt.Sprintf("authorities[%d]", i); a.Static == nil {
			rule.Accept = append(rule.Accept, r.authority(at, a)...)
		} else if a.Static.Action == clusterimagepolicy.ActionPass {
			rule.Exemptions = r.exemption(at+".static", rule.Images)
		}
	}
	if len(rule.Accept) == 0 {
		rule.Accept = []policy.AcceptDocument{{Built: &policy.BuiltDocument{ProvenanceDocument: policy.ProvenanceDocument{Source: "any"}}}}
		rule.Conditions = []policy.ConditionDocument{{Expression: never, Message: r.refused(p)}}
	}
	return rule, true
}

// refused returns why a policy refuses every image.
func (r *cipReader) refused(p *clusterimagepolicy.ClusterImagePolicy) string {
	for _, a := range p.Spec.Authorities {
		if a.Static != nil && a.Static.Action == clusterimagepolicy.ActionFail {
			if a.Static.Message != "" {
				return a.Static.Message
			}
			return "the policy refuses these images"
		}
	}
	if slices.ContainsFunc(p.Spec.Authorities, func(a clusterimagepolicy.Authority) bool { return a.Static == nil }) {
		r.stricter("authorities", "no rule can say what any of the authorities demands: the rule refuses every image")
	}
	return "no authority may sign these images"
}

// patterns returns globs as patterns, which have the same meaning.
func (r *cipReader) patterns(globs []clusterimagepolicy.Image) (out []policy.PatternDocument) {
	for i, g := range globs {
		text := g.Glob
		// Only a registry can be written in capital letters. Elsewhere, they match no image.
		host, path, _ := strings.Cut(text, "/")
		if lower := strings.ToLower(host); lower != host && !strings.Contains(host, "**") {
			text = strings.TrimSuffix(lower+"/"+path, "/")
			r.stricter(fmt.Sprintf("images[%d]", i), "a registry is the same whatever the case of its letters: the rule is about %s", text)
		}
		p := policy.PatternDocument{Glob: text}
		one := policy.SetDocument{APIVersion: policy.APIVersion, Kind: policy.KindPolicy, Metadata: metadata("one"), Spec: policy.SpecDocument{Unmatched: string(policy.DenyUnmatched), Rules: []policy.RuleDocument{{
			Name: "one", Images: []policy.PatternDocument{p}, Accept: []policy.AcceptDocument{{Built: &policy.BuiltDocument{ProvenanceDocument: policy.ProvenanceDocument{Source: "any"}}}},
		}}}}
		if _, err := one.Set(); err != nil {
			r.stricter(fmt.Sprintf("images[%d]", i), "left out: %v", err)
			continue
		}
		out = append(out, p)
	}
	return out
}

// authority returns the alternatives of an authority: none if no alternative can demand the same.
func (r *cipReader) authority(at string, a *clusterimagepolicy.Authority) (out []policy.AcceptDocument) {
	if len(a.Source) > 0 {
		r.stricter(at+".source", "signatures are looked for in the image's repository only")
	}
	signers, ok := r.signers(at, a)
	if !ok {
		return nil
	}
	for _, s := range signers {
		out = append(out, r.alternative(at, s, a.Attestations))
	}
	return out
}

// exemption returns the exemption of images that a policy accepts without evidence.
func (r *cipReader) exemption(at string, images []policy.PatternDocument) []policy.ExemptionDocument {
	if r.options.Owner == "" || r.options.Until == "" {
		r.stricter(at, "images without evidence are exempt for a time, and need an owner and an end date: without, they are refused")
		return nil
	}
	r.stricter(at, "these images are exempt until %s only", r.options.Until)
	return []policy.ExemptionDocument{{Images: images, Reason: "a ClusterImagePolicy accepts them without evidence", Owner: r.options.Owner, Until: r.options.Until}}
}

// alternative returns what a signer must have signed.
func (r *cipReader) alternative(at string, s policy.SignerDocument, all []clusterimagepolicy.Attestation) policy.AcceptDocument {
	var beside policy.BesideDocument
	provenance := false
	for i, a := range all {
		at := fmt.Sprintf("%s.attestations[%d]", at, i)
		d := policy.AttestationDocument{PredicateType: a.PredicateURI()}
		if a.Policy != nil {
			var ok bool
			if d.Values, ok = simple(a.Policy, d.PredicateType); !ok {
				r.weaker(at+".policy", "only CUE that compares single values can be converted: write values or conditions")
			}
		}
		provenance = provenance || isProvenance(d.PredicateType) && len(d.Values) == 0
		beside.Attestations = append(beside.Attestations, d) // provenance, too: there are several types of it
	}
	if len(beside.Attestations) > 0 {
		r.stricter(at+".attestations", "of several attestations of a type by the signer, the last one must be as demanded")
	}
	if provenance {
		r.stricter(at+".attestations", "the provenance must be one that can be read: of GitHub, GitLab or Tekton Chains. Name the repository in source")
		return policy.AcceptDocument{Provenance: &policy.SignedDocument{Signer: s, ProvenanceDocument: policy.ProvenanceDocument{Source: "any"}, BesideDocument: beside}}
	}
	if len(all) > 0 {
		for i := range beside.Attestations {
			beside.Attestations[i].Signer = &s
		}
		return policy.AcceptDocument{Attested: &policy.AttestedDocument{BesideDocument: beside}}
	}
	return policy.AcceptDocument{Signature: &policy.SignatureDocument{Signer: s, BesideDocument: beside}}
}

// simple returns the values that a policy compares with those of a predicate, if it does no more.
func simple(p *clusterimagepolicy.Policy, predicateType string) ([]policy.PredicateDocument, bool) {
	if p.Type == clusterimagepolicy.TypeRego {
		return simpleRego(p.Data)
	}
	if p.Data == "" { // it is elsewhere
		return nil, false
	}
	return simpleCUE(p.Data, predicateType)
}

func isProvenance(predicateType string) bool {
	return predicateType == attest.PredicateSLSA1 || predicateType == attest.PredicateSLSA02
}

// signers returns who may have signed. ok is false if no policy can name one of them.
func (r *cipReader) signers(at string, a *clusterimagepolicy.Authority) (out []policy.SignerDocument, ok bool) {
	defer func() {
		if len(out) > 0 && a.RFC3161Timestamp != nil {
			r.weaker(at+".rfc3161timestamp", "no rule can demand a timestamp: the time that a transparency log of the trust root gives is enough")
		}
	}()
	root, ok := r.root(at, a)
	switch {
	case !ok:
		return nil, false
	case a.Keyless != nil && a.Keyless.CACert != nil:
		return nil, true // the original accepts no image
	case a.Keyless != nil:
		if a.Keyless.InsecureIgnoreSCT {
			r.stricter(at+".keyless.insecureIgnoreSCT", "a certificate must prove that it is in a certificate transparency log, if the trust root has one")
		}
		for i, id := range a.Keyless.Identities {
			if s, ok := r.certificate(fmt.Sprintf("%s.keyless.identities[%d]", at, i), id); ok {
				s.Certificate.Root = root
				out = append(out, s)
			}
		}
		return out, true
	case a.Key.Data == "":
		r.stricter(at+".key", "a policy has keys as PEM: the alternative is left out, because the key is elsewhere")
		return nil, false
	case a.Key.HashAlgorithm != "" && a.Key.HashAlgorithm != "sha256":
		r.stricter(at+".key.hashAlgorithm", "signatures over %s do not count: the alternative is left out", a.Key.HashAlgorithm)
		return nil, false
	case a.CTLog == nil && a.RFC3161Timestamp == nil:
		return []policy.SignerDocument{{InsecureUnloggedKey: &policy.UnloggedKeyDocument{PEM: a.Key.Data}}}, true
	case a.CTLog == nil:
		r.stricter(at+".rfc3161timestamp", "the signature must be in a transparency log: a timestamp alone is not enough")
	}
	return []policy.SignerDocument{{Key: &policy.KeyDocument{PEM: a.Key.Data, Root: root}}}, true
}

// root returns the name of the trust root that an authority names. ok is false if it names
// several, or one that is not known here.
func (r *cipReader) root(at string, a *clusterimagepolicy.Authority) (root string, ok bool) {
	refs := a.TrustRootRefs()
	switch {
	case len(refs) == 0: // a key that needs no log
		return "", true
	case len(refs) > 1:
		r.stricter(at, "the alternative is left out: it rests on several trust roots, and here all evidence is of one")
		return "", false
	case refs[0] == "":
		if url := otherInstance(a); url != "" {
			r.stricter(at, "the alternative is left out: no TrustRoot says which trust root has %s", url)
			return "", false
		}
		return PublicRoot, true
	}
	if root, ok := r.options.Roots[refs[0]]; ok {
		return root, true
	}
	for _, t := range r.roots {
		if t.Metadata.Name == refs[0] && t.Spec.Remote != nil {
			return strings.TrimSuffix(t.Spec.Remote.Mirror, "/"), true
		}
	}
	r.stricter(at+".trustRootRef", "the alternative is left out: say what the trust root %s is called here", refs[0])
	return "", false
}

// otherInstance returns the address of a service that an authority names without a TrustRoot and
// that the public trust root does not have, or "".
func otherInstance(a *clusterimagepolicy.Authority) string {
	if a.Keyless != nil && a.Keyless.CA() != clusterimagepolicy.DefaultCA {
		return a.Keyless.CA()
	}
	if a.CTLog != nil && a.CTLog.URL != "" && strings.TrimSuffix(a.CTLog.URL, "/") != publicLog {
		return a.CTLog.URL
	}
	return ""
}

// certificate returns the signer of an identity.
func (r *cipReader) certificate(at string, id clusterimagepolicy.Identity) (s policy.SignerDocument, ok bool) {
	c := &policy.CertificateDocument{Issuer: id.Issuer}
	if id.IssuerRegExp != "" {
		if c.Issuer, ok = literalOf(id.IssuerRegExp); !ok {
			r.stricter(at+".issuerRegExp", "an issuer has one name: the alternative is left out, because %s can be several", id.IssuerRegExp)
			return s, false
		}
	}
	if id.Subject != "" {
		c.Identity.Is = &id.Subject
	} else {
		c.Identity.Matches = whole(id.SubjectRegExp)
	}
	return policy.SignerDocument{Certificate: c}, true
}

// literalOf returns the only text that a regular expression matches a part of, if that part is
// the whole.
func literalOf(expr string) (string, bool) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "", false
	}
	re = re.Simplify()
	if re.Op != syntax.OpConcat || len(re.Sub) != 3 || re.Sub[0].Op != syntax.OpBeginText || re.Sub[2].Op != syntax.OpEndText {
		return "", false
	}
	l := re.Sub[1]
	if l.Op != syntax.OpLiteral || l.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	return string(l.Rune), true
}

// whole returns a regular expression that matches a whole text if expr matches a part of it.
func whole(expr string) string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return expr // Check has refused it
	}
	before, after := "(?s:.*)", "(?s:.*)"
	if begins := re.Op == syntax.OpConcat && re.Sub[0].Op == syntax.OpBeginText; begins {
		before = ""
	}
	if ends := re.Op == syntax.OpConcat && re.Sub[len(re.Sub)-1].Op == syntax.OpEndText; ends {
		after = ""
	}
	if before == "" && after == "" {
		return strings.TrimSuffix(strings.TrimPrefix(expr, "^"), "$")
	}
	return before + "(?:" + expr + ")" + after
}
