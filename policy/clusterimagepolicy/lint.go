package clusterimagepolicy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/policy"
)

// Lint parses a file as Parse does, and says what is wrong with policies that are valid: those
// that accept no image, patterns that match none, signers that are anybody.
func Lint(data []byte) ([]policy.Finding, error) {
	objects, err := Parse(data)
	if err != nil {
		return nil, err
	}
	docs, err := documents.Objects(data, limits.Request, maxDocuments)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	var out []policy.Finding
	next := 0
	for _, doc := range docs {
		apiVersion, kind, err := doc.Head()
		if err != nil || !strings.HasPrefix(apiVersion, Group+"/") || kind != KindPolicy {
			continue
		}
		l := linter{doc: doc, policy: objects.Policies[next], objects: objects}
		next++
		l.lint()
		out = append(out, l.found...)
	}
	slices.SortStableFunc(out, func(a, b policy.Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out, nil
}

type linter struct {
	doc     *documents.Document
	policy  *ClusterImagePolicy
	objects *Objects
	found   []policy.Finding
}

func (l *linter) say(wrong bool, pointer, format string, args ...any) {
	line, column := l.doc.Position(pointer)
	l.found = append(l.found, policy.Finding{Line: line, Column: column, Rule: l.policy.Metadata.Name, Wrong: wrong, What: fmt.Sprintf(format, args...)})
}

func (l *linter) lint() {
	s := l.policy.Spec
	if len(s.Authorities) == 0 {
		l.say(true, "/spec", "the policy has no authorities: no image satisfies it")
	}
	for i, image := range s.Images {
		if reason := unreachable(image.Glob); reason != "" {
			l.say(true, fmt.Sprintf("/spec/images/%d/glob", i), "%s", reason)
		}
	}
	if s.Mode == Warn {
		l.say(false, "/spec/mode", "the policy never refuses an image: its mode is warn")
	}
	if l.policy.Metadata.Annotations[AbsentPasses] == "pass" {
		l.say(false, "/metadata/annotations", "dangerous: a member that a policy in CUE names may be absent")
	}
	for i, a := range s.Authorities {
		l.authority(fmt.Sprintf("/spec/authorities/%d", i), &a)
	}
	l.language("/spec/policy", s.Policy)
}

// AbsentPasses is the annotation of a policy whose CUE is read as the original reads it: with the
// value "pass", a member that CUE names and that the input does not have is no violation.
const AbsentPasses = "colophon.build/absent-cue-fields"

// unreachable says why no image matches a glob, which is matched with NAME@DIGEST.
func unreachable(glob string) string {
	last := glob[strings.LastIndexByte(glob, '/')+1:]
	switch {
	case strings.Contains(glob, "**") || last == "*" || glob == "*/*":
		return ""
	case !strings.HasSuffix(last, "*") && !strings.Contains(last, "@"):
		return fmt.Sprintf("the glob %q matches no image: globs are matched with NAME@DIGEST: write %q", glob, glob+"@*")
	}
	if i := strings.IndexAny(last, ":*@"); i >= 0 && last[i] == ':' {
		return fmt.Sprintf("the glob %q matches no image: globs are matched with NAME@DIGEST, without the tag", glob)
	}
	return ""
}

func (l *linter) authority(at string, a *Authority) {
	switch {
	case a.Static != nil && a.Static.Action == ActionPass:
		l.say(false, at, "dangerous: every image is accepted, whoever signed it")
	case a.Static != nil:
	case a.Key != nil:
		if a.Format() == FormatBundle {
			l.say(true, at, "no image satisfies this: signatureFormat bundle goes with keyless only")
		}
		if _, err := l.objects.PEM(a.Key); err != nil {
			l.say(true, at+"/key", "every image is undecided: %v", err)
		}
		if a.CTLog == nil {
			l.say(false, at+"/key", "dangerous: a signature without a transparency log entry is accepted")
		}
	default:
		l.keyless(at+"/keyless", a.Keyless)
	}
	for _, ref := range a.TrustRootRefs() {
		if ref != "" && !slices.ContainsFunc(l.objects.TrustRoots, func(t *TrustRoot) bool { return t.Metadata.Name == ref }) {
			l.say(true, at, "every image is undecided: there is no TrustRoot %q in the file", ref)
		}
	}
	for i, t := range a.Attestations {
		l.language(fmt.Sprintf("%s/attestations/%d/policy", at, i), t.Policy)
		if uri := t.PredicateURI(); uri != t.PredicateType {
			l.say(false, fmt.Sprintf("%s/attestations/%d/predicateType", at, i), "the short name %s is deprecated: write %s", t.PredicateType, uri)
		}
	}
}

// TrustRootRefs returns the names of the trust roots that the authority names, "" for the public one
// of Sigstore, sorted and without repeats.
func (a *Authority) TrustRootRefs() (out []string) {
	if a.Keyless != nil {
		out = append(out, a.Keyless.TrustRootRef)
	}
	if a.CTLog != nil {
		out = append(out, a.CTLog.TrustRootRef)
	}
	if a.RFC3161Timestamp != nil {
		out = append(out, a.RFC3161Timestamp.TrustRootRef)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (l *linter) keyless(at string, k *Keyless) {
	if k.CACert != nil {
		l.say(true, at+"/ca-cert", "no image satisfies this: the original reads ca-cert, and accepts no image by it")
	}
	if k.InsecureIgnoreSCT {
		l.say(false, at+"/insecureIgnoreSCT", "dangerous: a certificate that no certificate transparency log has is accepted")
	}
	for i, id := range k.Identities {
		here := fmt.Sprintf("%s/identities/%d", at, i)
		for member, expr := range map[string]string{"subjectRegExp": id.SubjectRegExp, "issuerRegExp": id.IssuerRegExp} {
			if expr == "" {
				continue
			}
			stranger, anybody := policy.Stranger(regexp.MustCompile(expr).MatchString) // Parse compiled it
			switch {
			case anybody:
				l.say(true, here+"/"+member, "the expression %s is met by strangers, such as %s", expr, stranger)
			case !strings.HasPrefix(expr, "^") && !strings.HasPrefix(expr, `\A`), !strings.HasSuffix(expr, "$") && !strings.HasSuffix(expr, `\z`) && member == "issuerRegExp":
				l.say(false, here+"/"+member, "the expression %s may match a part of the text only: others may have a name around it. Write ^ and $", expr)
			}
		}
	}
}

// language says what keeps a policy in CUE or Rego from being evaluated.
func (l *linter) language(at string, p *Policy) {
	if p == nil {
		return
	}
	if _, err := l.objects.Text(p); err != nil {
		l.say(true, at, "every image is undecided: %v", err)
	}
	if p.FetchConfigFile {
		l.say(true, at, "every image is undecided: this version does not hand the configuration of the image to policies")
	}
}
