package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

const lockSum = "sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"

// top is the recipe of a commit that declares none.
func top() *attest.DefaultRecipe {
	return &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "Dockerfile"}}
}

// declared is the recipe that a commit declares for one image.
func declared(image string) *attest.DefaultRecipe {
	return &attest.DefaultRecipe{
		Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "deploy/Dockerfile", Target: "final", BuildArgs: map[string]string{"FLAVOR": "plain"}},
		File:   ".colophon.yaml", Digest: lockSum, Image: image,
	}
}

func goPackage() *attest.DefaultRecipe {
	return &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: "."}}
}

func TestMatchRecipe(t *testing.T) {
	const app = "registry.example.com/team/app"
	dockerfile := func(change func(*attest.Recipe)) attest.Recipe {
		r := attest.Recipe{Builder: attest.BuildKit, Platforms: []string{"linux/arm64"}, Dockerfile: "Dockerfile"}
		change(&r)
		return r
	}
	plain := dockerfile(func(*attest.Recipe) {})
	args := func(kv ...string) attest.Recipe {
		return dockerfile(func(r *attest.Recipe) {
			r.BuildArgs = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				r.BuildArgs[kv[i]] = kv[i+1]
			}
		})
	}
	golang := func(pkg string) attest.Recipe { return attest.Recipe{Builder: attest.Golang, Package: pkg} }
	in := func(context string) attest.Recipe {
		return attest.Recipe{Builder: attest.BuildKit, Context: context}.Filled()
	}
	declaredIn := func(context string) *attest.DefaultRecipe {
		d := declared("")
		d.Recipe = in(context)
		return d
	}
	asDeclared := declared("").Recipe
	for name, tt := range map[string]struct {
		demand string // a policy's "recipe"
		built  policy.Built
		want   string // in the error; empty: it is met
	}{
		"default":                              {`{}`, policy.Built{Recipe: plain, Default: top()}, ""},
		"default, spelled otherwise":           {`{}`, policy.Built{Recipe: attest.Recipe{Builder: "buildkit"}, Default: top()}, ""},
		"default Go package":                   {`{}`, policy.Built{Recipe: golang("./"), Default: goPackage()}, ""},
		"declared":                             {`{}`, policy.Built{Recipe: asDeclared, Default: declared("")}, ""},
		"declared for this image":              {`{}`, policy.Built{Recipe: asDeclared, Default: declared("app"), Image: app}, ""},
		"declared for this path":               {`{}`, policy.Built{Recipe: asDeclared, Default: declared("team/app"), Image: app}, ""},
		"declared for another image":           {`{}`, policy.Built{Recipe: asDeclared, Default: declared("debug"), Image: app}, `declares it for the image "debug"`},
		"declared for an image that ends so":   {`{}`, policy.Built{Recipe: asDeclared, Default: declared("pp"), Image: app}, `declares it for the image "pp"`},
		"declared for an image, in a layout":   {`{}`, policy.Built{Recipe: asDeclared, Default: declared("app")}, `demand its recipe by that name (--declared-as)`},
		"declared, as demanded":                {`{"image":"app"}`, policy.Built{Recipe: asDeclared, Default: declared("app")}, ""},
		"declared for another than demanded":   {`{"image":"app"}`, policy.Built{Recipe: asDeclared, Default: declared("debug"), Image: "r.io/debug"}, `got "debug", want "app"`},
		"not declared, and demanded":           {`{"image":"app"}`, policy.Built{Recipe: plain, Default: top(), Image: app}, `got "", want "app"`},
		"the top, and the commit declares":     {`{}`, policy.Built{Recipe: plain, Default: declared("")}, "chose dockerfile Dockerfile, no target, no build argument FLAVOR"},
		"no default":                           {`{}`, policy.Built{Recipe: plain}, "chose builder buildkit, dockerfile Dockerfile"},
		"another Dockerfile":                   {`{}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Dockerfile = "test/Dockerfile" }), Default: top()}, "chose dockerfile test/Dockerfile"},
		"a target":                             {`{}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Target = "backdoor" }), Default: top()}, "chose target backdoor"},
		"a build argument":                     {`{}`, policy.Built{Recipe: args("BASE", "evil"), Default: top()}, "chose build argument BASE=evil"},
		"an empty build argument":              {`{}`, policy.Built{Recipe: args("BASE", ""), Default: top()}, "chose build argument BASE="},
		"a build argument on top":              {`{}`, policy.Built{Recipe: func() attest.Recipe { r := asDeclared; r.BuildArgs = map[string]string{"FLAVOR": "evil"}; return r }(), Default: declared("")}, "chose build argument FLAVOR=evil"},
		"another builder":                      {`{}`, policy.Built{Recipe: golang("."), Default: top()}, "chose builder golang, package ."},
		"a package":                            {`{}`, policy.Built{Recipe: golang("./cmd/evil"), Default: goPackage()}, "chose package ./cmd/evil"},
		"a lock":                               {`{}`, policy.Built{Recipe: plain, Default: top(), Lock: lockSum}, "chose lock " + lockSum},
		"the lock demanded":                    {`{"lock":"` + lockSum + `"}`, policy.Built{Recipe: plain, Default: top(), Lock: lockSum}, ""},
		"no lock, and one demanded":            {`{"lock":"` + lockSum + `"}`, policy.Built{Recipe: plain, Default: top()}, `brought: got ""`},
		"hermetic":                             {`{}`, policy.Built{Recipe: plain, Default: top(), Hermetic: true}, ""},
		"hermetic demanded":                    {`{"hermetic":true}`, policy.Built{Recipe: plain, Default: top(), Hermetic: true}, ""},
		"not hermetic, and demanded":           {`{"hermetic":true}`, policy.Built{Recipe: plain, Default: top()}, "want a hermetic one"},
		"the Dockerfile demanded":              {`{"dockerfile":"x/Dockerfile"}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Dockerfile = "x/Dockerfile" }), Default: top()}, ""},
		"another than the Dockerfile demanded": {`{"dockerfile":"x/Dockerfile"}`, policy.Built{Recipe: plain, Default: top()}, `dockerfile: got "Dockerfile", want "x/Dockerfile"`},
		"a pattern":                            {`{"target":{"pattern":"v[0-9]"}}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Target = "v1" }), Default: top()}, ""},
		"a pattern in the middle":              {`{"target":{"pattern":"v[0-9]"}}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Target = "evil-v1" }), Default: top()}, "want a match of v[0-9]"},
		"no target, and one demanded":          {`{"target":"final"}`, policy.Built{Recipe: plain, Default: top()}, `target: got "", want "final"`},
		"no target demanded":                   {`{"target":""}`, policy.Built{Recipe: plain, Default: top()}, ""},
		"a target beside the demand":           {`{"dockerfile":"Dockerfile"}`, policy.Built{Recipe: dockerfile(func(r *attest.Recipe) { r.Target = "x" }), Default: top()}, "chose target x"},
		"the build argument demanded":          {`{"buildArgs":{"A":"b"}}`, policy.Built{Recipe: args("A", "b"), Default: top()}, ""},
		"another build argument":               {`{"buildArgs":{"A":"b"}}`, policy.Built{Recipe: args("A", "c"), Default: top()}, `build argument A: got "c", want "b"`},
		"one more build argument":              {`{"buildArgs":{"A":"b"}}`, policy.Built{Recipe: args("A", "b", "B", "x"), Default: top()}, "chose build argument B=x"},
		"the build argument is missing":        {`{"buildArgs":{"A":"b"}}`, policy.Built{Recipe: plain, Default: top()}, "build argument A: got none"},
		"no pattern is met by a missing one":   {`{"buildArgs":{"A":{"pattern":".+"}}}`, policy.Built{Recipe: plain, Default: top()}, "build argument A: got none"},
		"a pattern that a missing one meets":   {`{"buildArgs":{"A":{"pattern":".*"}}}`, policy.Built{Recipe: plain, Default: top()}, ""},
		"an empty one is not a missing one":    {`{"buildArgs":{"A":""}}`, policy.Built{Recipe: plain, Default: top()}, "build argument A: got none"},
		"the package demanded":                 {`{"package":"./cmd/app"}`, policy.Built{Recipe: golang("cmd/app"), Default: goPackage()}, ""},
		"the package, spelled otherwise":       {`{"package":"cmd/app"}`, policy.Built{Recipe: golang("./cmd/app"), Default: goPackage()}, ""},
		"another package":                      {`{"package":"./cmd/app"}`, policy.Built{Recipe: golang("./cmd/evil"), Default: goPackage()}, `package: got "./cmd/evil", want "./cmd/app"`},
		"a package in place of the Dockerfile": {`{"package":"./cmd/app"}`, policy.Built{Recipe: golang("./cmd/app"), Default: top()}, ""},
		"a Dockerfile in place of the package": {`{"package":"."}`, policy.Built{Recipe: plain, Default: goPackage()}, `package: got "", want "."`},
		"a context":                            {`{}`, policy.Built{Recipe: in("services/web"), Default: top()}, "chose context services/web; want"},
		"the context demanded":                 {`{"context":"services/web"}`, policy.Built{Recipe: in("services/web"), Default: top()}, ""},
		"the context, spelled otherwise":       {`{"context":"./services/web/"}`, policy.Built{Recipe: in("services/web"), Default: top()}, ""},
		"another context than demanded":        {`{"context":"services/web"}`, policy.Built{Recipe: in("services/evil"), Default: top()}, `context: got "services/evil", want "services/web"`},
		"a context of a pattern":               {`{"context":{"pattern":"services/[a-z]+"}}`, policy.Built{Recipe: in("services/web"), Default: top()}, ""},
		"a context below the demanded":         {`{"context":{"pattern":"services/[a-z]+"}}`, policy.Built{Recipe: in("services/web/evil"), Default: top()}, "want a match of"},
		"no context, and one demanded":         {`{"context":"services/web"}`, policy.Built{Recipe: plain, Default: top()}, `context: got ".", want "services/web"`},
		"the whole tree demanded":              {`{"context":"."}`, policy.Built{Recipe: plain, Default: top()}, ""},
		"the context, of another Dockerfile":   {`{"context":"services/web"}`, policy.Built{Recipe: attest.Recipe{Builder: "buildkit", Context: "services/web", Dockerfile: "Dockerfile"}, Default: top()}, "chose dockerfile Dockerfile"},
		"the Dockerfile, in another context":   {`{"dockerfile":"Dockerfile"}`, policy.Built{Recipe: attest.Recipe{Builder: "buildkit", Context: "x", Dockerfile: "Dockerfile"}, Default: top()}, "chose context x"},
		"the whole tree, one declared":         {`{}`, policy.Built{Recipe: plain, Default: declaredIn("services/web")}, "chose context .; want"},
		"the context declared":                 {`{}`, policy.Built{Recipe: in("services/web"), Default: declaredIn("services/web")}, ""},
		"a context and no default":             {`{"context":"services/web"}`, policy.Built{Recipe: in("services/web")}, ""},
		"a context, golang and no default":     {`{"context":"services/web"}`, policy.Built{Recipe: attest.Recipe{Builder: "golang", Context: "services/web", Package: "./services/web"}}, "chose builder golang"},
		"a context of a Go package":            {`{"context":"svc"}`, policy.Built{Recipe: attest.Recipe{Builder: "golang", Context: "svc", Package: "./svc"}, Default: goPackage()}, ""},
		"a context, and another package in it": {`{"context":"svc"}`, policy.Built{Recipe: attest.Recipe{Builder: "golang", Context: "svc", Package: "./svc/evil"}, Default: goPackage()}, "chose package ./svc/evil"},
		"a context and its package":            {`{"context":"svc","package":"./svc/cmd"}`, policy.Built{Recipe: attest.Recipe{Builder: "golang", Context: "svc", Package: "./svc/cmd"}, Default: goPackage()}, ""},
		"a Dockerfile and no default":          {`{"dockerfile":"x"}`, policy.Built{Recipe: attest.Recipe{Builder: "buildkit", Dockerfile: "x"}}, ""},
		"a Dockerfile, a target, no default":   {`{"dockerfile":"x"}`, policy.Built{Recipe: attest.Recipe{Builder: "buildkit", Dockerfile: "x", Target: "y"}}, "chose target y"},
	} {
		p, err := policy.Parse([]byte(`{"anySource":true,"recipe":` + tt.demand + `}`))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		err = p.Provenance().MatchRecipe(&tt.built)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if _, chosen := errors.AsType[*policy.ChosenError](err); chosen != strings.HasPrefix(tt.want, "chose") {
			t.Errorf("%s: got a %T", name, err)
		}
		anything, err := policy.Parse([]byte(`{"anySource":true,"anyRecipe":true}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := anything.Provenance().MatchRecipe(&tt.built); err != nil || len(anything.Dangers()) != 2 {
			t.Errorf("%s, any recipe: got %v, dangers %q", name, err, anything.Dangers())
		}
	}
	// Of other builders, nothing is demanded unless the policy says so.
	for demand, good := range map[string]bool{`{}`: true, `{"target":"x"}`: false, `{"image":"x"}`: false, `{"lock":"` + lockSum + `"}`: false, `{"hermetic":true}`: false} {
		p, err := policy.Parse([]byte(`{"anySource":true,"recipe":` + demand + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provenance().MatchRecipe(nil); (err == nil) != good {
			t.Errorf("%s of another builder: got %v", demand, err)
		}
	}
}
