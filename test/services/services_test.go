// Package services releases the larger examples, whose builds use package
// managers and the network: as they come, once more with what the platform has stored,
// hermetically, and from a lock.
package services

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

func TestServices(t *testing.T) {
	if os.Getenv("COLOPHON_SERVICES") == "" {
		t.Skip("NOT ASKED FOR: it needs Debian's mirror, a module proxy and npm's registry: make services")
	}
	if os.Getuid() != 0 {
		t.Fatal("Dockerfiles need root")
	}
	p := harness.Start(t, "--mirror", harness.BaseImages(t))
	p.Trust()
	for _, name := range []string{"go-service", "node-service"} {
		t.Run(name, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), name)
			if err := os.CopyFS(repo, os.DirFS(filepath.Join(harness.Root(t), "examples", name))); err != nil {
				t.Fatal(err)
			}
			harness.Commit(t, repo, "v1.0.0")
			lock := filepath.Join(t.TempDir(), "lock.json")
			for _, mode := range []struct {
				name           string
				args, accepted []string
			}{
				{name: "plain"},
				{name: "second"},
				{name: "hermetic", args: []string{"--hermetic", "--write-lock", lock}},
				{"locked", []string{"--locked", lock}, []string{"--locked", lock}},
			} {
				image := fmt.Sprintf("%s/%s-%s", p.Addr, name, mode.name)
				started := time.Now()
				colophon(t, p, append([]string{"release", repo, "--ref", "v1.0.0", "--image", image}, mode.args...)...)
				took := time.Since(started)
				var verdict struct {
					Outcome string
				}
				out := colophon(t, p, append([]string{"verify", image + ":v1.0.0", "--source", "file://" + repo, "--contents", "--json"}, mode.accepted...)...)
				if err := json.Unmarshal(out, &verdict); err != nil {
					t.Fatal(err)
				}
				fmt.Printf("%-14s %-9s %5.1f s, %s\n", name, mode.name, took.Seconds(), verdict.Outcome)
				if mode.name == "second" {
					statement := colophon(t, p, "inspect", image+":v1.0.0", "--provenance")
					if !bytes.Contains(statement, []byte(`"network.stored"`)) {
						t.Error("the second release took nothing from the store")
					}
				}
			}
		})
	}
}

func colophon(t *testing.T, p *harness.Platform, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := p.Colophon(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("colophon %s: %v\n%s%s", args[0], err, out, stderr.Bytes())
	}
	return out
}
