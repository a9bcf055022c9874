package golang

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/modfile"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/builder"
)

// job describes the build to the process inside the room. Its paths are paths in the room.
type job struct {
	Tree      string   `json:"tree"`
	Layout    string   `json:"layout"`
	Goroot    string   `json:"goroot"`
	Module    string   `json:"module"`  // directory of go.mod below Tree
	Package   string   `json:"package"` // "." or "./cmd/x", below Module
	Platforms []string `json:"platforms"`
	Epoch     int64    `json:"epoch"` // seconds since 1970
	Memory    int64    `json:"memory,omitempty"`
	Vendored  bool     `json:"vendored,omitempty"`
}

// newJob checks the request and the tree, and returns the job without its paths.
func newJob(r builder.Request) (*job, error) {
	if r.Recipe.Dockerfile != "" || r.Recipe.Target != "" || len(r.Recipe.BuildArgs) > 0 {
		return nil, errors.New("builder golang does not support a dockerfile, target or build arguments")
	}
	if r.Epoch.IsZero() || r.Epoch.Unix() < 0 {
		return nil, fmt.Errorf("builder golang: epoch: got %v, want the commit's time", r.Epoch)
	}
	if err := r.Recipe.Check(); err != nil {
		return nil, &builder.Error{Err: err}
	}
	j := &job{Epoch: r.Epoch.Unix()}
	for _, s := range r.Recipe.Platforms {
		p, err := v1.ParsePlatform(s)
		if err != nil || p.String() != s {
			return nil, fmt.Errorf("platform: got %q, want linux/ARCH or linux/ARCH/VARIANT", s)
		}
		j.Platforms = append(j.Platforms, s)
	}
	if len(j.Platforms) == 0 {
		j.Platforms = []string{"linux/" + runtime.GOARCH}
	}

	pkg := path.Clean(filepath.ToSlash(r.Recipe.Package))
	if err := checkTree(r.Tree); err != nil {
		return nil, &builder.Error{Step: "source", Err: err}
	}
	if err := j.findModule(r.Tree, pkg); err != nil {
		return nil, &builder.Error{Step: "source", Err: err}
	}
	return j, nil
}

// checkTree refuses special files and symbolic links that lead out of the tree: ko
// follows links in kodata, and the compiler follows links to source files.
func checkTree(tree string) error {
	root, err := filepath.EvalSymlinks(tree)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		switch {
		case d.IsDir() || d.Type().IsRegular():
			return nil
		case d.Type() != fs.ModeSymlink:
			return fmt.Errorf("%s: got a special file (%v), want a file, directory or symbolic link", rel, d.Type())
		}
		to, err := os.Readlink(p)
		if err != nil {
			return err
		}
		// Every link is checked by itself, so a chain of links cannot leave the tree.
		if filepath.IsAbs(to) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), to)) {
			return fmt.Errorf("link %s: target %q is outside the source", rel, to)
		}
		return nil
	})
}

// findModule finds the go.mod of the module that contains pkg. It does not look above
// the tree.
func (j *job) findModule(tree, pkg string) error {
	if info, err := os.Stat(filepath.Join(tree, pkg)); err != nil || !info.IsDir() {
		return fmt.Errorf("package %q: the source has no such directory", pkg)
	}
	dir := pkg
	for {
		_, err := os.Lstat(filepath.Join(tree, dir, "go.mod"))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if dir == "." {
			return fmt.Errorf("package %q: the source has no go.mod for it", pkg)
		}
		dir = path.Dir(dir)
	}
	rel, err := filepath.Rel(dir, pkg)
	if err != nil {
		return err
	}
	j.Module, j.Package = dir, "./"+filepath.ToSlash(rel)
	if _, err := os.Lstat(filepath.Join(tree, dir, "vendor", "modules.txt")); err == nil {
		j.Vendored = true
	}
	return checkReplace(tree, dir)
}

// checkReplace refuses a go.mod that replaces a module by a directory outside the
// tree, because that source is not in the commit.
func checkReplace(tree, dir string) error {
	name := filepath.Join(tree, dir, "go.mod")
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Size() > limits.Request {
		return fmt.Errorf("go.mod: got %d bytes, want at most %d", info.Size(), limits.Request)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	mod, err := modfile.Parse(path.Join(dir, "go.mod"), raw, nil)
	if err != nil {
		return err
	}
	for _, r := range mod.Replace {
		if r.New.Version != "" {
			continue
		}
		if filepath.IsAbs(r.New.Path) || !filepath.IsLocal(filepath.Join(dir, r.New.Path)) {
			return fmt.Errorf("go.mod: the replacement of %s, %q, is outside the source", r.Old.Path, r.New.Path)
		}
	}
	return nil
}
