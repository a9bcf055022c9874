package convert

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// evidence is one signed thing that an image must have. Both targets can ask for it.
type evidence struct {
	by            signer
	predicateType string                     // URI; empty: a signature of the image itself
	values        []policy.PredicateDocument // that the predicate must have
}

// signer is who must have signed: the holder of a key, or one of the identities.
type signer struct {
	key        string // PEM
	unlogged   bool   // the signature by the key needs no log entry
	identities []identity
	root       string // name of the trust root; empty: any
}

// identity is what a certificate must say: one of subject and subjectRegExp, which is anchored
// at both ends.
type identity struct{ issuer, subject, subjectRegExp string }

func anchored(expr string) string { return "^(?:" + expr + ")$" }

func signerOf(d policy.SignerDocument) signer {
	switch {
	case d.Certificate != nil:
		id := identity{issuer: d.Certificate.Issuer}
		if d.Certificate.Identity.Is != nil {
			id.subject = *d.Certificate.Identity.Is
		} else {
			id.subjectRegExp = anchored(d.Certificate.Identity.Matches)
		}
		return signer{identities: []identity{id}, root: d.Certificate.Root}
	case d.Key != nil:
		return signer{key: d.Key.PEM, root: d.Key.Root}
	case d.InsecureUnloggedKey != nil:
		return signer{key: d.InsecureUnloggedKey.PEM, unlogged: true}
	}
	return signer{}
}

// single reports whether the signer is one known name or key.
func (s signer) single() bool {
	return s.key != "" || len(s.identities) == 1 && s.identities[0].subject != ""
}

// alternatives returns what satisfies a rule: all evidence of one of the lists. It is empty if
// the target can ask for none of it.
func (l *losses) alternatives(rule policy.RuleDocument) (out [][]evidence) {
	if _, refuses := refusal(rule); refuses {
		return nil
	}
	for i, a := range rule.Accept {
		at := fmt.Sprintf("accept[%d]", i)
		switch {
		case a.Built != nil:
			at += ".built"
			all := builtBy(a.Built)
			if len(all) == 0 {
				l.stricter(at, "name the builders or a trust root: without, the target cannot know who builds images, and the alternative is left out")
				continue
			}
			l.provenance(at, a.Built.ProvenanceDocument)
			l.built(at, a.Built)
			for _, e := range all {
				out = append(out, l.beside(at, e, a.Built.BesideDocument)...)
			}
		case a.Provenance != nil:
			at += ".provenance"
			l.provenance(at, a.Provenance.ProvenanceDocument)
			e := evidence{signerOf(a.Provenance.Signer), attest.PredicateSLSA1, saysGitHub(a.Provenance.ProvenanceDocument)}
			l.stricter(at, "only provenance of the type %s counts", attest.PredicateSLSA1)
			if len(e.values) == 0 && a.Provenance.Source != "any" {
				l.weaker(at+".source", "the target does not compare the repository: it compares that of workflows on GitHub only")
			}
			out = append(out, l.beside(at, e, a.Provenance.BesideDocument)...)
		case a.Signature != nil:
			at += ".signature"
			out = append(out, l.beside(at, evidence{by: signerOf(a.Signature.Signer)}, a.Signature.BesideDocument)...)
		case a.Notation != nil:
			l.stricter(at+".notation", "signatures of notation are not converted: the alternative is left out")
		case a.Attested != nil:
			for _, e := range l.beside(at+".attested", evidence{}, a.Attested.BesideDocument) {
				out = append(out, e[1:]) // the first is of an origin
			}
		case a.Summary != nil:
			at += ".summary"
			if a.Summary.MinLevel > 0 {
				l.weaker(at+".minLevel", "the target does not compare the Build level in the summary")
			}
			l.absent(at, a.Summary.Absent)
			for j, v := range a.Summary.Verifiers {
				out = append(out, []evidence{l.summary(fmt.Sprintf("%s.verifiers[%d]", at, j), v)})
			}
		default:
			l.stricter(at, "the target cannot ask for this: the alternative is left out")
		}
	}
	return out
}

// never is the expression of a condition of a rule that refuses every image.
const never = "false"

// refusal reports whether a rule refuses every image, and why, for people.
func refusal(rule policy.RuleDocument) (why string, refuses bool) {
	for _, c := range rule.Conditions {
		if c.Expression == never {
			return c.Message, true
		}
	}
	return "the rule " + rule.Name + " was converted from one that this format cannot say", false
}

