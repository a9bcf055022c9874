package script

import (
	"context"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Rules of scripts, in every kind of pipeline.
const (
	ruleUnread       = "script/unread"
	rulePipe         = "script/curl-pipe-shell"
	ruleByTag        = "script/sign-by-tag"
	ruleAttachSBOM   = "script/cosign-attach-sbom"
	ruleExperimental = "script/cosign-experimental"
	ruleUnanchored   = "script/identity-unanchored"
	ruleCatchAll     = "script/identity-catch-all"
	ruleType         = "script/slsa-provenance-type"
	ruleContentTrust = "script/content-trust"
	ruleNoLog        = "script/no-transparency-log"
	ruleBuildArgs    = "script/provenance-leaks-args"
	ruleSubmodule    = "script/submodule-remote"
)

// Checker declares the rules. Checkers of pipelines find what breaks them with Check.
func Checker() finding.Checker {
	return finding.Checker{Rules: rules(), Wants: func(string) bool { return false },
		Check: func(context.Context, *finding.Tree, *finding.File) []finding.Finding { return nil }}
}

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleUnread, Severity: finding.Warning, Title: "a script was not read to its end",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: rulePipe, Severity: finding.Warning, Title: "a script from the network runs unchecked",
			Why:  "Whoever can change the page runs code with everything that the job may do, as with Codecov's uploader in 2021.",
			Link: "https://about.codecov.io/security-update/"},
		{ID: ruleByTag, Severity: finding.Error, Title: "an image is signed by its tag",
			Why:  "A tag can move between the push and the signature, and then somebody else's image gets signed.",
			Link: "https://docs.sigstore.dev/cosign/signing/signing_with_containers/"},
		{ID: ruleAttachSBOM, Severity: finding.Warning, Title: "an SBOM is attached without a signature", Fixes: true,
			Why:  "An SBOM that nobody signed can be replaced by whoever can push, and cosign has deprecated it since version 2.2.1.",
			Link: "https://github.com/sigstore/cosign/issues/2755"},
		{ID: ruleExperimental, Severity: finding.Warning, Title: "COSIGN_EXPERIMENTAL is set", Fixes: true,
			Why:  "Since version 2, cosign signs without keys by default and does not need the variable for it: the pipeline was written for version 1.",
			Link: "https://github.com/sigstore/cosign/blob/main/CHANGELOG.md"},
		{ID: ruleUnanchored, Severity: finding.Error, Title: "a regular expression for an identity has no anchors", Fixes: true,
			Why: "It also matches identities that only contain the one that is meant: anybody can register a repository with such a name."},
		{ID: ruleCatchAll, Severity: finding.Error, Title: "a regular expression for an identity matches anybody",
			Why: "Everybody can get a certificate of the public Sigstore, so a signature of anybody passes."},
		{ID: ruleType, Severity: finding.Warning, Title: "the type slsaprovenance means SLSA v0.2",
			Why:  "Builders write SLSA v1 today, which has another type: the check looks for something that is not there, or states something that is not meant.",
			Link: "https://slsa.dev/spec/v1.2/build-provenance"},
		{ID: ruleContentTrust, Severity: finding.Warning, Title: "Docker Content Trust is used",
			Why:  "Docker retires it: its service notary.docker.io shuts down on 8 December 2026.",
			Link: "https://docs.docker.com/engine/security/trust/"},
		{ID: ruleNoLog, Severity: finding.Warning, Title: "a signature is not logged",
			Why: "Without an entry in a transparency log, nobody notices what a stolen key signs, and a certificate has no time."},
		{ID: ruleBuildArgs, Severity: finding.Error, Title: "provenance publishes build arguments that look secret",
			Why:  "Provenance of mode max contains the values of all build arguments, and whoever can pull the image can read it.",
			Link: "https://docs.docker.com/build/metadata/attestations/slsa-provenance/"},
		{ID: ruleSubmodule, Severity: finding.Warning, Title: "a submodule is taken from a branch", Fixes: true, Link: "https://git-scm.com/docs/git-submodule",
			Why: "With --remote, git takes what the branch of the submodule has when the job runs, and not the commit that the repository names."},
	}
}

// Check returns what breaks the rules in the script that is the value of a scalar.
func Check(t yamlfile.Text) []finding.Finding {
	problems := find(t.Value)
	out := make([]finding.Finding, 0, len(problems))
	for _, p := range problems {
		f := finding.Finding{Rule: p.rule, Position: t.Position(p.start, p.end), Message: p.message, Mend: p.mend}
		for _, e := range p.edits {
			edits := t.Replace(e.start, e.end, e.text)
			if edits == nil { // all or nothing
				f.Edits = nil
				break
			}
			f.Edits = append(f.Edits, edits...)
		}
		out = append(out, f)
	}
	return out
}

// Variable returns what is wrong with a variable that a pipeline sets for its scripts. deletion
// is the edit that would delete it.
func Variable(name, value string, at finding.Position, deletion func() []finding.Edit) []finding.Finding {
	switch name {
	case "COSIGN_EXPERIMENTAL":
		return []finding.Finding{{Rule: ruleExperimental, Position: at, Message: experimental, Mend: "delete it", Edits: deletion()}}
	case "DOCKER_CONTENT_TRUST":
		if on(value) {
			return []finding.Finding{{Rule: ruleContentTrust, Position: at, Message: contentTrust, Mend: contentTrustMend}}
		}
	}
	return nil
}
