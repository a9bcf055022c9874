package trust

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// GitLabIssuer is the OIDC issuer of pipelines on gitlab.com, as certificates of the
// public Sigstore instance name it. A self-managed GitLab is its own issuer.
const GitLabIssuer = "https://gitlab.com"

// Pipeline identifies a GitLab CI configuration, as certificates name it:
//
//	https://HOST/GROUP/PROJECT//PATH@REF
type Pipeline struct {
	Host       string // https://HOST; the issuer of its certificates
	Repository string // https://HOST/GROUP/…/PROJECT
	Path       string // of the configuration in the repository
	Ref        string // full ref, such as refs/heads/main
}

var pipelineRE = lazyregexp.New(`^(https://[a-z0-9.-]+(?::[0-9]{1,5})?)((?:/[A-Za-z0-9_][A-Za-z0-9_.-]*){2,20})//([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*\.ya?ml)@(refs/(?:heads|tags)/[^\s@]+)$`)

// ParsePipeline reads the address of a pipeline, and fails for any other text.
func ParsePipeline(id string) (Pipeline, error) {
	m := pipelineRE.FindStringSubmatch(id)
	if m == nil {
		return Pipeline{}, fmt.Errorf("pipeline: got %q, want https://HOST/GROUP/PROJECT//FILE@REF", id)
	}
	p := Pipeline{Host: m[1], Repository: m[1] + m[2], Path: m[3], Ref: m[4]}
	if u, err := url.Parse(id); err != nil || u.Path != u.EscapedPath() || strings.Contains("/"+p.Path+"/", "/../") {
		return Pipeline{}, fmt.Errorf("pipeline: got %q, want a path without \"..\"", id)
	}
	return p, nil
}

// String returns the address of the pipeline, as ParsePipeline reads it.
func (p Pipeline) String() string { return p.Repository + "//" + p.Path + "@" + p.Ref }

// gitLabBuildType matches the build type that GitLab's runner writes, which
// contains the runner's version, and the one that GitLab itself writes.
var gitLabBuildType = lazyregexp.New(`^https://gitlab\.com/gitlab-org/gitlab-runner/-/blob/[A-Za-z0-9._-]+/PROVENANCE\.md$|^https://docs\.gitlab\.com/ci/pipeline_security/slsa/provenance_v1$`)

// IsGitLabBuildType reports whether t is the build type of a GitLab job.
func IsGitLabBuildType(t string) bool { return gitLabBuildType.MatchString(t) }

const (
	// TektonBuilder is the default builder id of Tekton Chains.
	TektonBuilder = "https://tekton.dev/chains/v2"
	// TektonLevel is the SLSA Build level that TektonBuilder is trusted for. It is
	// not 3: Chains signs outside of the tasks, but shares a cluster with them.
	TektonLevel = 2
)

// tektonBuildTypes holds the build types of Tekton Chains' formats slsa/v1 (SLSA
// v0.2) and slsa/v2alpha2 to v2alpha4 (SLSA v1).
var tektonBuildTypes = map[string]bool{
	"tekton.dev/v1beta1/TaskRun": true, "tekton.dev/v1beta1/PipelineRun": true, "tekton.dev/v1/TaskRun": true, "tekton.dev/v1/PipelineRun": true,
	"https://tekton.dev/attestations/chains@v2": true, "https://tekton.dev/attestations/chains/pipelinerun@v2": true,
	"https://tekton.dev/chains/v2/slsa": true, "https://tekton.dev/chains/v2/slsa-tekton": true,
}

// IsTektonBuildType reports whether t is the build type of a Tekton run.
func IsTektonBuildType(t string) bool { return tektonBuildTypes[t] }