// beside returns the evidence with what an alternative demands beside it. Several lists: one of
// them is enough.
func (l *losses) beside(at string, origin evidence, d policy.BesideDocument) [][]evidence {
	all := []evidence{origin}
	for i, a := range d.Attestations {
		at := fmt.Sprintf("%s.attestations[%d]", at, i)
		e := evidence{by: origin.by, predicateType: a.PredicateType, values: a.Values}
		switch {
		case a.Signer != nil:
			e.by = signerOf(*a.Signer)
		case !origin.by.single():
			l.weaker(at+".signer", "the attestation may be signed by another of the names that the alternative accepts")
		}
		if len(a.Values) > 0 {
			l.weaker(at+".values", "of several attestations of this type by the signer, any one with these values is enough: here, the last one counts. Numbers are compared by value")
		}
		all = append(all, e)
	}
	l.absent(at, d.Absent)
	if len(d.Verifiers) == 0 {
		return [][]evidence{all}
	}
	var out [][]evidence
	for i, v := range d.Verifiers {
		out = append(out, append(slices.Clone(all), l.summary(fmt.Sprintf("%s.verifiers[%d]", at, i), v)))
	}
	return out
}

func (l *losses) absent(at string, all []policy.AttestationDocument) {
	for i := range all {
		l.weaker(fmt.Sprintf("%s.absent[%d]", at, i), "the target cannot demand that an attestation is absent")
	}
}

// summary returns the evidence of a verification summary.
func (l *losses) summary(at string, v policy.VerifierDocument) evidence {
	text := func(s string) *string { return &s }
	e := evidence{signerOf(v.Signer), attest.PredicateVSA, []policy.PredicateDocument{
		{Pointer: "/verifier/id", String: text(v.ID)},
		{Pointer: "/verificationResult", String: text(attest.VSAPassed)},
	}}
	l.weaker(at, "of several summaries by the verifier, any one that passed is enough: here, the last one counts")
	if v.Resource != "" {
		e.values = append(e.values, policy.PredicateDocument{Pointer: "/resourceUri", String: text(v.Resource)})
	} else {
		l.weaker(at+".resource", "the target does not compare the resource of the summary with the image's name: name it")
	}
	if v.PolicyDigest != "" {
		e.values = append(e.values, policy.PredicateDocument{Pointer: "/policy/digest/sha256", String: text(strings.TrimPrefix(v.PolicyDigest, "sha256:"))})
	}
	if len(v.Levels) > 0 {
		l.weaker(at+".levels", "the target does not compare the levels in the summary")
	}
	if v.MaxAge != "" {
		l.weaker(at+".maxAge", "a summary of any age is enough")
	}
	return e
}

// provenance lists which demands on provenance are lost.
func (l *losses) provenance(at string, d policy.ProvenanceDocument) {
	l.weaker(at, "the target compares a few values of the provenance: it does not compare the provenance with the certificate that signed it, nor who may have requested the build")
	for _, m := range []struct {
		member, what string
		lost         bool
	}{
		{"ref", "the target compares the ref only where it is a full name and the provenance is of GitHub or Colophon, and in the names of workflows", d.Ref != nil},
		{"commit", "the target does not compare the commit", d.Commit != ""},
		{"workflowInputs", "the target does not compare the inputs of workflows", len(d.WorkflowInputs) > 0},
		{"minLevel", "the target does not compute the Build level", d.MinLevel > 0},
		{"requireSource", "the target does not ask the repository", d.RequireSource},
		{"sourceTrack", "the target does not know the Source level and the reviewers", d.SourceTrack != nil},
	} {
		if m.lost {
			l.weaker(at+"."+m.member, "%s", m.what)
		}
	}
}

// built lists which demands on a builder are lost.
func (l *losses) built(at string, d *policy.BuiltDocument) {
	if d.Recipe == nil || d.Recipe.Any == nil {
		l.weaker(at+".recipe", "the target accepts any recipe")
	}
	if d.SBOM == nil || d.SBOM.Required != nil {
		l.weaker(at+".sbom", "the target does not demand SBOMs")
	}
}

const (
	gitHub       = "https://github.com/"
	gitHubIssuer = "https://token.actions.githubusercontent.com"
)

