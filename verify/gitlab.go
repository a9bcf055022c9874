package verify

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// job is what the certificate of a GitLab pipeline says of the job that it was
// issued to: GitLab's word, which the provenance is held to. All of it is empty
// where no pipeline signed.
type job struct {
	pipeline            string
	source, ref, commit string
	invocation, runner  string
	unlogged            bool // no log or clock stands behind the signature
}

// jobOf reads a pipeline's certificate.
func jobOf(id certificate.Summary) (*job, trust.Pipeline, error) {
	p, err := trust.ParsePipeline(id.SubjectAlternativeName)
	if err != nil {
		return nil, p, err
	}
	if id.Issuer != p.Host {
		return nil, p, fmt.Errorf("issuer of the signer's certificate: got %q, want %q", id.Issuer, p.Host)
	}
	for _, e := range [][3]string{{"build signer", id.BuildSignerURI, p.String()}, {"build configuration", id.BuildConfigURI, p.String()}} {
		if e[1] != e[2] {
			return nil, p, fmt.Errorf("%s of the certificate: got %q, want %q", e[0], e[1], e[2])
		}
	}
	j := &job{pipeline: p.String(), source: id.SourceRepositoryURI, ref: id.SourceRepositoryRef, commit: id.SourceRepositoryDigest,
		invocation: id.RunInvocationURI, runner: id.RunnerEnvironment}
	for _, e := range [][2]string{{"source", j.source}, {"ref", j.ref}, {"commit", j.commit}, {"job", j.invocation}, {"runner", j.runner}} {
		if e[1] == "" {
			return nil, p, fmt.Errorf("%s: the certificate says nothing of it", e[0])
		}
	}
	if canonical, err := source.Canonical(j.source); err != nil || canonical != j.source || !strings.HasPrefix(j.source, p.Host+"/") {
		return nil, p, fmt.Errorf("source of the certificate: got %q, want a project on %s", j.source, p.Host)
	}
	return j, p, nil
}

// believePipeline fails unless the pipeline is one that was demanded or, where
// the source was demanded by name, the source's own at the ref that was built.
func (c *check) believePipeline(p trust.Pipeline, j *job) error {
	demanded := c.opts.Policy.Provenance().Builders
	switch {
	case len(demanded) > 0:
		if !slices.Contains(demanded, p.String()) {
			return fmt.Errorf("signer: got %q, want one of %q", p, demanded)
		}
	case !c.opts.Policy.Provenance().Source.Names(j.source) || p.Repository != j.source:
		return fmt.Errorf("signer: got %q, which is no pipeline of the source repository demanded: say which one to accept", p)
	case p.Ref != j.ref:
		return fmt.Errorf("signer: got the pipeline of %q, want that of the ref that was built, %q", p.Ref, j.ref)
	}
	return nil
}

// byPipeline goes on where a GitLab pipeline's signature was verified.
func (w *workflowSigned) byPipeline(c *check, b *attest.Signed) {
	j, p, err := jobOf(w.signed.Identity)
	if err == nil {
		err = c.believePipeline(p, j)
	}
	if err != nil {
		w.signer, w.err = err, err
		return
	}
	w.proof.score += 100
	if b.Statement == nil {
		w.err = errOnlySignature
		return
	}
	w.prov, w.err = c.jobProvenance(b.Statement, j)
}

var runnerRE = regexp.MustCompile(`^/-/runners/[0-9]+$`)

