package release

import (
	"archive/tar"
	"bufio"
	"context"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/builder"
)

const (
	maxGoSum  = 32 << 20 // bytes
	maxLinked = 100000   // modules in all binaries of an image
)

// checkModules checks the modules that the golang builder claims to have found in the
// binary of a recipe's package against the go.sum of its module. The commit's authors pinned
// the sums there, so the builder cannot claim others.
func checkModules(tree string, r attest.Recipe, claimed []attest.ResourceDescriptor) ([]attest.ResourceDescriptor, error) {
	if len(claimed) == 0 {
		return nil, nil
	}
	pinned, err := readGoSums(tree, r)
	if err != nil {
		return nil, refuseToSign(fmt.Errorf("the builder claims %d modules, but the commit's go.sum cannot be read: %w", len(claimed), err))
	}
	out := make([]attest.ResourceDescriptor, 0, len(claimed))
	for _, d := range claimed {
		want := pinned[d.Name]
		if want == "" || d.Digest["dirHash"] != want || len(d.Digest) != 1 {
			return nil, refuseToSign(fmt.Errorf("module %s: expected dirHash %q from the commit's go.sum, found %v in the builder's claims", d.Name, want, d.Digest))
		}
		path, version, _ := strings.Cut(d.Name, "@")
		out = append(out, attest.ResourceDescriptor{ // purl-spec, type golang
			Name: d.Name, URI: "pkg:golang/" + strings.ToLower(path) + "@" + url.QueryEscape(version), Digest: map[string]string{"dirHash": want},
		})
	}
	return out, nil
}

// readGoSums reads what the commit pins for a recipe's package: the go.sum of its module
// and, in a workspace, those of all modules and the go.work.sum. The keys are
// MODULE@VERSION, the values the sums as dirHash. Sums that contradict each other are refused.
func readGoSums(tree string, r attest.Recipe) (map[string]string, error) {
	source, err := goSource(tree, r)
	if err != nil {
		return nil, err
	}
	pinned, found := map[string]string{}, 0
	for _, file := range source.Sums() {
		text, err := readInTree(tree, file, maxGoSum)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		found++
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue
			}
			name, sum := f[0]+"@"+f[1], dirHash(f[2])
			if was := pinned[name]; sum != "" && was != "" && was != sum {
				return nil, fmt.Errorf("%s: module %s has another sum than in the other files of the workspace", file, name)
			}
			if sum != "" {
				pinned[name] = sum
			}
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("the source has none of %s", strings.Join(source.Sums(), ", "))
	}
	return pinned, nil
}

// noteWorkspace adds the workspace of a recipe's package, if it has one, to the build's
// internal parameters: the path of its go.work and the directories of its modules.
func noteWorkspace(config map[string]string, tree string, r attest.Recipe) error {
	source, err := goSource(tree, r)
	if err != nil || source.Work == "" {
		return err
	}
	note(config, "go.workspace", append([]string{source.Work}, source.Modules...))
	return nil
}

// goSource returns where the modules of a recipe's package are.
func goSource(tree string, r attest.Recipe) (builder.GoSource, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return builder.GoSource{}, err
	}
	defer root.Close()
	return builder.FindGo(root, path.Clean(r.Context), path.Clean(r.Package))
}

// dirHash returns in-toto's dirHash of a module's sum (h1:), in hex; "" if it is no such sum.
func dirHash(sum string) string {
	encoded, ok := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil {
		return ""
	}
	return hex.EncodeToString(raw)
}

// linked is a module that a Go binary names.
type linked struct {
	File string `json:"file"`
	Name string `json:"name"` // MODULE@VERSION; empty for Target
	Sum  string `json:"sum"`  // dirHash; empty if the binary has something else

	Target string `json:"target,omitempty"` // GOOS/GOARCH that a release file says it is for, or noProgram
}

// linkedIn returns the modules in a binary. Modules without a sum are part of the commit.
func linkedIn(file string, info *buildinfo.BuildInfo) (found []linked) {
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		if d.Sum != "" {
			found = append(found, linked{File: file, Name: d.Path + "@" + d.Version, Sum: dirHash(d.Sum)})
		}
	}
	return found
}

// checkLinked returns an error if a binary of the image names a module that the builder
// leaves out of its claims, or with another sum.
func checkLinked(found []linked, claimed []attest.ResourceDescriptor) error {
	sums := map[string]string{}
	for _, d := range claimed {
		sums[d.Name] = d.Digest["dirHash"]
	}
	for _, l := range found {
		if l.Target != "" {
			continue
		}
		if l.Sum == "" || sums[l.Name] != l.Sum {
			return refuseToSign(fmt.Errorf("module %s: the file %s has it with dirHash %q, and the builder claims %q", l.Name, l.File, l.Sum, sums[l.Name]))
		}
	}
	return nil
}

// linkedModules returns the modules in the Go binaries of images in a layout. The linker
// writes them into each binary (debug/buildinfo). Modules without a sum are part of the
// commit and left out.
func linkedModules(ctx context.Context, o modulesOrder) ([]linked, error) {
	src, err := oci.OpenLayout(o.Layout)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	scratch, err := os.CreateTemp("", "binary-")
	if err != nil {
		return nil, err
	}
	defer scratch.Close()
	if err := os.Remove(scratch.Name()); err != nil {
		return nil, err
	}
	if len(o.Files) > 0 {
		return linkedFiles(ctx, src, scratch, o.Files)
	}
	var found []linked
	for _, m := range o.Manifests {
		err := oci.Entries(ctx, src, m, func(_ int, h *tar.Header, content io.Reader) error {
			in := bufio.NewReader(content)
			if magic, _ := in.Peek(4); h.Typeflag != tar.TypeReg || string(magic) != "\x7fELF" {
				return nil
			}
			if err := scratch.Truncate(0); err != nil {
				return err
			}
			n, err := io.Copy(io.NewOffsetWriter(scratch, 0), in)
			if err != nil {
				return err
			}
			info, err := buildinfo.Read(io.NewSectionReader(scratch, 0, n))
			if err != nil {
				return nil // not Go
			}
			found = append(found, linkedIn(h.Name, info)...)
			if len(found) > maxLinked {
				return fmt.Errorf("the image's binaries name more than %d modules", maxLinked)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
