package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source/recipes"
)

// RecipeRule restricts the recipes of some images.
type RecipeRule struct {
	Images string                `json:"images"`          // pattern of REGISTRY/NAME, as in path.Match: "registry.example.com/team/*"
	Recipe policy.DocumentRecipe `json:"recipe,omitzero"` // what the recipe must be; zero: that of the commit itself
}

// Check fails if the pattern or the recipe is malformed.
func (r RecipeRule) Check() error {
	if _, err := path.Match(r.Images, ""); err != nil || r.Images == "" {
		return fmt.Errorf("images: got %q, want a pattern such as registry.example.com/team/*", r.Images)
	}
	_, err := r.Recipe.Recipe()
	return err
}

// checkRecipe checks the recipe as far as that is possible before the commit is
// fetched.
func (j *run) checkRecipe() error {
	r := j.req.Recipe
	if err := r.Check(); err != nil {
		return &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	if err := j.checkFiles(); err != nil {
		return err
	}
	if err := checkSecrets(r); err != nil {
		return err
	}
	if err := j.checkPinning(); err != nil || r.Builder == "" {
		return err
	}
	_, err := j.builderFor(r)
	return err
}

// checkSecrets refuses build arguments that look like secrets: the provenance publishes
// them.
func checkSecrets(r attest.Recipe) error {
	for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		value := r.BuildArgs[name]
		inURL := credential.Text(value) != value
		if value != "" && (credential.Name(name) || credential.Value(value) || inURL) {
			return &api.Error{Message: fmt.Sprintf("build argument %s looks like a secret, and the provenance publishes build arguments", name),
				Hint: "if it is one, revoke it where it was used before, and let the build fetch without it; if not, give the argument another name", Kind: api.Usage}
		}
	}
	return nil
}

// decideRecipe sets the recipe, which is the commit's own with what the requester chose
// on top, and the builder. It refuses a recipe that the platform does not allow for the
// image.
func (j *run) decideRecipe() (err error) {
	tree, err := os.OpenRoot(j.tree)
	if err != nil {
		return err
	}
	defer tree.Close()
	asked := j.req.Recipe
	if asked.Files {
		j.own, asked.Builder = ownFiles(tree), filesBuilder(asked, tree)
	}
	if j.recipe, err = completeRecipe(asked, j.own, tree); err != nil {
		return err
	}
	if err := checkPlace(j.recipe, tree); err != nil {
		return err
	}
	if err := checkSecrets(j.recipe); err != nil { // the commit's own too
		return err
	}
	if err := j.allowed(); err != nil {
		return err
	}
	if chosen := j.chosen(); len(chosen) > 0 {
		j.emit(api.Event{Phase: "source", Line: "chosen by you, not by the commit: " + strings.Join(chosen, ", ") + "; verify accepts that only from those who ask for it"})
	}
	if work := hiddenWorkspace(tree, j.recipe); work != "" {
		j.emit(api.Event{Phase: "source", Line: fmt.Sprintf("%s is outside of the context %s, so the build does not see it; to build in this workspace, leave the context out and name the package: --package %s",
			work, path.Clean(j.recipe.Context), j.recipe.Package)})
	}
	j.builder, err = j.builderFor(j.recipe)
	return err
}

// chosen returns, for people, what the requester chose in place of the commit.
func (j *run) chosen() []string {
	own := attest.Recipe{}
	if j.own != nil {
		own = j.own.Recipe
	}
	chosen := j.recipe.Differences(own)
	if lock := j.givenLock(); lock != "" {
		chosen = append(chosen, "lock sha256:"+lock)
	}
	return chosen
}

// built returns the recipe in the form that policies compare.
func (j *run) built() *policy.Built {
	return &policy.Built{Image: j.req.Image, Recipe: j.recipe, Default: j.own, Hermetic: j.req.Hermetic, Lock: digestOrNone(j.givenLock())}
}

// allowed returns an error if the platform restricts the recipe of the image.
func (j *run) allowed() error {
	for _, rule := range j.Recipes {
		if ok, _ := path.Match(rule.Images, j.req.Image); !ok {
			continue
		}
		demand, err := rule.Recipe.Recipe()
		if err != nil {
			return err
		}
		if err := (policy.Provenance{Recipe: demand}).MatchRecipe(j.built()); err != nil {
			return &api.Error{Message: fmt.Sprintf("this platform restricts the recipe of %s: %v", rule.Images, err), Hint: "release without --context, --dockerfile, --target, --build-arg, --package and --locked, or ask whoever runs the platform", Kind: api.Usage}
		}
		return nil
	}
	return nil
}

