package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/expr"
)

// Decision is the answer of sets of rules about one image. The zero Decision is undecided.
type Decision struct {
	Outcome   Outcome          `json:"outcome"`
	Unmatched policy.Unmatched `json:"unmatched,omitempty"` // the strictest answer of the sets that say what happens to this image because no rule is about it
	Rules     []RuleDecision   `json:"rules,omitempty"`     // of each rule that is about the image, in the order of the sets
	Warnings  []string         `json:"warnings,omitempty"`  // violations that do not keep the image from being accepted, one line each for people
	Reason    string           `json:"reason,omitempty"`    // why it was not accepted, one line for people

	image *Link // what is known of the image, if policies of another kind asked for it
}

// RuleDecision is the answer of one rule.
type RuleDecision struct {
	Policy    string      `json:"policy"`              // name of the set
	Namespace string      `json:"namespace,omitempty"` // of the set
	Rule      string      `json:"rule"`                // name of the rule
	Mode      policy.Mode `json:"mode"`                // at the time of the decision
	Outcome   Outcome     `json:"outcome"`             // accepted if the image satisfies the rule, or is exempt
	Reason    string      `json:"reason,omitempty"`    // why it does not, one line for people

	EnforceFrom  *time.Time       `json:"enforceFrom,omitempty"`  // from then on the mode is enforce, UTC
	OnRunning    policy.OnRunning `json:"onRunning,omitempty"`    // what the rule says about pods that run already
	Exemption    *Exempted        `json:"exemption,omitempty"`    // the image is exempt, or was
	Alternatives []Alternative    `json:"alternatives,omitempty"` // as far as they were tried; none of an exempt image
}

// Exempted is an exemption that is, or was, about the image.
type Exempted struct {
	Reason string    `json:"reason"`
	Owner  string    `json:"owner"`
	Until  time.Time `json:"until"`           // UTC
	Ended  bool      `json:"ended,omitempty"` // it counts no more
}

// Alternative is the answer of one alternative of a rule.
type Alternative struct {
	Outcome    Outcome           `json:"outcome"`
	Reason     string            `json:"reason,omitempty"`     // why the image does not meet it, one line for people
	Conditions []ConditionResult `json:"conditions,omitempty"` // of an alternative that the image meets otherwise
	Verdict    *Verdict          `json:"-"`                    // without the conditions; shared
}

// ConditionResult is the answer of one condition of a rule.
type ConditionResult struct {
	Expression string  `json:"expression"`
	Message    string  `json:"message"`
	Outcome    Outcome `json:"outcome"`          // undecided if a fact is missing
	Reason     string  `json:"reason,omitempty"` // why it is undecided
}

// Decide returns the decision of sets of rules about an image at the time now. Each set must have
// passed its Check, as those of policy.ParseSets have. verdict answers for one policy, as Evidence.Verdict does. All rules about the image must be satisfied; of a
// rule's alternatives, one is enough. A violation of a rule that does not enforce is a warning.
// Without sets, without the digest of the image or without a time, the decision is undecided.
func Decide(sets []*policy.Set, image policy.Image, now time.Time, verdict func(policy.Policy) *Verdict) *Decision {
	return DecideWith(sets, image, now, With{}, verdict)
}

// DecideWith is Decide, with what else counts.
func DecideWith(sets []*policy.Set, image policy.Image, now time.Time, with With, verdict func(policy.Policy) *Verdict) *Decision {
	return decide(sets, asked{image: image, now: now, verdict: verdict, With: with})
}

// With is what counts beside sets of rules.
type With struct {
	Others *Others        // what policies of another kind say: all of both must be satisfied; nil: there are none
	Lists  distrust.Lists // of what is no longer trusted: an entry about an image rejects it under every rule, however old the list is; where no rule asks for proofs, one about its digest does
}

// Others are what policies of another kind say about an image, beside sets of rules.
type Others struct {
	Kind      string           // what they are called, for people
	Rules     []RuleDecision   // of each policy that is about the image
	Unmatched policy.Unmatched // what they say if none is
}

// asked is what rules are asked about.
type asked struct {
	image   policy.Image
	now     time.Time
	verdict func(policy.Policy) *Verdict
	more    func(policy.Policy, *Verdict, *expr.Facts) // adds facts that a verdict does not have; nil: there are none
	facts   map[*Verdict]*expr.Facts                   // for conditions, each made once

	packages func(*Verdict) func() ([]distrust.Listed, error)
	compared map[compared]*Verdict // with the lists, each once
	With
}

