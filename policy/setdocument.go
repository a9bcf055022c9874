package policy

import (
	"errors"
	"fmt"
	"time"
)

// What the documents of version 2 call themselves.
const (
	APIVersion          = "colophon.build/v1"
	KindPolicy          = "ImagePolicy"
	KindNamespacePolicy = "NamespacedImagePolicy"
)

// SetDocument is a policy document of version 2 with the members of spec/policy, which
// documents them. Kubernetes can keep it as an object.
type SetDocument struct {
	APIVersion string           `json:"apiVersion"`       // colophon.build/v1
	Kind       string           `json:"kind"`             // ImagePolicy, or NamespacedImagePolicy: about the images of one namespace only
	Metadata   MetadataDocument `json:"metadata"`         // as Kubernetes has it
	Spec       SpecDocument     `json:"spec"`             // the rules
	Status     any              `json:"status,omitempty"` // what Kubernetes writes there: it decides nothing
}

// MetadataDocument is what Kubernetes says about an object. Only Name and Namespace mean
// anything here.
type MetadataDocument struct {
	Name      string `json:"name"`                // lower-case letters, digits, - and .
	Namespace string `json:"namespace,omitempty"` // only of a NamespacedImagePolicy

	Labels                     map[string]string `json:"labels,omitempty"`                     // they decide nothing
	Annotations                map[string]string `json:"annotations,omitempty"`                // they decide nothing
	UID                        string            `json:"uid,omitempty"`                        // written by Kubernetes
	ResourceVersion            string            `json:"resourceVersion,omitempty"`            // written by Kubernetes
	Generation                 int64             `json:"generation,omitempty"`                 // written by Kubernetes
	GenerateName               string            `json:"generateName,omitempty"`               // written by Kubernetes
	SelfLink                   string            `json:"selfLink,omitempty"`                   // written by Kubernetes
	CreationTimestamp          any               `json:"creationTimestamp,omitempty"`          // written by Kubernetes
	DeletionTimestamp          any               `json:"deletionTimestamp,omitempty"`          // written by Kubernetes
	DeletionGracePeriodSeconds any               `json:"deletionGracePeriodSeconds,omitempty"` // written by Kubernetes
	ManagedFields              any               `json:"managedFields,omitempty"`              // written by Kubernetes
	OwnerReferences            any               `json:"ownerReferences,omitempty"`            // written by Kubernetes
	Finalizers                 []string          `json:"finalizers,omitempty"`                 // written by Kubernetes
}

// SpecDocument is what a Set says.
type SpecDocument struct {
	Unmatched string         `json:"unmatched"` // what happens to an image that no rule is about: deny, warn or allow
	Rules     []RuleDocument `json:"rules"`     // an image must satisfy each rule that is about it
}

// RuleDocument is a Rule in a policy document.
type RuleDocument struct {
	Name        string              `json:"name"`                  // unique in the document: lower-case letters, digits, - and .
	Images      []PatternDocument   `json:"images"`                // the rule is about images that match one of these
	Mode        string              `json:"mode,omitempty"`        // what a violation does: audit, warn or enforce. If absent: enforce
	EnforceFrom string              `json:"enforceFrom,omitempty"` // date (UTC) or time from which on the mode is enforce. Before it, a rule whose mode is enforce warns
	OnRunning   string              `json:"onRunning,omitempty"`   // what is done about a pod that runs an image which this rule, enforced, rejects: report or evict. If absent: report
	Accept      []AcceptDocument    `json:"accept"`                // alternatives: one of them is enough
	Conditions  []ConditionDocument `json:"conditions,omitempty"`  // expressions over verified facts, all of which must be true
	Exemptions  []ExemptionDocument `json:"exemptions,omitempty"`  // images that need not satisfy the rule for a time
	Rebuilds    *RebuildsDocument   `json:"rebuilds,omitempty"`    // who must have built the image again with the same result. Not checked yet: images are undecided
	Trust       *TrustDocument      `json:"trust,omitempty"`       // how fresh the trust roots must be
	Log         *LogDocument        `json:"log,omitempty"`         // which witnesses must have seen the logs. If absent: none
	Distrust    *DistrustDocument   `json:"distrust,omitempty"`    // how fresh the lists of what is no longer trusted must be
}

// PatternDocument is an ImagePattern in a policy document.
type PatternDocument struct {
	Glob   string `json:"glob,omitempty"`   // matched with REGISTRY/NAME@sha256:HEX as a whole: ** is any text, * any without /
	Tag    string `json:"tag,omitempty"`    // glob of the tag, in addition: an image that is named by digest does not match
	Digest string `json:"digest,omitempty"` // sha256:HEX, in addition or alone
}

// ConditionDocument is a Condition in a policy document.
type ConditionDocument struct {
	Expression string `json:"expression"` // CEL (spec/policy)
	Message    string `json:"message"`    // what to tell people if it is not true
}

// ExemptionDocument is an Exemption in a policy document.
type ExemptionDocument struct {
	Images []PatternDocument `json:"images"` // as in a rule
	Reason string            `json:"reason"` // why
	Owner  string            `json:"owner"`  // who answers for it
	Until  string            `json:"until"`  // last day (UTC), or the time at which it ends
}

// RebuildsDocument is Rebuilds in a policy document.
type RebuildsDocument struct {
	AtLeast int      `json:"atLeast"` // how many of the builders
	By      []string `json:"by"`      // ids of builders, URIs
}

