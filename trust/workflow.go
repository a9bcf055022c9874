package trust

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// GitHubIssuer vouches for the workflows of github.com in certificates of the
// public Sigstore instance and of GitHub's own.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// Workflow is a GitHub Actions workflow as certificates name it:
//
//	https://github.com/OWNER/REPO/.github/workflows/FILE@REF
type Workflow struct {
	Repository string // https://github.com/OWNER/REPO
	Path       string // .github/workflows/FILE
	Ref        string // full ref; in a builder id that is demanded, it may be missing
}

var workflowRE = regexp.MustCompile(`^(https://github\.com/[A-Za-z0-9](?:[A-Za-z0-9-]*)/[A-Za-z0-9._-]+)/(\.github/workflows/[A-Za-z0-9._-]+\.ya?ml)(?:@(refs/[^\s@]+))?$`)

// ParseWorkflow reads a workflow's address. Nothing else is a workflow.
func ParseWorkflow(id string) (Workflow, error) {
	m := workflowRE.FindStringSubmatch(id)
	if m == nil {
		return Workflow{}, fmt.Errorf("workflow: got %q, want https://github.com/OWNER/REPO/.github/workflows/FILE@REF", id)
	}
	return Workflow{Repository: m[1], Path: m[2], Ref: m[3]}, nil
}

// ID is the workflow whatever its version: all that stands before the ref.
func (w Workflow) ID() string { return w.Repository + "/" + w.Path }

func (w Workflow) String() string {
	if w.Ref == "" {
		return w.ID()
	}
	return w.ID() + "@" + w.Ref
}

var versionTag = regexp.MustCompile(`^refs/tags/v[0-9]+\.[0-9]+\.[0-9]+$`)

// IsVersion says whether the workflow is one of a version's tag, as in
// refs/tags/v1.2.3. What a branch holds changes with every push to it.
func (w Workflow) IsVersion() bool { return versionTag.MatchString(w.Ref) }

// PublicBuilder is a builder that any repository on GitHub may call, isolated
// from what it builds, and the SLSA Build level it is believed for.
type PublicBuilder struct {
	Workflow   string   // without a ref; believed at version tags alone
	Level      int      // SLSA Build level
	BuildTypes []string // what its provenance may be of
}

const (
	generator = "https://github.com/slsa-framework/slsa-github-generator"
	// BuildTypeActions is GitHub's for Artifact Attestations, BuildTypeActionsOld
	// the one before (and npm's).
	BuildTypeActions    = "https://actions.github.io/buildtypes/workflow/v1"
	BuildTypeActionsOld = "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1"
	// BuildTypeDelegated is of builders that slsa-github-generator signs for,
	// BuildTypeContainerBased of its own that runs a command in an image.
	BuildTypeDelegated      = generator + "/delegator-generic@v0"
	BuildTypeContainerBased = "https://slsa.dev/container-based-build/v0.1?draft"
	// BuildTypeGenerator… are of slsa-github-generator's with SLSA v0.2.
	BuildTypeGeneratorContainer = generator + "/container@v1"
	BuildTypeGeneratorGeneric   = generator + "/generic@v1"
	BuildTypeGeneratorGo        = generator + "/go@v1"
)

// publicBuilders is who is believed without being named, each pinned by its
// exact path. Level 3 have those whose makers keep the signing apart from what
// they run for others, and say how.
var publicBuilders = []PublicBuilder{
	{generator + "/.github/workflows/generator_container_slsa3.yml", 3, []string{BuildTypeGeneratorContainer}},
	{generator + "/.github/workflows/generator_generic_slsa3.yml", 3, []string{BuildTypeGeneratorGeneric}},
	{generator + "/.github/workflows/builder_go_slsa3.yml", 3, []string{BuildTypeGeneratorGo}},
	{generator + "/.github/workflows/builder_container-based_slsa3.yml", 3, []string{BuildTypeContainerBased}},
	{generator + "/.github/workflows/builder_nodejs_slsa3.yml", 3, []string{BuildTypeDelegated}},
	{generator + "/.github/workflows/builder_maven_slsa3.yml", 3, []string{BuildTypeDelegated}},
	{generator + "/.github/workflows/builder_gradle_slsa3.yml", 3, []string{BuildTypeDelegated}},
	{generator + "/.github/workflows/builder_bazel_slsa3.yml", 3, []string{BuildTypeDelegated}},
	{"https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml", 2, []string{BuildTypeActions}},
}

// delegators sign for builders whose name they checked and put into the
// provenance, which is why the certificate names them and not the builder.
var delegators = []string{
	generator + "/.github/workflows/delegator_generic_slsa3.yml",
	generator + "/.github/workflows/delegator_lowperms-generic_slsa3.yml",
}

// Delegates says whether the workflow signs for other builders, and is believed
// about which.
func (w Workflow) Delegates() bool { return slices.Contains(delegators, w.ID()) && w.IsVersion() }

// PublicBuilders lists them.
func PublicBuilders() []PublicBuilder { return slices.Clone(publicBuilders) }

// Believe says for which level the workflow may sign provenance of a build of
// source, a repository's canonical address, that was started at sourceRef:
//
//   - where builders are demanded, it must be one of them, at the ref named
//     there or, without one, at a version tag;
//   - else it must be a public builder at a version tag,
//   - or a workflow of the source repository itself at the ref that was built,
//     provided that ownWorkflows says that the source was demanded by name.
//
// A workflow in none of these tables is believed for level 2, which is what a
// hosted workflow reaches that may run anything of its caller's.
func (w Workflow) Believe(demanded []string, source, sourceRef string, ownWorkflows bool) (PublicBuilder, error) {
	b := PublicBuilder{Workflow: w.ID(), Level: 2, BuildTypes: []string{BuildTypeActions, BuildTypeActionsOld}}
	for _, p := range publicBuilders {
		if p.Workflow == w.ID() {
			b = p
			b.BuildTypes = slices.Clone(p.BuildTypes)
		}
	}
	public := slices.ContainsFunc(publicBuilders, func(p PublicBuilder) bool { return p.Workflow == w.ID() })
	switch {
	case len(demanded) > 0:
		if slices.Contains(demanded, w.String()) {
			return b, nil
		}
		if !slices.Contains(demanded, w.ID()) {
			return PublicBuilder{}, fmt.Errorf("signer: got %q, want one of %q", w, demanded)
		}
	case ownWorkflows && w.Repository == source && !public:
		if w.Ref != sourceRef {
			return PublicBuilder{}, fmt.Errorf("signer: got the workflow of %q, want that of the ref that was built, %q", w.Ref, sourceRef)
		}
		return b, nil
	case !public:
		return PublicBuilder{}, fmt.Errorf("signer: got %q, which is neither a known builder nor a workflow of the source repository demanded: say which one to accept", w)
	}
	if !w.IsVersion() {
		return PublicBuilder{}, fmt.Errorf("signer: got %q at %q, want a version tag, as in refs/tags/v1.2.3", w.ID(), w.Ref)
	}
	return b, nil
}

// CheckBuilderID fails unless id names a builder of a platform, a workflow with
// or without its ref, or a pipeline.
func CheckBuilderID(id string) error {
	if _, err := ParsePipeline(id); err == nil {
		return nil
	}
	if strings.HasPrefix(id, "https://github.com/") && strings.Contains(id, "/.github/workflows/") {
		_, err := ParseWorkflow(id)
		return err
	}
	_, err := IssuerOf(id)
	return err
}