// demand returns what a consumer must demand of the recipe to accept this release: nil
// if it is the commit's own.
func (j *run) demand() *policy.DocumentRecipe {
	if len(j.chosen()) == 0 {
		return nil
	}
	exact := func(text string) *policy.DocumentValue { return &policy.DocumentValue{Exact: text} }
	d := &policy.DocumentRecipe{Context: exact(j.recipe.Context), Lock: digestOrNone(j.givenLock()), Hermetic: j.req.Hermetic}
	if j.recipe.Builder == attest.Golang {
		d.Package = exact(j.recipe.Package)
		return d
	}
	d.Dockerfile, d.Target = exact(j.recipe.Dockerfile), exact(j.recipe.Target)
	for name, value := range j.recipe.BuildArgs {
		if d.BuildArgs == nil {
			d.BuildArgs = map[string]policy.DocumentValue{}
		}
		d.BuildArgs[name] = *exact(value)
	}
	return d
}

// completeRecipe returns the recipe that a request means, with all defaults filled in,
// so that the provenance states every value. own is the commit's own recipe, or nil.
func completeRecipe(r attest.Recipe, own *attest.DefaultRecipe, tree *os.Root) (attest.Recipe, error) {
	declared := own != nil && own.File != ""
	switch {
	case r.Builder != "":
	case r.Dockerfile != "":
		r.Builder = attest.BuildKit
	case r.Context != "" && !declared && r.Package == "":
		r.Builder = recipes.BuilderOf(tree, r.Context)
	case own != nil:
		r.Builder = own.Recipe.Builder
	case r.Package != "": // of a module below the top
		r.Builder = attest.Golang
	}
	switch {
	case r.Builder == "":
		return r, nothingAt(r.Context, tree)
	case r.Builder == attest.BuildKit && r.Package != "":
		return r, &api.Error{Message: "--package is only for the golang builder, but this source builds from a Dockerfile", Hint: "add --builder golang", Kind: api.Usage}
	case r.Builder == attest.Golang && (r.Dockerfile != "" || r.Target != "" || len(r.BuildArgs) > 0):
		return r, &api.Error{Message: "the golang builder does not support a Dockerfile, target or build arguments", Kind: api.Usage}
	}
	if own != nil && len(r.Platforms) == 0 {
		r.Platforms = own.Recipe.Platforms
	}
	if own != nil && own.Recipe.Builder == r.Builder {
		r = onTop(r, own.Recipe)
	}
	if len(r.BuildArgs) == 0 {
		r.BuildArgs = nil
	}
	r = r.Filled()
	if err := r.Check(); err != nil {
		return r, &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	var err error
	r.Platforms, err = completePlatforms(r)
	return r, err
}

// onTop returns the commit's own recipe with what the requester chose on top.
func onTop(chosen, own attest.Recipe) attest.Recipe {
	if chosen.Context == "" {
		chosen.Context = own.Context
	} else {
		own = own.WithContext(chosen.Context)
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&chosen.Dockerfile, own.Dockerfile}, {&chosen.Target, own.Target}, {&chosen.Package, own.Package}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	args := maps.Clone(own.BuildArgs)
	if args == nil {
		args = map[string]string{}
	}
	maps.Copy(args, chosen.BuildArgs)
	chosen.BuildArgs = args
	return chosen
}

// completePlatforms normalizes a list of platforms, so that equal lists give equal
// recipes. An empty list becomes this host's platform.
func completePlatforms(r attest.Recipe) ([]string, error) {
	if len(r.Platforms) == 0 {
		return []string{"linux/" + runtime.GOARCH}, nil
	}
	var out []string
	for _, name := range r.Platforms {
		normal, err := attest.NormalPlatform(name)
		if err != nil || !r.Files && !strings.HasPrefix(normal, "linux/") { // Recipe.Check gives more detailed errors earlier
			return nil, &api.Error{Message: fmt.Sprintf("platform: expected linux/ARCHITECTURE, such as linux/amd64, found %q", name), Kind: api.Usage}
		}
		out = append(out, normal)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (j *run) builderFor(r attest.Recipe) (BuilderInfo, error) {
	var names []string
	for _, b := range j.Builders {
		if b.Name == r.Builder {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return BuilderInfo{}, &api.Error{Message: fmt.Sprintf("this platform has no builder %q", r.Builder), Hint: "it has: " + strings.Join(names, ", "), Kind: api.Usage}
}

// externalParameters returns the provenance's external parameters: everything that the
// requester chose, and what the commit says in its place.
func (j *run) externalParameters() (json.RawMessage, error) {
	rec, err := json.Marshal(j.recipe)
	if err != nil {
		return nil, err
	}
	return json.Marshal(attest.ExternalParameters{
		Source: attest.SourceParameters{URI: j.commit.URI, Ref: j.commit.Ref, Commit: j.commit.ID},
		Recipe: rec, Default: j.own, Hermetic: j.req.Hermetic, CacheMounts: j.req.CacheMounts, DockerAttestations: j.req.DockerAttestations, Lock: digestOrNone(j.givenLock()),
	})
}
