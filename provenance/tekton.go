package provenance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// tekton is for runs of Tekton, as Tekton Chains describes them
// (docs/slsa-provenance.md). Chains signs with one key or account for a whole
// cluster, so only the provenance names the source. It does not say which of a run's
// inputs is the source, so exactly one of them must be a git repository.
var tekton = system{
	name:   Tekton,
	named:  func(string) bool { return false },
	origin: func(certificate.Summary) (Origin, error) { return Origin{}, nil },
	forms: []form{
		{attest.PredicateSLSA1, trust.IsTektonBuildType, readTekton1},
		{attest.PredicateSLSA02, trust.IsTektonBuildType, readTekton02},
	},
	wants:   "one of a Tekton run",
	unnamed: true,
}

// readTekton02 reads Chains' format slsa/v1.
func readTekton02(d *Document, _ Origin, f *Facts) error {
	config := d.v02.Invocation.ConfigSource
	var inputs []attest.ResourceDescriptor
	for _, m := range d.v02.Materials {
		// The repository of the pipeline itself is also among the inputs. It counts
		// as the source only if there is no other.
		if m.URI != config.URI || commitOf(m) != commitOf(attest.ResourceDescriptor{Digest: config.Digest}) {
			inputs = append(inputs, m)
		}
	}
	if len(gitInputs(inputs)) == 0 {
		inputs = d.v02.Materials
	}
	return f.ofInputs(d, inputs)
}

// readTekton1 reads Chains' formats slsa/v2alpha2 to v2alpha4.
func readTekton1(d *Document, _ Origin, f *Facts) error {
	var inputs []attest.ResourceDescriptor
	for _, dep := range d.v1.BuildDefinition.ResolvedDependencies {
		if dep.Name == "inputs/result" {
			inputs = append(inputs, dep)
		}
	}
	return f.ofInputs(d, inputs)
}

// ofInputs sets the facts of a run from its inputs.
func (f *Facts) ofInputs(d *Document, inputs []attest.ResourceDescriptor) error {
	sources := gitInputs(inputs)
	if len(sources) != 1 {
		return fmt.Errorf("git repositories among the inputs: got %d, want 1: %q", len(sources), sources)
	}
	f.Builder, f.Source, f.Commit = d.Builder, sources[0][0], sources[0][1]
	if !commitRE.MatchString(f.Commit) {
		return fmt.Errorf("source %s: got commit %q, want 40 or 64 hex digits", f.Source, f.Commit)
	}
	return nil
}

// gitInputs returns the different git repositories among inputs, each with its commit.
func gitInputs(inputs []attest.ResourceDescriptor) (sources [][2]string) {
	for _, d := range inputs {
		uri, ok := strings.CutPrefix(d.URI, "git+")
		if !ok && !strings.HasSuffix(uri, ".git") {
			continue
		}
		if i := strings.LastIndex(uri, ".git@"); i > 0 {
			uri = uri[:i]
		}
		// An address that cannot be parsed meets no demand, and still counts as a
		// source.
		if canonical, err := source.Canonical(uri); err == nil {
			uri = canonical
		}
		if s := [2]string{uri, commitOf(d)}; !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	return sources
}
