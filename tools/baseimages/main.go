// Command baseimages makes stand-ins for common base images, in one OCI image layout,
// for machines that cannot reach docker.io or gcr.io. It makes them from Debian
// packages (mmdebstrap), the local Go toolchain and the machine's CA bundle, and their
// labels say so.
//
//	baseimages [-o out/base-images] [-ca /etc/ssl/certs/ca-certificates.crt] [-force] [NAME...]
//
// With names, it makes only these images. It keeps the images that the layout has already, if they
// were made from the same packages and toolchain.
//
// The annotation org.opencontainers.image.ref.name in the layout's index holds the full
// name of each image, such as docker.io/library/golang:1.26.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// epoch is the time of every file and image, so that the same packages and toolchain
// give the same digests.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func main() {
	out := flag.String("o", "out/base-images", "directory to write the OCI layout to")
	ca := flag.String("ca", "/etc/ssl/certs/ca-certificates.crt", "CA bundle that the images trust")
	force := flag.Bool("force", false, "make the images again even if the layout exists")
	flag.Parse()
	if err := run(*out, *ca, *force, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "baseimages:", err)
		os.Exit(1)
	}
}

// readable makes the layout world-readable, because the gateway of a platform has its
// own user.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
}

// images returns the images of a layout by name.
func images(dir string) (map[string]v1.Descriptor, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	out := map[string]v1.Descriptor{}
	for _, d := range m.Manifests {
		out[d.Annotations[refName]] = d
	}
	return out, nil
}

// start makes a layout in dir with the images of another layout. The blobs of both are the same files.
func start(dir, from string, images map[string]v1.Descriptor) (layout.Path, error) {
	path, err := layout.Write(dir, empty.Index)
	if err != nil || len(images) == 0 {
		return path, err
	}
	blobs := filepath.Join("blobs", "sha256")
	if err := os.MkdirAll(filepath.Join(dir, blobs), 0o755); err != nil {
		return path, err
	}
	files, err := os.ReadDir(filepath.Join(from, blobs))
	if err != nil {
		return path, err
	}
	for _, f := range files {
		if err := os.Link(filepath.Join(from, blobs, f.Name()), filepath.Join(dir, blobs, f.Name())); err != nil {
			return path, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if err := path.AppendDescriptor(images[name]); err != nil {
			return path, err
		}
	}
	return path, nil
}

func run(out, caFile string, force bool, names []string) error {
	g, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	goroot := strings.TrimSpace(string(g))
	version, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return fmt.Errorf("the local Go toolchain: %w", err)
	}
	goVersion, _, _ := strings.Cut(string(version), "\n")
	bundle, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("the CA bundle: %w (name another with -ca)", err)
	}
	// Record the inputs of the layout, so that a second run with the same inputs makes only what
	// is missing.
	stamp := recipe(goVersion, bundle)
	var have map[string]v1.Descriptor
	if old, err := os.ReadFile(filepath.Join(out, "made-from")); err == nil && string(old) == stamp && !force {
		if have, err = images(out); err != nil {
			return err
		}
	}
	todo, err := missing(names, have)
	if err != nil {
		return err
	}
	if len(todo) == 0 {
		fmt.Fprintf(os.Stderr, "%s is there already (-force makes it again)\n", out)
		return readable(out)
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return errors.New("mmdebstrap is not installed (apt-get install mmdebstrap)")
	}

	// Build beside the target and rename, so that an interrupted run leaves no incomplete
	// layout.
	tmp := out + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	path, err := start(tmp, out, have)
	if err != nil {
		return err
	}
	b := &maker{work: filepath.Join(tmp, ".work"), goroot: goroot, goVersion: goVersion, ca: bundle}
	if err := os.Mkdir(b.work, 0o755); err != nil {
		return err
	}
	for _, s := range todo {
		if err := s.add(b, path, s.names); err != nil {
			return err
		}
	}
	if err := readable(tmp); err != nil {
		return err
	}
	if err := os.RemoveAll(b.work); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "made-from"), []byte(stamp), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(tmp, out)
}
