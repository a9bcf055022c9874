package verify

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

var commitRE = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

var errOnlySignature = errors.New("it is the signature of a file, which does not say what it was built from")

// namedProvenance reads a provenance that the signer whom the policy names has
// signed, holds it to the certificate where there is one, then to the policy.
func (c *check) namedProvenance(b *attest.Signed, sig *Signature) (*provenance, error) {
	builder, buildType, err := saidBy(b.Statement)
	if err != nil {
		return nil, err
	}
	if demanded := c.opts.Policy.Provenance().Builders; len(demanded) > 0 && !slices.Contains(demanded, builder) {
		return nil, fmt.Errorf("builder id: got %q, want one of %q", builder, demanded)
	}
	unlogged := logLink(sig, signerOf(c.opts.Policy.Signer())).Status != Holds
	switch {
	case trust.IsTektonBuildType(buildType):
		return c.tektonProvenance(b.Statement, unlogged)
	case trust.IsGitLabBuildType(buildType):
		j := &job{unlogged: unlogged}
		if namesPipeline(b) {
			if j, _, err = jobOf(sig.Identity); err != nil {
				return nil, err
			}
		}
		return c.jobProvenance(b.Statement, j)
	case namesWorkflow(b):
		r, err := runOf(sig.Identity)
		if err != nil {
			return nil, err
		}
		if r.workflow.Delegates() {
			return nil, fmt.Errorf("signer: %q signs for other builders: name the builder, and no signer", r.workflow)
		}
		// The signer was compared whole, with its ref.
		believed, err := r.builder.Believe([]string{r.builder.String()}, r.source, r.ref, false)
		if err != nil {
			return nil, err
		}
		return c.workflowProvenance(b.Statement, r, believed)
	}
	return nil, fmt.Errorf("build type: got %q, want one that is known, of GitHub, GitLab or Tekton", buildType)
}

// saidBy is what a provenance says of its builder.
func saidBy(s *attest.Statement) (builder, buildType string, err error) {
	if s.PredicateType == attest.PredicateSLSA02 {
		p, err := attest.ParseProvenance02(s.Predicate)
		if err != nil {
			return "", "", err
		}
		return p.Builder.ID, p.BuildType, nil
	}
	p, err := attest.ParseProvenance(s.Predicate)
	if err != nil {
		return "", "", err
	}
	return p.RunDetails.Builder.ID, p.BuildDefinition.BuildType, nil
}

func namesPipeline(b *attest.Signed) bool {
	if b.Certificate == nil || len(b.Certificate.URIs) != 1 {
		return false
	}
	_, err := trust.ParsePipeline(b.Certificate.URIs[0].String())
	return err == nil
}

// tektonProvenance reads what Tekton Chains says of a run. Its signature is by
// one key or account for a whole cluster, so that nothing but the provenance
// says which source it was; and of a run's inputs it does not say which one is
// the source: there must be no more than one that it could be.
func (c *check) tektonProvenance(s *attest.Statement, unlogged bool) (*provenance, error) {
	var inputs []attest.ResourceDescriptor
	var builder, process string
	if s.PredicateType == attest.PredicateSLSA02 {
		p, err := attest.ParseProvenance02(s.Predicate)
		if err != nil {
			return nil, err
		}
		builder, process = p.Builder.ID, p.BuildType
		config := p.Invocation.ConfigSource
		for _, d := range p.Materials {
			// Where the pipeline itself is kept is an input to it, and the source
			// only where there is no other.
			if d.URI != config.URI || commitOf(d) != commitOf(attest.ResourceDescriptor{Digest: config.Digest}) {
				inputs = append(inputs, d)
			}
		}
		if len(gitInputs(inputs)) == 0 {
			inputs = p.Materials
		}
	} else {
		p, err := attest.ParseProvenance(s.Predicate)
		if err != nil {
			return nil, err
		}
		builder, process = p.RunDetails.Builder.ID, p.BuildDefinition.BuildType
		for _, d := range p.BuildDefinition.ResolvedDependencies {
			if d.Name == "inputs/result" {
				inputs = append(inputs, d)
			}
		}
	}
	sources := gitInputs(inputs)
	if len(sources) != 1 {
		return nil, fmt.Errorf("the provenance names %d git sources, want one: %q", len(sources), sources)
	}
	level := 0
	if builder == trust.TektonBuilder {
		level = trust.TektonLevel
	}
	prov := &provenance{uri: sources[0][0], commit: sources[0][1], built: c.builtBy(builder, level)}
	prov.built.process, prov.built.unlogged = process, unlogged
	if !commitRE.MatchString(prov.commit) {
		return nil, fmt.Errorf("source %s: got commit %q, want 40 or 64 hex digits", prov.uri, prov.commit)
	}
	return prov, c.demand(prov)
}

// gitInputs are the different repositories among inputs, with the commit.
func gitInputs(inputs []attest.ResourceDescriptor) (sources [][2]string) {
	for _, d := range inputs {
		uri, ok := strings.CutPrefix(d.URI, "git+")
		if !ok && !strings.HasSuffix(uri, ".git") {
			continue
		}
		if i := strings.LastIndex(uri, ".git@"); i > 0 {
			uri = uri[:i]
		}
		// One that cannot be read is none to be demanded, and must not be passed over.
		if canonical, err := source.Canonical(uri); err == nil {
			uri = canonical
		}
		if s := [2]string{uri, commitOf(d)}; !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	return sources
}
