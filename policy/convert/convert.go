// Package convert turns policies into those of other admission controllers, and theirs into
// ours: ClusterImagePolicy (sigstore's policy-controller, v1beta1), both ways, and Kyverno's
// ImageValidatingPolicy (policies.kyverno.io/v1), one way.
//
// What the target cannot say is a Loss. A result accepts an image that the original refuses
// only where a Loss says so and is Weaker. Where a signature is stored and in which format is
// no part of that comparison: it is who signed what. The package does no I/O.
package convert

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// PublicRoot is the name of the trust root of Sigstore's public instance, which both targets
// use where a policy names no other.
const PublicRoot = "https://tuf-repo-cdn.sigstore.dev"

// Format is a kind of policies.
type Format string

// Formats that a policy can be converted to.
const (
	Colophon           Format = "colophon"           // colophon.build/v1 (spec/policy, version 2)
	ClusterImagePolicy Format = "clusterimagepolicy" // policy.sigstore.dev/v1beta1
	Kyverno            Format = "kyverno"            // policies.kyverno.io/v1, ImageValidatingPolicy
)

// Formats returns the names of all formats.
func Formats() []string {
	return []string{string(Colophon), string(ClusterImagePolicy), string(Kyverno)}
}

// Options say how to convert.
type Options struct {
	Name string // of the result, if it is one policy of ours that is made of several documents, or of one without name; required then

	// Lossy keeps as much of the original as the target can say, even if the result accepts
	// more images. Without it, a result with a Weaker loss must not be used.
	Lossy bool
	Now   time.Time         // decides which exemptions ended, and which rules enforce already; required
	Roots map[string]string // name of a TrustRoot object to the name of a trust root here

	// Owner and Until are of the exemptions that static: pass becomes. Without them, it becomes
	// nothing, because no exemption is without an owner and an end.
	Owner string
	Until string // date or time, as in an exemption
}

// Loss is something that the result does not say as the original does.
type Loss struct {
	Policy string `json:"policy"`           // name of the original
	Rule   string `json:"rule,omitempty"`   // of it; empty: the loss is about the whole policy
	Member string `json:"member,omitempty"` // of the original, as in accept[0].built.minLevel
	Weaker bool   `json:"weaker"`           // the result accepts images that the original refuses
	What   string `json:"what"`             // one line for people
}

// String returns the loss as one line for people.
func (l Loss) String() string {
	out := l.Policy
	if l.Rule != "" {
		out += ", rule " + l.Rule
	}
	if l.Member != "" {
		out += ", " + l.Member
	}
	return out + ": " + l.What
}

// Result is a converted policy. It may consist of several documents, which belong together.
type Result struct {
	Documents []any // as encoding/json writes them
	Losses    []Loss
}

// Weaker reports whether the result accepts images that the original refuses.
func (r *Result) Weaker() bool {
	return slices.ContainsFunc(r.Losses, func(l Loss) bool { return l.Weaker })
}

// YAML returns the documents as text for a file.
func (r *Result) YAML() ([]byte, error) {
	var out bytes.Buffer
	for i, d := range r.Documents {
		text, err := documents.YAML(d)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// Convert converts a policy file of at most 1 MiB: policies of ours in version 1 or 2, or
// ClusterImagePolicies with the TrustRoots that they name. An error about a place in the file is
// a *strict.Fault.
func Convert(file []byte, to Format, o Options) (*Result, error) {
	if o.Now.IsZero() {
		return nil, errors.New("convert: the time is not set")
	}
	objects, err := clusterimagepolicy.Parse(file)
	if err != nil {
		return nil, err
	}
	theirs := len(objects.Policies) + len(objects.TrustRoots)
	switch {
	case theirs == 0:
		return fromOurs(file, to, o)
	case to == ClusterImagePolicy:
		return nil, ErrSame
	}
	if docs, err := documents.Objects(file, limits.Request, theirs); err != nil || len(docs) != theirs {
		return nil, errors.New("policy: expected documents of one kind in the file, found ClusterImagePolicies and others")
	}
	out, err := fromClusterImagePolicy(objects, o)
	if err != nil || to == Colophon {
		return out, err
	}
	more, err := to.write(o, out.Documents[0].(*policy.SetDocument))
	if err != nil {
		return nil, err
	}
	more.Losses = append(out.Losses, more.Losses...)
	return more, nil
}

// ErrSame means that the file is of the format that it should be converted to.
var ErrSame = errors.New("policy: the file is of this format already")

func fromOurs(file []byte, to Format, o Options) (*Result, error) {
	version1 := policy.IsVersion1(file)
	if version1 {
		d, err := policy.Convert(file, o.Name)
		if err != nil || to == Colophon {
			return &Result{Documents: []any{d}}, err
		}
		return to.write(o, d)
	}
	sets, err := policy.ParseSets(file)
	switch {
	case err != nil:
		return nil, err
	case to == Colophon:
		return nil, ErrSame
	}
	var all []*policy.SetDocument
	for _, s := range sets {
		d, err := s.Document()
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return to.write(o, all...)
}

// original is a policy of ours that is converted: the rules of the set are those of the document.
type original struct {
	*policy.SetDocument
	set *policy.Set
}

// write returns policies of ours in another format.
func (to Format) write(o Options, documents ...*policy.SetDocument) (*Result, error) {
	var all []original
	for _, d := range documents {
		s, err := d.Set()
		if err != nil {
			return nil, err
		}
		all = append(all, original{d, s})
	}
	switch to {
	case ClusterImagePolicy:
		out, err := toClusterImagePolicy(all, o)
		if err != nil {
			return nil, err
		}
		return out, checkNames(out.Documents)
	case Kyverno:
		out := toKyverno(all, o)
		return out, checkNames(out.Documents)
	}
	return nil, fmt.Errorf("convert: format: expected one of %q, found %q", Formats(), to)
}

// checkNames fails if two documents have one name: a cluster would keep the last one only.
func checkNames(documents []any) error {
	seen := map[[3]string]bool{}
	for _, d := range documents {
		var id [3]string
		switch d := d.(type) {
		case *clusterimagepolicy.ClusterImagePolicy:
			id = [3]string{d.Kind, d.Metadata.Namespace, d.Metadata.Name}
		case *validating:
			id = [3]string{d.Kind, d.Metadata.Namespace, d.Metadata.Name}
		}
		if seen[id] {
			return fmt.Errorf("two policies of the result would have the name %q, and a cluster keeps one of them: give a policy or a rule another name", id[2])
		}
		seen[id] = true
	}
	return nil
}

// losses collects what is lost, and where.
type losses struct {
	policy, rule string
	list         []Loss
}

func (l *losses) weaker(member, format string, args ...any) { l.add(true, member, format, args...) }

func (l *losses) stricter(member, format string, args ...any) { l.add(false, member, format, args...) }

func (l *losses) add(weaker bool, member, format string, args ...any) {
	loss := Loss{l.policy, l.rule, member, weaker, fmt.Sprintf(format, args...)}
	if !slices.Contains(l.list, loss) {
		l.list = append(l.list, loss)
	}
}

// metadata returns the head of a document.
func metadata(name string) policy.MetadataDocument { return policy.MetadataDocument{Name: name} }
