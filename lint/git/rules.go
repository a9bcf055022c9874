package git

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleTag       = "git/tag-unsigned"
	ruleCommit    = "git/commit-unsigned"
	ruleSubmodule = "git/submodule-branch"
	ruleLock      = "git/lfs-without-lock"
	ruleIgnore    = "git/context-open"
	ruleBroken    = "git/syntax"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleTag, Severity: finding.Note, Title: "the tag of the newest version has no signature", Link: "https://git-scm.com/docs/git-tag",
			Why: "A tag without signature is made and moved by whoever may push, and by whoever steals the token of one who may: in March 2025, 350 tags of tj-actions/changed-files were moved so."},
		{ID: ruleCommit, Severity: finding.Note, Title: "the commit of the newest version has no signature", Link: "https://docs.github.com/en/authentication/managing-commit-signature-verification",
			Why: "Whoever may push writes the author of a commit as a text of their choice: only a signature says who made it."},
		{ID: ruleSubmodule, Severity: finding.Warning, Title: "a submodule follows a branch", Link: "https://git-scm.com/docs/gitmodules",
			Why: "With git submodule update --remote, whoever can push to the branch decides what is built, and not the commit that the repository names."},
		{ID: ruleLock, Severity: finding.Note, Title: "files of Git LFS can be replaced without a lock", Link: "https://github.com/git-lfs/git-lfs/wiki/File-Locking",
			Why: "Nobody can merge or review two changes of a binary file: without a lock, whoever pushes last decides what it contains."},
		{ID: ruleIgnore, Severity: finding.Warning, Title: "the whole repository is copied into the image, with what .dockerignore lets in", Link: "https://docs.docker.com/build/concepts/context/#dockerignore-files",
			Why: "Keys, settings and the history in .git can be read by whoever can pull the image; .git/config has the token of the job that checked out the code."},
		{ID: ruleBroken, Severity: finding.Error, Title: "a file of git's or Docker's settings cannot be read",
			Why: "What cannot be read was not checked, and each program reads it in its own way."},
	}
}
