package buildkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// A build log that leaves something out says so.
func TestLogNamesWhatItLeavesOut(t *testing.T) {
	var lines []string
	p := &progress{log: func(e builder.Event) { lines = append(lines, e.Line) }}
	s := &client.SolveStatus{}
	for i := range maxSteps + 1 {
		s.Vertexes = append(s.Vertexes, &client.Vertex{Digest: digest.FromString(fmt.Sprint(i)), Name: fmt.Sprint("step ", i)})
	}
	p.update(s)
	step := s.Vertexes[0].Digest
	for range 9 {
		p.update(&client.SolveStatus{Logs: []*client.VertexLog{{Vertex: step, Data: []byte(strings.Repeat("x", maxOutput/8-1) + "\n")}}})
	}
	p.flush()
	for _, want := range []string{"more than 20000 steps", "was truncated to 67108864"} {
		if !strings.Contains(strings.Join(lines[max(0, len(lines)-3):], "\n"), want) {
			t.Errorf("the log ends without %q", want)
		}
	}
}

// Requests that BuildKit did not hash are listed up to a limit, and the rest is counted; more
// dependencies than may be are refused.
func TestLongRecord(t *testing.T) {
	var gaps, deps []string
	for i := range maxIncomplete + 5 {
		gaps = append(gaps, fmt.Sprintf(`{"uri":"https://a/%d","method":"POST","reason":"r"}`, i))
	}
	for i := range maxDependencies + 1 {
		deps = append(deps, fmt.Sprintf(`{"uri":"https://b/%d","digest":{"sha256":"1"}}`, i))
	}
	const step = `{"op":{"Op":{"exec":{}}}}`
	raw := strings.Replace(string(statement(step, "proxy", deps[0])), gap, strings.Join(gaps, ","), 1)
	_, got, err := dependencies([][]byte{[]byte(raw)})
	if err != nil || len(got) != maxIncomplete+1 || got[maxIncomplete].Reason != "and 5 more" {
		t.Errorf("got %d requests, %v", len(got), err)
	}
	if _, _, err := dependencies([][]byte{statement(step, "proxy", strings.Join(deps, ","))}); err == nil || !strings.Contains(err.Error(), "at most 100000") {
		t.Errorf("got %v, want the limit of dependencies", err)
	}
}

// What a build asks for is bounded: platforms, the size of its Dockerfile, open sessions.
func TestBuildPastItsLimits(t *testing.T) {
	text := "FROM scratch\n"
	for _, tt := range []struct {
		size, platforms int
		want            string
	}{{maxDockerfile, maxPlatforms, ""}, {maxDockerfile + 1, 1, "more than 1048576 bytes"}, {100, maxPlatforms + 1, "platforms: got 17"}} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text+strings.Repeat("#", tt.size-len(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		req := builder.Request{Tree: dir, Epoch: time.Unix(1, 0), Recipe: attest.Recipe{}}
		for i := range tt.platforms {
			req.Recipe.Platforms = append(req.Recipe.Platforms, fmt.Sprintf("linux/arm64/v%d", i+1))
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if _, _, err := options(t.Context(), req, newSourceTree(root, req.Epoch)); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	r := &Rooms{sessions: map[string]*session{}}
	for range maxSessions {
		if _, err := r.Begin(t.Context(), builder.Session{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Begin(t.Context(), builder.Session{}); err == nil || !strings.Contains(err.Error(), "limit of 1024 open sessions") {
		t.Errorf("got %v, want the limit of sessions", err)
	}
	for _, s := range r.sessions {
		s.began = time.Now().Add(-2 * sessionLife)
	}
	if _, err := r.Begin(t.Context(), builder.Session{}); err != nil {
		t.Errorf("sessions that nobody used: got %v", err)
	}
}
