package convert

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/policy"
)

// What Kyverno's documents call themselves (kyverno.io, ImageValidatingPolicy).
const (
	kyvernoVersion   = "policies.kyverno.io/v1"
	kyvernoKind      = "ImageValidatingPolicy"
	kyvernoNamespace = "NamespacedImageValidatingPolicy"
)

// toKyverno returns the policies of one file as ImageValidatingPolicies: one for each policy and
// action (Deny, Warn, Audit) that it needs.
func toKyverno(all []original, o Options) *Result {
	out := &Result{}
	for _, d := range all {
		w := &kyvernoWriter{losses: losses{policy: d.Metadata.Name}, options: o, from: d, attestors: []attestor{}}
		w.write(all)
		out.Losses = append(out.Losses, w.list...)
		for _, action := range []string{"Deny", "Warn", "Audit"} {
			if p := w.policies[action]; p != nil {
				p.Spec.Attestors, p.Spec.Attestations = w.attestors, w.attestations
				out.Documents = append(out.Documents, p)
			}
		}
	}
	return out
}

type kyvernoWriter struct {
	losses
	options Options
	from    original

	attestors    []attestor
	attestations []inToto
	policies     map[string]*validating // by action
}

func (w *kyvernoWriter) write(all []original) {
	w.policies = map[string]*validating{}
	w.stricter("", "an image whose registry is not written in its canonical form (in lower case, without :443) is refused")
	for i, r := range w.from.Spec.Rules {
		w.rule = r.Name
		w.addRule(r, w.from.set.Rules[i])
	}
	w.rule = ""
	about := w.anyRule(all)
	message := fmt.Sprintf("no rule of the policy %s is about this image", w.from.Metadata.Name)
	switch policy.Unmatched(w.from.Spec.Unmatched) {
	case policy.DenyUnmatched:
		w.add("Deny", about, message)
	case policy.WarnUnmatched:
		w.add("Warn", about, message)
	}
}

// anyRule returns an expression: a rule is about the image that answers for it.
func (w *kyvernoWriter) anyRule(all []original) string {
	var about []string
	for _, d := range all {
		for i, r := range d.Spec.Rules {
			if mine := d == w.from; mine || d.Kind == policy.KindPolicy && d.set.Rules[i].ModeAt(w.options.Now) == policy.Enforce {
				about = append(about, matching(r.Images))
				if w.from.Spec.Unmatched == string(policy.DenyUnmatched) && slices.ContainsFunc(r.Images, func(p policy.PatternDocument) bool { return p.Tag != "" }) {
					w.weaker("unmatched", "an image that the pod names by tag and digest counts as one named by tag: here it has no tag, so that no rule with a tag is about it")
				}
			}
		}
	}
	return or(about)
}

// addRule adds what a rule demands to the policies of the actions that it needs, now and later.
func (w *kyvernoWriter) addRule(r policy.RuleDocument, rule policy.Rule) {
	w.lostOfRule(r)
	satisfied := w.satisfied(r)
	actions := map[policy.Mode]string{policy.Audit: "Audit", policy.Warn: "Warn", policy.Enforce: "Deny"}
	exempt := []string{"!" + matching(r.Images)}
	for i, e := range rule.Exemptions {
		if !w.options.Now.Before(e.Until) {
			continue
		}
		if slices.ContainsFunc(e.Images, func(p policy.ImagePattern) bool { return p.Tag != "" }) {
			w.stricter(fmt.Sprintf("exemptions[%d]", i), "an exemption of a tag is left out: the target cannot know whether a pod named the tag alone")
			continue
		}
		exempt = append(exempt, fmt.Sprintf("time.now() < timestamp(%s) && %s", quoted(e.Until.UTC().Format("2006-01-02T15:04:05Z")), matching(r.Exemptions[i].Images)))
	}
	message := fmt.Sprintf("rule %s of the policy %s", r.Name, w.from.Metadata.Name)
	mode := rule.ModeAt(w.options.Now)
	w.add(actions[mode], or(append(exempt, satisfied)), message)
	if mode != policy.Enforce && !rule.EnforceFrom.IsZero() {
		later := fmt.Sprintf("time.now() < timestamp(%s)", quoted(rule.EnforceFrom.UTC().Format("2006-01-02T15:04:05Z")))
		w.add("Deny", or(append([]string{later}, append(exempt, satisfied)...)), message)
	}
}