// compared is a verdict that is compared with lists of at most an age.
type compared struct {
	verdict *Verdict
	maxAge  time.Duration
}

func decide(sets []*policy.Set, about asked) *Decision {
	d := &Decision{}
	switch {
	case len(sets) == 0 && about.Others == nil:
		d.Reason = "there is no policy"
		return d
	case about.image.Digest == "":
		d.Reason = "the digest of the image is not known, so that it is not known which rules are about it"
		return d
	case about.now.IsZero():
		d.Reason = "the time of verification is not set"
		return d
	}
	if about.packages == nil {
		about.packages = unknownPackages
	}
	about.facts, about.compared = map[*Verdict]*expr.Facts{}, map[compared]*Verdict{}
	rules, fault := rulesAbout(sets, about.image)
	if fault != "" {
		d.Reason = plain(fault)
		return d
	}
	d.Outcome, d.Rules = Accepted, make([]RuleDecision, len(rules))
	for i, r := range rules {
		d.Rules[i] = ruleDecision(r.set, r.rule, about)
	}
	entry := about.entry()
	if o := about.Others; o != nil {
		kind := &policy.Set{Name: o.Kind, Unmatched: o.Unmatched}
		sets = append(sets[:len(sets):len(sets)], kind)
		for _, r := range o.Rules {
			if r.Outcome == Accepted && entry != "" {
				r.Outcome, r.Reason = Rejected, entry
			}
			d.Rules, rules = append(d.Rules, r), append(rules, ruled{kind, nil})
		}
	}
	for i := range d.Rules {
		d.add(&d.Rules[i])
	}
	for _, s := range sets {
		d.unmatched(s, rules)
	}
	if len(rules) == 0 {
		d.Rules = nil
		if d.Outcome == Accepted && entry != "" {
			d.Outcome, d.Reason = Rejected, entry
		}
	}
	return d
}

// entry returns, for people, the entry of a list of what is no longer trusted that is about the image's digest, or "".
// It counts also where no verdict is asked for, which would be compared with all entries.
func (about asked) entry() string {
	found, _ := about.Lists.Find(&distrust.Facts{Digests: []string{about.image.Digest}}) // of a list that cannot be read, verdicts say so
	if found == nil {
		return ""
	}
	return plain(found.String())
}

// ruled is a rule of a set that is about the image.
type ruled struct {
	set  *policy.Set
	rule *policy.Rule // nil: of a policy of another kind
}

var (
	unmatched = []policy.Unmatched{policy.DenyUnmatched, policy.WarnUnmatched, policy.AllowUnmatched}
	modes     = []policy.Mode{policy.Audit, policy.Warn, policy.Enforce}
)

// rulesAbout returns the rules about an image. fault says that a set did not pass its Check, so
// that nothing can be decided.
func rulesAbout(sets []*policy.Set, image policy.Image) (all []ruled, fault string) {
	for _, s := range sets {
		if !slices.Contains(unmatched, s.Unmatched) {
			return nil, fmt.Sprintf("policy %q did not pass its check: unmatched: got %q", s.Name, s.Unmatched)
		}
		for i := range s.Rules {
			r := &s.Rules[i]
			switch {
			case !r.Matches(image):
				continue
			case !slices.Contains(modes, r.Mode) || len(r.Accept) == 0:
				return nil, fmt.Sprintf("policy %q did not pass its check: rule %q: got the mode %q and %d alternatives", s.Name, r.Name, r.Mode, len(r.Accept))
			}
			all = append(all, ruled{s, r})
		}
	}
	return all, ""
}