// builtBy returns the provenance that meets a demand, one for each kind of builder.
func builtBy(d *policy.BuiltDocument) (out []evidence) {
	workflows, platform := signer{root: d.Root}, signer{root: d.Root}
	for _, b := range d.Builders {
		switch {
		case strings.HasPrefix(b.ID, gitHub):
			workflows.identities = append(workflows.identities, workflow(b.ID, d.ProvenanceDocument))
		case isPlatform(b.ID):
			issuer, _ := trust.IssuerOf(b.ID) // isPlatform has checked it
			platform.identities = append(platform.identities, identity{issuer: issuer, subject: b.ID})
			platform.root = cmp.Or(platform.root, issuer)
		default: // a pipeline, HOST/PROJECT//FILE@REF
			if u, err := url.Parse(b.ID); err == nil {
				out = append(out, evidence{by: signer{identities: []identity{{issuer: u.Scheme + "://" + u.Host, subject: b.ID}}, root: d.Root}, predicateType: attest.PredicateSLSA1})
			}
		}
	}
	switch {
	case len(d.Builders) > 0:
	case strings.HasPrefix(d.Source, gitHub):
		workflows.identities = []identity{{issuer: gitHubIssuer, subjectRegExp: "^" + regexp.QuoteMeta(d.Source) + `/\.github/workflows/[^@]+@` + refs(d.Ref) + "$"}}
	case strings.HasPrefix(d.Root, "http") && d.Root != PublicRoot:
		platform.identities = []identity{{issuer: d.Root, subjectRegExp: "^" + regexp.QuoteMeta(d.Root) + "/builders/.+$"}}
	}
	if len(workflows.identities) > 0 {
		out = append(out, evidence{workflows, attest.PredicateSLSA1, saysGitHub(d.ProvenanceDocument)})
	}
	if len(platform.identities) > 0 {
		out = append(out, evidence{platform, attest.PredicateSLSA1, says(d.ProvenanceDocument, "/buildDefinition/externalParameters/source/uri", "/buildDefinition/externalParameters/source/ref")})
	}
	return out
}

func isPlatform(id string) bool {
	_, err := trust.IssuerOf(id)
	return err == nil
}

// workflow returns the identity of a workflow on GitHub, as a policy names it: with its ref, or
// at the refs of its own repository, or elsewhere at tags of versions.
func workflow(id string, d policy.ProvenanceDocument) identity {
	if strings.Contains(id, "@") {
		return identity{issuer: gitHubIssuer, subject: id}
	}
	at := `refs/tags/v[0-9]+\.[0-9]+\.[0-9]+`
	if strings.HasPrefix(id, d.Source+"/") {
		at = refs(d.Ref)
	}
	return identity{issuer: gitHubIssuer, subjectRegExp: "^" + regexp.QuoteMeta(id) + "@" + at + "$"}
}

// refs returns a regular expression of the refs that a policy accepts.
func refs(d *policy.RefDocument) string {
	switch {
	case d == nil:
		return "refs/(heads|tags)/.+"
	case strings.HasPrefix(d.Name, "refs/"):
		return regexp.QuoteMeta(d.Name)
	case d.Name != "":
		return "refs/(heads|tags)/" + regexp.QuoteMeta(d.Name)
	}
	more := 2 - strings.Count(d.Version, ".")
	if strings.Contains(d.Version, "-") || more <= 0 {
		return "refs/tags/" + regexp.QuoteMeta(d.Version)
	}
	return fmt.Sprintf(`refs/tags/%s(\.(0|[1-9][0-9]*)){0,%d}`, regexp.QuoteMeta(d.Version), more)
}

// saysGitHub returns the values that provenance of a workflow on GitHub must have, or nil if the
// repository is on another host.
func saysGitHub(d policy.ProvenanceDocument) []policy.PredicateDocument {
	if !strings.HasPrefix(d.Source, gitHub) {
		return nil
	}
	return says(d, "/buildDefinition/externalParameters/workflow/repository", "/buildDefinition/externalParameters/workflow/ref")
}

// says returns the values that provenance must have at two places: the repository, and the ref
// if the policy has a full name.
func says(d policy.ProvenanceDocument, repository, ref string) (out []policy.PredicateDocument) {
	if d.Source != "any" {
		out = append(out, policy.PredicateDocument{Pointer: repository, String: &d.Source})
	}
	if d.Ref != nil && strings.HasPrefix(d.Ref.Name, "refs/") {
		out = append(out, policy.PredicateDocument{Pointer: ref, String: &d.Ref.Name})
	}
	return out
}
