package cluster

import (
	"context"
	"crypto"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// authority is an Authority with the queries that it stands for.
type authority struct {
	*cip.Authority
	name       string
	queries    []verify.Query
	identities []identity
	stamped    bool                   // a timestamp authority must have seen the signature
	named      map[string]*trust.Root // the TrustRoots that it names
	never      string                 // why it accepts no image
	unknown    string                 // why it cannot be asked
}

// roots returns the trust roots that count for the authority.
func (a *authority) roots() (all []*trust.Root) {
	for _, q := range a.queries {
		all = append(all, q.Trust...)
	}
	return all
}

// expired says which trust root of the authority does not count any more, or "".
func (a *authority) expired(now time.Time) string {
	for _, name := range slices.Sorted(maps.Keys(a.named)) {
		if root := a.named[name]; root.Stale(now) {
			return fmt.Sprintf("TrustRoot %q: the metadata of its TUF repository expired on %s", name, root.Expires.Format(time.DateOnly))
		}
	}
	for _, root := range a.roots() {
		if root.Stale(now) {
			return "trust root: the metadata of its TUF repository expired on " + root.Expires.Format(time.DateOnly)
		}
	}
	return ""
}

// identity is an Identity with compiled expressions; nil: compared whole.
type identity struct {
	cip.Identity
	issuer, subject *regexp.Regexp
}

func (id identity) matches(issuer, subject string) bool {
	return same(id.issuer, id.Issuer, issuer) && same(id.subject, id.Subject, subject)
}

// same compares as the original does: an expression may match a part of the text.
func same(expr *regexp.Regexp, want, got string) bool {
	if expr != nil {
		return expr.MatchString(got)
	}
	return want != "" && want == got
}

// maxKeys limits the keys in the PEM text of one authority.
const maxKeys = 16

func (p *Policies) authority(roots *roots, a *cip.Authority, name string) *authority {
	out := &authority{Authority: a, name: name, stamped: a.RFC3161Timestamp != nil}
	var err error
	roots.used = map[string]*trust.Root{}
	out.named = roots.used
	switch {
	case a.Static != nil:
		out.queries = []verify.Query{{}} // nobody signed, but the image must be there
		return out
	case a.Key != nil:
		err = out.ofKeys(p.objects, roots)
	default:
		err = out.ofCertificates(roots)
	}
	if err == nil {
		err = out.from(p.opts)
	}
	if err != nil {
		out.unknown, out.queries = err.Error(), nil
		return out
	}
	for i := range out.queries {
		for _, t := range a.Attestations {
			if t.Policy != nil {
				out.queries[i].Statements = append(out.queries[i].Statements, t.PredicateURI())
			}
		}
	}
	return out
}

var hashes = map[string]crypto.Hash{"": crypto.SHA256, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}

func (a *authority) ofKeys(o *cip.Objects, roots *roots) error {
	if a.Format() == cip.FormatBundle {
		a.never = "signatureFormat bundle: the original accepts only keyless authorities with it, and this one has a key"
		return nil
	}
	text, err := o.PEM(a.Key)
	if err != nil {
		return err
	}
	under, err := roots.forKey(a.Authority)
	if err != nil {
		return err
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := cryptoutils.UnmarshalPEMToPublicKey(pem.EncodeToMemory(block))
		if err != nil || len(a.queries) == maxKeys {
			return fmt.Errorf("key: expected 1 to %d public keys in PEM", maxKeys)
		}
		a.queries = append(a.queries, verify.Query{Trust: under, Key: bundle.Signer{Key: public, Hash: hashes[a.Key.HashAlgorithm], InsecureNoLog: a.CTLog == nil}})
	}
	if len(a.queries) == 0 {
		return fmt.Errorf("key: expected 1 to %d public keys in PEM, found none", maxKeys)
	}
	return nil
}

func (a *authority) ofCertificates(roots *roots) error {
	k := a.Keyless
	switch {
	case k.CACert != nil:
		a.never = "ca-cert: the original accepts no image by it"
		return nil
	case a.Format() == cip.FormatBundle && (a.RFC3161Timestamp != nil && a.RFC3161Timestamp.TrustRootRef != k.TrustRootRef || a.CTLog != nil && a.CTLog.TrustRootRef != k.TrustRootRef):
		a.never = "signatureFormat bundle: the original accepts no image unless all trustRootRef are the same"
		return nil
	}
	for _, id := range k.Identities {
		one := identity{Identity: id}
		var err error
		for _, e := range []struct {
			text string
			into **regexp.Regexp
		}{{id.IssuerRegExp, &one.issuer}, {id.SubjectRegExp, &one.subject}} {
			if e.text == "" {
				continue
			}
			if *e.into, err = regexp.Compile(e.text); err != nil {
				return err
			}
		}
		a.identities = append(a.identities, one)
	}
	under, err := roots.forCertificates(a.Authority)
	a.queries = []verify.Query{{Trust: under}}
	return err
}

// from sets where the signatures are.
func (a *authority) from(opts Options) error {
	if len(a.Source) == 0 {
		return nil
	}
	s := a.Source[0]
	prefix := ""
	if s.TagPrefix != nil {
		prefix = *s.TagPrefix
	}
	if s.OCI == "" {
		if prefix != "" {
			return fmt.Errorf("source: tagPrefix %q: say in oci which repository has the signatures", prefix)
		}
		return nil
	}
	if opts.Open == nil {
		return fmt.Errorf("source: %s cannot be asked here", s.OCI)
	}
	src, err := opts.Open(s.OCI)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	for i := range a.queries {
		a.queries[i].From = &prefixed{src, prefix}
	}
	return nil
}

// prefixed is a repository in which the tags of cosign v2 begin with a text.
type prefixed struct {
	oci.Source
	prefix string
}

// Resolve puts the prefix before a tag.
func (p *prefixed) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if !strings.Contains(reference, ":") {
		reference = p.prefix + reference
	}
	return p.Source.Resolve(ctx, reference)
}