// unmatched adds what a set says about an image that none of its rules is about. An enforcing rule
// of another set answers for it; one that only watches lifts no denial, nor does a rule of a
// namespace lift that of the whole cluster.
func (d *Decision) unmatched(s *policy.Set, rules []ruled) {
	for i, r := range rules {
		if r.set == s || d.Rules[i].Mode == policy.Enforce && (s.Namespaced || !r.set.Namespaced) {
			return
		}
	}
	why := fmt.Sprintf("no rule of the policy %q is about this image", s.Name)
	switch {
	case s.Unmatched == policy.AllowUnmatched:
		d.Unmatched = cmp.Or(d.Unmatched, s.Unmatched)
	case s.Unmatched == policy.WarnUnmatched:
		d.Warnings = append(d.Warnings, why)
		if d.Unmatched != policy.DenyUnmatched {
			d.Unmatched = s.Unmatched
		}
	case d.Outcome != Rejected:
		d.Outcome, d.Reason = Rejected, why
		fallthrough
	default:
		d.Unmatched = policy.DenyUnmatched
	}
}

// add adds what a rule says to the outcome: rejected wins over undecided, and that over accepted.
func (d *Decision) add(r *RuleDecision) {
	if e := r.Exemption; e != nil && e.Ended {
		d.Warnings = append(d.Warnings, plain(fmt.Sprintf("%s: the exemption of %s (%s) ended on %s", r.name(), e.Owner, e.Reason, e.Until.Format(time.DateOnly))))
	}
	switch {
	case r.Outcome == Accepted:
	case r.Mode != policy.Enforce:
		why := r.why()
		if r.EnforceFrom != nil {
			why += "; enforced from " + r.EnforceFrom.Format(time.RFC3339)
		}
		d.Warnings = append(d.Warnings, why)
	case d.Outcome == Accepted || d.Outcome == Undecided && r.Outcome == Rejected:
		d.Outcome, d.Reason = r.Outcome, r.why()
	}
}

func (r *RuleDecision) name() string { return fmt.Sprintf("rule %q of policy %q", r.Rule, r.Policy) }

// why returns, for people, what a rule says about an image that it does not accept.
func (r *RuleDecision) why() string {
	return plain(fmt.Sprintf("%s: %s: %s", r.name(), r.Outcome, r.Reason))
}

func ruleDecision(s *policy.Set, r *policy.Rule, about asked) RuleDecision {
	d := RuleDecision{Policy: s.Name, Namespace: s.Namespace, Rule: r.Name, Mode: r.ModeAt(about.now), OnRunning: r.OnRunning}
	if !r.EnforceFrom.IsZero() {
		d.EnforceFrom = new(r.EnforceFrom.UTC())
	}
	exemption, ended := r.Exempt(about.image, about.now)
	if ended != nil {
		d.Exemption = &Exempted{ended.Reason, ended.Owner, ended.Until.UTC(), true}
	}
	if exemption != nil {
		d.Exemption = &Exempted{exemption.Reason, exemption.Owner, exemption.Until.UTC(), false}
		if d.Outcome, d.Reason = Accepted, about.entry(); d.Reason != "" {
			d.Outcome = Rejected
		}
		return d
	}
	if r.Rebuilds != nil {
		d.Reason = "the rule demands rebuilds, and this version cannot check them"
		return d
	}
	// The best answer counts: accepted, then undecided, because it may still become accepted.
	d.Outcome = Rejected
	for i, p := range r.Accept {
		a := alternative(r, p, about)
		d.Alternatives = append(d.Alternatives, a)
		switch {
		case a.Outcome == Accepted:
			d.Outcome, d.Reason = Accepted, ""
			return d
		case a.Outcome == Undecided && d.Outcome == Rejected, i == 0:
			d.Outcome, d.Reason = a.Outcome, a.Reason
		}
	}
	return d
}

func alternative(r *policy.Rule, p policy.Policy, about asked) Alternative {
	proved, image := about.verdict(p), about.image
	v := about.listed(proved, r.DistrustMaxAge)
	a := Alternative{Outcome: v.Outcome, Reason: v.Why(), Verdict: v}
	if a.Outcome == Accepted && v.Digest != image.Digest && v.Index != image.Digest {
		a.Outcome, a.Reason = Undecided, plain(fmt.Sprintf("the verdict is about %s, and the rule about %s", v.Digest, image.Digest))
	}
	if a.Outcome != Accepted || len(r.Conditions) == 0 {
		return a
	}
	facts := about.factsOf(p, proved)
	for _, c := range r.Conditions {
		result := ConditionResult{Expression: c.Expression(), Message: plain(c.Message()), Outcome: Rejected}
		yes, err := c.Holds(facts)
		switch {
		case err != nil:
			result.Outcome, result.Reason = Undecided, plain(err.Error())
		case yes:
			result.Outcome = Accepted
		}
		a.Conditions = append(a.Conditions, result)
		if result.Outcome == Accepted || a.Outcome == Rejected || a.Outcome == Undecided && result.Outcome == Undecided {
			continue
		}
		a.Outcome, a.Reason = result.Outcome, "condition: "+result.Message
		if result.Reason != "" {
			a.Reason = plain(fmt.Sprintf("condition: %s (%s)", result.Message, result.Reason))
		}
	}
	return a
}

