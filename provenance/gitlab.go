package provenance

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// gitLab is for jobs on GitLab. They are signed with the pipeline's certificate, or
// by a signer that the consumer names.
var gitLab = system{
	name:   GitLab,
	named:  func(san string) bool { _, err := trust.ParsePipeline(san); return err == nil },
	origin: gitLabOrigin,
	forms: []form{
		{attest.PredicateSLSA1, trust.IsGitLabBuildType, readGitLab1},
		{attest.PredicateSLSA02, trust.IsGitLabBuildType, readGitLab02},
	},
	wants:   "one of a GitLab job",
	unnamed: true,
}

// gitLabOrigin reads a pipeline's certificate, which has all fields.
func gitLabOrigin(id certificate.Summary) (Origin, error) {
	p, err := trust.ParsePipeline(id.SubjectAlternativeName)
	if err != nil {
		return Origin{}, err
	}
	if id.Issuer != p.Host {
		return Origin{}, fmt.Errorf("issuer of the signer's certificate: got %q, want %q", id.Issuer, p.Host)
	}
	for _, e := range [][3]string{{"build signer", id.BuildSignerURI, p.String()}, {"build configuration", id.BuildConfigURI, p.String()}} {
		if e[1] != e[2] {
			return Origin{}, fmt.Errorf("%s of the certificate: got %q, want %q", e[0], e[1], e[2])
		}
	}
	o := Origin{
		System: GitLab, Signer: id.SubjectAlternativeName, Pipeline: p,
		Source: id.SourceRepositoryURI, Ref: id.SourceRepositoryRef, Commit: id.SourceRepositoryDigest,
		Invocation: id.RunInvocationURI, Runner: id.RunnerEnvironment,
	}
	for _, e := range [][2]string{{"source", o.Source}, {"ref", o.Ref}, {"commit", o.Commit}, {"job", o.Invocation}, {"runner", o.Runner}} {
		if e[1] == "" {
			return Origin{}, fmt.Errorf("%s: the certificate has none", e[0])
		}
	}
	if canonical, err := source.Canonical(o.Source); err != nil || canonical != o.Source || !strings.HasPrefix(o.Source, p.Host+"/") {
		return Origin{}, fmt.Errorf("source of the certificate: got %q, want a project on %s", o.Source, p.Host)
	}
	return o, nil
}

// gitLabJob is what both forms of provenance say about a job.
type gitLabJob struct {
	source string
	jobs   []attest.Number // the job's number in each place that has it; may be empty
	deps   []attest.ResourceDescriptor
}

// readGitLab02 reads what GitLab's runner wrote before version 16 (PROVENANCE.md of
// gitlab-runner).
func readGitLab02(d *Document, by Origin, f *Facts) error {
	p := d.v02
	var env struct {
		Job struct {
			ID attest.Number `json:"id"`
		} `json:"job"`
	}
	if len(p.Invocation.Environment) > 0 {
		if err := strict.Unmarshal(p.Invocation.Environment, limits.Statement, &env); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	config := p.Invocation.ConfigSource
	return gitLabJob{
		source: config.URI,
		jobs:   []attest.Number{env.Job.ID, attest.Number(p.Metadata.BuildInvocationID)},
		deps:   append(slices.Clone(p.Materials), attest.ResourceDescriptor{URI: config.URI, Digest: config.Digest}),
	}.read(d, by, f)
}

// readGitLab1 reads what GitLab and its runner write today
// (docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1).
func readGitLab1(d *Document, by Origin, f *Facts) error {
	def := d.v1.BuildDefinition
	// The specification says to ignore other parameters: they are the job's variables.
	var params struct {
		Source string `json:"source"`
	}
	if err := strict.Unmarshal(def.ExternalParameters, limits.Statement, &params); err != nil {
		return fmt.Errorf("external parameters: %w", err)
	}
	var internal struct {
		Job attest.Number `json:"job"`
	}
	if len(def.InternalParameters) > 0 {
		if err := strict.Unmarshal(def.InternalParameters, limits.Statement, &internal); err != nil {
			return fmt.Errorf("internal parameters: %w", err)
		}
	}
	return gitLabJob{
		source: params.Source,
		jobs:   []attest.Number{internal.Job, attest.Number(d.v1.RunDetails.Metadata.InvocationID)},
		deps:   def.ResolvedDependencies,
	}.read(d, by, f)
}

var runnerRE = lazyregexp.New(`^/-/runners/[0-9]+$`)

// read sets the facts of a job, and compares it with the certificate of its pipeline
// if the pipeline signed.
func (j gitLabJob) read(d *Document, by Origin, f *Facts) error {
	if canonical, err := source.Canonical(j.source); err != nil || canonical != j.source {
		return fmt.Errorf("source: got %q, want a canonical repository address", j.source)
	}
	if rest, ok := strings.CutPrefix(d.Builder, j.source); !ok || !runnerRE.MatchString(rest) {
		return fmt.Errorf("builder id: got %q, want %s/-/runners/NUMBER", d.Builder, j.source)
	}
	for _, number := range j.jobs {
		if number == "" {
			continue
		}
		if err := agree([]claim{{"job", j.source + "/-/jobs/" + string(number), by.Invocation}}); err != nil {
			return err
		}
	}
	commit, err := commitAmong(j.deps, j.source)
	if err != nil {
		return err
	}
	f.Builder, f.Source, f.Ref, f.Commit = d.Builder, j.source, by.Ref, commit
	if by.System == GitLab {
		f.Builder = by.Signer
	}
	return agree([]claim{{"source", j.source, by.Source}, {"commit", commit, by.Commit}})
}

// commitAmong returns the commit of the source among the dependencies, which must all
// have the same. GitLab's runner writes commits as sha256, whatever their length.
func commitAmong(deps []attest.ResourceDescriptor, uri string) (string, error) {
	commit := ""
	for _, d := range deps {
		if d.URI != uri {
			continue
		}
		for _, algorithm := range []string{"gitCommit", "sha1", "sha256"} {
			got := d.Digest[algorithm]
			if got != "" && commit != "" && got != commit {
				return "", fmt.Errorf("dependency %s: got commits %q and %q, want one", uri, commit, got)
			}
			if got != "" {
				commit = got
			}
		}
	}
	if !commitRE.MatchString(commit) {
		return "", fmt.Errorf("dependency %s: got commit %q, want 40 or 64 hex digits", uri, commit)
	}
	return commit, nil
}