// jobProvenance holds the provenance of a GitLab job to the certificate that
// signed it, then to the policy.
func (c *check) jobProvenance(s *attest.Statement, j *job) (*provenance, error) {
	var claims gitLabClaims
	var err error
	if s.PredicateType == attest.PredicateSLSA02 {
		claims, err = gitLab02(s.Predicate)
	} else {
		claims, err = gitLab1(s.Predicate)
	}
	if err != nil {
		return nil, err
	}
	if canonical, err := source.Canonical(claims.source); err != nil || canonical != claims.source {
		return nil, fmt.Errorf("source: got %q, want a canonical repository address", claims.source)
	}
	if rest, ok := strings.CutPrefix(claims.builder, claims.source); !ok || !runnerRE.MatchString(rest) {
		return nil, fmt.Errorf("builder id: got %q, want %s/-/runners/NUMBER", claims.builder, claims.source)
	}
	for _, job := range claims.jobs {
		if err := agree([]claim{{"job", claims.source + "/-/jobs/" + job, j.invocation}}); err != nil {
			return nil, err
		}
	}
	commit, err := commitAmong(claims.deps, claims.source)
	if err != nil {
		return nil, err
	}
	if err := agree([]claim{{"source", claims.source, j.source}, {"commit", commit, j.commit}}); err != nil {
		return nil, err
	}
	builder, level := claims.builder, 1
	if j.pipeline != "" {
		builder = j.pipeline
	}
	if j.runner == "gitlab-hosted" {
		// Whoever runs another machine can run anything on it.
		level = 2
	}
	prov := &provenance{uri: claims.source, ref: j.ref, commit: commit, built: c.builtBy(builder, level)}
	prov.built.process, prov.built.runner, prov.built.unlogged = claims.process, j.runner, j.unlogged
	return prov, c.demand(prov)
}

// gitLabClaims are what both versions of the predicate say.
type gitLabClaims struct {
	builder, source string
	process         string   // build type
	jobs            []string // the job's number, wherever it stands
	deps            []attest.ResourceDescriptor
}

func (g *gitLabClaims) job(id string) {
	if id != "" {
		g.jobs = append(g.jobs, id)
	}
}

func gitLabType(t string) error {
	if !trust.IsGitLabBuildType(t) {
		return fmt.Errorf("build type: got %q, want one of a GitLab job", t)
	}
	return nil
}

func gitLab02(predicate []byte) (g gitLabClaims, err error) {
	p, err := attest.ParseProvenance02(predicate)
	if err == nil {
		err = gitLabType(p.BuildType)
	}
	if err != nil {
		return g, err
	}
	var env struct {
		Job struct {
			ID attest.Number `json:"id"`
		} `json:"job"`
	}
	if len(p.Invocation.Environment) > 0 {
		if err := strict.Unmarshal(p.Invocation.Environment, limits.Statement, &env); err != nil {
			return g, fmt.Errorf("environment: %w", err)
		}
	}
	config := p.Invocation.ConfigSource
	g = gitLabClaims{builder: p.Builder.ID, source: config.URI, process: p.BuildType}
	g.job(string(env.Job.ID))
	g.job(p.Metadata.BuildInvocationID)
	g.deps = append(slices.Clone(p.Materials), attest.ResourceDescriptor{URI: config.URI, Digest: config.Digest})
	return g, nil
}

func gitLab1(predicate []byte) (g gitLabClaims, err error) {
	p, err := attest.ParseProvenance(predicate)
	if err == nil {
		err = gitLabType(p.BuildDefinition.BuildType)
	}
	if err != nil {
		return g, err
	}
	// Its specification says to ignore other parameters: they are the job's variables.
	var params struct {
		Source string `json:"source"`
	}
	if err := strict.Unmarshal(p.BuildDefinition.ExternalParameters, limits.Statement, &params); err != nil {
		return g, fmt.Errorf("external parameters: %w", err)
	}
	var internal struct {
		Job attest.Number `json:"job"`
	}
	if len(p.BuildDefinition.InternalParameters) > 0 {
		if err := strict.Unmarshal(p.BuildDefinition.InternalParameters, limits.Statement, &internal); err != nil {
			return g, fmt.Errorf("internal parameters: %w", err)
		}
	}
	g = gitLabClaims{builder: p.RunDetails.Builder.ID, source: params.Source, process: p.BuildDefinition.BuildType, deps: p.BuildDefinition.ResolvedDependencies}
	g.job(string(internal.Job))
	g.job(p.RunDetails.Metadata.InvocationID)
	return g, nil
}

// commitAmong is the one commit at which the dependencies name the source.
// GitLab's runner writes it as sha256, whatever it is.
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
