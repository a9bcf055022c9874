package verify

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// provenance is what a verified provenance says, after all of it agreed.
type provenance struct {
	uri, ref, commit string
	tree             string // of the commit, as the builder saw it; may be empty
	builder          trust.Builder
	signed           string // who signed tag or commit, as the builder saw it
}

// issuerOf is trust.IssuerOf for ids that were checked before.
func issuerOf(id string) string {
	issuer, _ := trust.IssuerOf(id)
	return issuer
}

// readProvenance holds a predicate to the certificate that signed it, then to
// the policy. The certificate is the platform's word about the build, given
// before the build ran; the predicate is the builder's, after.
func (c *check) readProvenance(p *proof, predicate []byte) (*provenance, error) {
	slsa, err := attest.ParseProvenance(predicate)
	if err != nil {
		return nil, err
	}
	def := slsa.BuildDefinition
	if t := def.BuildType; t != attest.BuildTypeBuildKit && t != attest.BuildTypeGolang {
		return nil, fmt.Errorf("build type: got %q, want one that is known: %q, %q", t, attest.BuildTypeBuildKit, attest.BuildTypeGolang)
	}
	var params attest.ExternalParameters
	if err := strict.UnmarshalKnown(def.ExternalParameters, limits.Statement, &params); err != nil {
		return nil, fmt.Errorf("external parameters: %w", err)
	}
	src := params.Source
	if canonical, err := source.Canonical(src.URI); err != nil || canonical != src.URI {
		return nil, fmt.Errorf("source: got %q, want a canonical repository address", src.URI)
	}
	id := p.identity
	for _, claim := range []struct{ what, got, want string }{
		{"builder id", slsa.RunDetails.Builder.ID, id.SubjectAlternativeName},
		{"source", src.URI, id.SourceRepositoryURI},
		{"commit", src.Commit, id.SourceRepositoryDigest},
		{"ref", src.Ref, id.SourceRepositoryRef},
		{"invocation", slsa.RunDetails.Metadata.InvocationID, id.RunInvocationURI},
	} {
		if claim.got != claim.want {
			return nil, fmt.Errorf("%s: the provenance says %q, its signer's certificate %q", claim.what, claim.got, claim.want)
		}
	}
	if id.BuildSignerURI != "" && id.BuildSignerURI != id.SubjectAlternativeName {
		return nil, fmt.Errorf("build signer of the certificate: got %q, want %q", id.BuildSignerURI, id.SubjectAlternativeName)
	}
	prov := &provenance{uri: src.URI, ref: src.Ref, commit: src.Commit}
	prov.builder, _ = p.root.Builder(id.SubjectAlternativeName, c.opts.Policy.Builders)
	if prov.tree, prov.signed, err = sourceDependency(def.ResolvedDependencies, src); err != nil {
		return nil, err
	}
	return prov, c.demand(prov)
}

// sourceDependency fails unless the dependencies name the source at the commit
// of the external parameters, and returns its tree and who signed it.
func sourceDependency(deps []attest.ResourceDescriptor, src attest.SourceParameters) (tree, signed string, err error) {
	want := attest.GitURI(src.URI, src.Ref)
	var got []string
	for _, d := range deps {
		if d.URI != want {
			continue
		}
		if d.Digest["gitCommit"] == src.Commit && src.Commit != "" {
			return d.Digest["gitTree"], signatureOf(d.Annotations["signature"]), nil
		}
		got = append(got, d.Digest["gitCommit"])
	}
	return "", "", fmt.Errorf("resolved dependencies: %s: got commits %q, want %q", want, got, src.Commit)
}

// signatureOf renders a source.Signature that went through JSON.
func signatureOf(annotation any) string {
	raw, err := json.Marshal(annotation)
	var s source.Signature
	if err != nil || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	switch s.Status {
	case "verified":
		return fmt.Sprintf("%s signed by %s", s.Object, s.Signer)
	case "unverified":
		return fmt.Sprintf("%s signed, by a key that the builder was not given", s.Object)
	case "bad":
		return "with a BAD signature"
	case "unsigned":
		return "unsigned"
	}
	return ""
}

// demand holds the provenance to the policy.
func (c *check) demand(p *provenance) error {
	for _, err := range []error{
		c.opts.Policy.MatchSource(p.uri),
		c.opts.Policy.MatchRef(p.ref),
		c.opts.Policy.MatchCommit(p.commit),
		c.opts.Policy.MatchLevel(p.builder.Level),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// named is the commit and the ref that led to it, for people.
func (p *provenance) named() string {
	if p.ref == "" {
		return "commit " + p.commit
	}
	return p.ref + " of commit " + p.commit
}

// claim is the provenance in one line.
func (p *provenance) claim() string {
	ref := p.ref
	if ref == "" {
		ref = "no ref"
	}
	level := ""
	if p.builder.Level > 0 {
		level = fmt.Sprintf("; Build L%d", p.builder.Level)
	}
	commit := p.commit
	if len(commit) > 7 {
		commit = commit[:7]
	}
	return fmt.Sprintf("built from %s@%s, %s%s", strings.TrimPrefix(p.uri, "https://"), commit, ref, level)
}
