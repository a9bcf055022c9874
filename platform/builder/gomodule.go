package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// GoSource says which directories of a source tree determine the modules of a Go package.
// All paths are clean and relative to the top of the tree.
type GoSource struct {
	Module string // directory of the module that the package belongs to
	// Work is the path of the go.work of that module, or empty if none uses the module.
	Work string
	// Unused is the path of a go.work that does not use the module. The go command would
	// refuse to build the package there, so the builder builds it without the workspace.
	Unused  string
	Modules []string // directories of all modules of the workspace, sorted; without one, Module
}

// Sums returns the paths of the files that pin the downloads of the package. A missing file
// pins nothing.
func (g GoSource) Sums() (files []string) {
	for _, dir := range g.Modules {
		files = append(files, path.Join(dir, "go.sum"))
	}
	if g.Work != "" {
		files = append(files, g.Work+".sum")
	}
	return files
}

// FindGo finds the module of a package and its workspace, as the go command does: the
// nearest go.mod and the nearest go.work, from the package's directory up to the top of the
// build context. It fails if a module is replaced by, or the workspace uses, a directory
// outside the context. The context and the package in it are clean paths in the tree.
func FindGo(tree *os.Root, context, pkg string) (g GoSource, err error) {
	if info, err := tree.Stat(pkg); err != nil || !info.IsDir() {
		return g, fmt.Errorf("package %q: the source has no such directory", pkg)
	}
	mod, err := nearest(tree, context, pkg, "go.mod")
	if err != nil {
		return g, err
	}
	if mod == "" {
		return g, fmt.Errorf("package %q: the source has no go.mod for it", pkg)
	}
	g.Module = path.Dir(mod)
	g.Modules = []string{g.Module}
	work, err := nearest(tree, context, g.Module, "go.work")
	if err != nil {
		return g, err
	}
	if work != "" {
		if err := g.readWork(tree, context, work); err != nil {
			return g, err
		}
	}
	for _, dir := range g.Modules {
		if err := checkModule(tree, context, path.Join(dir, "go.mod")); err != nil {
			return g, err
		}
	}
	return g, nil
}

// nearest returns the path of the nearest file with a name, from a directory up to the top
// of the context; "" if there is none.
func nearest(tree *os.Root, context, dir, name string) (string, error) {
	for {
		file := path.Join(dir, name)
		if _, err := tree.Lstat(file); err == nil {
			return file, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == context || dir == "." {
			return "", nil
		}
		dir = path.Dir(dir)
	}
}

// readWork reads a go.work and, if it uses the module, makes it the package's workspace.
func (g *GoSource) readWork(tree *os.Root, context, file string) error {
	raw, err := readSmall(tree, file)
	if err != nil {
		return err
	}
	work, err := modfile.ParseWork(file, raw, nil)
	if err != nil {
		return err
	}
	var modules []string
	for _, use := range work.Use {
		dir := path.Join(path.Dir(file), filepath.ToSlash(use.Path))
		if filepath.IsAbs(use.Path) || !filepath.IsLocal(dir) || !attest.Within(context, dir) {
			return fmt.Errorf("%s: the module %q is outside the source", file, use.Path)
		}
		modules = append(modules, dir)
	}
	if !slices.Contains(modules, g.Module) {
		g.Unused = file
		return nil
	}
	slices.Sort(modules)
	g.Work, g.Modules = file, slices.Compact(modules)
	return checkReplace(context, file, work.Replace)
}

func checkModule(tree *os.Root, context, file string) error {
	raw, err := readSmall(tree, file)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(file, raw, nil)
	if err != nil {
		return err
	}
	return checkReplace(context, file, mod.Replace)
}

// checkReplace refuses to replace a module by a directory outside the context, because that
// source is not in the commit, or hidden from the build.
func checkReplace(context, file string, replaced []*modfile.Replace) error {
	for _, r := range replaced {
		dir := path.Join(path.Dir(file), filepath.ToSlash(r.New.Path))
		if r.New.Version == "" && (filepath.IsAbs(r.New.Path) || !filepath.IsLocal(dir) || !attest.Within(context, dir)) {
			return fmt.Errorf("%s: the replacement of %s, %q, is outside the source", file, r.Old.Path, r.New.Path)
		}
	}
	return nil
}

func readSmall(tree *os.Root, file string) ([]byte, error) {
	f, err := tree.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := strict.Read(f, limits.Request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return raw, nil
}

// GoProgram returns the name that the go command gives the binary of a package: the last
// element of its import path, or the one before if that is a major version ("v2").
func GoProgram(tree *os.Root, context, pkg string) (string, error) {
	g, err := FindGo(tree, context, pkg)
	if err != nil {
		return "", err
	}
	file := path.Join(g.Module, "go.mod")
	raw, err := readSmall(tree, file)
	if err != nil {
		return "", err
	}
	mod := modfile.ModulePath(raw)
	if mod == "" {
		return "", fmt.Errorf("%s: it names no module", file)
	}
	rel, err := filepath.Rel(g.Module, pkg)
	if err != nil {
		return "", err
	}
	imported := path.Join(mod, filepath.ToSlash(rel))
	name := path.Base(imported)
	if isMajor(name) && path.Dir(imported) != "." {
		name = path.Base(path.Dir(imported))
	}
	return name, nil
}

// isMajor reports whether an element of an import path is a major version: v2, v3, …
func isMajor(element string) bool {
	digits, ok := strings.CutPrefix(element, "v")
	return ok && digits != "" && digits != "1" && digits[0] != '0' && strings.Trim(digits, "0123456789") == ""
}

// GoFiles returns the names of the release files of a recipe of the golang builder, one for
// each of its platforms, in their order. The recipe is complete. Builder and attest zone
// determine the names by this same rule, so that no build chooses them.
func GoFiles(tree *os.Root, r attest.Recipe) ([]string, error) {
	program, err := GoProgram(tree, path.Clean(r.Context), path.Clean(r.Package))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range r.Platforms {
		name := attest.FileNameFor(program, p)
		if err := attest.CheckFileName(name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
