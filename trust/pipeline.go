package trust

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// GitLabIssuer vouches for the pipelines of gitlab.com in certificates of the
// public Sigstore instance. An instance of one's own is its own issuer.
const GitLabIssuer = "https://gitlab.com"

// Pipeline is a GitLab CI configuration as certificates name it:
//
//	https://HOST/GROUP/PROJECT//PATH@REF
type Pipeline struct {
	Host       string // https://HOST; the issuer of its certificates
	Repository string // https://HOST/GROUP/…/PROJECT
	Path       string // of the configuration within it
	Ref        string // full ref
}

var pipelineRE = regexp.MustCompile(`^(https://[a-z0-9.-]+(?::[0-9]{1,5})?)((?:/[A-Za-z0-9_][A-Za-z0-9_.-]*){2,20})//([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*\.ya?ml)@(refs/(?:heads|tags)/[^\s@]+)$`)

// ParsePipeline reads a pipeline's address. Nothing else is a pipeline.
func ParsePipeline(id string) (Pipeline, error) {
	m := pipelineRE.FindStringSubmatch(id)
	if m == nil {
		return Pipeline{}, fmt.Errorf("pipeline: got %q, want https://HOST/GROUP/PROJECT//FILE@REF", id)
	}
	p := Pipeline{Host: m[1], Repository: m[1] + m[2], Path: m[3], Ref: m[4]}
	if u, err := url.Parse(id); err != nil || u.Path != u.EscapedPath() || strings.Contains("/"+p.Path+"/", "/../") {
		return Pipeline{}, fmt.Errorf("pipeline: got %q, want no path that climbs", id)
	}
	return p, nil
}

func (p Pipeline) String() string { return p.Repository + "//" + p.Path + "@" + p.Ref }

// gitLabBuildType is what GitLab's runner writes, with its version, and GitLab
// itself.
var gitLabBuildType = regexp.MustCompile(`^https://gitlab\.com/gitlab-org/gitlab-runner/-/blob/[A-Za-z0-9._-]+/PROVENANCE\.md$|^https://docs\.gitlab\.com/ci/pipeline_security/slsa/provenance_v1$`)

// IsGitLabBuildType says whether provenance of the build type is of a GitLab job.
func IsGitLabBuildType(t string) bool { return gitLabBuildType.MatchString(t) }

// TektonBuilder is what Tekton Chains calls itself where nobody configured
// another name, and TektonLevel the Build level that it is believed for: it
// signs apart from the tasks, which share the cluster with it.
const (
	TektonBuilder = "https://tekton.dev/chains/v2"
	TektonLevel   = 2
)

// tektonBuildTypes are of Tekton Chains' formats slsa/v1 (SLSA v0.2) and
// slsa/v2alpha2 to v2alpha4 (SLSA v1).
var tektonBuildTypes = map[string]bool{
	"tekton.dev/v1beta1/TaskRun": true, "tekton.dev/v1beta1/PipelineRun": true, "tekton.dev/v1/TaskRun": true, "tekton.dev/v1/PipelineRun": true,
	"https://tekton.dev/attestations/chains@v2": true, "https://tekton.dev/attestations/chains/pipelinerun@v2": true,
	"https://tekton.dev/chains/v2/slsa": true, "https://tekton.dev/chains/v2/slsa-tekton": true,
}

// IsTektonBuildType says whether provenance of the build type is of a Tekton run.
func IsTektonBuildType(t string) bool { return tektonBuildTypes[t] }
