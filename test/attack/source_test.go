package attack

import (
	"fmt"

	"github.com/colophon-build/colophon/test/gittest"
)

// gitArchive exports a commit with git archive, which obeys the attributes in it.
var gitArchive = cut{"source/export.go", `	if err := r.export(ctx, dst, &t); err != nil {`, `	if err := func() error {
		g, err := newGit(r.dir)
		if err != nil {
			return err
		}
		defer g.Close()
		cmd := g.command(ctx, "")
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "git --git-dir=" + r.dir + " archive " + r.commit.ID + " | tar -x --no-same-owner -C " + dst}
		return cmd.Run()
	}(); err != nil {`}

var _ = register(attack{
	name: "swapped-tree", tries: "build other files than the commit has: attributes omit one file and rewrite another on export",
	guard: "the export ignores attributes: source Export. The worker hashes the files that it sends to the builder, and compares them with the commit's tree: platform/builder/worker packTree",
	cuts:  []cut{gitArchive, {"platform/builder/worker/tree.go", `err = hash.Check()`, `err = nil`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		files := map[string]string{
			"go.mod": "module x\n", "check_test.go": "package x\n", "version": "$Format:%H$\n",
			".gitattributes": "check_test.go export-ignore\nversion export-subst\n",
		}
		repo := s.repository(files)
		l := honest()
		s.usurp(p, l)
		r, said, err := s.release(p, repo, "other-files", golang)
		if err != nil {
			return "", err.Error()
		}
		for name, want := range files {
			if got, there := l.seenSource[name]; !there || got != want {
				return fmt.Sprintf("released as %s, but the builder got %s as %q, and the commit has %q", r.Source.ID, name, got, want), ""
			}
		}
		if len(l.seenSource) != len(files) || r.Source.Tree != gittest.Git(s, repo, "rev-parse", "HEAD^{tree}") {
			s.Errorf("the builder got %v, the release says tree %s\n%s", l.seenSource, r.Source.Tree, said)
		}
		return "", "the builder got the files as committed"
	},
})

var _ = register(attack{
	name: "links-to-files-of-root", tries: "put files into a repository of root, or links into one's own, so that git reads files of root for a release",
	guard: "one user owns everything that git reads, and nothing of it is a link: platform/attestor/localgit check",
	cuts:  []cut{{"platform/attestor/localgit/repository.go", `return r, r.check()`, `return r, nil`}},
	unit:  "platform/attestor/localgit: TestOthersFilesAreNotRead",
})

var _ = register(attack{
	name: "git-with-capabilities", tries: "use root's rights in the git that reads a repository of this host",
	guard: "git runs as the owner, without capabilities, in a root directory with only the repository and programs: platform/attestor/localgit Jail",
	cuts: []cut{{"platform/attestor/localgit/jail.go", `	if err := confine.Bound(); err != nil {
		return err
	}
`, ""}, {"platform/attestor/localgit/jail.go", `	if err := confine.Role(confine.Policy{Exec: true}); err != nil {
		return err
	}
`, "	_ = confine.Role\n"}},
	unit: "platform/attestor/localgit: TestJail",
})
