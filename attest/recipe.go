package attest

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
)

// Names of Colophon's builders in a Recipe.
const (
	BuildKit = "buildkit" // BuildTypeBuildKit
	Golang   = "golang"   // BuildTypeGolang
)

// Recipe says how an image, or the files of a release, are built from a source. Provenance
// records it as the external parameter "recipe" (spec/buildkit/v1, spec/golang/v1,
// spec/files/v1 and spec/dockerfile-files/v1). An empty field means the default.
type Recipe struct {
	Builder    string            `json:"builder"`              // BuildKit or Golang
	Platforms  []string          `json:"platforms,omitempty"`  // such as "linux/amd64" or "linux/arm/v7"; default: the platform of the build host
	Context    string            `json:"context,omitempty"`    // directory in the source tree, all that the build sees of it; default: the whole tree
	Dockerfile string            `json:"dockerfile,omitempty"` // buildkit: path in the source tree; default: "Dockerfile" in Context
	Target     string            `json:"target,omitempty"`     // buildkit: stage of the Dockerfile; default: the last
	BuildArgs  map[string]string `json:"buildArgs,omitempty"`  // buildkit: values of ARG instructions
	Package    string            `json:"package,omitempty"`    // golang: directory of the main package in the source tree; default: Context
	Files      bool              `json:"files,omitempty"`      // the build makes release files for each platform, and no image: binaries of the package, or what the stage has
}

// Check fails if no builder accepts the recipe, whatever the source tree holds.
// It finds a requester's mistake before the source is fetched.
func (r Recipe) Check() error {
	if err := r.checkPlatforms(); err != nil {
		return err
	}
	if c := path.Clean(r.Context); !filepath.IsLocal(c) || strings.ContainsAny(c, "\\\x00") {
		return fmt.Errorf("context: got %q, want a directory inside the tree, like services/web", r.Context)
	}
	if f := r.Dockerfile; f != "" && (path.Clean(f) != f || !filepath.IsLocal(f) || f == ".") {
		return fmt.Errorf("dockerfile: got %q, want a clean path inside the tree", f)
	}
	for _, k := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		// BuildKit treats BUILDKIT_* as its own options, not as arguments of the
		// Dockerfile. The builder sets the epoch to the time of the commit.
		if strings.HasPrefix(k, "BUILDKIT_") || k == "SOURCE_DATE_EPOCH" || k == "" {
			return fmt.Errorf("build argument %q: a recipe may not set it", k)
		}
	}
	if p := path.Clean(r.Package); !filepath.IsLocal(p) || strings.ContainsAny(r.Package, "@\\") || strings.Contains(p, "...") {
		return fmt.Errorf("package: got %q, want a directory below the root of the source, like ./cmd/app", r.Package)
	} else if r.Package != "" && !Within(path.Clean(r.Context), p) {
		return fmt.Errorf("package: got %q, want a directory in the context %s", r.Package, path.Clean(r.Context))
	}
	return nil
}

func (r Recipe) checkPlatforms() error {
	if n := len(r.Platforms); r.Files && n > limits.Layers {
		return fmt.Errorf("platforms: got %d, want at most %d", n, limits.Layers)
	}
	for _, name := range r.Platforms {
		normal, err := NormalPlatform(name)
		os, _, _ := strings.Cut(normal, "/")
		switch {
		case r.Files && (err != nil || !slices.Contains(fileSystems, os)):
			return fmt.Errorf("platform: got %q, want OS/ARCHITECTURE, such as darwin/arm64; systems for which files are built: %s", name, strings.Join(fileSystems, ", "))
		case !r.Files && (err != nil || os != "linux"):
			return fmt.Errorf("platform: got %q, want linux/ARCHITECTURE, such as linux/amd64", name)
		}
	}
	return nil
}

// Within reports whether a path is that of a directory or of something below it. Both are
// clean paths in a tree, and "." is its top.
func Within(dir, name string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir+"/")
}

// CheckFor fails if the recipe is not a complete one for the build type, or has a
// field of another builder.
func (r Recipe) CheckFor(buildType string) error {
	want, foreign := BuildKit, r.Package != ""
	if buildType == BuildTypeGolang || buildType == BuildTypeFiles {
		want, foreign = Golang, r.Dockerfile != "" || r.Target != "" || len(r.BuildArgs) > 0
	}
	switch files := IsFiles(buildType); {
	case r.Files != files:
		return fmt.Errorf("files: got %t, want %t for build type %s", r.Files, files, buildType)
	case r.Builder != want:
		return fmt.Errorf("builder: got %q, want %q for build type %s", r.Builder, want, buildType)
	case foreign:
		return fmt.Errorf("builder %s: got a field that only another builder has", want)
	}
	return r.Check()
}