// add adds a demand on each image i to the policy of an action.
func (w *kyvernoWriter) add(action, expression, message string) {
	p := w.policies[action]
	if p == nil {
		p = newValidating(w.from.SetDocument, action)
		w.policies[action] = p
	}
	p.Spec.Validations = append(p.Spec.Validations, validation{"variables.images.all(i, " + expression + ")", message})
}

// lostOfRule lists what neither target can say about a rule.
func (l *losses) lostOfRule(r policy.RuleDocument) {
	for i, c := range r.Conditions {
		if c.Expression == never {
			continue
		}
		l.weaker(fmt.Sprintf("conditions[%d]", i), "the target does not have the facts that the expression needs")
	}
	if r.OnRunning == string(policy.EvictRunning) {
		l.weaker("onRunning", "the target evicts no pods")
	}
	if r.Rebuilds != nil {
		l.weaker("rebuilds", "the target does not know who built an image again")
	}
	if r.Distrust != nil {
		l.weaker("distrust", "the target has no list of what is no longer trusted")
	}
	if r.Log != nil {
		l.weaker("log", "the target does not ask whether witnesses have seen the log")
	}
	if r.Trust != nil {
		l.weaker("trust", "the target does not compare the age of trust roots")
	}
}

// satisfied returns an expression: the image has all evidence of an alternative of the rule.
func (w *kyvernoWriter) satisfied(r policy.RuleDocument) string {
	var any []string
	for _, all := range w.alternatives(r) {
		var have []string
		for _, e := range all {
			expr, ok := w.evidence(e)
			if !ok {
				have = nil
				break
			}
			have = append(have, expr)
		}
		if have != nil {
			any = append(any, strings.Join(have, " && "))
		}
	}
	if _, refuses := refusal(r); len(any) == 0 && !refuses {
		w.stricter("accept", "the target can ask for none of the alternatives: the rule refuses every image")
	}
	return or(any)
}

// evidence returns an expression: the image i has the evidence. ok is false if the target cannot
// ask for it.
func (w *kyvernoWriter) evidence(e evidence) (expr string, ok bool) {
	by, ok := w.attestor(e.by)
	if !ok {
		return "", false
	}
	if e.predicateType == "" {
		if w.options.Lossy {
			w.weaker("accept", "any attestation by the signer counts as a signature of an image that has Sigstore bundles")
			return fmt.Sprintf("verifyImageSignatures(i.reference, [attestors.%s]) > 0", by), true
		}
		w.stricter("accept", "signatures count as Sigstore bundles only (cosign 3): of those in the older format, the target does not tell signatures from attestations")
		e.predicateType = attest.PredicateSign
	}
	about := w.attestation(e.predicateType)
	out := []string{fmt.Sprintf("verifyAttestationSignatures(i.reference, attestations.%s, [attestors.%s]) > 0", about, by)}
	for _, v := range e.values {
		out = append(out, fmt.Sprintf("extractPayload(i.reference, attestations.%s).predicate%s == %s", about, path(v.Pointer), literal(v)))
	}
	return strings.Join(out, " && "), true
}

