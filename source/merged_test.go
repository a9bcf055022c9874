package source

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestCheckMerged: a commit has what was proposed and nothing else, however it was merged.
func TestCheckMerged(t *testing.T) {
	r := newRepo(t)
	r.write("a.txt", "one\n")
	r.write("b.txt", "one\n")
	r.git("add", ".")
	r.git("commit", "-q", "-m", "base")
	base := r.git("rev-parse", "HEAD")
	r.git("checkout", "-q", "-b", "topic")
	r.write("a.txt", "two\n")
	r.git("commit", "-q", "-a", "-m", "first")
	r.write("c.txt", "new\n")
	r.git("add", ".")
	r.git("commit", "-q", "-m", "second")
	head := r.git("rev-parse", "HEAD")
	r.git("update-ref", "refs/pull/7/head", head)
	r.git("checkout", "-q", "main")
	r.write("b.txt", "two\n")
	r.git("commit", "-q", "-a", "-m", "meanwhile")
	main := r.git("rev-parse", "HEAD")

	// from makes a branch at a commit, runs git, and returns the id of its commit.
	from := func(name, at string, steps ...[]string) string {
		r.git("checkout", "-q", "-b", name, at)
		for _, s := range steps {
			r.git(s...)
		}
		return r.git("rev-parse", "HEAD")
	}
	evil := func(name string, steps ...[]string) string {
		from(name, main, steps...)
		r.write("evil.txt", "evil\n")
		r.git("add", ".")
		r.git("commit", "-q", "--amend", "--no-edit")
		return r.git("rev-parse", "HEAD")
	}
	merge, squash := []string{"merge", "-q", "--no-ff", "-m", "merge", head}, []string{"merge", "-q", "--squash", head}
	commit := []string{"commit", "-q", "-m", "squashed"}
	squashed := from("squash", base, squash, commit)
	evilSquash := evil("evil-squashed", squash, commit)
	other := from("other", base, []string{"commit", "-q", "--allow-empty", "-m", "other"})
	// A squash that starts at content which nobody reviewed brings that along.
	from("unseen", head)
	r.write("evil.txt", "evil\n")
	r.git("add", ".")
	r.git("commit", "-q", "-m", "unseen")
	unseen := r.git("rev-parse", "HEAD")
	upon := from("upon-unseen", unseen, []string{"commit", "-q", "--allow-empty", "-m", "squashed"})
	for what, c := range map[string]struct {
		result string
		good   bool
	}{
		"fast forward":                  {head, true},
		"merge":                         {from("merged", main, merge), true},
		"merge of what had not moved":   {from("unmoved", base, merge), true},
		"squash":                        {from("squashed", main, squash, commit), true},
		"rebase":                        {from("rebased", head, []string{"rebase", "-q", "main"}), true},
		"merge of the squashed":         {from("merged-squash", main, []string{"merge", "-q", "--no-ff", "-m", "m", squashed}), true},
		"merge of a squash with more":   {from("merged-evil", main, []string{"merge", "-q", "--no-ff", "-m", "m", evilSquash}), false},
		"squash upon what is not seen":  {from("merged-unseen", main, []string{"merge", "-q", "--no-ff", "-m", "m", upon}), false},
		"evil merge of the squashed":    {evil("evil-merged-squash", []string{"merge", "-q", "--no-ff", "-m", "m", squashed}), false},
		"merge into an older branch":    {from("old-first", base, []string{"merge", "-q", "--no-ff", "-m", "m", main}, []string{"merge", "-q", "--squash", head}, commit, []string{"rm", "-q", "b.txt"}, []string{"commit", "-q", "--amend", "--no-edit"}), false},
		"merge with more":               {evil("evil-merge", merge), false},
		"squash with more":              {evil("evil-squash", squash, commit), false},
		"rebase with more":              {evil("evil-rebase", []string{"cherry-pick", base + ".." + head}), false},
		"a push after it":               {from("pushed", main, merge, []string{"rm", "-q", "b.txt"}, []string{"commit", "-q", "-m", "push"}), false},
		"octopus":                       {from("octopus", main, []string{"merge", "-q", "--no-ff", "-m", "octopus", head, other}), false},
		"the branch merged into it":     {from("reversed", head, []string{"merge", "-q", "--no-ff", "-m", "reversed", main}), false},
		"another commit":                {main, false},
		"merge that keeps ours":         {from("ours", main, []string{"merge", "-q", "-s", "ours", "-m", "ours", head}), false},
		"merge that rewrites the other": {from("theirs", main, []string{"merge", "-q", "--no-ff", "-m", "x", head}, []string{"checkout", "-q", base, "--", "b.txt"}, []string{"commit", "-q", "--amend", "--no-edit"}), false},
	} {
		how, err := CheckMerged(t.Context(), Proposal{URI: FileURI(r.dir), Result: c.result, Head: head, HeadRef: "refs/pull/7/head", Steps: 2})
		if (err == nil) != c.good || !c.good && !errors.Is(err, ErrOtherContent) {
			t.Errorf("%s: got %q, %v, want good: %v", what, how, err, c.good)
		}
	}
	// Many commits that were rebased: as many as a change request may have, and one more.
	history := func(branch, from string, commits int) (id string) {
		var b strings.Builder
		for i := range commits {
			fmt.Fprintf(&b, "commit refs/heads/%s\ncommitter C <c@example.com> 1700000000 +0000\ndata 2\nm\n", branch)
			if i == 0 {
				fmt.Fprintf(&b, "from %s\n", from)
			}
			text := fmt.Sprint(i)
			fmt.Fprintf(&b, "M 644 inline a.txt\ndata %d\n%s\n", len(text), text)
		}
		r.in(b.String(), "fast-import", "--quiet")
		return r.git("rev-parse", branch)
	}
	for n, good := range map[int]bool{250: true, 251: false} {
		proposed := history(fmt.Sprint("long-", n), base, n)
		result := history(fmt.Sprint("long-rebased-", n), main, n)
		how, err := CheckMerged(t.Context(), Proposal{URI: FileURI(r.dir), Result: result, Head: proposed, HeadRef: fmt.Sprint("refs/heads/long-", n), Steps: n})
		if (err == nil) != good || !good && !errors.Is(err, ErrOtherContent) {
			t.Errorf("%d commits that were rebased: got %q, %v", n, how, err)
		}
	}

	// A ref that was moved since no longer proves what was proposed.
	r.git("update-ref", "refs/pull/7/head", main)
	gone := newRepo(t)
	gone.write("a.txt", "one\n")
	gone.git("add", ".")
	gone.git("commit", "-q", "-m", "base")
	if _, err := CheckMerged(t.Context(), Proposal{URI: FileURI(gone.dir), Result: gone.git("rev-parse", "HEAD"), Head: head, HeadRef: "refs/heads/main"}); err == nil || errors.Is(err, ErrOtherContent) {
		t.Errorf("a proposed commit that is not served: got %v, want that it is not known", err)
	}
}