// listed returns a verdict as it is with the lists of what is no longer trusted.
func (about asked) listed(v *Verdict, maxAge time.Duration) *Verdict {
	of := compared{v, maxAge}
	if about.compared[of] == nil {
		about.compared[of] = v.distrusted(Distrust{about.Lists, maxAge}, about.now, about.packages(v))
	}
	return about.compared[of]
}

// factsOf returns what conditions may look at of an accepted verdict on a policy. Equal policies
// share a verdict.
func (about asked) factsOf(p policy.Policy, v *Verdict) *expr.Facts {
	facts := about.facts[v]
	if facts == nil {
		facts = factsForConditions(v, about.image, about.now)
		if about.more != nil {
			about.more(p, v, facts)
		}
		about.facts[v] = facts
	}
	return facts
}

// factsForConditions returns what conditions may look at of an accepted verdict.
func factsForConditions(v *Verdict, image policy.Image, now time.Time) *expr.Facts {
	f := &expr.Facts{Now: now, Level: v.Level, Image: &expr.Image{Name: image.Name, Tag: image.Tag, Digest: image.Digest}}
	for _, r := range v.Requirements {
		f.Requirements = append(f.Requirements, expr.Requirement{Name: r.Name, Level: r.Level, Status: string(r.Status)})
	}
	if v.Facts == nil {
		return f
	}
	for _, s := range v.Facts.Signed {
		signer := expr.Signer{Type: s.PredicateType, Identity: s.Signer, Issuer: s.Issuer, Root: s.TrustRoot, Logged: s.LogIndex != nil}
		for _, t := range s.Times {
			if signer.Time.IsZero() || t.Before(signer.Time) {
				signer.Time = t
			}
		}
		f.Signers = append(f.Signers, signer)
		if s.SBOM != nil {
			if f.SBOM == nil {
				f.SBOM = &expr.SBOM{Unread: []string{}} // without any, all was read
			}
			f.SBOM.Formats = append(f.SBOM.Formats, s.SBOM.Format)
			f.SBOM.Unread = append(f.SBOM.Unread, s.SBOM.Unread...)
		}
	}
	b := v.Facts.Build
	if b == nil {
		return f
	}
	f.Source = &expr.Source{Repository: b.Source, Ref: b.Ref, Commit: b.Commit, Tree: b.Tree, Within: b.Within}
	f.Build = &expr.Build{System: string(b.System), Builder: b.Builder, Type: b.BuildType, Invocation: b.Invocation, Trigger: b.Trigger, Runner: b.Runner, Lock: b.Lock}
	if r := b.Recipe; r != nil { // only Colophon's builders have one, and say whether they were hermetic
		f.Build.Hermetic = &b.Hermetic
		f.Build.Context, f.Build.Dockerfile, f.Build.Target, f.Build.Package, f.Build.BuildArgs = r.Context, r.Dockerfile, r.Target, r.Package, r.BuildArgs
	}
	return f
}

// Decide returns the decision of sets of rules, each of which must have passed its Check. Gather
// must have been asked for the policies of the rules; see AskFor. Decisions share the verdicts:
// callers must not change them.
func (ev *Evidence) Decide(sets []*policy.Set, image policy.Image) *Decision {
	return ev.DecideWith(sets, image, With{})
}

// DecideWith is Decide, with what else counts.
func (ev *Evidence) DecideWith(sets []*policy.Set, image policy.Image, with With) *Decision {
	return ev.knowing(decide(sets, asked{image: image, now: ev.now, verdict: ev.verdictsInOrder(), more: ev.addFacts, packages: ev.listed, With: with}), with.Others)
}

// knowing adds the link of the image to a decision for which policies of another kind asked.
func (ev *Evidence) knowing(d *Decision, others *Others) *Decision {
	if others != nil && len(others.Rules) > 0 {
		d.image = new(ev.Image())
	}
	return d
}

