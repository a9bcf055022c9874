package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/sbom"
)

// TestWorkspaceModules: the modules of a Go workspace have no version, and both documents
// list them.
func TestWorkspaceModules(t *testing.T) {
	tree, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"go.work": "go 1.26.0\n\nuse (\n\t./svc\n\t./lib\n)\n", "svc/go.mod": "module example.com/svc\n\ngo 1.26.0\n", "lib/go.mod": "module example.com/lib\n\ngo 1.26.0\n",
		"svc/main.go": "package main\n\nimport \"example.com/lib\"\n\nfunc main() { println(lib.Name) }\n", "lib/lib.go": "package lib\n\nvar Name = \"lib\"\n",
	} {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", "../app", ".")
	build.Dir = filepath.Join(tree, "svc")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK="+filepath.Join(tree, "go.work"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	app, err := os.ReadFile(filepath.Join(tree, "app"))
	if err != nil {
		t.Fatal(err)
	}
	img := testImage(t, "amd64", map[string][]byte{"app/svc": app})
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err = errors.Join(err, p.AppendImage(img)); err != nil {
		t.Fatal(err)
	}
	spdx, cdx, err := generate(t.Context(), options(dir, digest))
	if err != nil {
		t.Fatal(err)
	}
	for kind, doc := range map[string][]byte{sbom.PredicateSPDX: spdx, sbom.PredicateCycloneDX: cdx} {
		if !bytes.Contains(doc, []byte(`"name":"example.com/lib"`)) {
			t.Errorf("%s does not list example.com/lib:\n%s", kind, doc)
		}
	}
}
