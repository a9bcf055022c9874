package attest

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Recipe holds the choices that the requester of a build makes, besides the
// source. Provenance records it as the external parameter "recipe"
// (spec/buildkit/v1 and spec/golang/v1). An empty field means the default.
type Recipe struct {
	Builder    string            `json:"builder"`              // "buildkit" or "golang"
	Platforms  []string          `json:"platforms,omitempty"`  // such as "linux/amd64" or "linux/arm/v7"; default: the platform of the build host
	Dockerfile string            `json:"dockerfile,omitempty"` // buildkit: path in the source tree; default: "Dockerfile"
	Target     string            `json:"target,omitempty"`     // buildkit: stage of the Dockerfile; default: the last
	BuildArgs  map[string]string `json:"buildArgs,omitempty"`  // buildkit: values of ARG instructions
	Package    string            `json:"package,omitempty"`    // golang: directory of the main package; default: "."
}

// Check fails if no builder accepts the recipe, whatever the source tree holds.
// It finds a requester's mistake before the source is fetched.
func (r Recipe) Check() error {
	for _, name := range r.Platforms {
		if p, err := v1.ParsePlatform(name); err != nil || p.OS != "linux" || p.Architecture == "" || p.OSVersion != "" {
			return fmt.Errorf("platform: got %q, want linux/ARCHITECTURE, such as linux/amd64", name)
		}
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
	}
	return nil
}