// Name tells this place from the same repository with another prefix.
func (p *prefixed) Name() string { return strings.TrimSuffix(p.Source.Name()+":"+p.prefix, ":") }

// ask asks one authority.
func (q question) ask(ctx context.Context, a *authority) (match, result) {
	switch {
	case a.Static != nil && a.Static.Action == cip.ActionPass:
		return match{Static: true}, result{outcome: verify.Accepted}
	case a.Static != nil:
		return match{}, rejected("%s", strings.TrimSuffix("disallowed by a static policy: "+a.Static.Message, ": "))
	case a.never != "":
		return match{}, rejected("%s", a.never)
	case a.unknown != "":
		return match{}, undecided("%s", a.unknown)
	}
	if why := a.expired(q.now); why != "" {
		return match{}, undecided("%s", why)
	}
	var all []verify.Testimony
	var unsure error
	for _, query := range a.queries {
		got, err := q.ev.Testimonies(query)
		all = append(all, got...)
		if err != nil {
			unsure = err
		}
	}
	other := ""
	all = slices.DeleteFunc(all, func(t verify.Testimony) bool {
		why := a.refuses(t)
		if other == "" {
			other = why
		}
		return why != ""
	})
	if len(a.Attestations) > 0 {
		return q.attestations(ctx, a, all, other, unsure)
	}
	m := match{more: unsure}
	for _, t := range all {
		if t.Image {
			m.Signatures = append(m.Signatures, signatureOf(t))
		}
	}
	if len(m.Signatures) > 0 {
		return m, result{outcome: verify.Accepted}
	}
	return m, missing("signature of the image", other, unsure)
}

// missing says that something is not there, or that it is not known.
func missing(what, other string, unsure error) result {
	if unsure != nil {
		return undecided("%v", unsure)
	}
	if other != "" {
		other = "; " + other
	}
	return rejected("the image has no %s by this authority%s", what, other)
}

// refuses returns why a signature that holds is not what the authority demands, or "".
func (a *authority) refuses(t verify.Testimony) string {
	switch {
	case t.Bundle && a.Format() == cip.FormatLegacy:
		return "there is a Sigstore bundle, and signatureFormat is legacy"
	case !t.Bundle && a.Format() == cip.FormatBundle:
		return "there is a signature of cosign v2, and signatureFormat is bundle"
	case a.stamped && !t.Stamped:
		return "there is a signature without a timestamp of the timestamp authority"
	case a.Keyless != nil && !slices.ContainsFunc(a.identities, func(id identity) bool { return id.matches(t.Issuer, t.Signer) }):
		return fmt.Sprintf("there is a signature by %s, vouched for by %s", t.Signer, t.Issuer)
	}
	return ""
}

// roots finds the trust roots that an authority names.
type roots struct {
	machine []*trust.Root
	named   map[string]*trust.Root
	used    map[string]*trust.Root // those of named that the present authority names
	missing map[string]string      // why a named one cannot be used
}

func (r *roots) get(name string) (*trust.Root, error) {
	if root := r.named[name]; root != nil {
		r.used[name] = root
		return root, nil
	}
	if why := r.missing[name]; why != "" {
		return nil, fmt.Errorf("TrustRoot %q: %s", name, why)
	}
	return nil, fmt.Errorf("trustRootRef: there is no TrustRoot %q in the file", name)
}
