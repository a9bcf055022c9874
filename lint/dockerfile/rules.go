package dockerfile

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleSyntax          = "dockerfile/syntax"
	ruleTag             = "dockerfile/base-by-tag"
	ruleLatest          = "dockerfile/base-latest"
	ruleMoved           = "dockerfile/digest-moved"
	ruleFrontend        = "dockerfile/unpinned-frontend"
	ruleRoot            = "dockerfile/root-user"
	ruleShell           = "dockerfile/shell-in-image"
	ruleAdd             = "dockerfile/add-without-checksum"
	ruleDownload        = "dockerfile/unchecked-download"
	ruleClone           = "dockerfile/git-clone"
	ruleDistribution    = "dockerfile/unpinned-packages"
	ruleLanguage        = "dockerfile/unpinned-dependencies"
	ruleLock            = "dockerfile/lock-not-enforced"
	ruleUnauthenticated = "dockerfile/unauthenticated"
	ruleSecret          = "dockerfile/secret-in-variable"
	ruleSecretFile      = "dockerfile/secret-in-layer"
	ruleCache           = "dockerfile/shared-cache"
	ruleNetwork         = "dockerfile/host-network"
	ruleInsecure        = "dockerfile/insecure-step"
	ruleVaries          = "dockerfile/irreproducible"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleSyntax, Severity: finding.Error, Title: "BuildKit cannot read the Dockerfile",
			Why: "What cannot be read was not checked, and does not build."},
		{ID: ruleTag, Severity: finding.Warning, Fixes: true, Title: "an image is named by tag, without digest",
			Why:  "Whoever can push the tag decides what the next build contains, and no two builds need be alike.",
			Link: "https://docs.docker.com/build/building/best-practices/#pin-base-image-versions"},
		{ID: ruleLatest, Severity: finding.Warning, Fixes: true, Title: "an image is named by the tag latest, or by none",
			Why:  "The tag latest moves with every release of somebody else, and nobody can tell afterwards what was built from.",
			Link: "https://docs.docker.com/build/building/best-practices/#pin-base-image-versions"},
		{ID: ruleMoved, Severity: finding.Note, Title: "the tag of an image no longer points to the digest beside it",
			Why:  "Either there is an update, perhaps with fixes of vulnerabilities, that the next build will not have, or somebody has moved the tag.",
			Link: "https://docs.docker.com/build/building/best-practices/#pin-base-image-versions"},
		{ID: ruleFrontend, Severity: finding.Warning, Fixes: true, Title: "the frontend (# syntax=) is named without digest",
			Why:  "The frontend is a program from a registry that decides what every line of the Dockerfile means.",
			Link: "https://docs.docker.com/build/buildkit/frontend/"},
		{ID: ruleRoot, Severity: finding.Note, Title: "the image runs as root",
			Why:  "Whoever breaks into the program is root in the container, one defect of the kernel or runtime away from the host.",
			Link: "https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"},
		{ID: ruleShell, Severity: finding.Note, Title: "the image has a shell and a package manager",
			Why: "Each package is one more that needs updates and entries in the SBOM, and a shell is what an intruder looks for first."},
		{ID: ruleAdd, Severity: finding.Warning, Title: "ADD gets something from the network without checksum",
			Why:  "Whoever controls the server or the branch decides what is built.",
			Link: "https://docs.docker.com/reference/dockerfile/#add---checksum"},
		{ID: ruleDownload, Severity: finding.Warning, Title: "a download is not compared with a hash or signature",
			Why:  "Whoever controls the server decides what is built, as with Codecov's uploader, which a stranger replaced for two months in 2021.",
			Link: "https://about.codecov.io/security-update/"},
		{ID: ruleClone, Severity: finding.Warning, Title: "git clone gets a branch or tag, and no commit",
			Why:  "Whoever can push there decides what is built: in March 2025 a stranger moved nearly all tags of tj-actions/changed-files.",
			Link: "https://github.com/advisories/GHSA-mrrh-fwg8-r2c3"},
		{ID: ruleDistribution, Severity: finding.Note, Title: "packages of the distribution are installed without version",
			Why: "Two builds of one commit contain different packages, so that nobody can rebuild the image and compare."},
		{ID: ruleLanguage, Severity: finding.Warning, Title: "packages of a language are installed without exact version",
			Why: "Whoever takes over an account of the package's authors decides what the next build contains, as with axios, whose maintainer's npm account was hijacked in March 2026."},
		{ID: ruleLock, Severity: finding.Warning, Title: "the build may install other versions than those of the lock file",
			Why: "A version that was published minutes ago gets into the build before anybody has looked at it, whatever the lock file says."},
		{ID: ruleUnauthenticated, Severity: finding.Error, Title: "a check of certificates, signatures or hashes is switched off",
			Why: "Whoever is on the network between the builder and the server decides what is built."},
		{ID: ruleSecret, Severity: finding.Error, Title: "a secret is in ARG or ENV",
			Why:  "Whoever can pull the image reads the values of ENV in its configuration, and those of ARG in its history and provenance.",
			Link: "https://docs.docker.com/build/building/secrets/"},
		{ID: ruleSecretFile, Severity: finding.Error, Title: "a file with secrets is copied into the image",
			Why:  "Whoever can pull the image reads its layers, also what a later layer deletes.",
			Link: "https://docs.docker.com/build/building/secrets/"},
		{ID: ruleCache, Severity: finding.Note, Title: "a cache of earlier builds is mounted, which nothing verifies",
			Why: "A build of a pull request can write into the cache what the next release takes out of it: a poisoned cache."},
		{ID: ruleNetwork, Severity: finding.Error, Title: "a step runs in the network of the builder's host",
			Why: "The step reaches what listens on the builder only, such as its API and the metadata service that hands out credentials. SLSA Build L3 demands isolation."},
		{ID: ruleInsecure, Severity: finding.Error, Title: "a step runs without a sandbox",
			Why: "The step can take over the builder, and with it all later builds. SLSA Build L3 demands isolation."},
		{ID: ruleVaries, Severity: finding.Note, Title: "each build gives another result",
			Why:  "An image that two independent builders cannot build alike proves nothing about its builder.",
			Link: "https://reproducible-builds.org/docs/"},
	}
}