// AskFor returns what Decide asks about an image: the alternatives of all rules about it, and
// the facts for their conditions.
func AskFor(sets []*policy.Set, image policy.Image) (ask Ask) {
	rules, _ := rulesAbout(sets, image)
	for _, r := range rules {
		ask.Policies = append(ask.Policies, r.rule.Accept...)
		ask.Distrust = ask.Distrust || r.rule.DistrustMaxAge > 0
		if len(r.rule.Conditions) == 0 {
			continue
		}
		ask.Packages = true
		for _, p := range r.rule.Accept {
			for _, a := range p.Attestations {
				ask.Predicates = append(ask.Predicates, a.PredicateType)
			}
		}
	}
	slices.Sort(ask.Predicates)
	ask.Predicates = slices.Compact(ask.Predicates)
	return ask
}

// addFacts adds the packages of the SBOMs that hold, and the attestations that the policy
// demands. What is not known whole is missing.
func (ev *Evidence) addFacts(p policy.Policy, v *Verdict, f *expr.Facts) {
	if f.SBOM != nil {
		f.SBOM.Packages = ev.packages(v)
	}
	for _, a := range p.Attestations {
		s, err := ev.lastStatement(p, a, v)
		if err != nil {
			f.Attestations = nil
			return
		}
		f.Attestations = append(f.Attestations, expr.Attestation{Type: s.PredicateType, Identity: s.Signer, Issuer: s.Issuer, Predicate: s.fact.raw})
	}
}

// packages returns the packages of all SBOMs that hold, or nil if those of one are not known.
func (ev *Evidence) packages(v *Verdict) []expr.Package {
	all := []expr.Package{}
	for _, s := range v.Facts.Signed {
		if s.SBOM == nil {
			continue
		}
		list, ok := ev.Packages(v, s)
		if !ok {
			return nil
		}
		for _, p := range list {
			found := expr.Package{Name: p.Name, Version: p.Version, PURL: p.PURL}
			if p.License != "" {
				found.Licenses = []string{p.License}
			}
			all = append(all, found)
		}
	}
	return all
}

// Verdict returns the decision as a verdict: the links of the alternative that decided, and
// the link rule. If no alternative accepts the image, nothing is said to be proved.
func (d *Decision) Verdict() *Verdict {
	v := &Verdict{Links: []Link{{Name: LinkImage, Status: NotAsked, Reason: "not read: no rule that enforces demands it"}}}
	if base := d.decisive(); base != nil {
		v = new(*base)
		v.Links = append([]Link(nil), base.Links...)
	} else if d.image != nil {
		v = &Verdict{}
		v.add(*d.image)
	}
	v.Outcome, v.Decision = d.Outcome, d
	l := Link{Name: LinkRule, Status: NotAsked, Reason: "no rule that enforces is about this image"}
	switch {
	case d.Outcome == Rejected:
		l.Status, l.Reason = Broken, d.Reason
	case d.Outcome != Accepted:
		l.Status, l.Reason = Unknown, d.Reason
	default:
		for _, r := range d.Rules {
			if r.Mode == policy.Enforce {
				l.Status, l.Reason = Holds, ""
				l.Claim = strings.TrimPrefix(l.Claim+", "+r.Rule, ", ")
			}
		}
		if l.Status == Holds {
			l.Claim = "satisfied or exempt: " + l.Claim
		}
	}
	v.add(l)
	return v
}

// exempts reports whether the image is exempt from a rule.
func (d *Decision) exempts() bool {
	return d != nil && slices.ContainsFunc(d.Rules, func(r RuleDecision) bool { return r.Exemption != nil && !r.Exemption.Ended })
}

// decisive returns the verdict that the decision rests on, or nil if it rests on none.
func (d *Decision) decisive() *Verdict {
	for _, r := range d.Rules {
		switch {
		case d.Outcome != Accepted && r.Mode == policy.Enforce && r.Outcome == d.Outcome:
			for _, a := range r.Alternatives {
				if a.Outcome == r.Outcome {
					return a.Verdict
				}
			}
			return nil
		case d.Outcome == Accepted && r.Outcome == Accepted && len(r.Alternatives) > 0:
			return r.Alternatives[len(r.Alternatives)-1].Verdict
		}
	}
	return nil
}
