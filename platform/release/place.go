package release

import (
	"fmt"
	"go/parser"
	"go/token"
	"io"
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

const (
	maxListed = 10      // Dockerfiles or main packages that an error names
	maxProbed = 2000    // Go files that are read to find main packages
	maxProbe  = 4 << 10 // bytes of one of them
)

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

// howToChoose names the Dockerfiles of a source and its Go main packages, and how a requester
// chooses one.
func howToChoose(tree *os.Root) string {
	const declare = ", or declare the image in " + recipes.File
	found, mains := dockerfiles(tree), mainPackages(tree)
	var has, choices []string
	if len(found) > 0 {
		choice := "--dockerfile " + found[0]
		if dir, name := path.Split(found[0]); name == "Dockerfile" && dir != "" {
			choice = "--context " + path.Clean(dir)
		}
		has, choices = append(has, list(found)), append(choices, choice)
	}
	if len(mains) > 0 {
		has, choices = append(has, "the Go main packages "+list(mains)), append(choices, "--package "+mains[0])
	}
	if len(has) == 0 {
		return "use --dockerfile or --package to name the Dockerfile or main package" + declare
	}
	return "it has " + strings.Join(has, ", and ") + "; choose one: " + strings.Join(choices, " or ") + declare
}

// hiddenWorkspace returns the go.work that builds a recipe's package in the whole tree, but is outside of
// the recipe's context, so the build does not see it; "" if there is none. A module of the workspace
// that needs another one then fails with what go says of a missing download.
func hiddenWorkspace(tree *os.Root, r attest.Recipe) string {
	context := path.Clean(r.Context)
	if r.Builder != attest.Golang || context == "." {
		return ""
	}
	whole, err := builder.FindGo(tree, ".", path.Clean(r.Package))
	if err != nil || whole.Work == "" || attest.Within(context, whole.Work) {
		return ""
	}
	return whole.Work
}

// list names the first of names, and says how many more there are.
func list(names []string) string {
	listed := strings.Join(names[:min(len(names), maxListed)], ", ")
	if more := len(names) - maxListed; more > 0 {
		listed += fmt.Sprintf(" and %d more", more)
	}
	return listed
}

// mainPackages lists the directories of a tree, as ./DIR, that have a Go main package, sorted.
// It reads only so much of a large tree.
func mainPackages(tree *os.Root) (found []string) {
	probed := 0
	_ = fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil && d != nil && d.IsDir():
			return fs.SkipDir
		case err != nil:
			return nil
		case d.IsDir() && name != "." && (base == "vendor" || base == "testdata" || base[0] == '.' || base[0] == '_'): // as go does
			return fs.SkipDir
		case !d.Type().IsRegular() || !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go"):
			return nil
		case probed >= maxProbed:
			return fs.SkipAll
		}
		probed++
		if dir := "./" + path.Dir(name); packageOf(tree, name) == "main" && !slices.Contains(found, dir) {
			found = append(found, dir)
		}
		return nil
	})
	slices.Sort(found)
	return found
}

// packageOf returns the name of a Go file's package, "" if it is not at the begin of the file.
func packageOf(tree *os.Root, name string) string {
	f, err := tree.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	begin, err := io.ReadAll(io.LimitReader(f, maxProbe))
	if err != nil {
		return ""
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", begin, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil || file.Name == nil {
		return ""
	}
	for _, g := range file.Comments {
		for _, c := range g.List {
			if c.Text == "//go:build ignore" {
				return "" // a script
			}
		}
	}
	return file.Name.Name
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