// TrustDocument says how fresh trust roots must be.
type TrustDocument struct {
	Fresh  bool   `json:"fresh,omitempty"`  // trust roots from a TUF repository count only until its metadata expires
	MaxAge string `json:"maxAge,omitempty"` // greatest time since the trust roots' last refresh: 72h
}

// DistrustDocument says how fresh lists of what is no longer trusted must be (spec/distrust/v1).
type DistrustDocument struct {
	MaxAge    string `json:"maxAge"`              // greatest time since each list was issued: 15m
	Otherwise string `json:"otherwise,omitempty"` // what an image is if a list is older or cannot be read: undecided, and nothing else
}

// Set returns the Set of the document. It fails if Set.Check does.
func (d *SetDocument) Set() (*Set, error) {
	s := &Set{Name: d.Metadata.Name, Namespace: d.Metadata.Namespace, Unmatched: Unmatched(d.Spec.Unmatched)}
	switch {
	case d.APIVersion != APIVersion:
		return nil, in(fmt.Errorf("apiVersion: got %q, want %q", d.APIVersion, APIVersion), "apiVersion")
	case d.Kind == KindNamespacePolicy:
		s.Namespaced = true
	case d.Kind != KindPolicy:
		return nil, in(fmt.Errorf("kind: got %q, want %s or %s", d.Kind, KindPolicy, KindNamespacePolicy), "kind")
	case d.Metadata.Namespace != "":
		return nil, in(fmt.Errorf("namespace: only a %s has one", KindNamespacePolicy), "metadata", "namespace")
	}
	if len(d.Spec.Rules) > maxRules {
		return nil, in(fmt.Errorf("rules: got %d, want at most %d", len(d.Spec.Rules), maxRules), "spec", "rules")
	}
	for i := range d.Spec.Rules {
		r, err := d.Spec.Rules[i].rule()
		if err != nil {
			return nil, in(err, "spec", "rules", i)
		}
		s.Rules = append(s.Rules, r)
	}
	err := s.checkNumbers()
	if err == nil {
		err = s.compile()
	}
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// checkNumbers fails if there are too many conditions to compile them.
func (s *Set) checkNumbers() error {
	for i, r := range s.Rules {
		if n := len(r.Conditions); n > maxConditions {
			return in(fmt.Errorf("conditions: got %d, want at most %d", n, maxConditions), "spec", "rules", i, "conditions")
		}
	}
	return nil
}

func (d *RuleDocument) rule() (r Rule, err error) {
	r = Rule{Name: d.Name, Images: patterns(d.Images), Mode: Mode(d.Mode), OnRunning: OnRunning(d.OnRunning)}
	if d.Mode == "" {
		r.Mode = Enforce
	}
	if d.EnforceFrom != "" {
		if r.EnforceFrom, err = parseDate(d.EnforceFrom, false); err != nil {
			return r, in(fmt.Errorf("enforceFrom: %w", err), "enforceFrom")
		}
	}
	var trustAge time.Duration
	if d.Trust != nil {
		if trustAge, err = parseAge(d.Trust.MaxAge, !d.Trust.Fresh); err != nil {
			return r, in(err, "trust", "maxAge")
		}
	}
	var witnesses Witnesses
	if d.Log != nil {
		if witnesses = (Witnesses{d.Log.Witnesses, d.Log.Keys}); witnesses.None() {
			return r, in(errors.New("log: got neither witnesses nor keys"), "log")
		}
	}
	for i, a := range d.Accept {
		p, err := a.Policy()
		if err != nil {
			return r, in(err, "accept", i)
		}
		p.FreshTrust, p.MaxTrustAge, p.Witnesses = d.Trust != nil && d.Trust.Fresh, trustAge, witnesses
		r.Accept = append(r.Accept, p)
	}
	for _, c := range d.Conditions {
		r.Conditions = append(r.Conditions, Condition{expression: c.Expression, message: c.Message})
	}
	for i, e := range d.Exemptions {
		x := Exemption{Images: patterns(e.Images), Reason: e.Reason, Owner: e.Owner}
		if x.Until, err = parseDate(e.Until, true); err != nil {
			return r, in(fmt.Errorf("until: %w", err), "exemptions", i, "until")
		}
		r.Exemptions = append(r.Exemptions, x)
	}
	if d.Rebuilds != nil {
		r.Rebuilds = &Rebuilds{d.Rebuilds.AtLeast, d.Rebuilds.By}
	}
	if d.Distrust != nil {
		if r.DistrustMaxAge, err = parseAge(d.Distrust.MaxAge, true); err != nil {
			return r, in(err, "distrust", "maxAge")
		}
		if o := d.Distrust.Otherwise; o != "" && o != "undecided" {
			return r, in(fmt.Errorf("otherwise: got %q, want undecided", o), "distrust", "otherwise")
		}
	}
	return r, nil
}

func patterns(documents []PatternDocument) (out []ImagePattern) {
	for _, d := range documents {
		out = append(out, ImagePattern(d))
	}
	return out
}

// parseDate parses a date in UTC or a time. With end, a date means the end of the day.
func parseDate(text string, end bool) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("got %q, want a date or time such as 2026-12-31 or 2026-12-31T12:00:00Z", text)
}

// parseAge parses a duration of more than nothing.
func parseAge(text string, required bool) (time.Duration, error) {
	if text == "" && !required {
		return 0, nil
	}
	age, err := time.ParseDuration(text)
	if err == nil && age <= 0 {
		err = errors.New("too short")
	}
	if err != nil {
		return 0, fmt.Errorf("maxAge: got %q, want more than 0s, as in 72h", text)
	}
	return age, nil
}
