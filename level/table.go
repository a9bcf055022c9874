package level

// Track is a track of SLSA v1.2 (slsa.dev/spec/v1.2/tracks).
type Track string

const (
	Build  Track = "build"
	Source Track = "source"
)

// Requirement is one requirement of SLSA v1.2, and what to do about it.
type Requirement struct {
	ID    string `json:"id"` // TRACK/NAME, in lower case
	Track Track  `json:"track"`
	Name  string `json:"name"` // as in packages provenance and source/track
	Text  string `json:"text"` // what it demands, one sentence
	Spec  string `json:"spec"` // address of the section of the specification
	Mend  string `json:"mend"` // what to do to meet it, one sentence

	rules   []string // of package lint, as path.Match has them: a finding shows that pipelines of the repository do not meet it
	outside bool     // no look at image, repository or forge can show it
}

const (
	buildSpec  = "https://slsa.dev/spec/v1.2/build-requirements#"
	sourceSpec = "https://slsa.dev/spec/v1.2/source-requirements#"
)

// table has all requirements of both tracks. Their levels, and whether they are met, are known to
// packages provenance and source/track, which a test compares it with.
var table = []Requirement{
	{ID: "build/platform", Track: Build, Name: "appropriate build platform", Spec: buildSpec + "choose-an-appropriate-build-platform",
		Text: "The producer builds on a platform that can reach the level.",
		Mend: "build on a platform that your trust roots or policy give a level: colophon trust list"},
	{ID: "build/consistent", Track: Build, Name: "consistent build process", Spec: buildSpec + "follow-a-consistent-build-process",
		Text: "The artifact is built in a consistent manner, so that others can say what they expect.",
		Mend: "write down how the image is built: .colophon.yaml and a workflow in the repository"},
	{ID: "build/distributed", Track: Build, Name: "provenance distributed", Spec: buildSpec + "distribute-provenance",
		Text: "Whoever gets the artifact can get its provenance.",
		Mend: "attach the provenance to the image in its registry, as colophon release and colophon attest do"},
	{ID: "build/exists", Track: Build, Name: "provenance exists", Spec: buildSpec + "provenance-exists",
		Text: "Provenance names the artifact by digest and says how it was built.",
		Mend: "make provenance in the pipeline: colophon release, or colophon attest IMAGE --type provenance"},
	{ID: "build/authentic", Track: Build, Name: "provenance authentic", Spec: buildSpec + "provenance-authentic",
		Text:  "The build platform signed the provenance, and consumers can verify that.",
		Mend:  "sign the provenance, with an entry in a transparency log: colophon release, or colophon attest in the job",
		rules: []string{"workflow/provenance-unsigned", "script/no-transparency-log"}},
	{ID: "build/unforgeable", Track: Build, Name: "provenance unforgeable", Spec: buildSpec + "provenance-unforgeable",
		Text:  "The steps of the build reach no key that signs, and cannot change what the provenance says.",
		Mend:  "build in a job or zone without tokens and keys, and sign in another: colophon release, or two jobs",
		rules: []string{"*/build-with-token", "workflow/untrusted-checkout"}},
	{ID: "build/hosted", Track: Build, Name: "build hosted", Spec: buildSpec + "hosted",
		Text:  "All steps run on a hosted platform, and not on somebody's own machine.",
		Mend:  "build on a hosted platform, and not on a workstation or self-hosted runner",
		rules: []string{"workflow/self-hosted-runner"}},
	{ID: "build/isolated", Track: Build, Name: "build isolated", Spec: buildSpec + "isolated",
		Text:  "Each build has a new environment, which no other build influences, also not by a cache.",
		Mend:  "give each build a new environment, and share no cache with untrusted jobs",
		rules: []string{"workflow/cache-in-release", "gitlab/cache-unprotected", "dockerfile/host-network", "dockerfile/insecure-step"}},

	{ID: "source/repository", Track: Source, Name: "Repository is uniquely identifiable", Spec: sourceSpec + "repository-ids",
		Text: "The repository has a stable address.",
		Mend: "host the repository where it has an https or ssh address"},
	{ID: "source/revision", Track: Source, Name: "Revision is immutable and uniquely identifiable", Spec: sourceSpec + "revision-ids",
		Text: "The commit has an id that identifies its content, and the repository has it.",
		Mend: "push the commit, and do not move tags"},
	{ID: "source/diff", Track: Source, Name: "Human readable changes", Spec: sourceSpec + "human-readable-diff",
		Text: "People can see how two commits differ.",
		Mend: "use git"},
	{ID: "source/history", Track: Source, Name: "History", Spec: sourceSpec + "history",
		Text: "Changes of branches and tags are recorded, and branches only move forward.",
		Mend: "forbid force pushes and deletion of the release branch, and of tags"},
	{ID: "source/continuity", Track: Source, Name: "Continuity", Spec: sourceSpec + "continuity",
		Text: "The rules are on all the time, and a gap starts them anew.",
		Mend: "keep the rules of the branch on, without exceptions for administrators"},
	{ID: "source/identity", Track: Source, Name: "Identity management", Spec: sourceSpec + "identity-management",
		Text: "The forge knows who proposed, approved and merged a change.",
		Mend: "let accounts of the forge propose and merge changes, and nobody push past it"},
	{ID: "source/provenance", Track: Source, Name: "Source provenance", Spec: sourceSpec + "source-provenance",
		Text: "A record of the forge says how the commit came to the branch.",
		Mend: "merge by change requests of the forge, which keeps the record"},
	{ID: "source/references", Track: Source, Name: "Protected named references", Spec: sourceSpec + "protected-refs",
		Text: "Rules protect the branches and tags that are released.",
		Mend: "protect the release branch and the tags by rules of the forge"},
	{ID: "source/controls", Track: Source, Name: "Continuous technical controls", Spec: sourceSpec + "technical-controls",
		Text: "The organization's rules were in force for each change.",
		Mend: "require change requests on the release branch, for everybody"},
	{ID: "source/review", Track: Source, Name: "Two-party review", Spec: sourceSpec + "two-party-review",
		Text: "Two trusted persons agreed to the change before it was merged.",
		Mend: "require the approval of somebody else than the author, of the last commit"},
	{ID: "source/expunging", Track: Source, Name: "Safe expunging process", Spec: sourceSpec + "safe-expunging-process", outside: true,
		Text: "The organization documents how it removes content for legal reasons.",
		Mend: "write down who may remove content, for which reasons, and where that is recorded"},
	{ID: "source/summary", Track: Source, Name: "Source verification summary", Spec: sourceSpec + "source-summary", outside: true,
		Text: "A signed summary says which Source level the commit has.",
		Mend: "sign the answer: colophon level REPOSITORY --vsa FILE --verifier URI"},
}

// Requirements returns all requirements of a track, in order.
func Requirements(of Track) (out []Requirement) {
	for _, q := range table {
		if q.Track == of {
			out = append(out, q)
		}
	}
	return out
}
