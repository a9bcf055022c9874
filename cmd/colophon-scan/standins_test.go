package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The scanner links no client of a daemon or of storage, and no git: Syft would reach with them what an
// image or a directory names.
func TestStandins(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 500 {
		t.Fatalf("got %d packages, want those of Syft", len(packages))
	}
	for _, p := range packages {
		for _, client := range []string{"google.golang.org/grpc", "github.com/moby/moby/api", "github.com/containerd/containerd/api", "github.com/go-git/gcfg", "cloud.google.com/", "github.com/aws/"} {
			if p == client || strings.HasPrefix(p, strings.TrimSuffix(client, "/")+"/") {
				t.Errorf("the scanner links %s", p)
			}
		}
	}
}
