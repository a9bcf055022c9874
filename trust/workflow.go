package trust

import (
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// GitHubIssuer is the OIDC issuer of workflows on github.com, as certificates of the
// public Sigstore instance and of GitHub's own instance name it. An enterprise may
// have its own below it: see Workflow.CheckIssuer.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// Workflow identifies a GitHub Actions workflow, as certificates name it:
//
//	https://github.com/OWNER/REPO/.github/workflows/FILE@REF
//
// With data residency, the server is https://NAME.ghe.com instead.
type Workflow struct {
	Repository string // https://github.com/OWNER/REPO
	Path       string // .github/workflows/FILE; a blank in it is written %20
	Ref        string // full ref, such as refs/tags/v1.2.3, or a commit id; may be empty in a builder id of a policy
}

// Owners of managed users have an underscore in their name. File names may have
// blanks, which certificates write as a URI does.
var workflowRE = lazyregexp.New(`^((https://(?:github|[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.ghe)\.com)/[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+)` +
	`/(\.github/workflows/(?:[A-Za-z0-9._+ -]|%20)+\.ya?ml)(?:@(refs/[^\s@]+|[0-9a-f]{40}|[0-9a-f]{64}))?$`)

// ParseWorkflow reads the address of a workflow, with or without @REF, and fails for
// any other text.
func ParseWorkflow(id string) (Workflow, error) {
	m := workflowRE.FindStringSubmatch(id)
	if m == nil {
		return Workflow{}, fmt.Errorf("workflow: got %q, want https://github.com/OWNER/REPO/.github/workflows/FILE@REF", id)
	}
	return Workflow{Repository: m[1], Path: strings.ReplaceAll(m[3], " ", "%20"), Ref: m[4]}, nil
}

// Server returns the address of the server that has the workflow: https://github.com
// or https://NAME.ghe.com.
func (w Workflow) Server() string { return workflowRE.FindStringSubmatch(w.ID())[2] }

var enterpriseRE = lazyregexp.New(`^/[A-Za-z0-9][A-Za-z0-9-]*$`)

// CheckIssuer fails unless the OIDC issuer is that of workflows on the server:
// GitHubIssuer, the same with the name of an enterprise behind it (/NAME), or the
// issuer of NAME.ghe.com.
func (w Workflow) CheckIssuer(issuer string) error {
	want := GitHubIssuer
	if name, ok := strings.CutPrefix(w.Server(), "https://"); ok && name != "github.com" {
		want = "https://token.actions." + name
	} else if enterprise, ok := strings.CutPrefix(issuer, GitHubIssuer); ok && enterpriseRE.MatchString(enterprise) {
		return nil
	}
	if issuer != want {
		return fmt.Errorf("issuer of the signer's certificate: got %q, want %q", issuer, want)
	}
	return nil
}

// ID returns the address of the workflow without @REF.
func (w Workflow) ID() string { return w.Repository + "/" + w.Path }

// String returns the address of the workflow, as ParseWorkflow reads it.
func (w Workflow) String() string {
	if w.Ref == "" {
		return w.ID()
	}
	return w.ID() + "@" + w.Ref
}

var versionTag = lazyregexp.New(`^refs/tags/v[0-9]+\.[0-9]+\.[0-9]+$`)

// isVersion reports whether the ref is a version tag, such as refs/tags/v1.2.3. A
// branch does not identify a version: its content changes with each push. Nor does a
// commit: GitHub finds those of forks, too, below the name of the repository.
func (w Workflow) isVersion() bool { return versionTag.MatchString(w.Ref) }

// PublicBuilder is a builder on GitHub whose provenance is trusted, and the SLSA
// Build level it is trusted for. It is a reusable workflow that any repository may
// call, isolated from the build; or a workflow that a caller of TrustedBuilder named.
type PublicBuilder struct {
	Workflow   string   // address without @REF
	Level      int      // SLSA Build level, 1 to 3
	BuildTypes []string // the build types that its provenance may have
}

const generator = "https://github.com/slsa-framework/slsa-github-generator"

// Build types of builders on GitHub.
const (
	BuildTypeActions            = "https://actions.github.io/buildtypes/workflow/v1"                       // GitHub Artifact Attestations
	BuildTypeActionsOld         = "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1" // the build type before that, and npm's
	BuildTypeDelegated          = generator + "/delegator-generic@v0"                                      // builders for which slsa-github-generator signs
	BuildTypeContainerBased     = "https://slsa.dev/container-based-build/v0.1?draft"                      // slsa-github-generator, runs a command in an image
	BuildTypeGeneratorContainer = generator + "/container@v1"                                              // slsa-github-generator, SLSA v0.2
	BuildTypeGeneratorGeneric   = generator + "/generic@v1"                                                // slsa-github-generator, SLSA v0.2
	BuildTypeGeneratorGo        = generator + "/go@v1"                                                     // slsa-github-generator, SLSA v0.2
)

// publicBuilders lists the builders that are trusted without being named by a
// policy, each identified by its exact path. A builder has level 3 if its authors
// isolate signing from the build of the caller, and document how.
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

// delegators lists the workflows that sign for other builders. They check the name of
// the builder and write it into the provenance; the certificate names the delegator.
var delegators = []string{
	generator + "/.github/workflows/delegator_generic_slsa3.yml",
	generator + "/.github/workflows/delegator_lowperms-generic_slsa3.yml",
}

// Delegates reports whether the workflow may sign for other builders: its provenance
// names the builder, and is trusted to name the right one.
func (w Workflow) Delegates() bool { return slices.Contains(delegators, w.ID()) && w.isVersion() }

// TrustedBuilder returns the builder that the workflow is, if its signature under
// provenance is trusted. Source is the canonical address of the repository that was
// built, sourceRef the full ref at which the build started. The workflow is trusted
//
//   - if demanded is not empty: if demanded contains its address with @REF, or its
//     address without @REF and it ran at a version tag;
//   - otherwise: if it is a public builder and ran at a version tag,
//   - or if ownWorkflows is true, it is a workflow of the source repository, and it
//     ran at sourceRef. Set ownWorkflows only if the policy names the source.
//
// Other workflows than public builders have level 2: that is the most for a hosted
// workflow whose signing is not isolated from its steps.
func (w Workflow) TrustedBuilder(demanded []string, source, sourceRef string, ownWorkflows bool) (PublicBuilder, error) {
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
		named := func(id string) bool {
			return slices.ContainsFunc(demanded, func(d string) bool { return strings.ReplaceAll(d, " ", "%20") == id })
		}
		if named(w.String()) {
			return b, nil
		}
		if !named(w.ID()) {
			return PublicBuilder{}, fmt.Errorf("signer: got %q, want one of %q", w, demanded)
		}
	case ownWorkflows && w.Repository == source && !public:
		if w.Ref != sourceRef {
			return PublicBuilder{}, fmt.Errorf("signer: got a workflow at %q, want the ref that was built, %q", w.Ref, sourceRef)
		}
		return b, nil
	case !public:
		return PublicBuilder{}, fmt.Errorf("signer: got %q, which is neither a known builder nor a workflow of the required source repository: say which one to accept", w)
	}
	if !w.isVersion() {
		return PublicBuilder{}, fmt.Errorf("signer: got %q at %q, want a version tag such as refs/tags/v1.2.3", w.ID(), w.Ref)
	}
	return b, nil
}

// CheckBuilderID fails unless id has the form of a builder id: ISSUER/builders/NAME,
// the address of a Workflow with or without @REF, or the address of a Pipeline.
func CheckBuilderID(id string) error {
	if _, err := ParsePipeline(id); err == nil {
		return nil
	}
	if strings.Contains(id, "/.github/workflows/") {
		_, err := ParseWorkflow(id)
		return err
	}
	_, err := IssuerOf(id)
	return err
}
