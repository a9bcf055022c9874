package attack

import (
	"fmt"

	"github.com/colophon-build/colophon/test/harness"
)

// gitArchive is how many export a commit: attributes then have a say in what is in it.
var gitArchive = cut{"source/export.go", `	if err := r.export(ctx, dst, t); err != nil {`, `	if err := func() error {
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
	name: "swapped-tree", tries: "have other files built than the commit shows: attributes that leave out a check and rewrite a file on export",
	guard: "attributes have no say: source Export. What goes to the builder is hashed on its way, and must be the commit's tree: platform/builder/worker packTree",
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
				return fmt.Sprintf("released as %s, and %s was %q there, %q in the commit", r.Source.ID, name, got, want), ""
			}
		}
		if len(l.seenSource) != len(files) || r.Source.Tree != harness.Git(s, repo, "rev-parse", "HEAD^{tree}") {
			s.Errorf("the builder got %v, the release says tree %s\n%s", l.seenSource, r.Source.Tree, said)
		}
		return "", "the builder got the files as committed"
	},
})
