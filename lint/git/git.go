// Package git finds in what surrounds the sources of a repository what would let somebody else decide
// what is released: tags and commits that nobody signed, submodules that follow a branch, files of Git
// LFS without lock, and build contexts that let secrets in.
//
// The repository is a stranger's: no hook, filter or other program of its configuration runs, and
// nothing is fetched.
package git

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/lint/dockerfile"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/source"
)

// Checker checks tags, submodules, attributes and build contexts.
func Checker() finding.Checker {
	var tree finding.Once[[]string]
	return finding.Checker{Rules: rules(), Wants: Wants, Whole: released, Check: func(_ context.Context, t *finding.Tree, f *finding.File) []finding.Finding {
		switch base := path.Base(f.Path); {
		case f.Path == ".gitmodules":
			return submodules(f)
		case base == ".gitattributes":
			return attributes(f)
		default:
			return contextOf(t, f, func() []string { return tree.Of(t, secrets) })
		}
	}}
}

// Wants reports whether a path is that of .gitmodules, .gitattributes or a Dockerfile.
func Wants(name string) bool {
	return name == ".gitmodules" || path.Base(name) == ".gitattributes" || dockerfile.Wants(name)
}

// looked is how many versions before the newest one are looked at.
const looked = 10

// released checks the tag of the newest version. Without a version, nothing says what is released.
func released(ctx context.Context, t *finding.Tree) []finding.Finding {
	if t.Git == nil {
		return nil
	}
	tags, err := source.ReadTags(ctx, t.Dir, newest)
	if err != nil {
		return []finding.Finding{{Rule: ruleTag, Position: finding.Position{File: "."}, Undecided: true, Message: "git could not be asked which tags have a signature: " + err.Error()}}
	}
	if len(tags) == 0 {
		return nil
	}
	last := tags[0]
	name := strings.TrimPrefix(last.Ref, "refs/tags/")
	var found []finding.Finding
	add := func(rule string, severity finding.Severity, message, mend string) {
		found = append(found, finding.Finding{Rule: rule, Severity: severity, Position: finding.Position{File: "."}, Message: message, Mend: mend})
	}
	if !last.CommitSigned {
		add(ruleCommit, "", fmt.Sprintf("the commit %.12s of %s has no signature", last.Commit, name), "sign commits: git config commit.gpgSign true")
	}
	if last.TagSigned {
		return found
	}
	const mend = "sign tags: git tag -s, or git config tag.gpgSign true"
	before := slices.IndexFunc(tags, func(t source.Tagged) bool { return t.TagSigned })
	switch {
	case before > 0:
		add(ruleTag, finding.Warning, "the tag "+name+" has no signature, and the tag "+strings.TrimPrefix(tags[before].Ref, "refs/tags/")+" before it has one", "find out who made it; "+mend)
	case !last.Annotated:
		add(ruleTag, "", "the tag "+name+" has no object of its own, and no signature", mend)
	default:
		add(ruleTag, "", "the tag "+name+" has no signature", mend)
	}
	return found
}

// newest chooses the tags of the newest versions.
func newest(names []string) []string {
	tags := map[string]string{}
	for _, name := range names {
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			tags[tag] = name
		}
	}
	var out []string
	for _, tag := range pins.Releases(tags, "") {
		if out = append(out, tags[tag]); len(out) > looked {
			break
		}
	}
	return out
}
