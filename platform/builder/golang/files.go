package golang

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/oci"
)

// maxToolOutput is how much of what the toolchain says of a failure is kept, in bytes.
const maxToolOutput = 64 << 10

// compileFiles compiles the package for each platform, with the flags that images have, too.
// write writes the binaries as the release files of a layout.
func compileFiles(j *job, steps *stepLog) (write func(layout string) error, err error) {
	if len(j.Files) == 0 {
		return nil, nil
	}
	kind, err := goTool(j, nil, "list", "-f", "{{.Name}}", j.Package)
	if err != nil {
		return nil, err
	}
	if name := strings.TrimSpace(kind); name != "main" {
		return nil, fmt.Errorf("package %s: got package %s, want main (use --package to name the main package)", j.Package, name)
	}
	var binaries []string
	for i, p := range j.Platforms {
		target, err := targetOf(p)
		if err != nil {
			return nil, err
		}
		out := filepath.Join(j.Binaries, fmt.Sprint(i), "out")
		if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
			return nil, err
		}
		fmt.Fprintf(steps, "Building %s for %s\n", j.Files[i], p)
		args := slices.Concat([]string{"build"}, goFlags, []string{"-ldflags=" + goLDFlags, "-o", out, j.Package})
		if _, err := goTool(j, target, args...); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		binaries = append(binaries, out)
	}
	return func(dir string) error { return writeFiles(dir, j.Files, binaries) }, nil
}

// targetOf returns the environment of the go command for a platform.
func targetOf(platform string) ([]string, error) {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	env := []string{"GOOS=" + p.OS, "GOARCH=" + p.Architecture}
	switch {
	case p.Variant == "":
	case p.Architecture == "arm":
		env = append(env, "GOARM="+strings.TrimPrefix(p.Variant, "v"))
	case p.Architecture == "amd64":
		env = append(env, "GOAMD64="+p.Variant)
	case p.Architecture == "arm64":
		env = append(env, "GOARM64="+p.Variant+".0")
	default:
		return nil, fmt.Errorf("platform %s: Go knows no variant %q of it", platform, p.Variant)
	}
	return env, nil
}

// goTool runs the go command in the module. An error has what it said.
func goTool(j *job, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), filepath.Join(j.Goroot, "bin", "go"), args...)
	cmd.Dir = filepath.Join(j.Tree, j.Module)
	cmd.Env = append(os.Environ(), env...)
	said := &tail{max: maxToolOutput}
	cmd.Stderr = said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}

// writeFiles writes a layout whose only entry lists files with these names, whose contents
// are at paths.
func writeFiles(dir string, names, paths []string) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	var files []oci.File
	for i, path := range paths {
		d, err := addBlob(l, path)
		if err != nil {
			return err
		}
		files = append(files, oci.File{Name: names[i], Descriptor: d})
	}
	slices.SortFunc(files, func(a, b oci.File) int { return cmp.Compare(a.Name, b.Name) })
	raw, d, err := oci.FilesManifest(files, nil)
	if err != nil {
		return err
	}
	config := oci.EmptyConfig()
	sum := sha256.Sum256(config)
	return errors.Join(
		l.WriteBlob(v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, io.NopCloser(strings.NewReader(string(config)))),
		l.WriteBlob(d.Digest, io.NopCloser(strings.NewReader(string(raw)))),
		l.AppendDescriptor(d),
	)
}

// addBlob adds the file at path to a layout.
func addBlob(l layout.Path, path string) (v1.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer f.Close()
	sum, size, err := v1.SHA256(f)
	if err != nil {
		return v1.Descriptor{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{Digest: sum, Size: size}, l.WriteBlob(sum, f)
}
