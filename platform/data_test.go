package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// --buildkitd has precedence over PATH and must name a program.
func TestFindBuildkitd(t *testing.T) {
	dir := t.TempDir()
	inPath, given, text := filepath.Join(dir, "path", "buildkitd"), filepath.Join(dir, "given"), filepath.Join(dir, "text")
	if err := os.Mkdir(filepath.Dir(inPath), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, mode := range map[string]os.FileMode{inPath: 0o755, given: 0o755, text: 0o644} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Dir(inPath))
	for flag, want := range map[string]string{"": inPath, given: given} {
		p := &platform{config: Config{Buildkitd: flag}}
		if err := p.findBuildkitd(); err != nil || p.buildkitd != want {
			t.Errorf("--buildkitd %q: got %q, %v, want %q", flag, p.buildkitd, err, want)
		}
	}
	for _, flag := range []string{text, dir, filepath.Join(dir, "missing")} {
		p := &platform{config: Config{Buildkitd: flag}}
		if err := p.findBuildkitd(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("--buildkitd %q: got %q, %v, want an error that names it", flag, p.buildkitd, err)
		}
	}
	t.Setenv("PATH", "")
	p := &platform{}
	if err := p.findBuildkitd(); err != nil || p.buildkitd != "" {
		t.Errorf("without any: got %q, %v, want none", p.buildkitd, err)
	}
}
