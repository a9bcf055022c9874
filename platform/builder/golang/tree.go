package golang

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// job describes the build to the process inside the room. Its paths are paths in the room.
type job struct {
	Tree      string   `json:"tree"` // the context
	Layout    string   `json:"layout"`
	Goroot    string   `json:"goroot"`
	Binaries  string   `json:"binaries"`       // where ko keeps binaries, and dependencies looks for them
	Module    string   `json:"module"`         // directory of go.mod below Tree
	Package   string   `json:"package"`        // "." or "./cmd/x", below Module
	Work      string   `json:"work,omitempty"` // path of go.work below Tree; empty: none
	Context   string   `json:"context"`        // directory below the request's tree, "." for all of it
	Platforms []string `json:"platforms"`
	Files     []string `json:"files,omitempty"` // names of the release files, one for each platform; empty: an image is built
	Epoch     int64    `json:"epoch"`           // seconds since 1970
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
	recipe := r.Recipe
	if err := recipe.Check(); err != nil {
		return nil, &builder.Error{Err: err}
	}
	recipe.Builder = attest.Golang
	recipe = recipe.Filled()
	j := &job{Epoch: r.Epoch.Unix(), Context: path.Clean(recipe.Context)}
	for _, s := range recipe.Platforms {
		p, err := v1.ParsePlatform(s)
		if err != nil || p.String() != s {
			return nil, fmt.Errorf("platform: got %q, want OS/ARCH or OS/ARCH/VARIANT", s)
		}
		j.Platforms = append(j.Platforms, s)
	}
	if len(j.Platforms) == 0 {
		j.Platforms = []string{"linux/" + runtime.GOARCH}
	}
	recipe.Platforms = j.Platforms

	tree, err := os.OpenRoot(r.Tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	context, err := builder.OpenContext(tree, j.Context)
	if err != nil {
		return nil, &builder.Error{Step: "source", Err: err}
	}
	defer context.Close()
	pkg, err := filepath.Rel(j.Context, path.Clean(recipe.Package))
	if err != nil {
		return nil, err
	}
	if err := checkTree(context, r.Log); err != nil {
		return nil, &builder.Error{Step: "source", Err: err}
	}
	if err := j.findModule(context, pkg, r.Log); err != nil {
		return nil, &builder.Error{Step: "source", Err: err}
	}
	if recipe.Files {
		if j.Files, err = builder.GoFiles(tree, recipe); err != nil {
			return nil, &builder.Error{Step: "source", Err: err}
		}
	}
	return j, nil
}

// checkTree refuses special files, and replaces symbolic links that lead out of the tree
// by links that lead nowhere: ko follows links in kodata, and the compiler follows links
// to source files. So a build that needs such a link fails, and another does not notice.
func checkTree(root *os.Root, logf func(builder.Event)) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrPermission) && d.IsDir(): // a submodule that was not fetched; the toolchain cannot read it either
			return nil
		case err != nil:
			return err
		case d.IsDir() || d.Type().IsRegular():
			return nil
		case d.Type() != fs.ModeSymlink:
			return fmt.Errorf("%s: got a special file (%v), want a file, directory or symbolic link", name, d.Type())
		}
		// Root.Stat follows the link, and fails if it leads out of the tree or through more
		// links than it is willing to follow.
		_, err = root.Stat(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		to, err := root.Readlink(name)
		if err != nil || to == nowhere {
			return err
		}
		if logf != nil {
			logf(builder.Event{Step: "source", Line: fmt.Sprintf("link %q leads out of the source, to %q: the build cannot follow it", name, to)})
		}
		return errors.Join(root.Remove(name), root.Symlink(nowhere, name))
	})
}

// nowhere is the target of a link that nothing can follow: /dev/null is not a directory.
const nowhere = "/dev/null/outside-the-source"

// findModule finds the module that contains pkg, and its workspace. It does not look above
// the tree.
func (j *job) findModule(tree *os.Root, pkg string, logf func(builder.Event)) error {
	g, err := builder.FindGo(tree, ".", pkg)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(g.Module, pkg)
	if err != nil {
		return err
	}
	j.Module, j.Package, j.Work = g.Module, "./"+filepath.ToSlash(rel), g.Work
	top := j.Module
	if j.Work != "" {
		top = path.Dir(j.Work)
	}
	if _, err := tree.Lstat(path.Join(top, "vendor", "modules.txt")); err == nil {
		j.Vendored = true
	}
	if g.Unused != "" && logf != nil {
		logf(builder.Event{Step: "source", Line: fmt.Sprintf("%s does not use this module: the modules are those of %s", g.Unused, path.Join(j.Module, "go.mod"))})
	}
	return nil
}
