package source

import (
	"context"
	"fmt"
	"strings"
)

// What the full names of tags and branches begin with.
const (
	tagPrefix    = "refs/tags/"
	branchPrefix = "refs/heads/"
)

// target is what a ref points to.
type target struct {
	ref    string // full name; empty for a commit id or a detached HEAD
	tag    string // id of the annotated tag object, if any
	commit string // id of the commit
}

// resolve asks the repository what ref points to. ref is a full commit id, a full name
// that starts with refs/, "HEAD", or a short name, which is that of a tag or a branch.
func (g *git) resolve(ctx context.Context, rem remote, ref string) (target, error) {
	if isID(ref) {
		return target{commit: ref}, nil
	}
	if err := checkRef(ref); err != nil {
		return target{}, err
	}
	names := []string{ref}
	if ref != "HEAD" && !strings.HasPrefix(ref, "refs/") {
		names = []string{tagPrefix + ref, branchPrefix + ref}
	}
	ads, err := g.advertised(ctx, rem, names)
	if err != nil {
		return target{}, err
	}
	var found []target
	for _, name := range names {
		if t, ok := ads[name]; ok {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 0:
		return target{}, fmt.Errorf("%w %q%s", ErrUnknownRef, ref, g.suggestion(ctx, rem, ref))
	case len(found) == 2 && found[0].commit != found[1].commit:
		return target{}, fmt.Errorf("%w: %q is the tag %s on %s and the branch %s on %s; use the full name of one",
			errAmbiguous, ref, found[0].ref, found[0].commit, found[1].ref, found[1].commit)
	}
	return found[0], nil
}

// advertised asks the repository for these refs, and returns them by full name.
//
//	line = id TAB name [ "^{}" ] / "ref: " name TAB "HEAD"
func (g *git) advertised(ctx context.Context, rem remote, names []string) (map[string]target, error) {
	args := []string{"ls-remote", "-q", "--symref", "--", rem.address()}
	for _, n := range names {
		args = append(args, n)
		if strings.HasPrefix(n, "refs/") {
			args = append(args, n+"^{}")
		}
	}
	out, err := g.remote(ctx, rem, args...)
	if err != nil {
		return nil, err
	}
	ads := map[string]target{}
	head := ""
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\n"), "\n") {
		id, name, ok := strings.Cut(line, "\t")
		if !ok {
			continue
		}
		if to, ok := strings.CutPrefix(id, "ref: "); ok {
			if name == "HEAD" && checkRef(to) == nil {
				head = to
			}
			continue
		}
		if !isID(id) {
			return nil, fmt.Errorf("git ls-remote: got id %q, want 40 or 64 hex digits", id)
		}
		if base, peeled := strings.CutSuffix(name, "^{}"); peeled {
			t := ads[base]
			ads[base] = target{ref: base, tag: t.commit, commit: id}
			continue
		}
		ads[name] = target{ref: name, commit: id}
	}
	if t, ok := ads["HEAD"]; ok {
		t.ref = head
		ads["HEAD"] = t
	}
	return ads, nil
}

// checkRef fails unless ref follows git-check-ref-format(1), so that git cannot read it
// as an option, a pattern or a refspec.
func checkRef(ref string) error {
	bad := ref == "" || len(ref) > 255 || strings.HasPrefix(ref, "-") || ref == "@" ||
		strings.HasSuffix(ref, ".") || strings.Contains(ref, "..") || strings.Contains(ref, "@{")
	for _, c := range ref {
		bad = bad || c <= ' ' || c == 0x7f || c == 0xfffd || strings.ContainsRune(`~^:?*[\`, c)
	}
	for part := range strings.SplitSeq(ref, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("%q is not a valid ref name: %w", ref, ErrUnknownRef)
	}
	return nil
}

// suggestion returns the end of an error message: a tag or branch that is similar to ref.
func (g *git) suggestion(ctx context.Context, rem remote, ref string) string {
	kinds := []string{tagPrefix, branchPrefix}
	for _, kind := range kinds {
		if strings.HasPrefix(ref, kind) {
			kinds = []string{kind}
		}
	}
	var patterns []string
	for _, kind := range kinds {
		patterns = append(patterns, kind+"*")
	}
	ads, err := g.advertised(ctx, rem, patterns)
	if err != nil {
		return ""
	}
	if len(ads) == 0 {
		return "; the repository has no " + kindsOf(kinds, " or ")
	}
	short := strings.TrimPrefix(ref, kinds[0])
	best, distance := "", 4
	for name := range ads {
		other := strings.TrimPrefix(strings.TrimPrefix(name, tagPrefix), branchPrefix)
		if d := edits(strings.TrimPrefix(other, "v"), strings.TrimPrefix(short, "v")); len(other) < 256 && (d < distance || d == distance && name > best) {
			best, distance = name, d
		}
	}
	if best == "" || distance >= len(short) {
		return fmt.Sprintf("; none of its %d %s is similar", len(ads), kindsOf(kinds, " and "))
	}
	if branch, ok := strings.CutPrefix(best, branchPrefix); ok {
		return fmt.Sprintf("; did you mean the branch %q?", branch)
	}
	return fmt.Sprintf("; did you mean %q?", strings.TrimPrefix(best, tagPrefix))
}

// kindsOf names prefixes of refs for people.
func kindsOf(prefixes []string, joined string) string {
	names := map[string]string{tagPrefix: "tags", branchPrefix: "branches"}
	var said []string
	for _, p := range prefixes {
		said = append(said, names[p])
	}
	return strings.Join(said, joined)
}

// edits returns the Levenshtein distance of a and b, or 99 if their lengths differ by
// more than 3.
func edits(a, b string) int {
	if len(a)-len(b) > 3 || len(b)-len(a) > 3 {
		return 99
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Resolve asks the repository at uri what a ref points to: a full or a short name as in
// Request, or HEAD. It returns the ref's full name, which is that of a branch or tag, and the
// id of the commit. credential may be nil.
func Resolve(ctx context.Context, uri, ref string, credential *Credential) (name, commit string, err error) {
	rem, err := parseRemote(uri)
	if err != nil {
		return "", "", err
	}
	if rem.secret {
		return "", "", errCreds
	}
	g, err := newGit("")
	if err != nil {
		return "", "", err
	}
	defer g.Close()
	g.credential = credential
	t, err := g.resolve(ctx, rem, ref)
	switch {
	case err != nil:
		err = askedForLogin(err)
	case !isBranchOrTag(t.ref):
		err = fmt.Errorf("%q is neither a branch nor a tag: %w", ref, ErrUnknownRef)
	}
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return t.ref, t.commit, nil
}

// Refs asks the repository at uri for its branches and tags, and returns the ids of their commits
// by full name. credential may be nil.
func Refs(ctx context.Context, uri string, credential *Credential) (map[string]string, error) {
	rem, err := parseRemote(uri)
	if err != nil {
		return nil, err
	}
	if rem.secret {
		return nil, errCreds
	}
	g, err := newGit("")
	if err != nil {
		return nil, err
	}
	defer g.Close()
	g.credential = credential
	ads, err := g.advertised(ctx, rem, []string{branchPrefix + "*", tagPrefix + "*"})
	if err = askedForLogin(err); err != nil {
		return nil, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	refs := make(map[string]string, len(ads))
	for name, t := range ads {
		if isBranchOrTag(name) && checkRef(name) == nil {
			refs[name] = t.commit
		}
	}
	return refs, nil
}
