package lock

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleSyntax       = "lock/syntax"
	ruleMissing      = "lock/missing"
	ruleNotCommitted = "lock/not-committed"
	ruleOutOfDate    = "lock/out-of-date"
	ruleHash         = "lock/without-hash"
	rulePlain        = "lock/plain-http"
	ruleUnverified   = "lock/unverified"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleSyntax, Severity: finding.Error, Title: "a manifest or lock file cannot be read",
			Why: "What cannot be read was not checked, and package managers may replace it silently."},
		{ID: ruleMissing, Severity: finding.Warning, Title: "a manifest has no lock file",
			Why:  "Each build takes the newest versions that fit: in March 2026, versions of axios that a stranger published with a hijacked npm account were served for three hours.",
			Link: "https://docs.npmjs.com/cli/v11/configuring-npm/package-lock-json"},
		{ID: ruleNotCommitted, Severity: finding.Warning, Title: "git does not track a lock file",
			Why: "What a release is built from is the commit, and the commit does not have the lock file."},
		{ID: ruleOutOfDate, Severity: finding.Warning, Title: "a lock file lacks a dependency of its manifest",
			Why: "The package manager resolves what is missing anew in each build, or rewrites the lock file."},
		{ID: ruleHash, Severity: finding.Warning, Title: "a lock file has an entry without hash",
			Why: "Without a hash, whoever controls the registry or a mirror of it decides what the locked version contains."},
		{ID: rulePlain, Severity: finding.Error, Title: "a lock file gets a dependency over plain HTTP",
			Why: "Whoever is on the network between the builder and the server decides what is built, or sees what is asked for."},
		{ID: ruleUnverified, Severity: finding.Note, Title: "the package manager verifies no dependency",
			Why:  "By default, Gradle, Maven, NuGet and Bundler take what the repository answers. Each can compare it with hashes in the repository.",
			Link: "https://docs.gradle.org/current/userguide/dependency_verification.html"},
	}
}
