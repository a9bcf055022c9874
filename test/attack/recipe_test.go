package attack

import (
	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
)

var _ = register(attack{
	name: "chosen-recipe", tries: "release the right commit and tag with a context, Dockerfile, target, build argument or builder that the commit does not choose",
	guard: "without a consumer's word, only the recipe of the commit itself is accepted: policy MatchRecipe, verify matchPolicy",
	cuts:  []cut{{"verify/builder.go", "		p.MatchRecipe(c.built(b)),\n", ""}},
	beside: func(s *scene) (through, stopped string) {
		p := s.platform("step")
		repo := s.repository(map[string]string{
			"Dockerfile":      "ARG WHO=good\nFROM scratch AS backdoor\nCOPY Dockerfile /evil\nFROM scratch\nARG WHO\nCOPY $WHO /\n",
			"good":            "good\n",
			"evil":            "evil\n",
			"test/Dockerfile": "FROM scratch\nCOPY . /\n",
			"go.mod":          "module x\n",
			"main.go":         "package main\n\nfunc main() {}\n",
		})
		for name, choose := range map[string]func(*attest.Recipe){
			"target":     func(r *attest.Recipe) { r.Target = "backdoor" },
			"argument":   func(r *attest.Recipe) { r.BuildArgs = map[string]string{"WHO": "evil"} },
			"context":    func(r *attest.Recipe) { r.Context = "test" },
			"dockerfile": func(r *attest.Recipe) { r.Dockerfile = "test/Dockerfile" },
			"builder":    func(r *attest.Recipe) { r.Builder = attest.Golang },
		} {
			image := "chosen-" + name
			r, said, err := s.release(p, repo, image, func(r *api.ReleaseRequest) { choose(&r.Recipe) })
			if err != nil {
				s.Fatalf("%s: %v\n%s", name, err, said)
			}
			v := victim{p: p, repo: repo, image: p.Addr + "/" + image, digest: r.Digest, source: "file://" + repo}
			if through, stopped = s.judgedBy(v, v.image+":v1.0.0", "provenance"); through != "" {
				return name + ": " + through, ""
			}
		}
		return "", stopped
	},
})