// BuildType returns the build type of what the recipe builds.
func (r Recipe) BuildType() string {
	switch {
	case r.Files && r.Builder == BuildKit:
		return BuildTypeDockerfileFiles
	case r.Files:
		return BuildTypeFiles
	case r.Builder == Golang:
		return BuildTypeGolang
	}
	return BuildTypeBuildKit
}

// Filled returns the recipe with the defaults of its builder, except for the
// platforms. Recipes that differ in spelling only become equal.
func (r Recipe) Filled() Recipe {
	if r.Context = path.Clean(r.Context); r.Context == "." {
		r.Context = ""
	}
	switch r.Builder {
	case BuildKit:
		if r.Dockerfile == "" {
			r.Dockerfile = path.Join(r.Context, "Dockerfile")
		}
	case Golang:
		if r.Package == "" {
			r.Package = r.Context
		}
		if r.Package = path.Clean(r.Package); r.Package != "." {
			r.Package = "./" + r.Package
		}
	}
	return r
}

// WithContext returns the recipe with another context. A Dockerfile or package at its
// default place moves with the context; another one stays where it is.
func (r Recipe) WithContext(context string) Recipe {
	r = r.Filled()
	byDefault := Recipe{Builder: r.Builder, Context: r.Context}.Filled()
	if r.Dockerfile == byDefault.Dockerfile {
		r.Dockerfile = ""
	}
	if r.Package == byDefault.Package {
		r.Package = ""
	}
	r.Context = context
	return r.Filled()
}

// Differences returns in what a recipe differs from another one, for people: "target
// final", "build argument BASE=evil". Platforms do not matter.
func (r Recipe) Differences(from Recipe) (out []string) {
	r, from = r.Filled(), from.Filled()
	if r.Context != from.Context {
		out = append(out, "context "+path.Clean(r.Context)) // "." is the whole tree
		from = from.WithContext(r.Context)
	}
	for _, f := range []struct{ name, is, was string }{
		{"builder", r.Builder, from.Builder},
		{"dockerfile", r.Dockerfile, from.Dockerfile},
		{"target", r.Target, from.Target},
		{"package", r.Package, from.Package},
	} {
		switch {
		case f.is == f.was:
		case f.is != "":
			out = append(out, f.name+" "+f.is)
		case f.name == "target" && r.Builder == BuildKit:
			out = append(out, "no target")
		default: // of another builder, which is a difference already
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		if was, ok := from.BuildArgs[name]; !ok || was != r.BuildArgs[name] {
			out = append(out, "build argument "+name+"="+r.BuildArgs[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from.BuildArgs)) {
		if _, ok := r.BuildArgs[name]; !ok && r.Builder == BuildKit {
			out = append(out, "no build argument "+name)
		}
	}
	return out
}

// DefaultRecipe is the recipe by which a commit itself says that an image is built.
// The platform reads it from the commit, so no requester chose it. Provenance records
// it as the external parameter "default".
type DefaultRecipe struct {
	Recipe Recipe `json:"recipe"`           // complete, but without platforms unless File declares them
	File   string `json:"file,omitempty"`   // path in the tree of the file that declares it (spec/recipes); empty: the Dockerfile or main package at the top of the tree
	Digest string `json:"digest,omitempty"` // sha256:hex of the file
	Image  string `json:"image,omitempty"`  // name of the image that the file declares it for; empty: every image of the repository
}

// Check fails unless the fields fit together.
func (d DefaultRecipe) Check() error {
	r := d.Recipe
	if err := r.CheckFor(r.BuildType()); err != nil {
		return err
	}
	plain := r.Differences(Recipe{Builder: r.Builder}) == nil
	switch sum, ok := strings.CutPrefix(d.Digest, "sha256:"); {
	case d.File == "" && (len(r.Platforms) > 0 || d.Digest != "" || d.Image != "" || !plain):
		return fmt.Errorf("got %+v without a file that declares it, want the Dockerfile or main package at the top of the tree", d)
	case d.File != "" && (!ok || !isSHA256(sum)):
		return fmt.Errorf("digest of %s: got %q, want sha256:hex", d.File, d.Digest)
	}
	return nil
}

// For reports whether the recipe is for the image with this name, REGISTRY/NAME. The
// name in the file is that of the repository, or the end of it: "app" is
// registry.example.com/team/app.
func (d DefaultRecipe) For(image string) bool {
	return d.Image == "" || image == d.Image || strings.HasSuffix(image, "/"+d.Image)
}

func isSHA256(sum string) bool {
	raw, err := hex.DecodeString(sum)
	return err == nil && len(raw) == 32 && sum == strings.ToLower(sum)
}

// HasRegistry reports whether an image's name begins with the host of a registry, as Docker
// tells it: the part before the first slash has a dot or a port, or is localhost.
func HasRegistry(image string) bool {
	host, _, ok := strings.Cut(image, "/")
	return ok && (strings.ContainsAny(host, ".:") || host == "localhost")
}
