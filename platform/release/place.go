package release

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/source/recipes"
)

const maxListed = 10 // Dockerfiles that an error names

// checkPlace returns an error if the tree lacks the context or the Dockerfile of a recipe.
func checkPlace(r attest.Recipe, tree *os.Root) error {
	context, err := builder.OpenContext(tree, r.Context)
	if err != nil {
		return &api.Error{Message: err.Error(), Hint: howToChoose(tree)}
	}
	context.Close()
	if r.Builder != attest.BuildKit {
		return nil
	}
	if _, err := tree.Lstat(r.Dockerfile); err != nil {
		return &api.Error{Message: fmt.Sprintf("the source has no file %s", r.Dockerfile), Hint: howToChoose(tree)}
	}
	return nil
}

// nothingAt returns the error for a context in which there is nothing to build.
func nothingAt(context string, tree *os.Root) error {
	where := "the top directory of the source"
	if context = path.Clean(context); context != "." {
		if _, err := tree.Stat(context); err != nil {
			return checkPlace(attest.Recipe{Context: context}, tree)
		}
		where = "the directory " + context
	}
	return &api.Error{Message: where + " has neither a Dockerfile nor a go.mod", Hint: howToChoose(tree)}
}

// howToChoose names the Dockerfiles of a source, and how a requester chooses one.
func howToChoose(tree *os.Root) string {
	const declare = ", or declare the image in " + recipes.File
	found := dockerfiles(tree)
	if len(found) == 0 {
		return "use --dockerfile or --package to name the Dockerfile or main package" + declare
	}
	listed := strings.Join(found[:min(len(found), maxListed)], ", ")
	if more := len(found) - maxListed; more > 0 {
		listed += fmt.Sprintf(" and %d more", more)
	}
	choice := "--dockerfile " + found[0]
	if dir, name := path.Split(found[0]); name == "Dockerfile" && dir != "" {
		choice = "--context " + path.Clean(dir)
	}
	return "it has " + listed + "; choose one: " + choice + declare
}

// dockerfiles lists the files of a tree that are named like Dockerfiles, sorted.
func dockerfiles(tree *os.Root) (found []string) {
	_ = fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil && d != nil && d.IsDir(): // a submodule that was not fetched
			return fs.SkipDir
		case err != nil || !d.Type().IsRegular() || strings.HasSuffix(base, ".dockerignore"):
		case base == "Dockerfile" || base == "Containerfile" || strings.HasPrefix(base, "Dockerfile.") || strings.HasSuffix(base, ".Dockerfile"):
			found = append(found, name)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b string) int { // the nearest to the top first
		if n := strings.Count(a, "/") - strings.Count(b, "/"); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return found
}
