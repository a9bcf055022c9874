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
	tree             string         // of the commit, as the builder saw it; may be empty
	inputs           map[string]any // what a workflow was started with by hand; nil where nothing is said
	built            built
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
	if prov.built, err = c.builtHere(p, def); err != nil {
		return nil, err
	}
	if prov.built.pinned, err = readPinned(def, params); err != nil {
		return nil, err
	}
	if prov.tree, prov.signed, err = sourceDependency(def.ResolvedDependencies, src); err != nil {
		return nil, err
	}
	return prov, c.demand(prov)
}

// builtHere is what is known of a build by one of Colophon's own builders.
func (c *check) builtHere(p *proof, def attest.BuildDefinition) (built, error) {
	id := p.identity.SubjectAlternativeName
	b := built{process: def.BuildType, room: map[string]string{}, signed: fmt.Sprintf("%s, certified %s; log entry %d", id, show(p.certified), p.index)}
	if len(def.InternalParameters) > 0 {
		var room map[string]any
		if err := strict.Unmarshal(def.InternalParameters, limits.Statement, &room); err != nil {
			return built{}, fmt.Errorf("internal parameters: %w", err)
		}
		for _, name := range []string{"zones", "namespaces"} {
			b.room[name], _ = room[name].(string)
		}
	}
	b.builder, _ = p.root.Builder(id, c.opts.Policy.Provenance().Builders)
	if p.root.URL != "" {
		b.by = "the trust document of " + p.root.URL
	}
	if level, ok := c.opts.Policy.Provenance().Level(id); ok {
		b.builder.Level, b.by = level, byPolicy
	}
	return b, nil
}

// builtBy is a build by a builder of others, which a table believes for a level
// (0: none does). The policy may name it whole, or a workflow without its ref.
func (c *check) builtBy(id string, level int) built {
	b := built{builder: trust.Builder{ID: id, Level: level}}
	if level > 0 {
		b.by = "the table of public builders"
	}
	whole, _, _ := strings.Cut(id, "@")
	for _, name := range []string{id, whole} {
		if level, ok := c.opts.Policy.Provenance().Level(name); ok {
			b.builder.Level, b.by = level, byPolicy
			break
		}
	}
	return b
}

// byPolicy says that a level is the consumer's own word.
const byPolicy = "the policy"

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
	want := c.opts.Policy.Provenance()
	for _, err := range []error{
		want.MatchSource(p.uri),
		want.MatchRef(p.ref),
		want.MatchCommit(p.commit),
		want.MatchInputs(p.inputs),
		want.MatchLevel(BuildLevel(p.built.requirements())),
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
	level := "no Build level"
	if l := BuildLevel(p.built.requirements()); l > 0 {
		level = fmt.Sprintf("Build L%d", l)
	}
	commit := p.commit
	if len(commit) > 7 {
		commit = commit[:7]
	}
	return fmt.Sprintf("built from %s@%s, %s; %s", strings.TrimPrefix(p.uri, "https://"), commit, ref, level)
}