// attestor returns the name of the attestor for a signer.
func (w *kyvernoWriter) attestor(s signer) (name string, ok bool) {
	c := cosign{}
	switch {
	case s.unlogged:
		c = cosign{Key: &keyData{s.key}, Log: &log{true, true}}
	case s.key != "":
		c.Key = &keyData{s.key}
	default:
		c.Keyless = &keyless{}
		for _, id := range s.identities {
			c.Keyless.Identities = append(c.Keyless.Identities, subject{id.issuer, id.subject, id.subjectRegExp})
		}
	}
	switch {
	case s.root == "" || s.root == PublicRoot:
		if !s.unlogged {
			w.onlyPublic(s.root)
		}
	case !strings.HasPrefix(s.root, "http"):
		w.stricter("accept", "the target cannot name a trust root by its fingerprint (%s): the alternative is left out", s.root)
		return "", false
	default:
		c.TUF = &mirror{s.root}
		w.stricter("accept", "add the root.json of %s, base64, to attestors[].cosign.tuf.root.data: without, the target refuses its signatures", s.root)
	}
	i := slices.IndexFunc(w.attestors, func(a attestor) bool { return reflect.DeepEqual(a.Cosign, c) })
	if i < 0 {
		i = len(w.attestors)
		w.attestors = append(w.attestors, attestor{fmt.Sprintf("signer%d", i+1), c})
	}
	return w.attestors[i].Name, true
}

// attestation returns the name of the attestation of a predicate type.
func (w *kyvernoWriter) attestation(predicateType string) string {
	i := slices.IndexFunc(w.attestations, func(a inToto) bool { return a.InToto.Type == predicateType })
	if i < 0 {
		i = len(w.attestations)
		w.attestations = append(w.attestations, inToto{fmt.Sprintf("attestation%d", i+1), inTotoType{predicateType}})
	}
	return w.attestations[i].Name
}

// onlyPublic says that another root than the public one counts here, and not there.
func (l *losses) onlyPublic(root string) {
	if root == "" {
		l.stricter("accept", "only Sigstore's public trust root counts: here, any trust root of the machine that vouches for the issuer")
	}
}

// path returns the members and elements that a JSON pointer leads through, in the syntax that
// CEL and Rego share.
func path(pointer string) string {
	var out strings.Builder
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		if pointer == "" {
			break
		}
		if number.MatchString(token) {
			fmt.Fprintf(&out, "[%s]", token)
		} else {
			fmt.Fprintf(&out, "[%s]", quoted(token))
		}
	}
	return out.String()
}

var number = lazyregexp.New(`^(0|[1-9][0-9]{0,8})$`)

// literal returns a value in the syntax that CEL and Rego share.
func literal(v policy.PredicateDocument) string {
	switch {
	case v.String != nil:
		return quoted(*v.String)
	case v.Integer != nil:
		return strconv.FormatInt(*v.Integer, 10)
	case v.Boolean != nil:
		return strconv.FormatBool(*v.Boolean)
	}
	return "null"
}

// quoted returns a text as JSON has it, which CEL and Rego read.
func quoted(text string) string {
	raw, err := json.Marshal(text)
	if err != nil {
		return `""` // no text fails
	}
	return string(raw)
}

func or(all []string) string {
	switch len(all) {
	case 0:
		return "false"
	case 1:
		return all[0]
	}
	return "(" + strings.Join(all, ") || (") + ")"
}

// matching returns an expression: the image i matches one of the patterns.
func matching(patterns []policy.PatternDocument) string {
	var out []string
	for _, p := range patterns {
		var all []string
		if p.Glob != "" {
			all = append(all, fmt.Sprintf("i.name.matches(%s)", quoted(globRegexp(p.Glob))))
		}
		if p.Tag != "" {
			all = append(all, fmt.Sprintf("i.tag.matches(%s)", quoted("^"+strings.ReplaceAll(regexp.QuoteMeta(p.Tag), `\*`, ".*")+"$")))
		}
		if p.Digest != "" {
			all = append(all, fmt.Sprintf("i.name.endsWith(%s)", quoted("@"+p.Digest)))
		}
		out = append(out, strings.Join(all, " && "))
	}
	return "(" + or(out) + ")"
}

// globRegexp returns the regular expression of a glob. See policy.ImagePattern.
func globRegexp(glob string) string {
	switch glob {
	case "*":
		glob = "index.docker.io/library/*"
	case "*/*":
		glob = "index.docker.io/*/*"
	}
	return "^" + strings.NewReplacer(`\*\*`, ".*", `\*`, "[^/]*").Replace(regexp.QuoteMeta(glob)) + "$"
}
