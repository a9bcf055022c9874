package source

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// Tagged says what a tag of a working directory's repository is made of. Whether a signature is one of
// somebody, and of whom, nobody has asked.
type Tagged struct {
	Ref    string // full name
	Commit string // full id
	// Annotated means that the tag is an object of its own; otherwise it cannot have a signature.
	Annotated    bool
	TagSigned    bool // the tag object has a signature
	CommitSigned bool // the commit has a signature
}

// ReadTags reads the tags that pick chooses of the full names of all tags, in that order. dir must be in a git working directory. No program runs that the repository
// configures. Tags of other things than commits are left out.
func ReadTags(ctx context.Context, dir string, pick func(names []string) []string) ([]Tagged, error) {
	g, err := newGit("")
	if err != nil {
		return nil, err
	}
	defer g.Close()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	ask := func(args ...string) (string, error) {
		cmd := g.command(ctx, "", args...)
		cmd.Dir = dir
		out, err := run(ctx, cmd)
		if err != nil {
			return "", fmt.Errorf("%s: %w", dir, err)
		}
		return strings.TrimSuffix(string(out), "\n"), nil
	}
	where, err := ask("rev-parse", "--absolute-git-dir")
	if err != nil {
		return nil, err
	}
	refs, err := ask("for-each-ref", "--format=%(refname) %(objecttype) %(objectname) %(*objecttype) %(*objectname)", tagPrefix)
	if err != nil {
		return nil, err
	}
	all := map[string]*target{}
	var names []string
	for line := range strings.SplitSeq(refs, "\n") {
		f := strings.Split(line, " ")
		switch {
		case len(f) != 5:
			continue
		case f[1] == "commit":
			all[f[0]] = &target{ref: f[0], commit: f[2]}
		case f[1] == "tag" && f[3] == "commit":
			all[f[0]] = &target{ref: f[0], tag: f[2], commit: f[4]}
		case f[1] == "tag" && f[3] == "tag": // older versions of git do not look behind the second
			all[f[0]] = &target{ref: f[0], tag: f[2]}
		default:
			continue
		}
		names = append(names, f[0])
	}
	g.dir = where
	o, err := g.objects(ctx)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	var out []Tagged
	for _, name := range pick(names) {
		if t := all[name]; t != nil {
			tagged, err := o.tagged(t)
			if err != nil {
				return nil, err
			}
			if tagged.Commit != "" {
				out = append(out, tagged)
			}
		}
	}
	return out, nil
}

// maxTagged caps how many tags may be between a tag and its commit.
const maxTagged = 10

// tagged reads a tag, and the tags that it is a tag of. Commit is empty if it is not one of a commit.
func (o *objects) tagged(t *target) (Tagged, error) {
	out := Tagged{Ref: t.ref, Commit: t.commit, Annotated: t.tag != ""}
	for id, n := t.tag, 0; id != "" && n < maxTagged; n++ {
		tag, err := o.object(id, "tag")
		if err != nil {
			return out, err
		}
		if n == 0 {
			out.TagSigned = len(tag.signature) > 0
		}
		id = ""
		switch to := tag.headers["object"]; tag.headers["type"] {
		case "tag":
			id = to
		case "commit":
			out.Commit = to
		}
	}
	if out.Commit == "" {
		return out, nil
	}
	commit, err := o.object(out.Commit, "commit")
	if err != nil {
		return out, err
	}
	out.CommitSigned = len(commit.signature) > 0
	return out, nil
}
